//! A JSON object whose members are text until someone asks, so that what nobody knows passes through.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The members of an object, sorted by name as Docker writes them. Those that are not written to stay byte for byte.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Members(BTreeMap<String, Box<RawValue>>);

impl Members {
    /// Returns a member's value; `None` where it is missing or `null`.
    ///
    /// # Errors
    /// The value has another type.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).with_context(|| format!("member `{name}` of the configuration"))
    }

    /// Sets a member.
    ///
    /// # Errors
    /// The value cannot be JSON.
    pub(super) fn write<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        self.0.insert(name.to_owned(), serde_json::value::to_raw_value(value)?);
        Ok(())
    }

    /// Makes a member what `other` has, or removes it where that has none.
    pub(super) fn copy(&mut self, name: &str, other: &Members) {
        match other.0.get(name) {
            Some(raw) => drop(self.0.insert(name.to_owned(), raw.clone())),
            None => self.remove(name),
        }
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

//! `repositories.json`: which names stand for which image.

use std::ffi::OsStr;

use anyhow::{Context, Result};

use super::Writer;
use crate::digest::ImageId;
use crate::image::Name;

impl Writer {
    /// Gives names to images. One that stood for another image until now leaves that, as with `docker tag`. Without names, a
    /// root that has no such file yet gets one.
    ///
    /// # Errors
    /// A file that the daemon would not start with, and what writing gives.
    pub fn add_names<'a>(&self, names: impl IntoIterator<Item = (&'a Name, ImageId)>) -> Result<()> {
        let before = self.store.repositories()?;
        let mut after = before.clone();
        for (name, id) in names {
            let familiar = name.to_string();
            let repository = familiar.strip_suffix(name.tag()).and_then(|name| name.strip_suffix(':'));
            let repository = repository.unwrap_or(&familiar).to_owned();
            after.repositories.entry(repository).or_default().insert(familiar, id);
        }
        if before == after && self.store.repositories_file()?.is_some() {
            return Ok(());
        }
        let json = serde_json::to_vec(&after)?;
        self.image_dir("")?.replace(OsStr::new("repositories.json"), 0o600, &json).context("repositories.json")
    }
}

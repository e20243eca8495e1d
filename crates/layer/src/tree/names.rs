//! Byte strings, each kept once and known by a number: file names, link targets, sets of xattrs.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result, ensure};

use crate::limits;

/// The strings, one behind the other in one allocation.
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each string ends.
    ends: Vec<u32>,
    /// The string with the same hash that was added before, if any.
    before: Vec<u32>,
    /// The string added last for each hash.
    heads: HashMap<u64, u32>,
    /// Seeded anew each run: no input can choose strings of one hash.
    hasher: RandomState,
}

/// No string.
const NONE: u32 = u32::MAX;

impl Names {
    /// Holds the empty string alone, as number 0.
    pub(super) fn new() -> Self {
        let mut names = Self {
            bytes: Vec::new(),
            ends: vec![0],
            before: vec![NONE],
            heads: HashMap::new(),
            hasher: RandomState::new(),
        };
        names.heads.insert(names.hasher.hash_one(&b""[..]), 0);
        names
    }

    /// Returns the number of `name`, which is added if it is new.
    ///
    /// # Errors
    /// More bytes than [`limits::TREE_BYTES`] in all.
    pub(super) fn intern(&mut self, name: &[u8]) -> Result<u32> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        let end = self.bytes.len().saturating_add(name.len());
        ensure!(
            end <= limits::TREE_BYTES,
            "names, links and xattrs of all layers take more than {} bytes",
            limits::TREE_BYTES
        );
        let id = u32::try_from(self.ends.len()).context("too many names")?;
        self.bytes.extend_from_slice(name);
        self.ends.push(u32::try_from(end)?);
        let before = self.heads.insert(self.hasher.hash_one(name), id);
        self.before.push(before.unwrap_or(NONE));
        Ok(id)
    }

    /// Returns the number of `name`, if it is known.
    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let mut id = *self.heads.get(&self.hasher.hash_one(name))?;
        while id != NONE {
            if self.get(id) == name {
                return Some(id);
            }
            id = self.before[id as usize];
        }
        None
    }

    /// Returns the string of a number that this returned.
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let start = (id as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[id as usize] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_have_one_number() {
        let mut names = Names::new();
        let words: Vec<String> = (0..5000).map(|n| (n % 1000).to_string()).collect();
        let ids: Vec<u32> = words.iter().map(|word| names.intern(word.as_bytes()).unwrap()).collect();
        for (word, &id) in words.iter().zip(&ids) {
            assert_eq!(names.get(id), word.as_bytes());
            assert_eq!(names.find(word.as_bytes()), Some(id));
        }
        assert_eq!(names.ends.len(), 1001);
        assert_eq!((names.intern(b"").unwrap(), names.get(0), names.find(b"x")), (0, &b""[..], None));
    }
}

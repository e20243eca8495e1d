//! What one layer has put so far, and what is left to do to its directories.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use crate::change::{LayerPath, Time};

/// How a directory came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is a lower layer's, or holds whiteouts only: a whiteout takes it away.
    Lower,
    /// The layer puts something below it, and has no entry for it.
    Implied,
    /// The layer has an entry for it.
    Entry,
}

/// A directory that the layer put or changed.
#[derive(Debug)]
pub(super) struct DirState {
    parent: u32,
    name: (usize, u8),
    pub(super) origin: Origin,
    /// Nothing of the lower layers is to be seen in it any more, at any depth.
    pub(super) cleared: bool,
    /// The mode it gets in the end.
    pub(super) mode: Option<u32>,
    /// The time it gets in the end.
    pub(super) mtime: Option<Time>,
}

/// What one layer has put, by resolved path.
///
/// A file costs about 40 bytes, whatever its path: paths are kept as 128 bits of two keyed hashes, which nobody who does
/// not know the keys can make collide. Directories are kept with their names, for they get mode and time in the end.
#[derive(Debug)]
pub(super) struct Own {
    keys: [RandomState; 2],
    put: HashMap<[u8; 16], u32>,
    dirs: Vec<DirState>,
    names: Vec<u8>,
}

/// The number that stands for whatever is no directory.
const FILE: u32 = u32::MAX;

/// The number of the root.
const ROOT: u32 = 0;

impl Own {
    pub(super) fn new() -> Self {
        let mut own = Self {
            keys: [RandomState::new(), RandomState::new()],
            put: HashMap::new(),
            dirs: Vec::new(),
            names: Vec::new(),
        };
        let key = own.key(&LayerPath::root());
        own.put.insert(key, ROOT);
        // The root is there whatever the layer says, so nothing takes it away.
        own.dirs.push(DirState::new(ROOT, (0, 0), Origin::Implied));
        own
    }

    fn key(&self, path: &LayerPath) -> [u8; 16] {
        let [a, b] = self.keys.each_ref().map(|state| state.hash_one(path.as_bytes()));
        (u128::from(a) << 64 | u128::from(b)).to_ne_bytes()
    }

    /// Says whether the layer put something other than a directory at `path`.
    pub(super) fn is_file(&self, path: &LayerPath) -> bool {
        self.put.get(&self.key(path)) == Some(&FILE)
    }

    /// Returns the state of the directory at `path`, if there is any.
    pub(super) fn dir(&self, path: &LayerPath) -> Option<&DirState> {
        let number = *self.put.get(&self.key(path))?;
        self.dirs.get(number as usize)
    }

    /// Says whether what is at `path` is the layer's, so that its own whiteouts leave it.
    pub(super) fn holds(&self, path: &LayerPath) -> bool {
        match self.put.get(&self.key(path)) {
            None => false,
            Some(&FILE) => true,
            Some(&dir) => self.dirs[dir as usize].origin != Origin::Lower,
        }
    }

    /// Says whether `path` or a directory above it was cleared.
    pub(super) fn is_cleared(&self, path: &LayerPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.dir(&path).is_some_and(|state| state.cleared) {
                return true;
            }
            at = path.parent();
        }
        false
    }

    /// Notes that the layer put something other than a directory at `path`.
    pub(super) fn add_file(&mut self, path: &LayerPath) {
        let key = self.key(path);
        self.put.insert(key, FILE);
    }

    /// Notes that what the layer put at `path` is gone.
    pub(super) fn forget(&mut self, path: &LayerPath) {
        let key = self.key(path);
        self.put.remove(&key);
    }

    /// Returns the state of the directory at `path`, a new one if there is none or if something else was there. Those above
    /// it become known too.
    pub(super) fn dir_mut(&mut self, path: &LayerPath) -> Result<&mut DirState> {
        let number = self.number(path)?;
        Ok(&mut self.dirs[number as usize])
    }

    fn number(&mut self, path: &LayerPath) -> Result<u32> {
        // From the lowest directory that is known down, without recursion: paths are as deep as the input likes.
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut parent = loop {
            match self.put.get(&self.key(&at)) {
                Some(&number) if number != FILE => break number,
                _ => {}
            }
            let up = at.parent().unwrap_or_default();
            missing.push(std::mem::replace(&mut at, up));
        };
        for path in missing.into_iter().rev() {
            let name = path.name().unwrap_or(OsStr::new("")).as_bytes();
            let at = (self.names.len(), u8::try_from(name.len())?);
            self.names.extend_from_slice(name);
            let number = u32::try_from(self.dirs.len()).ok().filter(|&n| n != FILE).context("too many directories")?;
            self.dirs.push(DirState::new(parent, at, Origin::Lower));
            let key = self.key(&path);
            self.put.insert(key, number);
            parent = number;
        }
        Ok(parent)
    }

    /// Notes that the directory at `path` and those above it hold something of the layer's.
    pub(super) fn imply(&mut self, path: &LayerPath) -> Result<()> {
        self.number(path)?;
        let mut at = Some(path.clone());
        while let Some(path) = at {
            let state = self.dir_mut(&path)?;
            if state.origin != Origin::Lower {
                // What is the layer's lies in directories that are.
                break;
            }
            state.origin = Origin::Implied;
            at = path.parent();
        }
        Ok(())
    }

    /// Returns how many directories were noted. Those above a directory have lower numbers.
    pub(super) fn len(&self) -> usize {
        self.dirs.len()
    }

    /// Returns the path and state of a directory by its number, or `None` where something else took its place.
    pub(super) fn nth(&self, number: usize) -> Option<(LayerPath, &DirState)> {
        let mut parts = Vec::new();
        let mut state = self.dirs.get(number)?;
        while !state.is_root() {
            let (at, len) = state.name;
            parts.push(&self.names[at..at + usize::from(len)]);
            state = &self.dirs[state.parent as usize];
        }
        parts.reverse();
        let path = LayerPath::parse(&parts.join(&b'/')).ok()?;
        let current = self.put.get(&self.key(&path)).is_some_and(|&known| known as usize == number);
        current.then(|| (path, &self.dirs[number]))
    }
}

impl DirState {
    fn new(parent: u32, name: (usize, u8), origin: Origin) -> Self {
        Self { parent, name, origin, cleared: false, mode: None, mtime: None }
    }

    fn is_root(&self) -> bool {
        self.name.1 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        LayerPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_put_makes_the_directories_above_the_layers() {
        let mut own = Own::new();
        own.dir_mut(&path("a/b")).unwrap();
        assert!(!own.holds(&path("a")) && !own.holds(&path("a/b")));
        own.imply(&path("a/b")).unwrap();
        own.add_file(&path("a/b/f"));
        for name in ["", "a", "a/b", "a/b/f"] {
            assert!(own.holds(&path(name)), "{name}");
        }
        assert!(!own.holds(&path("a/f")));
        assert!(own.is_file(&path("a/b/f")) && !own.is_file(&path("a/b")));
    }

    #[test]
    fn clearing_reaches_all_below() {
        let mut own = Own::new();
        own.dir_mut(&path("a/b/c")).unwrap();
        own.dir_mut(&path("a/b")).unwrap().cleared = true;
        assert!(own.is_cleared(&path("a/b")) && own.is_cleared(&path("a/b/c")) && own.is_cleared(&path("a/b/x/y")));
        assert!(!own.is_cleared(&path("a")) && !own.is_cleared(&path("ab/b")));
    }

    #[test]
    fn a_directory_that_was_replaced_is_not_current() {
        let mut own = Own::new();
        own.dir_mut(&path("a/b")).unwrap();
        assert_eq!(own.nth(2).unwrap().0, path("a/b"));
        own.add_file(&path("a/b"));
        assert!(own.nth(2).is_none());
        own.dir_mut(&path("a/b")).unwrap();
        assert!(own.nth(2).is_none());
        assert_eq!(own.nth(3).unwrap().0, path("a/b"));
    }
}

//! The directory that a layer or an image is unpacked to.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use crate::change::LayerPath;
use crate::confine::Confinement;
use crate::root::{NewDir, Root};

/// Where layers go: a directory that is there, changed in place, or a new one, which is whole or absent.
///
/// Dropped before it is finished, a new directory is removed, and one that was empty is emptied.
#[derive(Debug)]
pub struct Destination {
    root: Root,
    new: Option<NewDir>,
    was_empty: bool,
    finished: bool,
}

impl Destination {
    /// Opens the directory at `path`, or starts a new one where there is none.
    ///
    /// # Errors
    /// What opening and creating give; what is no directory, but a symlink, perhaps.
    pub fn open(path: &Path) -> Result<Self> {
        match Root::open_itself(path) {
            Ok(root) => {
                let was_empty = root.dir(&LayerPath::root())?.names()?.is_empty();
                Ok(Self { root, new: None, was_empty, finished: false })
            }
            Err(err) if err.is_missing() => {
                let new = NewDir::new(path)?;
                Ok(Self { root: new.root()?, new: Some(new), was_empty: true, finished: false })
            }
            Err(err) if err.is(Errno::NOTDIR) && path.is_symlink() => {
                bail!("is a symbolic link (a slash behind it says to follow it)")
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Opens it as [`Destination::open`] does, but takes no directory that holds anything.
    ///
    /// # Errors
    /// As [`Destination::open`], and a directory that is not empty.
    pub fn open_empty(path: &Path) -> Result<Self> {
        let destination = Self::open(path)?;
        ensure!(destination.was_empty, "is not empty (a layer in overlay form is a directory of its own)");
        Ok(destination)
    }

    /// Says whether the directory was made for this.
    pub fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// Returns the directory.
    ///
    /// # Errors
    /// What duplicating its descriptor gives.
    pub fn root(&self) -> Result<Root> {
        self.root.try_clone().context("cannot duplicate a descriptor")
    }

    /// Adds to `confinement` what writing here takes.
    ///
    /// # Errors
    /// What duplicating a descriptor gives.
    pub fn keep(&self, confinement: Confinement) -> Result<Confinement> {
        let confinement = confinement.writes(self.root.as_fd())?;
        match &self.new {
            Some(new) => confinement.renames(new.parent()),
            None => Ok(confinement),
        }
    }

    /// Keeps what was written, and gives a new directory its name.
    ///
    /// # Errors
    /// What renaming gives.
    pub fn finish(mut self) -> Result<()> {
        self.finished = true;
        Ok(self.new.take().map_or(Ok(()), NewDir::finish)?)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if self.finished || !self.was_empty || self.is_new() {
            return;
        }
        // Nobody is left to tell; the error that ended the work is already on its way.
        if let Ok(dir) = self.root.dir(&LayerPath::root()) {
            for name in dir.names().unwrap_or_default() {
                let _ = dir.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_symlink_is_followed_where_a_slash_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert!(Destination::open(&link).unwrap_err().to_string().contains("symbolic link"));
        Destination::open(&link.join("")).unwrap().finish().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert!(Destination::open(&dir.path().join("dangling")).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn what_was_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (new, empty, full) = (dir.path().join("new"), dir.path().join("empty"), dir.path().join("full"));
        std::fs::create_dir(&empty).unwrap();
        std::fs::create_dir_all(full.join("kept")).unwrap();
        for path in [&new, &empty, &full] {
            let destination = Destination::open(path).unwrap();
            let top = destination.root().unwrap().dir(&LayerPath::root()).unwrap();
            top.make_dir(OsStr::new("x"), 0o755).unwrap();
        }
        assert!(!new.exists() && !empty.join("x").exists());
        assert!(full.join("kept").exists() && full.join("x").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let err = Destination::open_empty(&full).unwrap_err().to_string();
        assert!(err.contains("is not empty"), "{err}");
        Destination::open(&new).unwrap().finish().unwrap();
        assert!(new.is_dir());
    }
}

//! A new directory that is whole or absent, whenever the process ends.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{self, Mode, RenameFlags};
use rustix::io::Errno;

use super::{DIR, Dir, Error, Named, Result, Root, beside, remove, retry};

/// A directory that is built as `.NAME.XXXXXX` beside its place, and gets its name when it is finished. Dropped before that,
/// it is removed; a process that was killed leaves it under the other name.
#[derive(Debug)]
pub struct NewDir {
    parent: Dir,
    name: OsString,
    temporary: OsString,
    finished: bool,
}

impl NewDir {
    /// Starts a directory that will be at `path`; its parent has to be there.
    ///
    /// # Errors
    /// What opening the parent and creating give; `EEXIST` where anything is at `path` already.
    pub fn new(path: &Path) -> Result<Self> {
        let what = "make the directory";
        let (parent, name) = beside(path).map_err(|source| Error { what, source })?;
        if parent.stat(&name)?.is_some() {
            return Err(Error::new(what, Errno::EXIST));
        }
        loop {
            let temporary = temporary(&name);
            match fs::mkdirat(&parent, &temporary, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => {}
                made => {
                    made.named(what)?;
                    return Ok(Self { parent, name, temporary, finished: false });
                }
            }
        }
    }

    /// Opens the directory as it is so far.
    ///
    /// # Errors
    /// What opening gives.
    pub fn root(&self) -> Result<Root> {
        let open = || fs::openat(&self.parent, &self.temporary, DIR, Mode::empty());
        retry(open).map(|fd| Root { fd }).named("open the directory")
    }

    /// Returns the directory in which it is built and gets its name.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Gives the directory its name.
    ///
    /// # Errors
    /// What renaming gives; `EEXIST` where the name was taken meanwhile. The directory is removed then.
    pub fn finish(mut self) -> Result<()> {
        fs::renameat_with(&self.parent, &self.temporary, &self.parent, &self.name, RenameFlags::NOREPLACE)
            .named("rename the directory into its place")?;
        self.finished = true;
        Ok(())
    }

    /// Says whether `entry` is a name under which a directory that was to become `name` is built.
    pub fn is_leftover(entry: &OsStr, name: &OsStr) -> bool {
        let rest = entry.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let random = rest.and_then(|rest| rest.strip_prefix(b"."));
        random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_hexdigit))
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell; the error that ended the work is already on its way.
            let _ = remove::remove_dir(self.parent.as_fd(), &self.temporary);
        }
    }
}

/// Digits after the name.
const RANDOM: usize = 6;

pub(super) fn temporary(name: &OsStr) -> OsString {
    let random = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    // A name of up to 255 bytes has to stay one.
    let kept = name.as_bytes().len().min(255 - RANDOM - 2);
    OsString::from_vec([b".", &name.as_bytes()[..kept], b".", &random.as_bytes()[..RANDOM]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::LayerPath;

    #[test]
    fn it_is_there_when_finished_and_gone_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let listing =
            || -> Vec<_> { std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        let path = dir.path().join("new");
        let new = NewDir::new(&path).unwrap();
        let top = new.root().unwrap().dir(&LayerPath::root()).unwrap();
        top.make_dir(OsStr::new("d"), 0o755).unwrap();
        assert!(!path.exists());
        assert!(listing().iter().all(|name| NewDir::is_leftover(name, OsStr::new("new"))));
        drop(new);
        assert_eq!(listing().len(), 0);
        NewDir::new(&path).unwrap().finish().unwrap();
        assert_eq!(listing(), ["new"]);
        assert!(NewDir::new(&path).unwrap_err().is(Errno::EXIST));
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let new = NewDir::new(&path).unwrap();
        std::fs::write(&path, "other").unwrap();
        assert!(new.finish().unwrap_err().is(Errno::EXIST));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

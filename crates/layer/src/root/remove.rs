//! Removing trees, however deep, with a few descriptors and no deep stack.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Mode, RawDir, RenameFlags, SeekFrom};
use rustix::io::Errno;

use super::{DIR, Error, Named, Place, Result, retry};

/// Directories held open one below the other; a tree that is deeper is taken apart into several.
const DEPTH: usize = 32;

/// Names read at once, so that a directory of any size costs little memory.
const BATCH: usize = 4096;

/// Removes `name` in `parent`, with all below it, and says whether anything was there.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => remove_dir(parent, name),
        Err(errno) => Err(Error::new("remove", errno)),
    }
}

/// Removes the directory `name` in `parent`, with all below it, and says whether anything was there. A process that may
/// remove nothing but directories cannot ask whether it is one by trying to remove a file.
pub(super) fn remove_dir(parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    if remove_empty(parent, name)? {
        return Ok(true);
    }
    let top = open(parent, name)?;
    let mut tree = Tree { top: top.as_fd(), moved: 0 };
    // Each round ends with an empty directory, or with what was too deep moved up into it.
    while !remove_empty(parent, name)? {
        tree.empty(top.as_fd(), 0)?;
    }
    Ok(true)
}

/// Removes a directory if it is empty; what is gone already counts as removed.
fn remove_empty(parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(Error::new("remove the directory", errno)),
    }
}

/// Opens a directory that is to be emptied, whatever its mode.
fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    if !rustix::process::geteuid().is_root() {
        Place::Name(parent, name).grant()?;
    }
    retry(|| fs::openat(parent, name, DIR, Mode::empty())).named("open the directory")
}

struct Tree<'a> {
    top: BorrowedFd<'a>,
    /// How many directories were moved up: their new names are numbers.
    moved: u64,
}

impl Tree<'_> {
    /// Removes all in `dir`, which lies `depth` below the top; what lies too deep is moved into the top instead.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<()> {
        loop {
            let names = names(dir, BATCH).named("read the directory")?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                match fs::unlinkat(dir, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR) => self.remove_dir(dir, &name, depth)?,
                    Err(errno) => return Err(Error::new("remove", errno)),
                }
            }
            if depth == 0 {
                // What was moved up meanwhile is for the next round.
                return Ok(());
            }
        }
    }

    fn remove_dir(&mut self, dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<()> {
        if remove_empty(dir, name)? {
            return Ok(());
        }
        if depth < DEPTH {
            let sub = open(dir, name)?;
            self.empty(sub.as_fd(), depth + 1)?;
            return remove_empty(dir, name).map(drop);
        }
        if !rustix::process::geteuid().is_root() {
            Place::Name(dir, name).grant()?;
        }
        loop {
            let up = format!("{}", self.moved);
            self.moved += 1;
            match fs::renameat_with(dir, name, self.top, &up, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                moved => return moved.named("remove the directory"),
            }
        }
    }
}

/// Returns the first `limit` names in `dir`, without `.` and `..`.
pub(super) fn names(dir: BorrowedFd<'_>, limit: usize) -> rustix::io::Result<Vec<OsString>> {
    fs::seek(dir, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() >= limit {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::LayerPath;
    use crate::root::Root;

    #[test]
    fn a_tree_of_3000_levels_goes_without_a_deep_stack() {
        let dir = tempfile::tempdir().unwrap();
        let top = Root::open(dir.path()).unwrap().dir(&LayerPath::root()).unwrap();
        let name = OsStr::new("d");
        top.make_dir(name, 0o755).unwrap();
        let mut at = top.dir(name).unwrap();
        for level in 0..3000 {
            at.make_dir(name, 0o755).unwrap();
            if level % 40 == 0 {
                at.create(OsStr::new("0"), 0o644).unwrap();
            }
            at = at.dir(name).unwrap();
        }
        drop(at);
        assert!(top.remove(name).unwrap());
        assert!(!top.remove(name).unwrap());
        assert_eq!(top.names().unwrap(), Vec::<OsString>::new());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("keep"), "").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let top = Root::open(dir.path()).unwrap().dir(&LayerPath::root()).unwrap();
        top.make_dir(OsStr::new("d"), 0o755).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("d/out")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        assert!(top.remove(OsStr::new("d")).unwrap());
        assert!(top.remove(OsStr::new("out")).unwrap());
        assert!(outside.path().join("keep").exists());
    }
}

//! What was made for a mount, and how it is taken back.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::UnmountFlags;

/// What ovl-mount made for a mount. The mount's source carries it, so that whoever unmounts knows: `ovl-mount`, and
/// `:NAME` for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// The directory it is mounted on.
    pub(super) target: bool,
    /// The workdir.
    pub(super) work: bool,
    /// A tmpfs that holds upperdir and workdir.
    pub(super) scratch: bool,
}

/// The source of every mount of ours.
pub(super) const SOURCE: &str = "ovl-mount";

impl Made {
    /// Reads a mount's source; none where the mount is not ours.
    pub(super) fn parse(source: &OsStr) -> Option<Self> {
        let mut names = source.to_str()?.split(':');
        let mut made = (names.next()? == SOURCE).then(Made::default)?;
        for name in names {
            match name {
                "target" => made.target = true,
                "work" => made.work = true,
                "tmp" => made.scratch = true,
                _ => return None,
            }
        }
        Some(made)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SOURCE)?;
        for (made, name) in [(self.target, ":target"), (self.work, ":work"), (self.scratch, ":tmp")] {
            f.write_str(if made { name } else { "" })?;
        }
        Ok(())
    }
}

/// Steps that take back what was done, the last one first; dropped, it takes them.
#[derive(Debug, Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    RemoveDir(PathBuf),
    RemoveWork(PathBuf),
    Unmount(PathBuf),
}

impl Undo {
    /// Creates the directory `path` where there is none, and says whether it did.
    pub(super) fn create_dir(&mut self, path: &Path) -> Result<bool> {
        match fs::create_dir(path) {
            Ok(()) => {
                self.remove_dir(path);
                Ok(true)
            }
            Err(err) if err.kind() == ErrorKind::AlreadyExists => {
                let meta = fs::metadata(path).with_context(|| format!("cannot open `{}`", path.display()))?;
                ensure!(meta.is_dir(), "`{}` is no directory", path.display());
                Ok(false)
            }
            Err(err) => Err(err).with_context(|| format!("cannot create directory `{}`", path.display())),
        }
    }

    /// Removes the empty directory `path`.
    pub(super) fn remove_dir(&mut self, path: &Path) {
        self.steps.push(Step::RemoveDir(path.to_owned()));
    }

    /// Removes the workdir `path` with what overlayfs keeps in it; anything else there stays, and so does `path` then.
    pub(super) fn remove_work(&mut self, path: &Path) {
        self.steps.push(Step::RemoveWork(path.to_owned()));
    }

    /// Unmounts what is mounted on `path`, at once for all who look and in truth when its last user is gone.
    pub(super) fn unmount(&mut self, path: &Path) {
        self.steps.push(Step::Unmount(path.to_owned()));
    }

    /// Forgets all steps: what was done stays.
    pub(super) fn disarm(&mut self) {
        self.steps.clear();
    }

    /// Takes all steps, whichever of them fail.
    ///
    /// # Errors
    /// The first that failed.
    pub(super) fn run(&mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(step) = self.steps.pop() {
            result = result.and(step.take());
        }
        result
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // An error is on its way already, and is the one to tell.
        let _ = self.run();
    }
}

impl Step {
    fn take(&self) -> Result<()> {
        match self {
            Step::RemoveDir(path) => {
                fs::remove_dir(path).with_context(|| format!("cannot remove directory `{}`", path.display()))
            }
            Step::RemoveWork(path) => remove_work(path),
            Step::Unmount(path) => rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .with_context(|| format!("cannot unmount `{}`", path.display())),
        }
    }
}

fn remove_work(path: &Path) -> Result<()> {
    for name in ["work", "index"] {
        match fs::remove_dir_all(path.join(name)) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("cannot remove directory `{}`", path.join(name).display()));
            }
            _ => {}
        }
    }
    fs::remove_dir(path).with_context(|| format!("cannot remove directory `{}`", path.display()))
}

/// Says whether `path` is a directory of this user's own, so that what stands in it can be taken for ours.
pub(super) fn is_own_dir(path: &Path) -> bool {
    let own = |meta: fs::Metadata| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed() {
        for bits in 0..8 {
            let made = Made { target: bits & 1 != 0, work: bits & 2 != 0, scratch: bits & 4 != 0 };
            assert_eq!(Made::parse(OsStr::new(&made.to_string())), Some(made));
        }
        for source in ["overlay", "", "ovl-mount:x", "ovl-mounts", ":target"] {
            assert_eq!(Made::parse(OsStr::new(source)), None, "{source}");
        }
    }

    #[test]
    fn steps_are_taken_backwards_unless_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let [outer, inner] = ["a", "a/b"].map(|name| dir.path().join(name));
        let make = || {
            let mut undo = Undo::default();
            assert!(undo.create_dir(&outer).unwrap() && undo.create_dir(&inner).unwrap());
            undo
        };
        drop(make());
        assert!(!outer.exists());
        make().disarm();
        assert!(inner.exists());
        assert!(!Undo::default().create_dir(&inner).unwrap());
    }

    #[test]
    fn a_workdir_goes_only_with_what_overlayfs_made() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("w");
        fs::create_dir_all(work.join("work/#1")).unwrap();
        fs::write(work.join("mine"), "").unwrap();
        assert!(remove_work(&work).is_err());
        assert!(!work.join("work").exists() && work.join("mine").exists());
        fs::remove_file(work.join("mine")).unwrap();
        remove_work(&work).unwrap();
        assert!(!work.exists());
    }
}

//! Files that are replaced whole, and names that move.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{self, RenameFlags};

use super::{Dir, Named, Result, new, retry};

impl Dir {
    /// Puts a file with the content `bytes` and the mode `mode` at `name`, in place of what was there: others see the one or
    /// the other, also after a crash.
    ///
    /// # Errors
    /// What creating, writing and renaming give.
    pub fn replace(&self, name: &OsStr, mode: u32, bytes: &[u8]) -> Result<()> {
        // The prefix is Docker's: its daemon passes over what it left itself when it was killed.
        let temporary = new::temporary(&OsString::from_vec([b"tmp-", name.as_bytes()].concat()));
        self.remove(&temporary)?;
        let put = || {
            self.write(&temporary, mode, bytes)?;
            fs::renameat(&self.fd, &temporary, &self.fd, name).named("rename the file into its place")
        };
        put().inspect_err(|_| {
            // The error that is on its way says more.
            let _ = self.remove(&temporary);
        })?;
        self.sync()
    }

    /// Makes the file `name` with the content `bytes`, which is on disk then.
    ///
    /// # Errors
    /// What creating and writing give; `EEXIST` where anything has the name.
    pub fn write(&self, name: &OsStr, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name, mode)?;
        self.place(name).set_mode(mode)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|source| super::Error { what: "write the file", source })
    }

    /// Moves what is at `from` to `to` in the directory `dir`, where nothing may be.
    ///
    /// # Errors
    /// What renaming gives; `EEXIST` where the name is taken.
    pub fn rename(&self, from: &OsStr, dir: &Dir, to: &OsStr) -> Result<()> {
        fs::renameat_with(&self.fd, from, &dir.fd, to, RenameFlags::NOREPLACE).named("rename")
    }

    /// Waits until the names in the directory are on disk.
    ///
    /// # Errors
    /// What fsync gives.
    pub fn sync(&self) -> Result<()> {
        retry(|| fs::fsync(&self.fd)).named("write the directory to disk")
    }

    /// Waits until all of the file system is on disk: for many files, that is less work than one after the other.
    ///
    /// # Errors
    /// What syncfs gives.
    pub fn sync_all(&self) -> Result<()> {
        retry(|| fs::syncfs(&self.fd)).named("write the files to disk")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::change::LayerPath;
    use crate::root::Root;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Root::open(temp.path()).unwrap().dir(&LayerPath::root()).unwrap();
        for text in ["one", "two"] {
            dir.replace(OsStr::new("f"), 0o640, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(temp.path().join("f")).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(temp.path().join("f")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(dir.names().unwrap(), ["f"]);
        dir.replace(OsStr::new("g"), 0o600, b"").unwrap();
        assert!(dir.rename(OsStr::new("f"), &dir, OsStr::new("g")).is_err());
        dir.rename(OsStr::new("f"), &dir, OsStr::new("h")).unwrap();
        assert_eq!(dir.names().unwrap().len(), 2);
    }
}

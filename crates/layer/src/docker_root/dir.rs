//! The one door to a data root for reading: every name is resolved below a directory descriptor, and no symlink is followed,
//! whatever a layer, a container or whoever had the disk has put there.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::change::Escaped;
use crate::limits;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A directory of a data root. Errors name what they are about by its path from the root on.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// From the root on; empty for the root itself.
    path: PathBuf,
}

impl Dir {
    /// Opens the root, which the user named: symlinks on the way are followed.
    ///
    /// # Errors
    /// What opening gives; what is no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).context("cannot open the directory")?;
        Ok(Self { fd, path: PathBuf::new() })
    }

    /// Opens the directory `name`, which may have several components; `None` where nothing has the name.
    ///
    /// # Errors
    /// What opening gives; what is no directory; a symlink on the way.
    pub fn dir(&self, name: &str) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.openat(name, flags).with_context(|| self.name(name))?;
        Ok(fd.map(|fd| Self { fd, path: self.path.join(name) }))
    }

    /// Opens the regular file `name`; `None` where nothing has the name.
    ///
    /// # Errors
    /// What opening gives; what is no regular file; a symlink on the way or at the end.
    pub fn file(&self, name: &str) -> Result<Option<File>> {
        let open = || {
            // A FIFO would make open(2) wait for a writer.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let Some(file) = self.openat(name, flags)?.map(File::from) else { return Ok(None) };
            ensure!(file.metadata().context("cannot stat")?.is_file(), "is not a regular file");
            anyhow::Ok(Some(file))
        };
        open().with_context(|| self.name(name))
    }

    /// Reads the file `name`, of at most `limit` bytes; `None` where nothing has the name.
    ///
    /// # Errors
    /// What [`Dir::file`] and reading give; a file that is longer.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let read = || {
            let mut bytes = Vec::new();
            file.take(limit + 1).read_to_end(&mut bytes).context("cannot read")?;
            ensure!(bytes.len() as u64 <= limit, "is longer than {limit} bytes");
            anyhow::Ok(bytes)
        };
        read().map(Some).with_context(|| self.name(name))
    }

    /// Reads a file that holds one identifier or number, as it is; `None` where nothing has the name.
    ///
    /// # Errors
    /// What [`Dir::read`] gives; what is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(name, limits::STORE_LINE)? else { return Ok(None) };
        let text = String::from_utf8(bytes).context("is no UTF-8");
        text.map(Some).with_context(|| self.name(name))
    }

    /// Reads where the symlink `name` leads, as text that is not followed; `None` where nothing has the name.
    ///
    /// # Errors
    /// What reading gives; what is no symlink.
    pub fn link(&self, name: &str) -> Result<Option<OsString>> {
        let read = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Some(fd) = self.openat(name, flags)? else { return Ok(None) };
            match fs::readlinkat(&fd, "", Vec::new()) {
                Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
                // What the kernel says of an empty name that is no symlink.
                Err(Errno::NOENT | Errno::INVAL) => bail!("is not a symlink"),
                Err(err) => Err(err).context("cannot read the symlink"),
            }
        };
        read().with_context(|| self.name(name))
    }

    /// Returns the names in the directory, sorted. Those that are no UTF-8 are left out: nothing in a data root has one.
    ///
    /// # Errors
    /// What listing gives; more than [`limits::STORE_NAMES`] names.
    pub fn names(&self) -> Result<Vec<String>> {
        let list = || {
            let mut names = Vec::new();
            let dir = fs::Dir::read_from(&self.fd).context("cannot list")?;
            for entry in dir {
                let entry = entry.context("cannot list")?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                if name != "." && name != ".." {
                    names.push(name.to_owned());
                }
                ensure!(names.len() <= limits::STORE_NAMES, "holds more than {} names", limits::STORE_NAMES);
            }
            names.sort_unstable();
            Ok(names)
        };
        list().with_context(|| self.name(""))
    }

    /// Returns how messages name what is at `name` here: by its path from the data root on.
    pub fn name(&self, name: &str) -> String {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        Escaped(path.as_os_str().as_bytes()).to_string()
    }

    /// Returns the path from the data root on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the descriptor away.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn openat(&self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>> {
        loop {
            return match fs::openat2(&self.fd, name, flags, Mode::empty(), BENEATH) {
                // The kernel could not be sure while something was renamed.
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(Errno::NOENT) => Ok(None),
                Err(Errno::LOOP) => bail!("leads through a symlink, expected none"),
                Err(Errno::XDEV) => bail!("leads out of the data root"),
                Err(Errno::NXIO) => bail!("is not a regular file"),
                fd => fd.map(Some).context("cannot open"),
            };
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_are_looked_up_beneath_and_symlinks_are_only_read() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("d/f"), "text").unwrap();
        symlink("/etc", at("out")).unwrap();
        symlink("d", at("in")).unwrap();
        let root = Dir::open(temp.path()).unwrap();
        assert_eq!(root.names().unwrap(), ["d", "in", "out"]);
        assert_eq!(root.text("d/f").unwrap().as_deref(), Some("text"));
        assert_eq!(root.dir("d").unwrap().unwrap().text("f").unwrap().as_deref(), Some("text"));
        assert_eq!(root.link("out").unwrap().unwrap(), "/etc");
        assert!(root.link("gone").unwrap().is_none() && root.file("gone").unwrap().is_none());
        for (err, want) in [
            (root.text("out/passwd").map(drop), "out/passwd: leads through a symlink"),
            (root.text("in/f").map(drop), "in/f: leads through a symlink"),
            (root.dir("in").map(drop), "in: leads through a symlink"),
            (root.file("d").map(drop), "d: is not a regular file"),
            (root.dir("d").unwrap().unwrap().text("../../x").map(drop), "leads out of the data root"),
            (root.link("d").map(drop), "d: is not a symlink"),
            (root.read("d/f", 3).map(drop), "d/f: is longer than 3 bytes"),
            (root.dir("d/f").map(drop), "d/f: cannot open: Not a directory"),
        ] {
            let err = format!("{:#}", err.unwrap_err());
            assert!(err.contains(want), "{want}: {err}");
        }
    }
}

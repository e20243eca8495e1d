//! The one door to a tree on disk: all that is written into it, and all that is read of it while writing, goes through
//! a directory descriptor.
//!
//! [`Root::dir`] opens a directory below it by openat2(2), which never leaves the root and follows no symlink, whatever
//! others rename meanwhile. All else is done in the directory so opened, by one name that is not followed. Where a
//! symlink shall be followed, the caller reads it and walks: no path that the input wrote is ever resolved by the kernel.

mod meta;
mod new;
mod remove;
mod replace;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::change::{Device, LayerPath};

pub use meta::Place;
pub use new::NewDir;

/// A system call that failed: what it was to do, and the kernel's answer.
#[derive(Debug)]
pub struct Error {
    what: &'static str,
    source: io::Error,
}

impl Error {
    fn new(what: &'static str, errno: Errno) -> Self {
        Self { what, source: errno.into() }
    }

    /// Says whether there was nothing of that name.
    pub fn is_missing(&self) -> bool {
        self.is(Errno::NOENT)
    }

    /// Says whether the kernel's answer was `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What an operation on a tree gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the operation of a failed system call.
trait Named<T> {
    fn named(self, what: &'static str) -> Result<T>;
}

impl<T> Named<T> for rustix::io::Result<T> {
    fn named(self, what: &'static str) -> Result<T> {
        self.map_err(|errno| Error::new(what, errno))
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    rustix::io::retry_on_intr(call)
}

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory tree that nothing leads out of.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the directory at `path`, which the user named: symlinks on the way are followed.
    ///
    /// # Errors
    /// What opening gives; what is no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = DIR.difference(OFlags::NOFOLLOW);
        retry(|| fs::open(path, flags, Mode::empty())).map(|fd| Self { fd }).named("open the directory")
    }

    /// Opens the directory at `path` unless a symlink stands there: one to be written to must not be swapped for another
    /// between the command line and here. Symlinks before the last component are followed, and that one if a slash ends it.
    ///
    /// # Errors
    /// What opening gives; `ENOTDIR` for a symlink and what is no directory.
    pub fn open_itself(path: &Path) -> Result<Self> {
        retry(|| fs::open(path, DIR, Mode::empty())).map(|fd| Self { fd }).named("open the directory")
    }

    /// Returns the same root on a descriptor of its own.
    ///
    /// # Errors
    /// What duplicating the descriptor gives.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens the directory `path` below the root. A symlink on the way or at the end is an error, `ELOOP`, also where it
    /// was put there a moment ago.
    ///
    /// # Errors
    /// What opening gives.
    pub fn dir(&self, path: &LayerPath) -> Result<Dir> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_root() { Path::new(".") } else { path.as_path() };
        // NOFOLLOW would turn ELOOP into ENOTDIR.
        let flags = DIR.difference(OFlags::NOFOLLOW);
        let open = || fs::openat2(&self.fd, path, flags, Mode::empty(), resolve);
        retry(open).map(|fd| Dir { fd }).named("open the directory")
    }

    /// Opens the directory `path` below the root as a root of its own.
    ///
    /// # Errors
    /// As [`Root::dir`].
    pub fn sub(&self, path: &LayerPath) -> Result<Self> {
        self.dir(path).map(|dir| Self { fd: dir.fd })
    }

    /// Gives the descriptor away.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One directory of a tree. Names are single components, are never followed, and what is made is always made anew.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Returns what is at `name`, or `None`.
    ///
    /// # Errors
    /// What stat gives.
    pub fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            found => found.map(Some).named("stat"),
        }
    }

    /// Returns the target of the symlink `name`.
    ///
    /// # Errors
    /// What reading gives; what is no symlink.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString> {
        let target = fs::readlinkat(&self.fd, name, Vec::new()).named("read the symlink")?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Opens the directory `name`. Where its mode keeps its owner out, as layers may ask, and this process has no rights
    /// beyond the owner's, it is given `u+rwx`.
    ///
    /// # Errors
    /// What opening gives; what is no directory.
    pub fn dir(&self, name: &OsStr) -> Result<Dir> {
        let open = || fs::openat(&self.fd, name, DIR, Mode::empty());
        match retry(open) {
            Err(Errno::ACCESS) => {
                self.place(name).grant()?;
                retry(open)
            }
            opened => opened,
        }
        .map(|fd| Dir { fd })
        .named("open the directory")
    }

    /// Opens the regular file `name` for reading.
    ///
    /// # Errors
    /// What opening gives.
    pub fn open(&self, name: &OsStr) -> Result<File> {
        // NONBLOCK: it may have become a FIFO meanwhile.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        retry(|| fs::openat(&self.fd, name, flags, Mode::empty())).map(File::from).named("open")
    }

    /// Returns all names in the directory, in no order.
    ///
    /// # Errors
    /// What reading gives.
    pub fn names(&self) -> Result<Vec<OsString>> {
        remove::names(self.fd.as_fd(), usize::MAX).named("read the directory")
    }

    /// Makes the regular file `name`, empty, and opens it for writing.
    ///
    /// # Errors
    /// What creating gives; `EEXIST` where anything has the name.
    pub fn create(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry(|| fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))).map(File::from).named("create the file")
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// What creating gives; `EEXIST` where anything has the name.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> Result<()> {
        fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)).named("make the directory")
    }

    /// Makes the symlink `name`.
    ///
    /// # Errors
    /// What creating gives; `EEXIST` where anything has the name.
    pub fn symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        fs::symlinkat(target, &self.fd, name).named("make the symlink")
    }

    /// Gives what is at `from` in the directory `dir` the name `name` here as well.
    ///
    /// # Errors
    /// What linking gives; `EEXIST` where anything has the name.
    pub fn link(&self, name: &OsStr, dir: &Dir, from: &OsStr) -> Result<()> {
        fs::linkat(&dir.fd, from, &self.fd, name, AtFlags::empty()).named("make the hard link")
    }

    /// Makes the FIFO `name`.
    ///
    /// # Errors
    /// What creating gives; `EEXIST` where anything has the name.
    pub fn fifo(&self, name: &OsStr, mode: u32) -> Result<()> {
        fs::mknodat(&self.fd, name, FileType::Fifo, Mode::from_raw_mode(mode), 0).named("make the FIFO")
    }

    /// Makes the device `name`, of type [`FileType::CharacterDevice`] or [`FileType::BlockDevice`].
    ///
    /// # Errors
    /// What creating gives; `EEXIST` where anything has the name.
    pub fn device(&self, name: &OsStr, kind: FileType, mode: u32, device: Device) -> Result<()> {
        let number = fs::makedev(device.major, device.minor);
        fs::mknodat(&self.fd, name, kind, Mode::from_raw_mode(mode), number).named("make the device")
    }

    /// Removes what is at `name`, a directory with all below it, and says whether anything was.
    ///
    /// # Errors
    /// What removing gives; part of a directory may be gone then.
    pub fn remove(&self, name: &OsStr) -> Result<bool> {
        remove::remove(self.fd.as_fd(), name)
    }

    /// Returns the entry `name`, to read or set its metadata.
    pub fn place<'a>(&'a self, name: &'a OsStr) -> Place<'a> {
        Place::Name(self.fd.as_fd(), name)
    }

    /// Returns the directory itself, to read or set its metadata.
    pub fn itself(&self) -> Place<'_> {
        Place::Open(self.fd.as_fd())
    }
}

/// Returns the type of what `stat` is of.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Returns the number of a device.
pub fn device(stat: &Stat) -> Device {
    Device { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) }
}

/// Returns the path under which /proc shows what `name` is in `dir`.
fn proc_path(dir: BorrowedFd<'_>, name: Option<&OsStr>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    path
}

/// Opens the directory that holds `path`, and returns the last component with it.
fn beside(path: &Path) -> io::Result<(Dir, OsString)> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fd = retry(|| fs::openat(CWD, parent, DIR.difference(OFlags::NOFOLLOW), Mode::empty()))?;
    Ok((Dir { fd }, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(name: &str) -> LayerPath {
        LayerPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn no_symlink_is_followed_and_nothing_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(inside.path().join("d/e")).unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink("d", inside.path().join("in")).unwrap();
        let root = Root::open(inside.path()).unwrap();
        assert!(root.dir(&path("d/e")).is_ok());
        assert!(root.dir(&LayerPath::root()).is_ok());
        for name in ["out", "in", "in/e"] {
            assert!(root.dir(&path(name)).unwrap_err().is(Errno::LOOP), "{name}");
        }
        let top = root.dir(&LayerPath::root()).unwrap();
        for name in ["out", "in"] {
            assert!(top.create(OsStr::new(name), 0o644).unwrap_err().is(Errno::EXIST));
            assert!(top.dir(OsStr::new(name)).is_err());
        }
    }

    #[test]
    fn errors_name_the_operation() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let err = anyhow::Error::from(root.dir(&path("gone")).unwrap_err());
        assert_eq!(format!("{err:#}"), "cannot open the directory: No such file or directory (os error 2)");
    }
}

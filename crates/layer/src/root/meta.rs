//! Owner, mode, times and extended attributes of what is in a tree.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Error, Named, Result, proc_path, retry};
use crate::change::Time;

/// Something in a tree: an open file or directory, or an entry by its name, which is not followed.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// What the descriptor is of.
    Open(BorrowedFd<'a>),
    /// What has this name in the directory.
    Name(BorrowedFd<'a>, &'a OsStr),
}

impl Place<'_> {
    /// Returns its stat.
    ///
    /// # Errors
    /// What stat gives.
    pub fn stat(self) -> Result<Stat> {
        match self {
            Place::Open(fd) => fs::fstat(fd),
            Place::Name(dir, name) => fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
        }
        .named("stat")
    }

    /// Sets owner and group. The kernel takes set-user-ID, set-group-ID and capabilities away, so this comes first.
    ///
    /// # Errors
    /// What chown gives.
    pub fn set_owner(self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Place::Open(fd) => fs::fchown(fd, uid, gid),
            Place::Name(dir, name) => fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
        .named("set the owner")
    }

    /// Sets the mode, 12 bits. A symlink has none.
    ///
    /// # Errors
    /// What chmod gives.
    pub fn set_mode(self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Place::Open(fd) => fs::fchmod(fd, mode),
            Place::Name(dir, name) => {
                // fchmodat follows; a handle does not, and its magic link leads to nothing else.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                retry(|| fs::openat(dir, name, flags, Mode::empty()))
                    .and_then(|handle| fs::chmod(proc_path(handle.as_fd(), None).as_slice(), mode))
            }
        }
        .named("set the mode")
    }

    /// Adds `u+rwx` to the mode of a directory whose owner lacks any of them.
    ///
    /// # Errors
    /// What stat and chmod give.
    pub fn grant(self) -> Result<()> {
        let mode = self.stat()?.st_mode & 0o7777;
        if mode & 0o700 == 0o700 { Ok(()) } else { self.set_mode(mode | 0o700) }
    }

    /// Sets the time of the last modification; that of the last access stays. What the file system cannot hold, the kernel
    /// clamps to what it can.
    ///
    /// # Errors
    /// What utimensat gives.
    pub fn set_mtime(self, time: Time) -> Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        };
        match self {
            Place::Open(fd) => fs::futimens(fd, &times),
            Place::Name(dir, name) => fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
        .named("set the time")
    }

    /// Sets one extended attribute.
    ///
    /// # Errors
    /// What setxattr gives.
    pub fn set_xattr(self, name: &OsStr, value: &[u8]) -> Result<()> {
        match self {
            Place::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Place::Name(dir, entry) => {
                fs::lsetxattr(proc_path(dir, Some(entry)).as_slice(), name, value, XattrFlags::empty())
            }
        }
        .named("set the extended attribute")
    }

    /// Removes one extended attribute, if it is there.
    ///
    /// # Errors
    /// What removexattr gives.
    pub fn remove_xattr(self, name: &OsStr) -> Result<()> {
        let removed = match self {
            Place::Open(fd) => fs::fremovexattr(fd, name),
            Place::Name(dir, entry) => fs::lremovexattr(proc_path(dir, Some(entry)).as_slice(), name),
        };
        match removed {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            removed => removed.named("remove the extended attribute"),
        }
    }

    /// Returns the value of one extended attribute, or `None`.
    ///
    /// # Errors
    /// What getxattr gives.
    pub fn xattr(self, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; 64];
        loop {
            let read = match self {
                Place::Open(fd) => fs::fgetxattr(fd, name, &mut value[..]),
                Place::Name(dir, entry) => fs::lgetxattr(proc_path(dir, Some(entry)).as_slice(), name, &mut value[..]),
            };
            match read {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
                Err(Errno::RANGE) if value.len() < XATTR_MAX => value.resize(XATTR_MAX, 0),
                Err(errno) => return Err(Error::new("read the extended attribute", errno)),
            }
        }
    }

    /// Returns all extended attributes that this process may see, sorted by name.
    ///
    /// # Errors
    /// What listxattr and getxattr give.
    pub fn xattrs(self) -> Result<Vec<(OsString, Vec<u8>)>> {
        let mut xattrs = Vec::new();
        for name in self.xattr_names()? {
            // One that went away meanwhile is no error.
            if let Some(value) = self.xattr(&name)? {
                xattrs.push((name, value));
            }
        }
        xattrs.sort();
        Ok(xattrs)
    }

    /// Returns the names of all extended attributes that this process may see.
    ///
    /// # Errors
    /// What listxattr gives.
    pub fn xattr_names(self) -> Result<Vec<OsString>> {
        let mut list = vec![0; 256];
        loop {
            let read = match self {
                Place::Open(fd) => fs::flistxattr(fd, &mut list[..]),
                Place::Name(dir, entry) => fs::llistxattr(proc_path(dir, Some(entry)).as_slice(), &mut list[..]),
            };
            match read {
                Ok(len) => list.truncate(len),
                Err(Errno::NOTSUP) => return Ok(Vec::new()),
                Err(Errno::RANGE) if list.len() < XATTR_MAX => {
                    list.resize(XATTR_MAX, 0);
                    continue;
                }
                Err(errno) => return Err(Error::new("list the extended attributes", errno)),
            }
            let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
            return Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect());
        }
    }
}

/// Bytes of an attribute's value and of the list of names, as Linux limits both (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const XATTR_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::change::LayerPath;
    use crate::root::Root;

    #[test]
    fn metadata_of_a_name_is_never_that_of_what_it_points_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let top = Root::open(dir.path()).unwrap().dir(&LayerPath::root()).unwrap();
        let (file, link) = (top.place(OsStr::new("file")), top.place(OsStr::new("link")));
        file.set_mtime(Time { secs: 7, nanos: 9 }).unwrap();
        top.symlink(OsStr::new("link"), OsStr::new("file")).unwrap();
        link.set_mtime(Time { secs: -2, nanos: 500_000_000 }).unwrap();
        assert!(link.set_mode(0o4777).is_err());
        assert!(link.set_xattr(OsStr::new("user.x"), b"1").is_err());
        let (file, link) = (file.stat().unwrap(), link.stat().unwrap());
        assert_eq!((file.st_mtime, file.st_mtime_nsec), (7, 9));
        assert_eq!((link.st_mtime, link.st_mtime_nsec), (-2, 500_000_000));
        assert_eq!(file.st_mode & 0o4000, 0);
    }

    #[test]
    fn attributes_of_any_size_come_back() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let top = Root::open(dir.path()).unwrap().dir(&LayerPath::root()).unwrap();
        let place = top.place(OsStr::new("f"));
        assert_eq!(place.xattr(OsStr::new("user.a")).unwrap(), None);
        place.set_xattr(OsStr::new("user.b"), &[7; 1000]).unwrap();
        place.set_xattr(OsStr::new("user.a"), b"").unwrap();
        let user = |(name, _): &(OsString, Vec<u8>)| name.as_bytes().starts_with(b"user.");
        let xattrs: Vec<_> = place.xattrs().unwrap().into_iter().filter(user).collect();
        assert_eq!(xattrs, [("user.a".into(), vec![]), ("user.b".into(), vec![7; 1000])]);
        place.remove_xattr(OsStr::new("user.a")).unwrap();
        place.remove_xattr(OsStr::new("user.a")).unwrap();
        assert_eq!(place.xattr(OsStr::new("user.a")).unwrap(), None);
    }
}

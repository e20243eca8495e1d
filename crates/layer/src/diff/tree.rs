//! Trees on disk, read by descriptor: nothing follows a symbolic link, and nothing but regular files and directories is
//! ever opened.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::change::{Device, Entry, LayerPath, Meta, Node, Time};
use crate::overlay::{self, Marks, Xattrs};

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOATIME);

/// A directory tree, held by its root.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a directory. The path is walked from the root each time: however deep a tree is, a walk holds one descriptor.
    pub(super) fn open_dir(&self, path: &LayerPath) -> Result<Dir> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let name = if path.is_root() { c".".to_owned() } else { std::ffi::CString::new(path.as_bytes())? };
        let open = |flags| fs::openat2(&self.root, name.as_c_str(), flags, Mode::empty(), beneath);
        Ok(Dir { fd: allowing_atime(open, DIRECTORY).context("cannot open")? })
    }

    /// Returns what is at `path`, which is not the root and whose parent is a directory.
    pub(super) fn inode(&self, path: &LayerPath) -> Result<Option<Inode>> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { bail!("the root has no name") };
        self.open_dir(&parent)?.inode(name)
    }
}

/// Opens without leaving a mark on the access time where the caller owns the file, which the flag demands.
fn allowing_atime(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match open(flags) {
        Err(Errno::PERM) => open(flags.difference(OFlags::NOATIME)),
        other => other,
    }
}

/// An open directory of a tree.
pub(super) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Returns the names in the directory, sorted by their bytes.
    pub(super) fn names(&self) -> Result<Vec<OsString>> {
        let list = || {
            let mut names = Vec::new();
            let mut buffer = [MaybeUninit::uninit(); 32 << 10];
            let mut entries = RawDir::new(&self.fd, &mut buffer);
            while let Some(entry) = entries.next() {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            Ok::<_, Errno>(names)
        };
        let mut names = list().context("cannot list")?;
        names.sort_unstable();
        Ok(names)
    }

    /// Returns what `name` is, or `None` if there is nothing of that name.
    pub(super) fn inode(&self, name: &OsStr) -> Result<Option<Inode>> {
        match self.read_inode(name) {
            Err(err) if err.downcast_ref::<Errno>() == Some(&Errno::NOENT) => Ok(None),
            inode => inode.map(Some),
        }
    }

    /// Returns what `name`, which the directory has listed, is.
    pub(super) fn listed(&self, name: &OsStr) -> Result<Inode> {
        self.inode(name)?.context("vanished while it was read")
    }

    /// Returns the status of `name`, which the directory has listed.
    pub(super) fn stat(&self, name: &OsStr) -> Result<Stat> {
        fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).context("cannot stat")
    }

    /// Returns the marks and the metadata of the directory itself.
    pub(super) fn own(&self) -> Result<(Marks, Meta)> {
        let stat = fs::fstat(&self.fd).context("cannot stat")?;
        let (marks, xattrs) = overlay::decode(read_xattrs(&Xattred::Open(self.fd.as_fd()))?)?;
        Ok((marks, meta(&stat, xattrs)))
    }

    fn read_inode(&self, name: &OsStr) -> Result<Inode> {
        let stat = self.stat(name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut inode = Inode { stat, kind, marks: Marks::default(), xattrs: Vec::new(), file: None, target: None };
        match kind {
            FileType::RegularFile => inode.open(self, name)?,
            FileType::Symlink => {
                let target = fs::readlinkat(&self.fd, name, Vec::new()).context("cannot read the link")?;
                inode.target = Some(OsString::from_vec(target.into_bytes()));
            }
            _ => {}
        }
        if !inode.is_whiteout_device() && kind != FileType::Socket {
            let raw = match &inode.file {
                Some(file) => read_xattrs(&Xattred::Open(file.as_fd()))?,
                None => read_xattrs(&Xattred::Named(&self.fd, name))?,
            };
            (inode.marks, inode.xattrs) = overlay::decode(raw)?;
        }
        if inode.marks.whiteout && inode.stat.st_size == 0 && kind == FileType::RegularFile {
            inode.marks.whiteout = self.own()?.0.xattr_whiteouts;
        } else {
            inode.marks.whiteout = false;
        }
        Ok(inode)
    }
}

/// One file of a tree with all that a layer can hold of it; the content of a regular one can be read.
pub(super) struct Inode {
    pub(super) stat: Stat,
    pub(super) kind: FileType,
    pub(super) marks: Marks,
    pub(super) file: Option<File>,
    xattrs: Xattrs,
    target: Option<OsString>,
}

impl Inode {
    /// Opens the regular file. A fifo that has taken its place would block without NONBLOCK.
    fn open(&mut self, dir: &Dir, name: &OsStr) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOATIME;
        let open = |flags| fs::openat(&dir.fd, name, flags, Mode::empty());
        let fd = allowing_atime(open, flags).context("cannot open")?;
        let stat = fs::fstat(&fd).context("cannot stat")?;
        ensure!(FileType::from_raw_mode(stat.st_mode) == self.kind, "was replaced while it was read");
        self.stat = stat;
        self.file = Some(File::from(fd));
        Ok(())
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Says whether this is a whiteout, in either of overlayfs's forms.
    pub(super) fn is_whiteout(&self) -> bool {
        self.is_whiteout_device() || self.marks.whiteout
    }

    fn is_whiteout_device(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.device() == Device::WHITEOUT
    }

    fn device(&self) -> Device {
        Device { major: fs::major(self.stat.st_rdev), minor: fs::minor(self.stat.st_rdev) }
    }

    /// Returns what tells two names of one file from two files.
    pub(super) fn id(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// Says whether the file may have other names.
    pub(super) fn is_linked(&self) -> bool {
        self.stat.st_nlink > 1 && !self.is_dir()
    }

    /// Returns the bytes of the regular file.
    pub(super) fn size(&self) -> u64 {
        self.stat.st_size.cast_unsigned()
    }

    pub(super) fn meta(&self) -> Meta {
        meta(&self.stat, self.xattrs.clone())
    }

    /// Returns what the file is, or `None` for a socket.
    pub(super) fn node(&self) -> Result<Option<Node>> {
        Ok(Some(match self.kind {
            FileType::RegularFile => Node::File(self.size()),
            FileType::Directory => Node::Dir,
            FileType::Symlink => Node::Symlink(self.target.clone().unwrap_or_default()),
            FileType::Fifo => Node::Fifo,
            FileType::CharacterDevice => Node::Char(self.device()),
            FileType::BlockDevice => Node::Block(self.device()),
            FileType::Socket => return Ok(None),
            FileType::Unknown => bail!("is of no known type (mode {:o})", self.stat.st_mode),
        }))
    }

    /// Returns the entry for `path`, or `None` for a socket.
    pub(super) fn entry(&self, path: &LayerPath) -> Result<Option<Entry>> {
        Ok(self.node()?.map(|node| Entry { path: path.clone(), node, meta: self.meta() }))
    }
}

/// Times are whole seconds, as Docker writes them: a header holds them without an extension.
fn meta(stat: &Stat, xattrs: Xattrs) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { secs: stat.st_mtime, nanos: 0 },
        xattrs,
    }
}

/// Whose xattrs: an open file's, or those of a file that must not be opened, through the name that procfs gives its
/// directory (there is no getxattrat before Linux 6.13).
enum Xattred<'a> {
    Open(rustix::fd::BorrowedFd<'a>),
    Named(&'a OwnedFd, &'a OsStr),
}

impl Xattred<'_> {
    fn list(&self) -> rustix::io::Result<Vec<u8>> {
        match self {
            Self::Open(fd) => sized(|| fs::flistxattr_query(fd), |buffer| fs::flistxattr(fd, buffer)),
            Self::Named(dir, name) => {
                let path = proc_name(dir, name);
                sized(|| fs::llistxattr_query(&path), |buffer| fs::llistxattr(&path, buffer))
            }
        }
    }

    fn value(&self, xattr: &CStr) -> rustix::io::Result<Vec<u8>> {
        match self {
            Self::Open(fd) => sized(|| fs::fgetxattr_query(fd, xattr), |buffer| fs::fgetxattr(fd, xattr, buffer)),
            Self::Named(dir, name) => {
                let path = proc_name(dir, name);
                sized(|| fs::lgetxattr_query(&path, xattr), |buffer| fs::lgetxattr(&path, xattr, buffer))
            }
        }
    }
}

fn proc_name(dir: &OwnedFd, name: &OsStr) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.as_bytes()].concat()
}

fn read_xattrs(of: &Xattred) -> Result<Xattrs> {
    let list = match of.list() {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        list => list.context("cannot list xattrs")?,
    };
    let mut xattrs = Vec::new();
    for name in list.split_inclusive(|&b| b == 0) {
        let xattr = CStr::from_bytes_with_nul(name)?;
        let name = OsStr::from_bytes(xattr.to_bytes());
        let cannot = || format!("cannot read xattr `{}`", name.display());
        xattrs.push((name.to_owned(), of.value(xattr).with_context(cannot)?));
    }
    Ok(xattrs)
}

/// Asks for the size, then for the bytes, again if they have grown meanwhile.
fn sized(
    size: impl Fn() -> rustix::io::Result<usize>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    loop {
        let mut bytes = vec![0; size()?];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        match read(&mut bytes) {
            Err(Errno::RANGE) => {}
            Err(err) => return Err(err),
            Ok(len) => {
                bytes.truncate(len);
                return Ok(bytes);
            }
        }
    }
}

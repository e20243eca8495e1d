//! One entry made on disk: its node, its content, its metadata.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Error, Result, bail, ensure};
use rustix::fs::{self, FileType, SeekFrom};
use rustix::io::Errno;

use super::options::{Options, Owner};
use super::tree::mtime;
use crate::change::{Body, Entry, Escaped, LayerPath, Meta, Node};
use crate::overlay;
use crate::root::{self, Dir, Place};

/// The attribute of a directory whose entries inherit an ACL.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// The attribute that an entry of such a directory inherits.
const ACL: &str = "system.posix_acl_access";

/// Makes what `entry` is, except a directory and a hard link, at `name`. `inherits` says that it gets an ACL of the directory's,
/// which has to go.
///
/// # Errors
/// What the system calls give: [`Errno::EXIST`] before anything of `body` is read.
pub(super) fn create(
    dir: &Dir,
    name: &OsStr,
    entry: &Entry,
    body: &mut dyn Body,
    options: &Options,
    inherits: bool,
    warnings: &mut Warnings,
) -> Result<()> {
    let meta = &entry.meta;
    let mode = meta.mode & 0o777;
    match &entry.node {
        Node::File(size) => {
            let file = dir.create(name, mode)?;
            write(&file, *size, body)?;
            let place = Place::Open(file.as_fd());
            return dress_file(place, entry, options, inherits, warnings);
        }
        Node::Symlink(target) => dir.symlink(name, target)?,
        Node::Fifo => dir.fifo(name, mode)?,
        Node::Char(device) => {
            // Even where a caller let it through: it would hide a name that no whiteout named.
            ensure!(!overlay::is_whiteout(*device), "a character device 0:0 is a whiteout");
            dir.device(name, FileType::CharacterDevice, mode, *device)?;
        }
        Node::Block(device) => dir.device(name, FileType::BlockDevice, mode, *device)?,
        Node::Dir | Node::Hardlink(_) => bail!("`{}` is no entry of its own", entry.path),
    }
    dress_file(dir.place(name), entry, options, inherits, warnings)
}

/// Writes the runs of `body` where they belong; what lies between them stays a hole.
fn write(file: &File, size: u64, body: &mut dyn Body) -> Result<()> {
    let mut end = 0;
    while let Some((offset, bytes)) = body.next_run()? {
        end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= size).context("content is too long")?;
        file.write_all_at(bytes, offset).context("cannot write the file")?;
    }
    if end < size {
        file.set_len(size).context("cannot set the size of the file")?;
    }
    Ok(())
}

/// Gives what is no directory its metadata, with no more system calls than it takes.
fn dress_file(place: Place, entry: &Entry, options: &Options, inherits: bool, warnings: &mut Warnings) -> Result<()> {
    let meta = &entry.meta;
    if inherits {
        place.remove_xattr(OsStr::new(ACL))?;
    }
    set_owner(place, meta, &options.owner)?;
    // The umask, a parent with set-group-ID and the chown before have a say in the mode.
    if !matches!(entry.node, Node::Symlink(_)) && place.stat()?.st_mode & 0o7777 != meta.mode {
        place.set_mode(meta.mode)?;
    }
    set_xattrs(place, &entry.path, meta, options, warnings)?;
    Ok(place.set_mtime(meta.mtime)?)
}

/// Sets the owner where it is not the right one yet.
pub(super) fn set_owner(place: Place, meta: &Meta, owner: &Owner) -> Result<()> {
    let Some((uid, gid)) = owner.map(meta.uid, meta.gid)? else { return Ok(()) };
    let stat = place.stat()?;
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    let hint = |err: &root::Error| err.is(Errno::PERM) || err.is(Errno::INVAL);
    place.set_owner(uid, gid).map_err(|err| match hint(&err) {
        true => Error::from(err).context(format!("owner {uid}:{gid} (`--no-same-owner` or `--uid-map` may help)")),
        false => err.into(),
    })
}

/// Sets the extended attributes. What the file system has no place for is a warning; all else that cannot be set is an
/// error, for a file without its capability or ACL is another file.
pub(super) fn set_xattrs(
    place: Place,
    path: &LayerPath,
    meta: &Meta,
    options: &Options,
    warnings: &mut Warnings,
) -> Result<()> {
    if options.no_xattrs {
        return Ok(());
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| !overlay::is_bookkeeping(name)) {
        match place.set_xattr(name, value) {
            Err(err) if err.is(Errno::NOTSUP) => warnings.add(name, path),
            set => set.with_context(|| format!("`{}` (`--no-xattrs` leaves all out)", Escaped(name.as_bytes())))?,
        }
    }
    Ok(())
}

/// Removes from a directory the extended attributes that are not in `kept`: a directory has those of its topmost layer.
pub(super) fn drop_xattrs(place: Place, kept: &[(OsString, Vec<u8>)], options: &Options) -> Result<()> {
    for name in place.xattr_names()? {
        let wanted = !options.no_xattrs && kept.iter().any(|(kept, _)| *kept == name);
        // The kernel labels what is made; that is not the layers' matter.
        if !wanted && !overlay::is_bookkeeping(&name) && name != "security.selinux" {
            place.remove_xattr(&name).with_context(|| format!("`{}`", Escaped(name.as_bytes())))?;
        }
    }
    Ok(())
}

/// Reads the metadata of something on disk.
pub(super) fn read_meta(place: Place) -> Result<Meta> {
    let stat = place.stat()?;
    let mut xattrs = place.xattrs()?;
    xattrs.retain(|(name, _)| !overlay::is_bookkeeping(name));
    Ok(Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: mtime(&stat), xattrs })
}

/// Reads something on disk as the entry `path`, its content left out.
pub(super) fn read_entry(path: &LayerPath, place: Place, dir: &Dir) -> Result<Entry> {
    let stat = place.stat()?;
    let node = match root::kind(&stat) {
        FileType::RegularFile => Node::File(u64::try_from(stat.st_size)?),
        FileType::Symlink => Node::Symlink(dir.read_link(path.name().unwrap_or_default())?),
        FileType::Fifo => Node::Fifo,
        FileType::CharacterDevice => Node::Char(root::device(&stat)),
        FileType::BlockDevice => Node::Block(root::device(&stat)),
        FileType::Directory => Node::Dir,
        _ => bail!("`{path}` is a socket, which no layer holds"),
    };
    Ok(Entry { path: path.clone(), node, meta: read_meta(place)? })
}

/// The content of a file on disk, its holes left out.
pub(super) struct FileBody {
    file: File,
    buffer: Vec<u8>,
    /// Where the next read is, and where the data there ends.
    at: u64,
    end: u64,
}

impl FileBody {
    pub(super) fn new(file: File) -> Self {
        Self { file, buffer: vec![0; 128 << 10], at: 0, end: 0 }
    }

    /// Finds the next data; false at the end of the file.
    fn advance(&mut self) -> io::Result<bool> {
        self.at = match fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Err(Errno::NXIO) => return Ok(false),
            found => found?,
        };
        self.end = fs::seek(&self.file, SeekFrom::Hole(self.at))?;
        fs::seek(&self.file, SeekFrom::Start(self.at))?;
        Ok(true)
    }
}

impl Body for FileBody {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        if self.at >= self.end && !self.advance()? {
            return Ok(None);
        }
        let want = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(self.buffer.len());
        let read = (&self.file).take(want as u64).read(&mut self.buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let offset = self.at;
        self.at += read as u64;
        Ok(Some((offset, &self.buffer[..read])))
    }
}

/// Extended attributes that the file system has no place for: each name once, with the first entry that has it.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    dropped: BTreeMap<OsString, (LayerPath, u64)>,
    more: u64,
}

impl Warnings {
    /// Names that are told apart. There are a handful in the world; a layer may invent any number.
    const NAMES: usize = 16;

    fn add(&mut self, name: &OsStr, path: &LayerPath) {
        if let Some((_, count)) = self.dropped.get_mut(name) {
            *count += 1;
        } else if self.dropped.len() < Self::NAMES {
            self.dropped.insert(name.to_owned(), (path.clone(), 1));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_messages(self) -> Vec<String> {
        let say = |(name, (path, count)): (OsString, (LayerPath, u64))| {
            let name = Escaped(name.as_bytes()).to_string();
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            format!("`{path}`{others}: extended attribute `{name}` left out: the file system does not take it")
        };
        let mut messages: Vec<_> = self.dropped.into_iter().map(say).collect();
        if self.more > 0 {
            messages.push(format!("{} more extended attributes left out", self.more));
        }
        messages
    }
}

//! Where an image's files are: in a directory, or in an archive.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::tar_files::TarFiles;
use crate::limits;

/// The files of an image, by their names.
pub(super) enum Medium {
    Directory(OwnedFd),
    Archive(TarFiles),
}

impl Medium {
    pub(super) fn directory(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::Directory(rustix::fs::open(path, flags, Mode::empty()).context("cannot open")?))
    }

    /// Opens the regular file `name`; `None` where there is none of that name. Symlinks are followed within the medium only.
    ///
    /// # Errors
    /// What opening gives, what is no regular file, and a symlink that leads out or round; none says the name.
    pub(super) fn open(&self, name: &str) -> Result<Option<Blob>> {
        match self {
            Self::Directory(directory) => open_beneath(directory, name),
            Self::Archive(files) => files.open(name),
        }
    }

    /// Reads the document `name`; `None` where there is none.
    ///
    /// # Errors
    /// What [`Medium::open`] and [`Blob::read_all`] give, with the name.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.open(name).and_then(|blob| blob.map(Blob::read_all).transpose()).with_context(|| name.to_owned())
    }
}

fn open_beneath(directory: &OwnedFd, name: &str) -> Result<Option<Blob>> {
    // A FIFO would make open(2) wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = loop {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            // The kernel could not be sure while something was renamed.
            Err(Errno::AGAIN) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::XDEV) => bail!("leads out of the layout"),
            Err(Errno::NXIO) => bail!("is not a regular file"),
            file => break File::from(file.context("cannot open")?),
        }
    };
    let metadata = file.metadata().context("cannot stat")?;
    ensure!(metadata.is_file(), "is not a regular file");
    Ok(Some(Blob::new(Arc::new(file), 0, metadata.len())))
}

/// Bytes of a file: all of them, or those of one member of an archive. Several may be read at once, each from its own place.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Blob {
    pub(super) fn new(file: Arc<File>, at: u64, size: u64) -> Self {
        Self { file, at, left: size }
    }

    /// Returns the number of bytes that are left to read: all, before the first read.
    pub(super) fn size(&self) -> u64 {
        self.left
    }

    /// Returns the file and the place in it of what is left to read.
    pub(super) fn into_file(self) -> (Arc<File>, Range<u64>) {
        let range = self.at..self.at.saturating_add(self.left);
        (self.file, range)
    }

    /// Reads a document, of at most [`limits::JSON_DOCUMENT`] bytes.
    pub(super) fn read_all(mut self) -> Result<Vec<u8>> {
        let size = self.left;
        ensure!(
            size <= limits::JSON_DOCUMENT,
            "is {size} bytes long, expected a document of at most {}",
            limits::JSON_DOCUMENT
        );
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).context("cannot read")?;
        Ok(bytes)
    }

    /// Reads the first bytes, at most `len`.
    pub(super) fn head(&self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.clone().take(len).read_to_end(&mut bytes).context("cannot read")?;
        Ok(bytes)
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buf[..len], self.at)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short while it was read"));
        }
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

//! The file that `--record` names.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// A file that records are written to, whose errors name it.
pub struct RecordFile {
    file: File,
    name: String,
}

impl RecordFile {
    /// Creates `path`, or empties it. `/dev/fd/N` is the descriptor itself: what it has written stays, and what others
    /// write to it comes behind.
    ///
    /// # Errors
    /// What opening gives.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = match descriptor(path) {
            Some(fd) => duplicate(fd).with_context(|| format!("{name}: cannot open"))?,
            None => File::create(path).with_context(|| format!("{name}: cannot create"))?,
        };
        Ok(Self { file, name })
    }
}

impl Write for RecordFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|err| match err.kind() {
            io::ErrorKind::Interrupted => err,
            kind => io::Error::new(kind, format!("{}: cannot write: {err}", self.name)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the number of the descriptor that a path means.
fn descriptor(path: &Path) -> Option<i32> {
    let number = path.strip_prefix("/dev/fd").or_else(|_| path.strip_prefix("/proc/self/fd")).ok()?;
    number.to_str()?.parse().ok()
}

/// Returns a duplicate of a descriptor. Opening its path would begin at the start of the file, and truncate it.
fn duplicate(fd: i32) -> Result<File, Errno> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty()).map(File::from)
}

//! The content of files on disk, as the runs of bytes that they hold.

use std::fs::File;
use std::io;

use rustix::fs::{self, SeekFrom, Stat};
use rustix::io::Errno;

use crate::change::Body;

/// Bytes of one read.
const READ: usize = 256 << 10;

/// The content of a regular file; holes are passed over where the filesystem tells them. A file that changes while it is
/// read is an error: half of what it was and half of what it is would be neither.
pub(super) struct FileBody<'a> {
    file: &'a File,
    before: &'a Stat,
    buffer: &'a mut Vec<u8>,
    size: u64,
    at: u64,
    /// Where the run of data around `at` ends; `at` itself if the next is not known.
    data_end: u64,
    done: bool,
}

impl<'a> FileBody<'a> {
    /// Reads the file of which `before` was the status. `buffer` is room to be used.
    pub(super) fn new(file: &'a File, before: &'a Stat, buffer: &'a mut Vec<u8>) -> Self {
        buffer.resize(READ, 0);
        let size = before.st_size.cast_unsigned();
        // Whoever has blocks for all of its bytes has no holes: two seeks saved on nearly every file.
        let dense = before.st_blocks.cast_unsigned().saturating_mul(512) >= size;
        Self { file, before, buffer, size, at: 0, data_end: if dense { size } else { 0 }, done: false }
    }

    /// Moves to the next run of data; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        if self.at >= self.size {
            return Ok(false);
        }
        match fs::seek(self.file, SeekFrom::Data(self.at)) {
            Ok(start) => {
                self.at = start;
                self.data_end = fs::seek(self.file, SeekFrom::Hole(start))?.min(self.size);
            }
            Err(Errno::NXIO) => self.at = self.size,
            Err(Errno::INVAL | Errno::NOTSUP) => self.data_end = self.size,
            Err(err) => return Err(err.into()),
        }
        Ok(self.at < self.size)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let after = fs::fstat(self.file)?;
        let of = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if of(&after) == of(self.before) { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "changed while it was read")
}

impl Body for FileBody<'_> {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        if self.done || (self.at >= self.data_end && !self.advance()?) {
            if !self.done {
                self.check_unchanged()?;
            }
            self.done = true;
            return Ok(None);
        }
        let left = usize::try_from(self.data_end - self.at).unwrap_or(usize::MAX);
        let want = left.min(self.buffer.len());
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(self.file, &mut self.buffer[..want], self.at))?;
        if read == 0 {
            return Err(changed());
        }
        let start = self.at;
        self.at += read as u64;
        Ok(Some((start, &self.buffer[..read])))
    }
}

/// Says whether two files hold the same bytes, holes read as zeros.
pub(super) fn same_content(a: (&File, &Stat), b: (&File, &Stat)) -> io::Result<bool> {
    if a.1.st_size != b.1.st_size {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; READ], vec![0; READ]);
    let mut at = 0;
    loop {
        let len = fill(a.0, &mut left, at)?;
        if len != fill(b.0, &mut right, at)? || left[..len] != right[..len] {
            return Ok(false);
        }
        if len < READ {
            return Ok(true);
        }
        at += len as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        let offset = at + len as u64;
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[len..], offset))? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}

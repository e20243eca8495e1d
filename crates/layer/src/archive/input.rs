//! Where the bytes of an archive come from: a stream, or a file whose contents can be leapt over.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A source of an archive's bytes.
pub trait Input: BufRead {
    /// Passes over `n` bytes.
    ///
    /// # Errors
    /// What reading gives; the source ending before is [`io::ErrorKind::UnexpectedEof`].
    fn skip(&mut self, n: u64) -> io::Result<()>;
}

impl<I: Input + ?Sized> Input for &mut I {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        (**self).skip(n)
    }
}

/// A stream, of which each byte is read.
pub struct Stream<R>(pub R);

impl<R: BufRead> Read for Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: BufRead> BufRead for Stream<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl<R: BufRead> Input for Stream<R> {
    fn skip(&mut self, mut n: u64) -> io::Result<()> {
        while n > 0 {
            let here = self.0.fill_buf()?.len();
            if here == 0 {
                return Err(cut_short());
            }
            let amount = usize::try_from(n).map_or(here, |n| n.min(here));
            self.0.consume(amount);
            n -= amount as u64;
        }
        Ok(())
    }
}

impl<I: Input + ?Sized> Input for Box<I> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        (**self).skip(n)
    }
}

/// Bytes of the first read behind a leap. Headers lie far apart in an image archive; a longer read would only fetch more of
/// what is leapt over next.
const FIRST_READ: usize = 4 << 10;

/// Bytes of one read at most. Reads grow to it while nothing is leapt over.
const LAST_READ: usize = 128 << 10;

/// A part of a file, of which only what is asked for is read: an archive of 2 GB is listed by reading its headers. The
/// file's own offset is neither used nor moved, so several may read the same file.
pub struct ArchiveFile {
    file: Arc<File>,
    /// Where in the file the next read begins, and where the part ends.
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    /// What of the buffer is handed out next.
    at: usize,
    /// Bytes of the next read.
    read: usize,
}

impl ArchiveFile {
    /// Reads a regular file from where its offset stands. What is written behind its end meanwhile is not seen.
    ///
    /// # Errors
    /// What asking for the size and the offset gives.
    pub fn new(mut file: File) -> io::Result<Self> {
        let (start, end) = (file.stream_position()?, file.metadata()?.len());
        Ok(Self::part(Arc::new(file), start..end))
    }

    /// Reads the bytes of `file` in `range`.
    pub fn part(file: Arc<File>, range: Range<u64>) -> Self {
        let Range { start, end } = range;
        Self { file, next: start, end: end.max(start), buffer: Vec::new(), at: 0, read: FIRST_READ }
    }
}

impl Read for ArchiveFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for ArchiveFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            let len = usize::try_from(self.end - self.next).map_or(self.read, |left| left.min(self.read));
            self.buffer.resize(len, 0);
            self.at = len;
            let read = self.file.read_at(&mut self.buffer, self.next)?;
            self.buffer.truncate(read);
            self.at = 0;
            self.next += read as u64;
            self.read = (self.read * 2).min(LAST_READ);
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Input for ArchiveFile {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        let buffered = (self.buffer.len() - self.at) as u64;
        if n <= buffered {
            self.at += n as usize;
            return Ok(());
        }
        self.next = self.next.checked_add(n - buffered).filter(|&next| next <= self.end).ok_or_else(cut_short)?;
        self.at = self.buffer.len();
        self.read = FIRST_READ;
        Ok(())
    }
}

/// The error of an input that ends where there should be more.
fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

/// The input with a count of what went by. Headers, extension data and padding pass through [`Source::block`],
/// [`Source::data`] and [`Source::padding`] alone, and contents through nothing else: whoever has to keep an archive's
/// frame (tar-split does) hooks in here.
pub(super) struct Source<I> {
    input: I,
    offset: u64,
}

impl<I: Input> Source<I> {
    pub(super) fn new(input: I) -> Self {
        Self { input, offset: 0 }
    }

    /// Returns how many bytes went by.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads one block and returns how many bytes of it there were: fewer than 512 only at the end of the input.
    pub(super) fn block(&mut self, block: &mut [u8; 512]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < block.len() {
            let here = self.input.fill_buf()?;
            if here.is_empty() {
                break;
            }
            let amount = here.len().min(block.len() - filled);
            block[filled..filled + amount].copy_from_slice(&here[..amount]);
            self.consume(amount);
            filled += amount;
        }
        Ok(filled)
    }

    /// Appends `n` bytes of extension data, which the caller has bounded.
    pub(super) fn data(&mut self, n: u64, to: &mut Vec<u8>) -> io::Result<()> {
        let read = self.input.by_ref().take(n).read_to_end(to)? as u64;
        self.offset += read;
        if read < n { Err(cut_short()) } else { Ok(()) }
    }

    /// Passes over what fills the last block of `n` bytes. Go's archive/tar lets an archive end within it, so does this.
    pub(super) fn padding(&mut self, n: u64) -> io::Result<()> {
        let mut left = (n.wrapping_neg() % 512) as usize;
        while left > 0 {
            let amount = self.input.fill_buf()?.len().min(left);
            if amount == 0 {
                break;
            }
            self.consume(amount);
            left -= amount;
        }
        Ok(())
    }

    /// Returns the content that lies ahead, never empty.
    pub(super) fn content(&mut self) -> io::Result<&[u8]> {
        let here = self.input.fill_buf()?;
        if here.is_empty() { Err(cut_short()) } else { Ok(here) }
    }

    /// Passes over content that [`Source::content`] returned.
    pub(super) fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.offset += amount as u64;
    }

    /// Passes over content.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<()> {
        self.input.skip(n)?;
        self.offset = self.offset.saturating_add(n);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn streams_and_files_skip_alike() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let mut inputs: [Box<dyn Input>; 2] = [Box::new(Stream(&bytes[..])), Box::new(ArchiveFile::new(file).unwrap())];
        for input in &mut inputs {
            let mut three = [0; 3];
            for skip in [0, 1, 5000, 4000] {
                input.skip(skip).unwrap();
                input.read_exact(&mut three).unwrap();
            }
            assert_eq!(three[..], bytes[9010..9013]);
            assert_eq!(input.skip(1000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(input.skip(u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

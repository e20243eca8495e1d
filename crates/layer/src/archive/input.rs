//! Where the bytes of an archive come from: a stream, or a file whose contents can be leapt over.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

/// A source of an archive's bytes.
pub trait Input: BufRead {
    /// Passes over `n` bytes.
    ///
    /// # Errors
    /// What reading gives; the source ending before is [`io::ErrorKind::UnexpectedEof`].
    fn skip(&mut self, n: u64) -> io::Result<()>;
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

/// A file, of which only what is asked for is read: an archive of 2 GB is listed by reading its headers.
pub struct ArchiveFile {
    reader: BufReader<File>,
    left: u64,
}

impl ArchiveFile {
    /// Reads a regular file from where its offset stands. What is written behind its end meanwhile is not seen.
    ///
    /// # Errors
    /// What asking for the size and the offset gives.
    pub fn new(mut file: File) -> io::Result<Self> {
        let left = file.metadata()?.len().saturating_sub(file.stream_position()?);
        // Headers lie far apart in an image archive; a longer read would only fetch more of what is skipped.
        Ok(Self { reader: BufReader::with_capacity(4096, file), left })
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
        let buf = self.reader.fill_buf()?;
        Ok(&buf[..usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()))])
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
        self.left -= amount as u64;
    }
}

impl Input for ArchiveFile {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        let distance = i64::try_from(n).ok().filter(|_| n <= self.left).ok_or_else(cut_short)?;
        self.reader.seek_relative(distance)?;
        self.left -= n;
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

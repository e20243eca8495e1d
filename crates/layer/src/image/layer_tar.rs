//! The tar of a layer, to be read once or leapt through.

use std::io::{self, BufReader, Read};

use anyhow::Result;

use super::Image;
use crate::archive::{ArchiveFile, Input, Stream};
use crate::stream::{Compression, decoder};

impl Image {
    /// Opens the tar of a layer, counted from the base. Where it is stored as the tar itself, in a file, what is skipped of it
    /// is not read; else it is decoded on the way, `max_size` bytes of it at most. Nothing is verified: what is leapt over
    /// cannot be, and whoever needs it reads [`Image::open_layer`] through [`LayerReader`](crate::stream::LayerReader).
    ///
    /// # Errors
    /// What [`Image::open_layer`] gives, and a compression that layers do not have.
    pub fn open_tar(&self, index: usize, max_size: Option<u64>) -> Result<Box<dyn Input>> {
        let mut head = Vec::with_capacity(Compression::HEAD);
        let mut blob = self.open_layer(index)?;
        blob.by_ref().take(Compression::HEAD as u64).read_to_end(&mut head)?;
        let compression = Compression::sniff(&head)?;
        if compression == Compression::None
            && let Some((file, range)) = self.open_layer_file(index)?
        {
            return Ok(Box::new(ArchiveFile::part(file, range)));
        }
        let blob = BufReader::with_capacity(128 << 10, io::Cursor::new(head).chain(blob));
        let tar = Capped { input: decoder(blob, compression)?, left: max_size.unwrap_or(u64::MAX), max_size };
        Ok(Box::new(Stream(BufReader::with_capacity(128 << 10, tar))))
    }
}

/// A tar that may not be longer than was said.
struct Capped<R> {
    input: R,
    left: u64,
    max_size: Option<u64>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let max = self.max_size.unwrap_or_default();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("uncompressed size is over {max} bytes (raise it with --max-size)"),
            )
        })?;
        Ok(read)
    }
}

//! Writing a layer: a tar goes in, the blob comes out, digest and DiffID are known at the end.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::gzip::{self, Block, Deflaters};
use super::{CHUNK, Encoding, Sums};
use crate::digest::{DiffId, Digest, Hasher};

/// log2 of the largest window of what is written: 8 MiB, which every decoder of RFC 8878 has to support. The reader's memory
/// follows it.
const WINDOW_LOG: u32 = 23;

/// The highest zstd level that asks for no larger window by itself.
const MODEST_LEVEL: i32 = 19;

/// A tar that is compressed, hashed on both sides and written. The same tar gives the same bytes, on any machine and with
/// any number of processors.
///
/// Nothing is complete before [`LayerWriter::finish`].
pub struct LayerWriter<W: Write> {
    encoding: Encoding,
    pending: Vec<u8>,
    diff_size: u64,
    tar_hash: SyncSender<Arc<Vec<u8>>>,
    hashing: JoinHandle<Digest>,
    encoder: Encoder<W>,
}

enum Encoder<W: Write> {
    None(Blob<W>),
    Gzip(Gzip<W>),
    Zstd(zstd::Encoder<'static, Blob<W>>),
}

impl<W: Write> LayerWriter<W> {
    /// Writes the blob to `out`, with as many threads as there are processors.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(out: W, encoding: Encoding) -> Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(out, encoding, threads)
    }

    fn with_threads(out: W, encoding: Encoding, threads: usize) -> Result<Self> {
        let blob = Blob { out, hasher: Hasher::new(), size: 0 };
        let encoder = match encoding {
            Encoding::None => Encoder::None(blob),
            Encoding::Gzip(level) => Encoder::Gzip(Gzip::new(blob, level, threads)?),
            Encoding::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(blob, level).context("cannot start zstd")?;
                // One worker or more, always: without any, zstd chooses other blocks and the digest changes.
                encoder.multithread(u32::try_from(threads)?).context("cannot start zstd")?;
                encoder.include_checksum(true).context("cannot start zstd")?;
                if level > MODEST_LEVEL {
                    encoder.window_log(WINDOW_LOG).context("cannot start zstd")?;
                }
                Encoder::Zstd(encoder)
            }
        };
        let (tar_hash, chunks) = sync_channel::<Arc<Vec<u8>>>(4);
        let hash = move || {
            let mut hasher = Hasher::new();
            for chunk in chunks {
                hasher.update(&chunk);
            }
            hasher.finish()
        };
        let hashing = thread::Builder::new().name("layer-hash".to_owned()).spawn(hash)?;
        Ok(Self { encoding, pending: Vec::with_capacity(CHUNK), diff_size: 0, tar_hash, hashing, encoder })
    }

    /// Writes what is left and returns the underlying writer, flushed, and what the whole pass found.
    ///
    /// # Errors
    /// What compressing and writing the rest give.
    pub fn finish(mut self) -> Result<(W, Sums)> {
        if !self.pending.is_empty() {
            self.emit()?;
        }
        drop(self.tar_hash);
        let diff_id = DiffId(self.hashing.join().map_err(|_| anyhow!("the hashing thread panicked"))?);
        let mut blob = match self.encoder {
            Encoder::None(blob) => blob,
            Encoder::Gzip(gzip) => gzip.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        blob.out.flush()?;
        let sums = Sums {
            compression: self.encoding.compression(),
            digest: blob.hasher.finish(),
            size: blob.size,
            diff_id,
            diff_size: self.diff_size,
        };
        Ok((blob.out, sums))
    }

    fn emit(&mut self) -> Result<()> {
        let chunk = Arc::new(mem::replace(&mut self.pending, Vec::with_capacity(CHUNK)));
        self.diff_size += chunk.len() as u64;
        self.tar_hash.send(Arc::clone(&chunk)).ok().context("the hashing thread has ended")?;
        match &mut self.encoder {
            Encoder::None(blob) => blob.write_all(&chunk)?,
            Encoder::Gzip(gzip) => gzip.push(chunk)?,
            Encoder::Zstd(encoder) => encoder.write_all(&chunk)?,
        }
        Ok(())
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..take]);
        if self.pending.len() == CHUNK {
            self.emit().map_err(into_io)?;
        }
        Ok(take)
    }

    /// Does nothing: where blocks end decides the bytes of the blob.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Carries an error through [`Write`] so that an [`io::Error`] inside stays one.
fn into_io(err: anyhow::Error) -> io::Error {
    err.downcast::<io::Error>().unwrap_or_else(io::Error::other)
}

/// The blob as it is stored, hashed and counted.
struct Blob<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Blob<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A gzip member whose blocks other threads deflate; they are written in order.
struct Gzip<W: Write> {
    blob: Blob<W>,
    deflaters: Deflaters,
    ahead: usize,
    waiting: VecDeque<Receiver<Result<Block>>>,
    trailer: gzip::Trailer,
    /// The block before the last one submitted, for its window, and the one that is not submitted yet: it may be the last.
    before: Option<Arc<Vec<u8>>>,
    held: Arc<Vec<u8>>,
}

impl<W: Write> Gzip<W> {
    fn new(mut blob: Blob<W>, level: u32, threads: usize) -> Result<Self> {
        blob.write_all(&gzip::HEADER)?;
        let deflaters = Deflaters::new(level, threads)?;
        let ahead = 2 * threads;
        let trailer = gzip::Trailer::default();
        Ok(Self { blob, deflaters, ahead, waiting: VecDeque::new(), trailer, before: None, held: Arc::default() })
    }

    fn push(&mut self, chunk: Arc<Vec<u8>>) -> Result<()> {
        let held = mem::replace(&mut self.held, chunk);
        if held.is_empty() { Ok(()) } else { self.submit(held, false) }
    }

    fn submit(&mut self, block: Arc<Vec<u8>>, last: bool) -> Result<()> {
        let before = self.before.replace(Arc::clone(&block));
        self.waiting.push_back(self.deflaters.submit(block, before, last)?);
        if self.waiting.len() > self.ahead { self.write_next() } else { Ok(()) }
    }

    fn write_next(&mut self) -> Result<()> {
        let Some(next) = self.waiting.pop_front() else { return Ok(()) };
        let block = next.recv().context("a deflating thread panicked")??;
        self.trailer.add(&block);
        Ok(self.blob.write_all(&block.deflated)?)
    }

    fn finish(mut self) -> Result<Blob<W>> {
        let held = mem::take(&mut self.held);
        self.submit(held, true)?;
        while !self.waiting.is_empty() {
            self.write_next()?;
        }
        self.blob.write_all(&self.trailer.to_bytes())?;
        Ok(self.blob)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::stream::{Compression, LayerReader};

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| ((i * i) >> 9) as u8 ^ (i / 700) as u8).collect()
    }

    fn write(tar: &[u8], encoding: Encoding, threads: usize) -> (Vec<u8>, Sums) {
        let mut writer = LayerWriter::with_threads(Vec::new(), encoding, threads).unwrap();
        writer.write_all(tar).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_with_the_same_sums() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3] {
            let tar = sample(len);
            for encoding in [Encoding::None, Encoding::Gzip(6), Encoding::Gzip(1), Encoding::Zstd(3)] {
                let (blob, written) = write(&tar, encoding, 2);
                assert_eq!(written.digest, Digest::of(&blob));
                let mut reader = LayerReader::new(io::Cursor::new(blob), None).unwrap();
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == tar, "{encoding} of {len}");
                let read = reader.finish().unwrap();
                // No bytes at all are a plain tar to any reader.
                let compression = if encoding == Encoding::None { Compression::None } else { written.compression };
                assert_eq!(read, Sums { compression, ..written });
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let tar = sample(9 * CHUNK + 12345);
        for encoding in [Encoding::Gzip(1), Encoding::Gzip(6), Encoding::Gzip(9), Encoding::Zstd(3)] {
            let one = write(&tar, encoding, 1);
            for threads in [2, 3, 5] {
                assert!(write(&tar, encoding, threads) == one, "{encoding} with {threads} threads");
            }
        }
    }

    #[test]
    fn gzip_is_one_member_that_other_decoders_read() {
        let tar = sample(3 * CHUNK);
        let (blob, _) = write(&tar, Encoding::Gzip(6), 2);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut back).unwrap();
        assert!(back == tar);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = LayerWriter::new(full, Encoding::None).unwrap();
        let err = writer.write_all(&sample(2 * CHUNK)).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::StorageFull);
    }
}

//! Reading a layer: the blob goes in, its tar comes out, digest and DiffID are known at the end.
//!
//! Threads, for a compressed blob: one reads and decodes, one hashes the blob, one hashes the tar, and the caller's parses
//! or writes. A buffer of tar has one owner at a time and goes round: decoder, hasher, caller, decoder. A plain tar needs
//! one thread besides the caller's, as its digest is its DiffID.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Error, Result, anyhow};

use super::decode::invalid;
use super::stages::{Cap, Chunk, Item, Sum, decode_blob, hash_chunks, read_plain};
use super::{CHUNK, Compression, Expected, Sums};
use crate::digest::DiffId;

/// Buffers of tar in flight. More than the stages that hold one make no difference.
const CHUNKS: usize = 8;

/// A layer's tar, decoded and hashed while it is read.
///
/// What the reader of a tar leaves behind the end marker belongs to the DiffID, so [`LayerReader::finish`] has to be called: it
/// reads the rest.
pub struct LayerReader {
    compression: Compression,
    full: Receiver<Item>,
    empty: SyncSender<Chunk>,
    current: Option<Chunk>,
    at: usize,
    failed: bool,
    threads: Threads,
}

struct Threads {
    decode: JoinHandle<Sum>,
    hash: Option<JoinHandle<Sum>>,
}

impl LayerReader {
    /// Reads a blob, whose compression its first bytes tell. An uncompressed size over `max_size` bytes is an error of reading.
    ///
    /// # Errors
    /// What reading gives, and a compression that layers do not have.
    pub fn new(mut input: impl Read + Send + 'static, max_size: Option<u64>) -> Result<Self> {
        let mut head = Vec::with_capacity(Compression::HEAD);
        input.by_ref().take(Compression::HEAD as u64).read_to_end(&mut head).context("cannot read")?;
        let compression = Compression::sniff(&head)?;
        let input = io::Cursor::new(head).chain(input);
        let cap = Cap { left: max_size.unwrap_or(u64::MAX), max_size };

        let (empty, recycled) = sync_channel(CHUNKS);
        let (to_caller, full) = sync_channel(CHUNKS);
        for _ in 0..CHUNKS {
            empty.send(Chunk { bytes: vec![0; CHUNK].into(), len: 0 })?;
        }
        let threads = if compression == Compression::None {
            let decode = spawn("layer-read", move || read_plain(input, cap, &recycled, &to_caller))?;
            Threads { decode, hash: None }
        } else {
            let (to_hash, from_decoder) = sync_channel(CHUNKS);
            let hash = spawn("layer-hash", move || hash_chunks(&from_decoder, &to_caller))?;
            let decode = spawn("layer-decode", move || decode_blob(input, compression, cap, &recycled, &to_hash))?;
            Threads { decode, hash: Some(hash) }
        };
        Ok(Self { compression, full, empty, current: None, at: 0, failed: false, threads })
    }

    /// Returns how the blob is stored.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Reads what is left and returns what the whole pass found.
    ///
    /// # Errors
    /// What reading and decoding the rest give.
    pub fn finish(mut self) -> Result<Sums> {
        loop {
            let rest = self.fill_buf()?.len();
            if rest == 0 {
                break;
            }
            self.consume(rest);
        }
        let Self { compression, full, empty, threads, .. } = self;
        drop((full, empty));
        let (digest, size) = join(threads.decode)?;
        let (diff_id, diff_size) = threads.hash.map_or(Ok((digest, size)), join)?;
        Ok(Sums { compression, digest, size, diff_id: DiffId(diff_id), diff_size })
    }

    /// Returns what explains `err`, which reading the tar gave: that the blob is not the `expected` one, where it is not. Its
    /// rest is read for that.
    pub fn explain(self, err: Error, expected: &Expected) -> Error {
        if *expected == Expected::default() {
            return err;
        }
        let checked = self.finish().map(|sums| expected.check(&sums));
        match checked {
            Ok(Err(mismatch)) => mismatch.into(),
            _ => err,
        }
    }

    /// Makes the next buffer current; false at the end of the tar.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(chunk) = self.current.take() {
            // The decoder may be done already and not want it back.
            let _ = self.empty.send(chunk);
        }
        self.at = 0;
        if self.failed {
            return Err(invalid("the stream failed before"));
        }
        match self.full.recv() {
            Ok(Ok(chunk)) => self.current = Some(chunk),
            Ok(Err(err)) => {
                self.failed = true;
                return Err(err);
            }
            Err(_) => {}
        }
        Ok(self.current.is_some())
    }
}

impl BufRead for LayerReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|chunk| self.at == chunk.len) {
            if !self.advance()? {
                return Ok(&[]);
            }
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk.bytes[self.at..chunk.len]))
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for LayerReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the reader panicked"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::digest::Digest;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn read(blob: Vec<u8>) -> Result<(Vec<u8>, Sums)> {
        let mut reader = LayerReader::new(io::Cursor::new(blob), None)?;
        let mut tar = Vec::new();
        reader.read_to_end(&mut tar)?;
        Ok((tar, reader.finish()?))
    }

    fn sample() -> Vec<u8> {
        (0..3 * CHUNK + 17).map(|i| ((i * i) >> 7) as u8).collect()
    }

    #[test]
    fn both_sides_are_hashed_whatever_the_compression() {
        let tar = sample();
        let (a, b) = tar.split_at(1000);
        let skippable = b"\x50\x2a\x4d\x18\x02\0\0\0hi".to_vec();
        for (blob, compression) in [
            (tar.clone(), Compression::None),
            (gzip(&tar), Compression::Gzip),
            ([gzip(a), gzip(b""), gzip(b)].concat(), Compression::Gzip),
            ([gzip(&tar), vec![0; 200_000]].concat(), Compression::Gzip),
            (zstd(&tar), Compression::Zstd),
            ([skippable.clone(), zstd(a), skippable, zstd(b)].concat(), Compression::Zstd),
        ] {
            let (found, sums) = read(blob.clone()).unwrap();
            assert!(found == tar, "{compression:?}");
            assert_eq!(
                sums,
                Sums {
                    compression,
                    digest: Digest::of(&blob),
                    size: blob.len() as u64,
                    diff_id: DiffId(Digest::of(&tar)),
                    diff_size: tar.len() as u64,
                }
            );
        }
    }

    #[test]
    fn finish_reads_what_the_caller_left() {
        let tar = sample();
        let sums = LayerReader::new(io::Cursor::new(gzip(&tar)), None).unwrap().finish().unwrap();
        assert_eq!(sums.diff_id, DiffId(Digest::of(&tar)));
    }

    #[test]
    fn a_blob_that_is_another_explains_what_is_wrong_with_its_tar() {
        let explain = |expected| {
            let mut reader = LayerReader::new(io::Cursor::new(sample()), None).unwrap();
            reader.read_exact(&mut [0; 10]).unwrap();
            reader.explain(anyhow!("no tar"), &expected).to_string()
        };
        let of = |bytes: &[u8]| Expected { digest: Some(Digest::of(bytes)), ..Expected::default() };
        assert!(explain(of(b"other")).starts_with("digest is sha256:"));
        assert_eq!(explain(of(&sample())), "no tar");
        assert_eq!(explain(Expected::default()), "no tar");
    }

    #[test]
    fn damage_is_an_error_with_the_format_in_it() {
        let tar = sample();
        let whole = gzip(&tar);
        let mut wrong_sum = whole.clone();
        let at = wrong_sum.len() - 6;
        wrong_sum[at] ^= 1;
        let frame = zstd(&tar);
        for (blob, want) in [
            (whole[..whole.len() / 2].to_vec(), "gzip stream is cut short"),
            (whole[..whole.len() - 8].to_vec(), "gzip stream is cut short"),
            (wrong_sum, "gzip stream is damaged"),
            ([whole.clone(), b"garbage".to_vec()].concat(), "neither a member nor zeros"),
            ([whole, vec![0; 9], b"x".to_vec()].concat(), "neither a member nor zeros"),
            (frame[..frame.len() / 2].to_vec(), "zstd stream is cut short"),
            ([frame, b"garbage".to_vec()].concat(), "zstd stream is damaged"),
        ] {
            let err = format!("{:#}", read(blob).unwrap_err());
            assert!(err.contains(want), "{want}: {err}");
        }
    }

    #[test]
    fn more_than_the_cap_is_refused_and_as_much_is_not() {
        let tar = sample();
        let capped = |max| LayerReader::new(io::Cursor::new(gzip(&tar)), Some(max)).unwrap().finish();
        assert!(capped(tar.len() as u64).is_ok());
        assert!(capped(tar.len() as u64 - 1).unwrap_err().to_string().contains("--max-size"));
    }

    #[test]
    fn dropping_it_early_does_not_hang() {
        drop(LayerReader::new(io::Cursor::new(gzip(&vec![0; 100 * CHUNK])), None).unwrap());
    }
}

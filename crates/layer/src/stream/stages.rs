//! What the threads of a [`LayerReader`](super::LayerReader) do.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Compression;
use super::blob::{BLOB_CHUNKS, BlobReader};
use super::decode::{decoder, invalid};
use crate::digest::{Digest, Hasher};

/// A buffer of tar; only the first `len` bytes are filled, so that it is zeroed once and not at each round.
pub(super) struct Chunk {
    pub(super) bytes: Box<[u8]>,
    pub(super) len: usize,
}

/// What a stage hands on: a buffer, or the error that ended the stream.
pub(super) type Item = io::Result<Chunk>;

/// Digest and length of the bytes that went by.
pub(super) type Sum = (Digest, u64);

/// How much may be decoded.
pub(super) struct Cap {
    pub(super) left: u64,
    pub(super) max_size: Option<u64>,
}

impl Cap {
    fn take(&mut self, bytes: usize) -> io::Result<()> {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => self.left = left,
            None => {
                let max = self.max_size.unwrap_or_default();
                return Err(invalid(format!("uncompressed size is over {max} bytes (raise it with --max-size)")));
            }
        }
        Ok(())
    }
}

/// Fills buffers from `tar` and hands them to `next` until the end, an error, or nobody wants them any more.
fn fill(tar: &mut dyn Read, cap: &mut Cap, recycled: &Receiver<Chunk>, mut next: impl FnMut(Item) -> bool) {
    while let Ok(mut chunk) = recycled.recv() {
        let filled = read_full(tar, &mut chunk.bytes).and_then(|len| cap.take(len).map(|()| len));
        match filled {
            Ok(0) => break,
            Ok(len) => {
                chunk.len = len;
                if !next(Ok(chunk)) {
                    break;
                }
            }
            Err(err) => {
                next(Err(err));
                break;
            }
        }
    }
}

/// Reads until `buf` is full or the input ends. What came before an error is lost with it: the stream has failed.
fn read_full(input: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match input.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(len)
}

/// Reads and hashes a plain tar.
pub(super) fn read_plain(
    mut input: impl Read,
    mut cap: Cap,
    recycled: &Receiver<Chunk>,
    next: &SyncSender<Item>,
) -> Sum {
    let mut summing = Summing::default();
    fill(&mut input, &mut cap, recycled, |item| {
        summing.update_item(&item);
        next.send(item).is_ok()
    });
    summing.finish()
}

/// Hashes the tar on its way from the decoder.
pub(super) fn hash_chunks(from: &Receiver<Item>, next: &SyncSender<Item>) -> Sum {
    let mut summing = Summing::default();
    for item in from {
        summing.update_item(&item);
        if next.send(item).is_err() {
            break;
        }
    }
    summing.finish()
}

/// Reads, hashes and decodes a compressed blob.
pub(super) fn decode_blob(
    input: impl Read + Send,
    compression: Compression,
    mut cap: Cap,
    recycled: &Receiver<Chunk>,
    next: &SyncSender<Item>,
) -> Sum {
    let (to_hash, blob) = sync_channel::<Arc<Vec<u8>>>(BLOB_CHUNKS);
    let hash = move || {
        let mut summing = Summing::default();
        blob.iter().for_each(|bytes| summing.update(&bytes));
        summing.finish()
    };
    thread::scope(|scope| {
        let hashed = scope.spawn(hash);
        let mut blob = BlobReader::new(input, to_hash);
        match decoder(&mut blob, compression) {
            Ok(mut tar) => fill(&mut *tar, &mut cap, recycled, |item| next.send(item).is_ok()),
            // Nobody is there to be told only where the caller has gone.
            Err(err) => drop(next.send(Err(err))),
        }
        drop(blob);
        hashed.join().unwrap_or_else(|_| (Digest::of(b""), 0))
    })
}

/// A [`Sum`] that is growing.
#[derive(Default)]
struct Summing {
    hasher: Hasher,
    size: u64,
}

impl Summing {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn update_item(&mut self, item: &Item) {
        if let Ok(chunk) = item {
            self.update(&chunk.bytes[..chunk.len]);
        }
    }

    fn finish(self) -> Sum {
        (self.hasher.finish(), self.size)
    }
}

//! The blob on its way to the decoder.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Bytes of one read of a compressed blob.
const BLOB_CHUNK: usize = 128 << 10;

/// Reads of the blob that may wait for their hash.
pub(super) const BLOB_CHUNKS: usize = 4;

/// The blob, read in large pieces of which each goes to the hash as well.
pub(super) struct BlobReader<R> {
    input: R,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    current: Arc<Vec<u8>>,
    at: usize,
    used: Vec<Arc<Vec<u8>>>,
}

impl<R: Read> BlobReader<R> {
    pub(super) fn new(input: R, to_hash: SyncSender<Arc<Vec<u8>>>) -> Self {
        Self { input, to_hash, current: Arc::default(), at: 0, used: Vec::new() }
    }

    /// Returns a buffer that the hash is done with, or a new one: there are never more than it may hold.
    fn spare(&mut self) -> Vec<u8> {
        let free = self.used.iter().position(|used| Arc::strong_count(used) == 1);
        free.and_then(|at| Arc::into_inner(self.used.swap_remove(at))).unwrap_or_default()
    }
}

impl<R: Read> BufRead for BlobReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let mut bytes = self.spare();
            bytes.resize(BLOB_CHUNK, 0);
            // One read, not a full buffer: what a pipe holds is decoded at once.
            let read = loop {
                match self.input.read(&mut bytes) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            bytes.truncate(read);
            let last = std::mem::replace(&mut self.current, Arc::new(bytes));
            self.used.push(last);
            self.at = 0;
            if read > 0 {
                self.to_hash.send(Arc::clone(&self.current)).map_err(io::Error::other)?;
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl<R: Read> Read for BlobReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

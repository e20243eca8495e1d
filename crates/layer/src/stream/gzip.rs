//! Gzip written by several threads, with bytes that do not depend on their number.
//!
//! The tar is cut into blocks; each is deflated on its own with the last 32 KiB of the one before as its dictionary, and
//! ends on a byte (pigz's scheme). The result is one ordinary member.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Magic, deflate, no flags, no time, no extra flags, unknown system: nothing of where or when it was made.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// How far back deflate can refer.
const WINDOW: usize = 32 << 10;

/// A block that was deflated.
pub(super) struct Block {
    pub(super) deflated: Vec<u8>,
    crc: Crc,
}

struct Job {
    bytes: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    done: Sender<Result<Block>>,
}

/// Threads that deflate blocks.
pub(super) struct Deflaters {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Deflaters {
    pub(super) fn new(level: u32, count: usize) -> Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(count);
        let queue = Arc::new(Mutex::new(queue));
        let work = move |queue: Arc<Mutex<Receiver<Job>>>| {
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { bytes, before, last, done }) = job else { break };
                // Who does not wait for the block has met an error of its own.
                let _ = done.send(deflate(&bytes, before.as_ref().map(|before| before.as_slice()), last, level));
            }
        };
        let spawn = |_| {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("layer-deflate".to_owned()).spawn(move || work(queue))
        };
        let threads = (0..count).map(spawn).collect::<Result<_, _>>().context("cannot start a thread")?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Hands over a block; its result comes from the returned end.
    pub(super) fn submit(
        &self,
        bytes: Arc<Vec<u8>>,
        before: Option<Arc<Vec<u8>>>,
        last: bool,
    ) -> Result<Receiver<Result<Block>>> {
        let (done, result) = channel();
        let jobs = self.jobs.as_ref().context("the deflating threads have ended")?;
        jobs.send(Job { bytes, before, last, done }).ok().context("the deflating threads have ended")?;
        Ok(result)
    }
}

impl Drop for Deflaters {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The checksum and length that end a member, gathered block by block.
#[derive(Default)]
pub(super) struct Trailer(Crc);

impl Trailer {
    pub(super) fn add(&mut self, block: &Block) {
        self.0.combine(&block.crc);
    }

    pub(super) fn to_bytes(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.0.sum().to_le_bytes());
        bytes[4..].copy_from_slice(&self.0.amount().to_le_bytes());
        bytes
    }
}

/// Deflates one block. A fresh `Compress` each time: one that was reset and given a dictionary chooses other matches
/// than a new one (zlib-rs 0.6.8), and the digest would depend on which thread took which block.
fn deflate(bytes: &[u8], before: Option<&[u8]>, last: bool, level: u32) -> Result<Block> {
    let mut compress = Compress::new(Compression::new(level), false);
    if let Some(before) = before {
        compress.set_dictionary(&before[before.len().saturating_sub(WINDOW)..]).context("cannot deflate")?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut deflated = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let read = usize::try_from(compress.total_in())?;
        let status = compress.compress_vec(&bytes[read..], &mut deflated, flush).context("cannot deflate")?;
        let all = compress.total_in() == bytes.len() as u64;
        // A flush is complete once it leaves room; with none left there may be more to come.
        if status == Status::StreamEnd || (!last && all && deflated.len() < deflated.capacity()) {
            break;
        }
        ensure!(status == Status::Ok || deflated.len() == deflated.capacity(), "deflate made no progress");
        deflated.reserve(bytes.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(bytes);
    Ok(Block { deflated, crc })
}

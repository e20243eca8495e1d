//! A layer's bytes in both directions, in one pass, hashed on both sides of the codec.
//!
//! [`LayerReader`] takes a blob as stored and gives its tar; [`LayerWriter`] takes a tar and gives the blob. Digest,
//! DiffID and both sizes fall out at the end as [`Sums`]. Work is spread over a few threads that hand large recycled
//! buffers down a chain, so memory does not depend on the blob's size.

mod blob;
mod compression;
mod decode;
mod gzip;
mod reader;
mod stages;
mod tee;
mod writer;

use anyhow::Result;

use crate::digest::{self, DiffId, Digest};
use crate::record::LayerRecord;

pub use compression::{Compression, Encoding};
pub(crate) use decode::decoder;
pub use reader::LayerReader;
pub use tee::Tee;
pub use writer::LayerWriter;

/// Bytes of one buffer of tar. Below 64 KiB the cost of handing over shows; above 256 KiB nothing is gained.
const CHUNK: usize = 256 << 10;

/// What one pass over a layer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How the blob is stored.
    pub compression: Compression,
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Bytes of the blob as stored.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub diff_size: u64,
}

/// What a layer was said to be; what is `None` is not known and not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Digest of the blob as stored.
    pub digest: Option<Digest>,
    /// Bytes of the blob as stored.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

impl Expected {
    /// Takes what `record` says of its blob. The DiffID of one that was rebuilt is another tar's.
    pub fn of(record: &LayerRecord) -> Self {
        let diff_id = record.diff_id.filter(|_| !record.is_rebuilt());
        Self { digest: record.digest, size: record.size, diff_id }
    }

    /// Compares what was found with what was expected.
    ///
    /// # Errors
    /// [`digest::Mismatch`] for the first that differs.
    pub fn check(&self, sums: &Sums) -> Result<(), digest::Mismatch> {
        fn hold<T: PartialEq + std::fmt::Display>(
            what: &'static str,
            found: T,
            expected: Option<T>,
        ) -> Result<(), digest::Mismatch> {
            expected.map_or(Ok(()), |expected| digest::check(what, &found, &expected))
        }
        hold("size", sums.size, self.size)?;
        hold("digest", sums.digest, self.digest)?;
        hold("DiffID", sums.diff_id, self.diff_id)
    }
}

impl Sums {
    /// Writes what was found into `record`. A media type that is there already and says the same stays as it is.
    pub fn fill(&self, record: &mut LayerRecord) {
        let known = record.media_type.as_deref().and_then(Compression::of_media_type);
        if known != Some(self.compression) {
            record.media_type = Some(self.compression.media_type().to_owned());
        }
        record.digest = Some(self.digest);
        record.size = Some(self.size);
        // What the stack is named by stays the lost tar's.
        if !record.is_rebuilt() {
            record.diff_id = Some(self.diff_id);
        }
        record.diff_size = Some(self.diff_size);
    }
}

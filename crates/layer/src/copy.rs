//! Images from one medium into another.
//!
//! The parts of an image are its configuration, its layers and its names, and what a destination has to do with them is small:
//! it says which layers it has, takes those that it has not, and lists the image. [`Destination`] is the one over all media.

mod blobs;
mod destination;
mod have;
mod source;
mod target;

use serde::Serialize;

use crate::digest::{Digest, ImageId};
use crate::docker_root::Driver;
use crate::image::Name;
use crate::stream::Encoding;

pub use destination::Destination;
pub use have::Have;
pub use source::{Source, Which, open};
pub use target::{Medium, Target};

/// How images are copied.
#[derive(Debug, Default)]
pub struct Options {
    /// Store layers so; as they are without.
    pub encoding: Option<Encoding>,
    /// Layers that whoever gets the archive has.
    pub have: Option<Have>,
    /// Names instead of those that the image has.
    pub names: Vec<Name>,
    /// The most bytes that a layer may have uncompressed.
    pub max_size: Option<u64>,
    /// The driver of a data root of Docker.
    pub driver: Option<Driver>,
}

/// What became of an image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// ImageID.
    pub id: ImageId,
    /// The manifest's digest, where the destination has manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The names that it has there.
    pub tags: Vec<String>,
    /// Layers that were copied.
    pub layers_copied: usize,
    /// Layers that the destination had, or that were left out for a receiver who has them.
    pub layers_skipped: usize,
    /// Bytes of the blobs of the layers copied, as they were read or, compressed anew, written.
    pub bytes: u64,
    /// One line each: layers skipped, and what could not be kept.
    #[serde(skip)]
    pub notes: Notes,
}

/// What is worth a line besides the result.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// For who wants to know.
    pub details: Vec<String>,
    /// For everybody.
    pub warnings: Vec<String>,
}

impl Copied {
    fn new(id: ImageId) -> Self {
        Self {
            id,
            digest: None,
            tags: Vec::new(),
            layers_copied: 0,
            layers_skipped: 0,
            bytes: 0,
            notes: Notes::default(),
        }
    }

    fn skip(&mut self, index: usize, why: &str) {
        self.layers_skipped += 1;
        self.notes.details.push(format!("{}: layer {index}: {why}, skipped", self.id));
    }

    fn copy(&mut self, bytes: u64) {
        self.layers_copied += 1;
        self.bytes += bytes;
    }
}

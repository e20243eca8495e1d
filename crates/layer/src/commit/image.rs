//! The new image: an archive with the blobs of the image below, copied as they are, and one layer more.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};

use anyhow::{Context, Result, ensure};

use super::{Changes, Layer};
use crate::change::Time;
use crate::cli::Progress;
use crate::config::{self, Commit, Instruction, time};
use crate::digest::ChainId;
use crate::image::write::{ArchiveImage, ArchiveWriter};
use crate::image::{Image, Name, Platform};
use crate::record::LayerRecord;
use crate::stream::{Encoding, Expected, LayerReader};

/// What is said about an image besides its layers.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// Who made it.
    pub author: Option<String>,
    /// What was changed.
    pub comment: Option<String>,
    /// The command that made the layer.
    pub created_by: Option<String>,
    /// Changes of the configuration, in their order.
    pub instructions: Vec<Instruction>,
    /// Its names.
    pub names: Vec<Name>,
    /// The time that nothing in it is later than.
    pub latest: Option<Time>,
}

/// A layer's blob in an unlinked temporary file: an archive states digests and sizes before what they are of.
pub struct Spooled {
    blob: File,
    layer: Layer,
}

impl Spooled {
    /// Writes the layer of `changes`.
    ///
    /// # Errors
    /// What [`Changes::write`] and making the file give.
    pub fn new(changes: Changes, encoding: Encoding, latest: Option<Time>, progress: &Progress) -> Result<Self> {
        let dir = std::env::temp_dir();
        let mut blob =
            tempfile::tempfile().with_context(|| format!("cannot make a temporary file in {}", dir.display()))?;
        let out = BufWriter::with_capacity(256 << 10, progress.writer(&blob, "writing"));
        let (_, layer) = changes.write(out, encoding, latest)?;
        blob.rewind()?;
        Ok(Self { blob, layer })
    }
}

impl NewImage {
    /// Writes the image that has `top` on top of the layers of `parent`, and returns the new layer, its record with its
    /// ChainID. One that changes nothing is left out; the history tells of it.
    ///
    /// # Errors
    /// A blob of `parent` is not what it is said to be ([`crate::digest::Mismatch`]), an instruction cannot be applied, and
    /// what reading and writing give.
    pub fn write_onto(&self, parent: &Image, top: Spooled, out: impl Write, progress: &Progress) -> Result<Layer> {
        let Spooled { mut blob, mut layer } = top;
        layer.is_written = layer.record.entries != Some(0);
        layer.record.parent = ChainId::chain(parent.parsed().diff_ids.iter().copied()).pop();
        layer.record.chain_id = layer.record.diff_id.map(|diff_id| ChainId::extend(layer.record.parent, diff_id));
        let below = parent.parsed().created.as_deref().and_then(time::parse_rfc3339);
        let config = config::child_config(parent.config(), &self.commit(&layer, below))?;
        let mut archive = ArchiveWriter::new(out)?;
        let mut layers = Vec::new();
        for (index, record) in parent.layers().iter().enumerate() {
            let copied = copy(parent, index, record, &mut archive, progress);
            layers.push(copied.with_context(|| format!("layer {index}"))?);
        }
        if layer.is_written {
            layers.push(add(&mut archive, &mut blob, &layer.record)?);
        }
        self.finish(archive, config, layers)?;
        Ok(layer)
    }

    /// Writes the image of one layer, and returns that.
    ///
    /// # Errors
    /// As [`NewImage::write_onto`].
    pub fn write_import(&self, platform: &Platform, root: Spooled, out: impl Write) -> Result<Layer> {
        let Spooled { mut blob, mut layer } = root;
        layer.record.chain_id = layer.record.diff_id.map(|diff_id| ChainId::extend(None, diff_id));
        let config = config::import_config(platform, &self.commit(&layer, None))?;
        let mut archive = ArchiveWriter::new(out)?;
        let layers = vec![add(&mut archive, &mut blob, &layer.record)?];
        self.finish(archive, config, layers)?;
        Ok(layer)
    }

    /// The time is that of the newest file, or of the image below where that is later: a history that runs backwards would
    /// be of no use.
    fn commit(&self, layer: &Layer, below: Option<Time>) -> Commit {
        let newest = layer.newest.max(below).unwrap_or_default();
        Commit {
            author: self.author.clone(),
            comment: self.comment.clone(),
            created: self.latest.map_or(newest, |latest| newest.min(latest)),
            created_by: self.created_by.clone(),
            instructions: self.instructions.clone(),
            diff_id: layer.record.diff_id.filter(|_| layer.is_written),
        }
    }

    fn finish(&self, archive: ArchiveWriter<impl Write>, config: Vec<u8>, layers: Vec<LayerRecord>) -> Result<()> {
        archive.finish(&[ArchiveImage { config, layers, names: self.names.clone(), ..ArchiveImage::default() }])?;
        Ok(())
    }
}

/// Adds the blob of `record`, and returns that for the list of layers.
fn add<W: Write>(archive: &mut ArchiveWriter<W>, blob: &mut dyn Read, record: &LayerRecord) -> Result<LayerRecord> {
    let digest = *LayerRecord::require(&record.digest, "digest")?;
    let size = *LayerRecord::require(&record.size, "size")?;
    archive.add_blob(digest, size, blob)?;
    Ok(record.clone())
}

/// Copies a blob of `parent` and returns what is known of it. Its digest is checked while it is copied; its DiffID before, in
/// a pass of its own, unless the blob is a plain tar and one is the other.
fn copy<W: Write>(
    parent: &Image,
    index: usize,
    record: &LayerRecord,
    archive: &mut ArchiveWriter<W>,
    progress: &Progress,
) -> Result<LayerRecord> {
    let mut record = record.clone();
    let diff_id = *LayerRecord::require(&record.diff_id, "diffId")?;
    // The new image would name the lost tar and hold another.
    ensure!(!record.is_rebuilt(), "layer {index} has no tar-split, so that its tar is lost (image-inspect --layers)");
    if record.digest != Some(diff_id.0) || record.size.is_none() || record.media_type.is_none() {
        let blob = progress.reader(parent.open_layer(index)?, "checking", record.size);
        let sums = LayerReader::new(blob, None)?.finish()?;
        Expected::of(&record).check(&sums)?;
        sums.fill(&mut record);
    }
    if record.digest.is_some_and(|digest| archive.has(&digest)) {
        return Ok(record);
    }
    let mut blob = progress.reader(parent.open_layer(index)?, "copying", record.size);
    add(archive, &mut blob, &record)
}

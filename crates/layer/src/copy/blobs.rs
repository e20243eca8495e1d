//! Layers' blobs on their way into an archive or a layout: unchanged, or compressed anew, and verified as they pass.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Seek, Write};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail};

use super::{Copied, Options, Source};
use crate::cli::Absent;
use crate::digest::{self, DiffId, Digest};
use crate::image::write::{ArchiveWriter, LayoutWriter};
use crate::record::LayerRecord;
use crate::stream::{Encoding, Expected, LayerReader, LayerWriter, Sums, Tee};

/// What blobs are put into.
pub(super) trait Blobs {
    /// Says whether a blob is there.
    fn has(&self, digest: &Digest) -> Result<bool>;

    /// Puts a blob there.
    fn add(&mut self, digest: Digest, size: u64, input: &mut dyn Read) -> Result<()>;

    /// Leaves a blob out for who has it.
    fn leave_out(&mut self, digest: Digest) -> Result<()>;

    /// Finds a blob of the layer, of whatever compression.
    fn find(&self, diff_id: DiffId) -> Result<Option<LayerRecord>>;
}

impl<W: Write> Blobs for ArchiveWriter<W> {
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.has(digest))
    }

    fn add(&mut self, digest: Digest, size: u64, input: &mut dyn Read) -> Result<()> {
        self.add_blob(digest, size, input)
    }

    fn leave_out(&mut self, digest: Digest) -> Result<()> {
        self.leave_out(digest);
        Ok(())
    }

    fn find(&self, _: DiffId) -> Result<Option<LayerRecord>> {
        Ok(None)
    }
}

/// A layout, and what its images say of their layers.
pub(super) struct Layout {
    pub(super) writer: LayoutWriter,
    pub(super) layers: Vec<LayerRecord>,
}

impl Blobs for Layout {
    fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(self.writer.size(digest)?.is_some())
    }

    fn add(&mut self, digest: Digest, size: u64, input: &mut dyn Read) -> Result<()> {
        self.writer.add_blob(digest, size, input)
    }

    fn leave_out(&mut self, _: Digest) -> Result<()> {
        bail!("an OCI image layout has all of its layers (--have is for an archive)")
    }

    fn find(&self, diff_id: DiffId) -> Result<Option<LayerRecord>> {
        Ok(self.layers.iter().find(|layer| layer.diff_id == Some(diff_id)).cloned())
    }
}

/// Copies the layers of an image that are not there, and returns what is there then. Its blobs are those of the image's own
/// manifest unless `changed`.
pub(super) fn copy(source: &Source, to: &mut dyn Blobs, options: &Options, copied: &mut Copied) -> Result<Layers> {
    let mut layers = Layers::default();
    for (at, record, chain_id, diff_id) in source.layers() {
        let left_out = options.have.as_ref().is_some_and(|have| have.has(chain_id, diff_id));
        let layer = || format!("layer {at} ({diff_id})");
        let found = if left_out {
            let record = if source.image.has_blob(at) {
                identify(source, at, &wanted(record, diff_id))?
            } else {
                known(record)?
            };
            to.leave_out(*LayerRecord::require(&record.digest, "digest")?)?;
            copied.skip(at, "the receiver has it");
            record
        } else if !source.image.has_blob(at) {
            present(to, record, diff_id, copied, at).with_context(layer)?
        } else {
            one(source, at, &wanted(record, diff_id), to, options, copied).with_context(layer)?
        };
        layers.changed |= record.digest != found.digest;
        layers.records.push(found);
    }
    Ok(layers)
}

/// Returns the record of a layer with the DiffID that the configuration has for it: a medium may not vouch for that.
fn wanted(record: &LayerRecord, diff_id: DiffId) -> LayerRecord {
    LayerRecord { diff_id: Some(diff_id), ..record.clone() }
}

/// The layers as the destination has them.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) records: Vec<LayerRecord>,
    pub(super) changed: bool,
}

/// Copies one layer, if its blob is not there.
fn one(
    source: &Source,
    at: usize,
    record: &LayerRecord,
    to: &mut dyn Blobs,
    options: &Options,
    copied: &mut Copied,
) -> Result<LayerRecord> {
    let plain = record.digest.is_some() && record.digest == record.diff_id.map(|diff_id| diff_id.0);
    let kept = options.encoding.is_none() || (options.encoding == Some(Encoding::None) && plain);
    if let (true, Some(digest), Some(size)) = (kept, record.digest, record.size) {
        if to.has(&digest)? {
            copied.skip(at, "it is there");
        } else {
            let blob = source.image.open_layer(at)?;
            if plain {
                to.add(digest, size, &mut { blob })?
            } else {
                verified(blob, record, to, digest, size)?
            }
            copied.copy(size);
        }
        return Ok(record.clone());
    }
    // Its digest or size is not known before it was read, and an archive wants both first.
    let encoding = if kept { None } else { options.encoding };
    let (mut file, sums) = spool(source.image.open_layer(at)?, &Expected::of(record), encoding, options.max_size)?;
    if to.has(&sums.digest)? {
        copied.skip(at, "it is there");
    } else {
        to.add(sums.digest, sums.size, &mut file)?;
        copied.copy(sums.size);
    }
    let mut record = record.clone();
    sums.fill(&mut record);
    Ok(record)
}

/// Returns the blob of a layer that the source left out, where the destination has it.
fn present(
    to: &dyn Blobs,
    record: &LayerRecord,
    diff_id: DiffId,
    copied: &mut Copied,
    at: usize,
) -> Result<LayerRecord> {
    let found = match record.digest {
        Some(digest) if record.size.is_some() && record.media_type.is_some() && to.has(&digest)? => {
            Some(record.clone())
        }
        _ => to.find(diff_id)?,
    };
    copied.skip(at, "it is there");
    found.ok_or_else(|| Absent("was left out of the source, and the destination does not have it".to_owned()).into())
}

/// Returns what is known of a blob that is not there.
fn known(record: &LayerRecord) -> Result<LayerRecord> {
    let known = record.digest.is_some() && record.size.is_some() && record.media_type.is_some();
    known.then(|| record.clone()).context("a layer was left out of the source already, which does not say enough of it")
}

/// Returns digest and size of a blob, which is read if they are not known.
fn identify(source: &Source, at: usize, record: &LayerRecord) -> Result<LayerRecord> {
    if record.digest.is_some() && record.size.is_some() {
        return Ok(record.clone());
    }
    let sums = LayerReader::new(source.image.open_layer(at)?, None)?.finish()?;
    Expected::of(record).check(&sums)?;
    let mut record = record.clone();
    sums.fill(&mut record);
    Ok(record)
}

/// Copies a compressed blob, and verifies meanwhile that it is the layer.
fn verified(
    blob: Box<dyn Read + Send>,
    record: &LayerRecord,
    to: &mut dyn Blobs,
    digest: Digest,
    size: u64,
) -> Result<()> {
    let (check, out) = decoding()?;
    let mut tee = Tee::new(blob, Forgiving(Some(out)));
    let added = to.add(digest, size, &mut tee);
    drop(tee);
    let sums = check.join().map_err(|_| anyhow!("the decoding thread panicked"))?;
    added?;
    let expected = Expected::of(record);
    Ok(digest::check("DiffID", &sums?.diff_id, &expected.diff_id.context("has no DiffID")?)?)
}

/// Starts to decode what is written to the pipe returned.
fn decoding() -> Result<(JoinHandle<Result<Sums>>, PipeWriter)> {
    let (input, out) = io::pipe().context("cannot make a pipe")?;
    let decode = move || LayerReader::new(input, None)?.finish();
    Ok((thread::Builder::new().name("layer-check".to_owned()).spawn(decode)?, out))
}

/// A pipe whose reader may go: it has an error to tell then.
struct Forgiving(Option<PipeWriter>);

impl Write for Forgiving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(pipe) = &mut self.0
            && let Err(err) = pipe.write_all(bytes)
        {
            if err.kind() != io::ErrorKind::BrokenPipe {
                return Err(err);
            }
            self.0 = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a blob to an unlinked file, compressed anew or as it is, and returns that with its sums.
fn spool(
    blob: Box<dyn Read + Send>,
    expected: &Expected,
    encoding: Option<Encoding>,
    max_size: Option<u64>,
) -> Result<(File, Sums)> {
    let cannot = || format!("cannot write to a temporary file in {}", std::env::temp_dir().display());
    let file = tempfile::tempfile().with_context(cannot)?;
    let (mut file, sums) = match encoding {
        None => {
            let copy = file.try_clone().with_context(cannot)?;
            let sums = LayerReader::new(Tee::new(blob, copy), max_size)?.finish()?;
            expected.check(&sums)?;
            (file, sums)
        }
        Some(encoding) => {
            let mut reader = LayerReader::new(blob, max_size)?;
            let mut writer = LayerWriter::new(file, encoding)?;
            io::copy(&mut reader, &mut writer)?;
            expected.check(&reader.finish()?)?;
            writer.finish()?
        }
    };
    file.rewind().with_context(cannot)?;
    Ok((file, sums))
}

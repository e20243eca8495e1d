//! One layer: unpacked, recorded and hashed in one pass over its blob.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use super::sink::{LayerSink, Nothing};
use super::{MAX_LAYERS, Writer, cache, leftovers};
use crate::apply::{Lowers, Options, TreeSink};
use crate::change::LayerPath;
use crate::digest::{self, ChainId, DiffId, Hasher};
use crate::docker_root::size::files_size;
use crate::docker_root::{Driver, Layer};
use crate::overlay::Namespace;
use crate::root::{Dir, Root};
use crate::stream::{Expected, LayerReader, Sums};
use crate::tar_split::{self, Assembly};

/// The blob of a layer that is to be written.
pub struct LayerSource<'a> {
    /// Opens the blob. Twice, if the layer has contents that its files do not keep.
    pub open: &'a dyn Fn() -> Result<Box<dyn Read + Send>>,
    /// What is known of the blob besides the DiffID.
    pub expected: Expected,
    /// DiffID.
    pub diff_id: DiffId,
    /// The most bytes that it may have uncompressed.
    pub max_size: Option<u64>,
}

/// A layer that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// What the pass over the blob found.
    pub sums: Sums,
    /// What of the layer's metadata the file system could not keep.
    pub warnings: Vec<String>,
}

const TAR_SPLIT: &str = "tar-split.json.gz";

impl Writer {
    /// Writes a layer on top of the stack `parent`, which is there. The layer is there when this returns, or is not.
    ///
    /// # Errors
    /// [`digest::Mismatch`] of a blob that is not what it was said to be; a stack of more than [`MAX_LAYERS`]; a layer that
    /// the driver has no form for; and what reading and writing give.
    pub fn add_layer(&self, parent: Option<ChainId>, source: &LayerSource) -> Result<Written> {
        let chain_id = ChainId::extend(parent, source.diff_id);
        let stack = parent.map_or(Ok(Vec::new()), |parent| self.store.stack(parent))?;
        ensure!(stack.len() < MAX_LAYERS, "has more than {MAX_LAYERS} layers, which dockerd does not stack");
        let building = Building::new(self, &stack)?;
        let written = building.fill(source, &stack)?;
        let set = building.set()?;
        let write =
            |name: &str, text: String| set.write(OsStr::new(name), 0o644, text.as_bytes()).context(name.to_owned());
        write("diff", source.diff_id.to_string())?;
        write("size", written.1.to_string())?;
        if let Some(parent) = parent {
            write("parent", parent.to_string())?;
        }
        set.sync()?;
        building.publish(chain_id)?;
        Ok(written.0)
    }
}

/// A layer on its way, removed if it does not get there.
struct Building<'a> {
    writer: &'a Writer,
    tmp: Dir,
    name: String,
    id: String,
    files: Option<Root>,
    published: bool,
}

impl<'a> Building<'a> {
    fn new(writer: &'a Writer, stack: &[Layer]) -> Result<Self> {
        let tmp = writer.image_dir("layerdb/tmp")?;
        let id = cache::random_id()?;
        let name = format!("{}{}", leftovers::PREFIX, &id[..16]);
        let mut building = Self { writer, tmp, name, id, files: None, published: false };
        building.tmp.make_dir(OsStr::new(&building.name), 0o700)?;
        // On disk before the directory that it names, so that whoever cleans up finds that.
        let set = building.set()?;
        set.write(OsStr::new("cache-id"), 0o644, building.id.as_bytes())?;
        set.sync()?;
        building.tmp.sync()?;
        let parent = stack.last().map(|layer| layer.cache_id.as_str());
        building.files = Some(writer.cache.create(&building.id, parent).context("cannot make the layer's directory")?);
        Ok(building)
    }

    fn set(&self) -> Result<Dir> {
        Ok(self.tmp.dir(OsStr::new(&self.name))?)
    }

    fn files(&self) -> Result<&Root> {
        self.files.as_ref().context("has no directory")
    }

    /// Unpacks the layer and writes its tar-split; returns the size that is kept of it as well.
    fn fill(&self, source: &LayerSource, stack: &[Layer]) -> Result<(Written, u64)> {
        let below = || self.names_below(stack);
        let overlay = self.writer.store.driver() != Driver::Vfs;
        let files = self.files()?.try_clone()?;
        let tree = if overlay {
            TreeSink::overlay(files, None, Options::default())?
        } else {
            TreeSink::plain(files, Options::default())
        };
        let mut sink = LayerSink::new(tree, if overlay { Some(&below) } else { None });
        let sums = self.record(source, &mut sink, &BTreeSet::new())?;
        let (warnings, bytes) = sink.finish()?;
        self.make_whole(source)?;
        self.writer.cache.commit(&self.id)?;
        let size = if overlay { files_size(&self.open_files()?)? } else { bytes };
        Ok((Written { sums, warnings }, size))
    }

    /// Reads the blob once: to `sink`, and to a new tar-split.
    fn record(&self, source: &LayerSource, sink: &mut dyn crate::change::Sink, inline: &BTreeSet<u64>) -> Result<Sums> {
        let mut reader = LayerReader::new((source.open)()?, source.max_size)?;
        let set = self.set()?;
        set.remove(OsStr::new(TAR_SPLIT))?;
        let file = BufWriter::new(set.create(OsStr::new(TAR_SPLIT), 0o644)?);
        let (mut file, _) = tar_split::record(&mut reader, sink, inline, file)?;
        let sums = reader.finish()?;
        source.expected.check(&sums)?;
        digest::check("DiffID", &sums.diff_id, &source.diff_id)?;
        file.flush().and_then(|()| file.get_ref().sync_all()).context("cannot write tar-split")?;
        set.place(OsStr::new(TAR_SPLIT)).set_mode(0o644)?;
        Ok(sums)
    }

    /// Sees to it that the layer's tar can be put together again, every byte of it.
    fn make_whole(&self, source: &LayerSource) -> Result<()> {
        if self.assemble().is_ok_and(|found| found == source.diff_id) {
            return Ok(());
        }
        let lost = tar_split::lost_contents(self.open_tar_split()?, self.open_files()?)?;
        self.record(source, &mut Nothing, &lost)?;
        let found = self.assemble().context("the layer cannot be put together again")?;
        digest::check("DiffID of the layer put together again", &found, &source.diff_id)?;
        Ok(())
    }

    fn assemble(&self) -> Result<DiffId> {
        let mut tar = Assembly::new(self.open_tar_split()?, self.open_files()?);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match tar.read(&mut buffer)? {
                0 => return Ok(DiffId(hasher.finish())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    fn open_tar_split(&self) -> Result<File> {
        Ok(self.set()?.open(OsStr::new(TAR_SPLIT))?)
    }

    fn open_files(&self) -> Result<OwnedFd> {
        Ok(self.files()?.try_clone()?.into_fd())
    }

    /// Returns what the layers below show in their root.
    fn names_below(&self, stack: &[Layer]) -> Result<Vec<LayerPath>> {
        let store = &self.writer.store;
        let paths: Vec<_> = stack.iter().map(|layer| store.layer_path(layer)).collect();
        let names = Lowers::open(&paths, Namespace::Trusted)?.names()?;
        names.iter().map(|name| LayerPath::root().join(name)).collect()
    }

    /// Gives the layer its place: from here on it is there.
    fn publish(mut self, chain_id: ChainId) -> Result<()> {
        let layers = self.writer.image_dir("layerdb/sha256")?;
        match self.tmp.rename(OsStr::new(&self.name), &layers, OsStr::new(&chain_id.hex())) {
            // Somebody who does not heed the lock has put the same there.
            Err(err) if err.is(Errno::EXIST) || err.is(Errno::NOTEMPTY) => {
                if !self.writer.has_layer(chain_id)? {
                    bail!("layerdb/sha256/{}: is in the way", chain_id.hex());
                }
                return Ok(());
            }
            renamed => renamed.context("layerdb")?,
        }
        self.published = true;
        layers.sync()?;
        Ok(self.tmp.sync()?)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What stays in spite of this, the next run removes; the error on its way says why there is no layer.
            let _ = self.writer.cache.remove(&self.id);
            let _ = self.tmp.remove(OsStr::new(&self.name));
        }
    }
}

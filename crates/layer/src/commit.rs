//! Commits: changes become a layer's blob, and a layer becomes a new image on top of another or on nothing.
//!
//! Nothing here looks at a clock. An image's time is the newest of what it holds, so the same input gives the same bytes.

mod image;

use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};

use crate::archive::{TarSink, read_tar};
use crate::change::{Body, Entry, LayerPath, Sink, Time};
use crate::check::Absent;
use crate::diff;
use crate::mount::Mount;
use crate::record::LayerRecord;
use crate::stream::{Encoding, LayerReader, LayerWriter, Tee};

pub use image::{NewImage, Spooled};

/// Where the changes of a layer come from.
pub enum Changes {
    /// What overlayfs left in a directory, and the directories below it, base first, as far as they are known.
    Upper {
        /// The upperdir.
        upper: PathBuf,
        /// The lowerdirs.
        lowers: Vec<PathBuf>,
    },
    /// What makes one tree into another.
    Trees {
        /// The tree that is there.
        old: PathBuf,
        /// The tree that is to be.
        new: PathBuf,
    },
    /// A tar, compressed or not, whose entries are the layer as they stand.
    Tar(Box<dyn Read + Send>),
}

/// A layer that was written.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The blob's sums and number of entries.
    pub record: LayerRecord,
    /// The latest modification time of its entries.
    pub newest: Option<Time>,
    /// Sockets that were left out.
    pub sockets: Vec<LayerPath>,
    /// The blob is in what was written. One that changes nothing is not in an image.
    pub is_written: bool,
}

impl Changes {
    /// Takes an upperdir, or the mount point of an overlay, whose directories the kernel names.
    ///
    /// # Errors
    /// There is no such directory; an overlay that is read-only, or whose directories the kernel does not name; lowers in
    /// addition to those of a mount.
    pub fn of_directory(dir: &Path, lowers: Vec<PathBuf>) -> Result<Self> {
        let mount = match Mount::find(dir) {
            Ok(mount) if mount.fs_type == "overlay" => mount,
            Err(err) if !err.is::<Absent>() => return Err(err),
            _ => return Ok(Self::Upper { upper: dir.to_owned(), lowers }),
        };
        ensure!(lowers.is_empty(), "is a mount point and has its own lower directories (leave --lower out)");
        let overlay = mount.overlay()?;
        let Some(writable) = overlay.writable else { bail!("is a read-only overlay: it has no upperdir") };
        let lowers = overlay.lowers.into_iter().map(|lower| lower.path).collect();
        Ok(Self::Upper { upper: writable.upper, lowers })
    }

    /// Writes the layer's blob to `out` and returns that and what was written. Modification times after `latest` are cut to
    /// it, except those of a tar.
    ///
    /// # Errors
    /// What reading the changes, compressing and writing give, [`diff::walk_upper`] and [`diff::compare`] say what.
    pub fn write<W: Write>(self, out: W, encoding: Encoding, latest: Option<Time>) -> Result<(W, Layer)> {
        let mut blob = LayerWriter::new(out, encoding)?;
        let mut layer = Layer { is_written: true, ..Layer::default() };
        let entries;
        if let Self::Tar(input) = self {
            let mut noted = Noted { sink: None, latest, newest: None, entries: 0 };
            copy_tar(input, &mut blob, &mut noted)?;
            (layer.newest, entries) = (noted.newest, noted.entries);
        } else {
            let mut tar = TarSink::new(&mut blob);
            let mut noted = Noted { sink: Some(&mut tar), latest, newest: None, entries: 0 };
            layer.sockets = self.read(&mut noted)?;
            (layer.newest, entries) = (noted.newest, noted.entries);
            tar.finish()?;
        }
        let (out, sums) = blob.finish()?;
        sums.fill(&mut layer.record);
        layer.record.entries = Some(entries);
        Ok((out, layer))
    }

    fn read(&self, sink: &mut dyn Sink) -> Result<Vec<LayerPath>> {
        match self {
            Self::Upper { upper, lowers } => {
                let lowers = lowers.iter().map(|dir| open(dir)).collect::<Result<_>>()?;
                diff::walk_upper(open(upper)?, lowers, sink)
            }
            Self::Trees { old, new } => diff::compare(open(old)?, open(new)?, sink),
            Self::Tar(_) => bail!("a tar is copied, not read as changes"),
        }
    }
}

/// Opens a directory that the user named; there, symbolic links are followed.
fn open(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).with_context(|| format!("{}: cannot open", dir.display()))
}

/// Copies a tar byte for byte and reads it on the way.
fn copy_tar(input: Box<dyn Read + Send>, blob: &mut impl Write, sink: &mut dyn Sink) -> Result<()> {
    let mut reader = LayerReader::new(input, None)?;
    let mut tar = BufReader::with_capacity(128 << 10, Tee::new(&mut reader, blob));
    read_tar(&mut tar, sink)?;
    // What stands behind the end marker belongs to the DiffID too.
    io::copy(&mut tar, &mut io::sink())?;
    drop(tar);
    let sums = reader.finish()?;
    ensure!(sums.diff_size > 0, "is empty, expected a tar");
    Ok(())
}

/// Passes changes on with their times cut, and notes what goes by.
struct Noted<'a> {
    sink: Option<&'a mut dyn Sink>,
    latest: Option<Time>,
    newest: Option<Time>,
    entries: u64,
}

impl Sink for Noted<'_> {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        self.entries += 1;
        let mtime = self.latest.map_or(entry.meta.mtime, |latest| entry.meta.mtime.min(latest));
        self.newest = self.newest.max(Some(mtime));
        let Some(sink) = &mut self.sink else { return Ok(()) };
        if mtime == entry.meta.mtime {
            return sink.put(entry, body);
        }
        let mut cut = entry.clone();
        cut.meta.mtime = mtime;
        sink.put(&cut, body)
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        self.entries += 1;
        self.sink.as_mut().map_or(Ok(()), |sink| sink.whiteout(path))
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        self.entries += 1;
        self.sink.as_mut().map_or(Ok(()), |sink| sink.opaque(path))
    }
}

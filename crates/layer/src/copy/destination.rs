//! The media that images are written to.

use std::fs::Permissions;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::blobs::{self, Layout};
use super::{Copied, Medium, Options, Source, Target};
use crate::cli::{self, Absent, Stdout};
use crate::digest::{Digest, ImageId};
use crate::docker_root::write::{LayerSource, Writer};
use crate::image::write::{ArchiveImage, ArchiveWriter, LayoutWriter};
use crate::image::{Image, Name, OpenOptions, Reference, Transport};
use crate::stream::Expected;

/// An open destination. Nothing of it is sure to be there before [`Destination::finish`].
pub enum Destination {
    /// An archive on stdout.
    Stdout(ArchiveWriter<Stdout>, Vec<ArchiveImage>),
    /// An archive in a file, which has another name until it is whole.
    File(ArchiveWriter<BufWriter<NamedTempFile>>, Vec<ArchiveImage>, PathBuf),
    /// An archive in what is there and no regular file: a pipe, a device.
    Special(ArchiveWriter<std::fs::File>, Vec<ArchiveImage>),
    /// An OCI image layout.
    #[doc(hidden)]
    Layout(Box<LayoutTarget>),
    /// Docker's data root.
    DockerRoot(Box<Writer>, Vec<(Name, ImageId)>),
}

/// A layout and the images for it.
pub struct LayoutTarget {
    layout: Layout,
    images: Vec<ArchiveImage>,
}

impl Destination {
    /// Opens a destination.
    ///
    /// # Errors
    /// A terminal; a medium that `options` do not fit; what opening and locking give.
    pub fn open(target: &Target, options: &Options) -> Result<Self> {
        let is_root = target.medium == Medium::DockerRoot;
        ensure!(options.have.is_none() || target.medium == Medium::Archive, "--have is for an archive");
        ensure!(options.encoding.is_none() || !is_root, "--compress is for archives and layouts: Docker keeps files");
        ensure!(options.driver.is_none() || is_root, "--driver is for a data root of Docker");
        let path = &target.path;
        Ok(match target.medium {
            Medium::Archive if path == Path::new("-") => {
                Self::Stdout(ArchiveWriter::new(cli::binary_stdout()?)?, Vec::new())
            }
            Medium::Archive => archive(path)?,
            Medium::Layout => {
                let writer = LayoutWriter::open(path)?;
                let layout = Layout { writer, layers: layers_in(path) };
                Self::Layout(Box::new(LayoutTarget { layout, images: Vec::new() }))
            }
            Medium::DockerRoot => Self::DockerRoot(Box::new(Writer::open(path, options.driver)?), Vec::new()),
        })
    }

    /// Copies an image.
    ///
    /// # Errors
    /// [`Absent`] where neither has a layer; [`Mismatch`](crate::digest::Mismatch) of a layer that is not what it was said
    /// to be; what reading and writing give.
    pub fn put(&mut self, source: &Source, options: &Options) -> Result<Copied> {
        let mut copied = Copied::new(source.image.id());
        let (blobs, images): (&mut dyn blobs::Blobs, _) = match self {
            Self::Stdout(archive, images) => (archive, images),
            Self::File(archive, images, _) => (archive, images),
            Self::Special(archive, images) => (archive, images),
            Self::Layout(target) => (&mut target.layout, &mut target.images),
            Self::DockerRoot(writer, names) => {
                put_in_root(writer, source, options, &mut copied)?;
                names.extend(source.names.iter().map(|name| (name.clone(), source.image.id())));
                return Ok(copied);
            }
        };
        let layers = blobs::copy(source, blobs, options, &mut copied)?;
        let image = ArchiveImage {
            config: source.image.config().to_vec(),
            layers: layers.records,
            names: source.names.clone(),
            refs: source.refs.clone(),
            manifest: source.manifest().filter(|_| !layers.changed).map(<[u8]>::to_vec),
        };
        copied.digest = Some(Digest::of(&image.manifest_document()?.1));
        copied.tags = source.names.iter().map(Name::to_string).chain(source.refs.iter().cloned()).collect();
        images.push(image);
        Ok(copied)
    }

    /// Lists the images and gives the destination its place.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Stdout(archive, images) => archive.finish(&images).map(drop),
            Self::Special(archive, images) => archive.finish(&images).map(drop),
            Self::File(archive, images, path) => {
                let file = archive.finish(&images)?.into_inner().context("cannot write")?;
                file.as_file().sync_all().context("cannot write")?;
                file.persist(&path).context("cannot rename the archive into its place")?;
                Ok(())
            }
            Self::Layout(target) => target.layout.writer.finish(&target.images),
            Self::DockerRoot(writer, names) => writer.add_names(names.iter().map(|(name, id)| (name, *id))),
        }
    }
}

/// Opens an archive's file: beside its place, unless something is there that must not be replaced.
fn archive(path: &Path) -> Result<Destination> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let file = std::fs::OpenOptions::new().write(true).open(path).context("cannot open")?;
        return Ok(Destination::Special(ArchiveWriter::new(file)?, Vec::new()));
    }
    let path = std::path::absolute(path).context("has no absolute path")?;
    // What a symlink leads to is meant, not the symlink.
    let path = path.canonicalize().unwrap_or(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        anyhow::bail!("is not the name of a file")
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(&prefix).permissions(Permissions::from_mode(0o666));
    let file = builder.tempfile_in(parent).context("cannot make a file beside it")?;
    Ok(Destination::File(ArchiveWriter::new(BufWriter::with_capacity(128 << 10, file))?, Vec::new(), path))
}

/// Returns what the images of a layout say of their layers. Damaged ones, or none, have nothing to say.
fn layers_in(path: &Path) -> Vec<crate::record::LayerRecord> {
    let reference = Reference { transport: Some(Transport::Oci), path: path.to_owned(), selector: None };
    let images = Image::open_all(&reference, &OpenOptions::default()).unwrap_or_default();
    images.iter().flat_map(|image| image.layers().iter().cloned()).collect()
}

fn put_in_root(writer: &Writer, source: &Source, options: &Options, copied: &mut Copied) -> Result<()> {
    let config = source.image.parsed();
    let history = config.history.iter().filter(|entry| !entry.empty_layer).count();
    ensure!(
        history <= config.diff_ids.len(),
        "the configuration has a history of {history} layers and lists {}, which dockerd refuses",
        config.diff_ids.len()
    );
    let mut parent = None;
    for (at, record, chain_id, diff_id) in source.layers() {
        let layer = || format!("layer {at} ({diff_id})");
        if writer.has_layer(chain_id).with_context(layer)? {
            copied.skip(at, "it is there");
        } else if !source.image.has_blob(at) {
            let absent = "was left out of the source, and the destination does not have it";
            return Err(anyhow::Error::from(Absent(absent.to_owned())).context(layer()));
        } else {
            let open = || source.image.open_layer(at);
            let layer_source =
                LayerSource { open: &open, expected: Expected::of(record), diff_id, max_size: options.max_size };
            let written = writer.add_layer(parent, &layer_source).with_context(layer)?;
            copied.copy(written.sums.size);
            let warn = |warning| format!("{}: {}", layer(), warning);
            copied.notes.warnings.extend(written.warnings.into_iter().map(warn));
        }
        parent = Some(chain_id);
    }
    writer.add_image(source.image.config())?;
    copied.tags = source.names.iter().map(Name::to_string).collect();
    Ok(())
}

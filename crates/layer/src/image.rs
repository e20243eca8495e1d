//! Images where they are: in an archive of `docker save`, in an OCI image layout, or in a data root of
//! Docker's or containerd's.
//!
//! A [`Reference`] names an image, [`Image::open`] reads all of it but the layers, which [`Image::open_layer`] opens one by one.
//! What differs between the media is in one module each, behind [`source::ImageSource`]; identifiers, the pairing with the
//! history and the choice among several images are the same for all.
//!
//! Nothing outside the medium is ever opened, whatever the names in it say. Documents are checked against their digests
//! before they are parsed; layers are not read here, and whoever reads one has to check it.

mod config;
mod containerd;
mod descriptor;
mod docker_archive;
mod docker_root;
mod layer_tar;
mod list;
mod medium;
mod name;
mod oci_layout;
mod platform;
mod reference;
mod source;
mod spool;
pub mod summary;
mod tar_files;
pub mod write;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::change::Escaped;
use crate::check::Absent;
use crate::digest::{Digest, ImageId};
use crate::docker_root::{Layer, Store};
use crate::record::LayerRecord;

use medium::Medium;
use oci_layout::Discarded;
use source::ImageSource;

pub use config::{Config, HistoryEntry};
pub use name::Name;
pub use platform::Platform;
pub use reference::{Reference, Selector, Transport};

/// How an image is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The platform that the image must be for. Without one, an image for the machine's own is preferred where a name stands
    /// for several.
    pub platform: Option<Platform>,
    /// The most bytes that an archive which has to be written out may have uncompressed.
    pub max_size: Option<u64>,
    /// Layers whose blobs are missing do not matter: whoever reads the image has them.
    pub partial: bool,
}

/// An image: its documents as they are stored, and what they say.
pub struct Image {
    id: ImageId,
    config: Vec<u8>,
    parsed: Config,
    manifest: Option<Vec<u8>>,
    digest: Option<Digest>,
    index: Option<Arc<[u8]>>,
    tags: Vec<String>,
    reference: Option<OsString>,
    layers: Vec<LayerRecord>,
    /// Where each layer is, in the order of `layers`.
    blobs: Vec<Stored>,
}

/// Where a layer's blob is.
enum Stored {
    /// In the file of this name.
    Blob(Arc<Medium>, String),
    /// In Docker's data root, to be put together.
    Layer(Arc<Store>, Layer),
    /// There as well, but without its tar-split: to be written anew.
    Rebuilt(Arc<Store>, Layer),
    /// Not here, only at URLs or unpacked, or left out for somebody who has it.
    Elsewhere,
}

impl Image {
    /// Opens the one image that `reference` means.
    ///
    /// # Errors
    /// [`Absent`] where there is no image of that name or platform. Several images and nothing that chooses among them: the
    /// message lists them. Whatever is missing, damaged or ambiguous in the image; layers are looked up but not read.
    pub fn open(reference: &Reference, options: &OpenOptions) -> Result<Image> {
        let source = open_source(reference, options)?;
        source::load_one(&*source, reference.selector.as_ref(), options)
    }

    /// Opens every image that `reference` and `options` allow, in the medium's order: at least one.
    ///
    /// # Errors
    /// What [`Image::open`] gives; one damaged image fails all.
    pub fn open_all(reference: &Reference, options: &OpenOptions) -> Result<Vec<Image>> {
        let source = open_source(reference, options)?;
        source::load_all(&*source, reference.selector.as_ref(), options)
    }

    /// Returns the ImageID: the digest of the configuration.
    pub fn id(&self) -> ImageId {
        self.id
    }

    /// Returns the configuration as stored.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Returns what the configuration says.
    pub fn parsed(&self) -> &Config {
        &self.parsed
    }

    /// Returns the manifest as stored. That of a docker-archive is the image's element of `manifest.json`.
    pub fn manifest(&self) -> Option<&[u8]> {
        self.manifest.as_deref()
    }

    /// Returns the digest of the manifest, where the medium knows manifests by their digests: in an OCI layout.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the medium's list of images as stored: `index.json`, `manifest.json` or `repositories.json`.
    pub fn index(&self) -> Option<&[u8]> {
        self.index.as_deref()
    }

    /// Returns the names by which the medium knows the image, as they are written there.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the absolute reference of exactly this image; `None` for one that came on stdin.
    pub fn reference(&self) -> Option<&OsStr> {
        self.reference.as_deref()
    }

    /// Returns the layers, base first: `mediaType`, `digest` and `size` where the medium knows them, `diffId`, `image`, and
    /// the `history` entry where those of the configuration can be told apart ([`Config::layers_of_history`]).
    pub fn layers(&self) -> &[LayerRecord] {
        &self.layers
    }

    /// Says whether the blob of a layer, counted from the base, is in the medium.
    pub fn has_blob(&self, index: usize) -> bool {
        self.blobs.get(index).is_some_and(|stored| !matches!(stored, Stored::Elsewhere))
    }

    /// Opens the blob of a layer, counted from the base, as it is stored. Several may be read at once.
    ///
    /// # Errors
    /// A layer that is not there, and what opening gives.
    pub fn open_layer(&self, index: usize) -> Result<Box<dyn Read + Send>> {
        match self.stored(index)? {
            Stored::Layer(store, layer) => store.open_layer(layer),
            Stored::Rebuilt(store, layer) => store.open_rebuilt(layer),
            stored => Ok(Box::new(stored.open_blob(index)?)),
        }
    }

    /// Returns the file that holds the blob of a layer, counted from the base, and its place there; `None` where it is not
    /// stored in one piece.
    ///
    /// # Errors
    /// What [`Image::open_layer`] gives.
    pub fn open_layer_file(&self, index: usize) -> Result<Option<(Arc<File>, Range<u64>)>> {
        match self.stored(index)? {
            Stored::Layer(..) | Stored::Rebuilt(..) => Ok(None),
            stored => Ok(Some(stored.open_blob(index)?.into_file())),
        }
    }

    fn stored(&self, index: usize) -> Result<&Stored> {
        self.blobs.get(index).with_context(|| format!("has no layer {index}"))
    }
}

impl Stored {
    /// Opens the file of the layer `index`.
    fn open_blob(&self, index: usize) -> Result<medium::Blob> {
        let Stored::Blob(medium, name) = self else { bail!("layer {index} is not stored with the image") };
        medium.open(name)?.with_context(|| format!("layer {index}: `{name}` is no longer there"))
    }
}

/// Reads the medium's list of images, `index.json`, `manifest.json` or `repositories.json`, as stored.
///
/// # Errors
/// What [`Image::open`] gives before it chooses an image.
pub fn read_index(reference: &Reference, options: &OpenOptions) -> Result<Vec<u8>> {
    Ok(open_source(reference, options)?.index().to_vec())
}

fn open_source(reference: &Reference, options: &OpenOptions) -> Result<Box<dyn ImageSource>> {
    let is_directory = !reference.is_stdin() && reference.path.is_dir();
    if let Some(source) = open_data_root(reference, is_directory)? {
        return Ok(source);
    }
    let medium = if is_directory {
        ensure!(
            reference.transport.is_none_or(|transport| transport == Transport::Oci),
            "is a directory, expected an archive"
        );
        Medium::directory(&reference.path)?
    } else {
        let file = if reference.is_stdin() {
            spool::stdin(options.max_size)?
        } else {
            spool::open(&reference.path, options.max_size)?
        };
        ensure!(reference.transport != Some(Transport::Oci), "is not a directory (an archive is `oci-archive:`)");
        Medium::Archive(tar_files::TarFiles::new(file)?)
    };
    let has = |name: &str| anyhow::Ok(medium.open(name).with_context(|| name.to_owned())?.is_some());
    let transport = match reference.transport {
        Some(transport) => transport,
        None if is_directory => Transport::Oci,
        // Archives since Docker 25 are both. Which images of an index were really saved, only manifest.json says.
        None if has("manifest.json")? => Transport::DockerArchive,
        None if has("index.json")? => Transport::OciArchive,
        None if has("repositories")? => Transport::DockerArchive,
        None => bail!("has neither `manifest.json` nor `index.json`: not an image"),
    };
    let medium = Arc::new(medium);
    let exact = Reference { transport: Some(transport), ..reference.clone() };
    let known = (!reference.is_stdin()).then_some(exact);
    let discarded = if options.partial { Discarded::Allowed } else { Discarded::Refused };
    Ok(match transport {
        Transport::DockerArchive => Box::new(docker_archive::DockerArchive::open(medium, known, options.partial)?),
        Transport::Oci | Transport::OciArchive | Transport::DockerRoot => {
            Box::new(oci_layout::OciLayout::open(medium, known, discarded)?)
        }
    })
}

/// Opens a data root of Docker's or containerd's; `None` where another medium is asked for or there.
///
/// A data root of Docker's may have both stores. The daemon takes containerd's only where the other was never used, and so
/// does this.
fn open_data_root(reference: &Reference, is_directory: bool) -> Result<Option<Box<dyn ImageSource>>> {
    let asked = reference.transport == Some(Transport::DockerRoot);
    if !asked && (reference.transport.is_some() || !is_directory) {
        return Ok(None);
    }
    let exact = Reference { transport: Some(Transport::DockerRoot), ..reference.clone() };
    if Store::is_at(&reference.path) {
        return Ok(Some(Box::new(docker_root::DockerRoot::open(exact)?)));
    }
    if let Some(root) = crate::containerd::Root::open(&reference.path)? {
        return Ok(Some(Box::new(containerd::Containerd::open(root, exact)?)));
    }
    // To say what is missing.
    if asked { Ok(Some(Box::new(docker_root::DockerRoot::open(exact)?))) } else { Ok(None) }
}

/// Compares the number of layers that a manifest lists with that of the configuration's DiffIDs.
fn check_count(layers: usize, config: &Config) -> Result<()> {
    crate::digest::check("number of layers", &layers, &config.diff_ids.len())?;
    Ok(())
}

/// Adds to the records of an image's layers what its configuration says of them.
fn join(mut records: Vec<LayerRecord>, config: &Config) -> Vec<LayerRecord> {
    for (record, diff_id) in records.iter_mut().zip(&config.diff_ids) {
        record.diff_id = Some(*diff_id);
        // Stored as the tar itself.
        if record.digest == Some(diff_id.0) {
            record.diff_size = record.size;
        }
    }
    for (entry, layer) in config.history.iter().zip(config.layers_of_history()) {
        if let Some(record) = layer.and_then(|layer| records.get_mut(layer)) {
            record.history = Some(entry.raw.clone());
        }
    }
    records
}

/// Images that records referred to, opened once each.
#[derive(Default)]
pub struct ImageCache(HashMap<OsString, Image>);

/// Opens the blob that `record` describes, as stored, in the image that it names.
///
/// # Errors
/// A record without `image`, or without both `digest` and `diffId`; [`Absent`] where the image has no such layer; what
/// [`Image::open`] and [`Image::open_layer`] give. All name the image.
pub fn open_blob(record: &LayerRecord, cache: &mut ImageCache) -> Result<Box<dyn Read + Send>> {
    let name = LayerRecord::require(&record.image, "image")?;
    ensure!(record.digest.is_some() || record.diff_id.is_some(), "not a layer record: missing member `digest`");
    let mut open = || {
        if !cache.0.contains_key(name) {
            let image = Image::open(&Reference::parse(name)?, &OpenOptions::default())?;
            cache.0.insert(name.clone(), image);
        }
        let image = &cache.0[name];
        let at = image.layers.iter().position(|layer| is_same(layer, record));
        let wanted = || record.digest.map(|digest| digest.to_string()).or(record.diff_id.map(|id| id.to_string()));
        image.open_layer(at.ok_or_else(|| Absent(format!("has no layer {}", wanted().unwrap_or_default())))?)
    };
    open().with_context(|| Escaped(name.as_bytes()).to_string())
}

/// Says whether a record means a layer of an image: digest and DiffID agree where both know them, and one of them does.
fn is_same(layer: &LayerRecord, record: &LayerRecord) -> bool {
    fn agree<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<bool> {
        Some(a.as_ref()? == b.as_ref()?)
    }
    match (agree(&layer.digest, &record.digest), agree(&layer.diff_id, &record.diff_id)) {
        (None, None) => false,
        (digest, diff_id) => digest.unwrap_or(true) && diff_id.unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Status;
    use crate::digest::DiffId;

    /// Writes an archive of docker save whose layers have these contents.
    fn archive(layers: &[&[u8]]) -> tempfile::NamedTempFile {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let diff_ids = serde_json::to_string(&diff_ids).unwrap();
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":{diff_ids}}}}}"#);
        let names: Vec<_> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        let manifest = format!(r#"[{{"Config":"c.json","Layers":{}}}]"#, serde_json::to_string(&names).unwrap());
        let mut files = vec![("c.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())];
        files.extend(names.iter().map(String::as_str).zip(layers.iter().copied()));
        let mut builder = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(mut blob: Box<dyn Read + Send>) -> Vec<u8> {
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn layers_are_read_at_once_and_independently() {
        let file = archive(&[b"one", b"two"]);
        let image = Image::open(&Reference::parse(file.path().as_os_str()).unwrap(), &OpenOptions::default()).unwrap();
        let (first, second, again) = (image.open_layer(0), image.open_layer(1), image.open_layer(0));
        assert_eq!(read(second.unwrap()), b"two");
        assert_eq!(read(first.unwrap()), b"one");
        assert_eq!(read(again.unwrap()), b"one");
        assert!(image.open_layer(2).is_err());
    }

    #[test]
    fn records_lead_back_to_their_blobs() {
        let file = archive(&[b"one", b"two"]);
        let image = Image::open(&Reference::parse(file.path().as_os_str()).unwrap(), &OpenOptions::default()).unwrap();
        let mut cache = ImageCache::default();
        for (record, content) in image.layers().iter().zip([b"one", b"two"]) {
            assert_eq!(read(open_blob(record, &mut cache).unwrap()), content);
            let by_diff_id = LayerRecord { digest: None, ..record.clone() };
            assert_eq!(read(open_blob(&by_diff_id, &mut cache).unwrap()), content);
        }
        let record = image.layers()[0].clone();
        let other = LayerRecord { diff_id: Some(DiffId(Digest::of(b"other"))), ..record.clone() };
        let err = open_blob(&other, &mut cache).err().unwrap();
        assert_eq!(Status::of(&err), Status::Different, "{err:#}");
        for lacking in
            [LayerRecord { image: None, ..record.clone() }, LayerRecord { digest: None, diff_id: None, ..record }]
        {
            let err = open_blob(&lacking, &mut cache).err().unwrap().to_string();
            assert!(err.contains("missing member"), "{err}");
        }
    }
}

//! Writing an archive that is two things at once: an OCI image layout, and what `docker load` takes.
//!
//! Blobs lie where the layout has them, and Docker's `manifest.json` points there. So docker, podman, skopeo, umoci and
//! containerd all load it, from a file or a pipe. Layers may be plain or compressed; Docker 20.10.24 was seen to take zstd.
//!
//! The same calls give the same bytes: `oci-layout`, the directories, the blobs in the order that they were added, each once,
//! `index.json` and `manifest.json`. Owner, time and mode say nothing of who wrote them or when.

mod layout;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::{Name, Platform};
use crate::digest::{Digest, Hasher, Mismatch, check};
use crate::record::LayerRecord;

pub use layout::LayoutWriter;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The annotation by which containerd and Docker name an image.
const NAME: &str = "io.containerd.image.name";
/// The annotation by which a layout does: a tag, or anything.
const REF: &str = "org.opencontainers.image.ref.name";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An archive that is being written. It is whole only after [`ArchiveWriter::finish`].
pub struct ArchiveWriter<W: Write> {
    out: W,
    blobs: BTreeMap<Digest, u64>,
    left_out: BTreeSet<Digest>,
}

/// An image for an archive. Its layers' blobs are added before.
#[derive(Clone, Debug, Default)]
pub struct ArchiveImage {
    /// The configuration as stored: its digest is the ImageID.
    pub config: Vec<u8>,
    /// The layers, base first, with `mediaType`, `digest` and `size`.
    pub layers: Vec<LayerRecord>,
    /// The names that it gets; none for an image that goes by its ImageID alone.
    pub names: Vec<Name>,
    /// Tags that stand without a name, as an OCI image layout may have them; nobody else does.
    pub refs: Vec<String>,
    /// The manifest as stored, where the image has one; one is made where it has none.
    pub manifest: Option<Vec<u8>>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive on `out`.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(out: W) -> Result<Self> {
        let mut archive = Self { out, blobs: BTreeMap::new(), left_out: BTreeSet::new() };
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for directory in ["blobs/", "blobs/sha256/"] {
            archive.header(directory, EntryType::Directory, 0o755, 0)?;
        }
        Ok(archive)
    }

    /// Says whether a blob is in the archive already.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Leaves a blob out that images list nevertheless, for a reader who has it. It is no archive for anybody else.
    pub fn leave_out(&mut self, digest: Digest) {
        self.left_out.insert(digest);
    }

    /// Copies a blob from `input`, which is read to its end. One that is there already is not written again, nor read.
    ///
    /// # Errors
    /// [`Mismatch`] where the bytes are more or fewer than `size` or have another digest: the archive is then of no use. And
    /// what reading and writing give.
    pub fn add_blob(&mut self, digest: Digest, size: u64, input: &mut dyn Read) -> Result<()> {
        if let Some(known) = self.blobs.get(&digest) {
            return Ok(check("size", &size, known)?);
        }
        self.header(&blob_path(&digest), EntryType::Regular, 0o644, size)?;
        let mut hashing = Hashing { out: &mut self.out, hasher: Hasher::new() };
        let copied = io::copy(&mut input.take(size), &mut hashing)?;
        check("size", &copied, &size)?;
        let found = hashing.hasher.finish();
        if io::copy(&mut input.take(1), &mut io::sink())? > 0 {
            return Err(Mismatch { what: "size", found: format!("over {size}"), expected: size.to_string() }.into());
        }
        check("digest", &found, &digest)?;
        self.pad(size)?;
        self.blobs.insert(digest, size);
        Ok(())
    }

    /// Writes the documents of `images` and the archive's end, and returns what it was written to, flushed.
    ///
    /// # Errors
    /// A layer was not added or its record says too little, two images have the same name, and what writing gives.
    pub fn finish(mut self, images: &[ArchiveImage]) -> Result<W> {
        let mut index = Index { schema_version: 2, media_type: INDEX, manifests: Vec::new() };
        let mut docker = Vec::new();
        let mut names = BTreeSet::new();
        for image in images {
            let mut tags = Vec::new();
            for name in &image.names {
                ensure!(names.insert(name), "`{name}` stands for two images");
                tags.push(name.to_string());
            }
            let config = self.document(CONFIG, &image.config)?;
            docker.push(DockerEntry {
                config: blob_path(&config.digest),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: self.layers(image)?.iter().map(|layer| blob_path(&layer.digest)).collect(),
            });
            let (media_type, manifest) = image.manifest_document()?;
            let mut manifest = self.document(&media_type, &manifest)?;
            manifest.platform = platform(&image.config);
            index.manifests.extend(named(&manifest, image));
        }
        self.file("index.json", &serde_json::to_vec(&index)?)?;
        self.file("manifest.json", &serde_json::to_vec(&docker)?)?;
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Returns the descriptors of an image's layers, which have to be in the archive.
    fn layers(&self, image: &ArchiveImage) -> Result<Vec<Descriptor>> {
        let layers = image.layer_descriptors()?;
        for Descriptor { digest, size, .. } in &layers {
            match self.blobs.get(digest) {
                Some(known) => check("size", size, known)?,
                None => ensure!(self.left_out.contains(digest), "layer {digest} is not in the archive"),
            }
        }
        Ok(layers)
    }

    /// Writes a document as a blob and returns its descriptor.
    fn document(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        self.add_blob(digest, bytes.len() as u64, &mut &*bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.header(path, EntryType::Regular, 0o644, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        Ok(self.out.write_all(header.as_bytes())?)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = (size % 512) as usize;
        let padding = if over == 0 { 0 } else { 512 - over };
        Ok(self.out.write_all(&[0; 512][..padding])?)
    }
}

impl ArchiveImage {
    /// Returns the manifest's media type and bytes: its own, or one made of its parts.
    ///
    /// # Errors
    /// A record that says too little, and a manifest that is none.
    pub fn manifest_document(&self) -> Result<(String, Vec<u8>)> {
        if let Some(bytes) = &self.manifest {
            return Ok((stored_media_type(bytes)?, bytes.clone()));
        }
        let layers = self.layer_descriptors()?;
        let config = Descriptor::new(CONFIG, Digest::of(&self.config), self.config.len() as u64);
        let manifest = Manifest { schema_version: 2, media_type: MANIFEST, config, layers };
        Ok((MANIFEST.to_owned(), serde_json::to_vec(&manifest)?))
    }

    fn layer_descriptors(&self) -> Result<Vec<Descriptor>> {
        let descriptor = |layer: &LayerRecord| {
            let media_type = oci_media_type(LayerRecord::require(&layer.media_type, "mediaType")?);
            let (digest, size) = (&layer.digest, &layer.size);
            Ok(Descriptor::new(
                media_type,
                *LayerRecord::require(digest, "digest")?,
                *LayerRecord::require(size, "size")?,
            ))
        };
        self.layers.iter().map(descriptor).collect()
    }
}

struct Hashing<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One descriptor for each name, as Docker writes them, or one without a name.
fn named(manifest: &Descriptor, image: &ArchiveImage) -> Vec<Descriptor> {
    let annotated = |annotations| Descriptor { annotations, ..manifest.clone() };
    let names =
        image.names.iter().map(|name| annotated([(NAME, name.canonical()), (REF, name.tag().to_owned())].into()));
    let refs = image.refs.iter().map(|tag| annotated([(REF, tag.clone())].into()));
    let named: Vec<Descriptor> = names.chain(refs).collect();
    if named.is_empty() { vec![manifest.clone()] } else { named }
}

/// Returns OCI's media type for one of Docker's that means the same, since an OCI manifest is to name OCI's; others stay.
fn oci_media_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        other => other,
    }
}

/// Returns the media type that a manifest says it has; OCI's may leave it out.
fn stored_media_type(manifest: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed: Typed = serde_json::from_slice(manifest).context("not a manifest")?;
    Ok(typed.media_type.filter(|media_type| !media_type.is_empty()).unwrap_or_else(|| MANIFEST.to_owned()))
}

/// Returns what the configuration says that the image runs on, if it does.
fn platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice(config).ok()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

impl Descriptor {
    fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new(), platform: None }
    }
}

/// An entry of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

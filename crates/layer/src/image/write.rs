//! Writing an archive that is two things at once: an OCI image layout, and what `docker load` takes.
//!
//! Blobs lie where the layout has them, and Docker's `manifest.json` points there. So docker, podman, skopeo, umoci and
//! containerd all load it, from a file or a pipe. Layers may be plain or compressed; Docker 20.10.24 was seen to take zstd.
//!
//! The same calls give the same bytes: `oci-layout`, the directories, the blobs in the order that they were added, each once,
//! `index.json` and `manifest.json`. Owner, time and mode say nothing of who wrote them or when.

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

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An archive that is being written. It is whole only after [`ArchiveWriter::finish`].
pub struct ArchiveWriter<W: Write> {
    out: W,
    blobs: BTreeMap<Digest, u64>,
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
    /// The manifest as stored, where the image has one; one is made where it has none.
    pub manifest: Option<Vec<u8>>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive on `out`.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(out: W) -> Result<Self> {
        let mut archive = Self { out, blobs: BTreeMap::new() };
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
            let manifest = self.manifest(image, config)?;
            index.manifests.extend(named(&manifest, &image.names));
        }
        self.file("index.json", &serde_json::to_vec(&index)?)?;
        self.file("manifest.json", &serde_json::to_vec(&docker)?)?;
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Returns the descriptors of an image's layers.
    fn layers(&self, image: &ArchiveImage) -> Result<Vec<Descriptor>> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let digest = *LayerRecord::require(&layer.digest, "digest")?;
            let media_type = LayerRecord::require(&layer.media_type, "mediaType")?;
            let size = *self.blobs.get(&digest).with_context(|| format!("layer {digest} is not in the archive"))?;
            layers.push(Descriptor::new(oci_media_type(media_type), digest, size));
        }
        Ok(layers)
    }

    /// Writes an image's manifest, its own or one made of its parts, and returns its descriptor.
    fn manifest(&mut self, image: &ArchiveImage, config: Descriptor) -> Result<Descriptor> {
        let made;
        let (media_type, bytes) = match &image.manifest {
            Some(bytes) => (stored_media_type(bytes)?, bytes),
            None => {
                let layers = self.layers(image)?;
                made = serde_json::to_vec(&Manifest { schema_version: 2, media_type: MANIFEST, config, layers })?;
                (MANIFEST.to_owned(), &made)
            }
        };
        let mut descriptor = self.document(&media_type, bytes)?;
        descriptor.platform = platform(&image.config);
        Ok(descriptor)
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
fn named(manifest: &Descriptor, names: &[Name]) -> Vec<Descriptor> {
    let annotated = |name: &Name| {
        let name_of = [
            ("io.containerd.image.name", name.canonical()),
            ("org.opencontainers.image.ref.name", name.tag().to_owned()),
        ];
        Descriptor { annotations: name_of.into(), ..manifest.clone() }
    };
    if names.is_empty() { vec![manifest.clone()] } else { names.iter().map(annotated).collect() }
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

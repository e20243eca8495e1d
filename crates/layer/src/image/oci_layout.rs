//! An OCI image layout (image-spec, image-layout.md), in a directory or in a tar.
//!
//! Every document is checked against the size and digest of the descriptor that led to it before it is parsed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::config::Config;
use super::descriptor::{Descriptor, Document, Kind};
use super::medium::Medium;
use super::platform::Platform;
use super::reference::{Reference, Selector};
use super::source::{Candidate, ImageSource};
use super::{Image, Stored};
use crate::digest::{DiffId, Digest, ImageId};
use crate::limits;
use crate::record::LayerRecord;
use crate::stream::Compression;

pub(super) struct OciLayout {
    medium: Arc<Medium>,
    reference: Option<Reference>,
    index: Arc<[u8]>,
    manifests: Vec<Manifest>,
    discarded: Discarded,
}

/// Whether blobs of layers may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discarded {
    Refused,
    /// They may have been thrown away after they were unpacked, or left out for somebody who has them.
    Allowed,
}

/// A manifest that the index leads to.
struct Manifest {
    descriptor: Descriptor,
    tags: Vec<String>,
    /// Where it, or the indexes that lead to it, stand in `index.json`.
    positions: Vec<usize>,
}

impl OciLayout {
    /// Reads the index, and those nested in it.
    ///
    /// # Errors
    /// What is no layout of version 1.0.0, an index that is none, and more descriptors than [`limits::DESCRIPTORS`].
    pub(super) fn open(medium: Arc<Medium>, reference: Option<Reference>, discarded: Discarded) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let layout = medium.read("oci-layout")?.context("has no `oci-layout`: not an OCI image layout")?;
        let layout: Layout = serde_json::from_slice(&layout).context("oci-layout")?;
        let version = &layout.image_layout_version;
        ensure!(version == "1.0.0", "is an OCI image layout of version `{version}`, expected `1.0.0`");

        let index = medium.read("index.json")?.context("has no `index.json`: not an OCI image layout")?;
        Self::of_index(medium, reference, index, discarded)
    }

    /// Reads the indexes nested in `index`, whose blobs are in `medium`.
    ///
    /// # Errors
    /// An index that is none, and more descriptors than [`limits::DESCRIPTORS`].
    pub(super) fn of_index(
        medium: Arc<Medium>,
        reference: Option<Reference>,
        index: Vec<u8>,
        discarded: Discarded,
    ) -> Result<Self> {
        let index: Arc<[u8]> = index.into();
        let document = Document::parse(&index, Kind::Index).context("index.json")?;
        let manifests = Walk { medium: &medium, left: limits::DESCRIPTORS, indexes: HashMap::new() }.top(document)?;
        Ok(Self { medium, reference, index, manifests, discarded })
    }

    /// Reads the manifest and its configuration's descriptor; `None` where it is no image's.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<(Vec<u8>, Document, Descriptor)>> {
        let bytes = read(&self.medium, descriptor)?;
        let document = Document::parse(&bytes, Kind::Manifest).with_context(|| descriptor.digest.to_string())?;
        let config = document.image_config().cloned();
        Ok(config.map(|config| (bytes, document, config)))
    }
}

impl ImageSource for OciLayout {
    fn index(&self) -> &[u8] {
        &self.index
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |manifest: &Manifest| Candidate {
            tags: manifest.tags.clone(),
            positions: manifest.positions.clone(),
            digest: Some(manifest.descriptor.digest),
            intermediate: false,
        };
        self.manifests.iter().map(candidate).collect()
    }

    fn id(&self, candidate: usize) -> Result<Option<ImageId>> {
        let manifest = self.manifest(&self.manifests[candidate].descriptor)?;
        Ok(manifest.map(|(_, _, config)| ImageId(config.digest)))
    }

    fn platform(&self, candidate: usize) -> Result<Option<Platform>> {
        let descriptor = &self.manifests[candidate].descriptor;
        if let Some(platform) = &descriptor.platform {
            return Ok(Some(platform.clone()));
        }
        let Some((_, _, config)) = self.manifest(descriptor)? else { return Ok(None) };
        // Its layers do not matter here.
        Ok(Config::parse_or(&read(&self.medium, &config)?, Some(Vec::new()))?.platform)
    }

    fn is_present(&self, candidate: usize) -> bool {
        let name = blob_name(&self.manifests[candidate].descriptor.digest);
        matches!(self.medium.open(&name), Ok(Some(_)))
    }

    fn load(&self, candidate: usize) -> Result<Image> {
        let Manifest { descriptor, tags, .. } = &self.manifests[candidate];
        let digest = descriptor.digest;
        let (manifest, document, config_descriptor) = self
            .manifest(descriptor)?
            .ok_or_else(|| anyhow!("{digest}: is the manifest of something else than an image"))?;
        let config = read(&self.medium, &config_descriptor)?;
        let layers = document.layers();
        let parsed =
            Config::parse_or(&config, plain_diff_ids(layers)).with_context(|| config_descriptor.digest.to_string())?;
        super::check_count(layers.len(), &parsed)?;

        let selector = Selector::Digest(digest.hex());
        let reference = self.reference.clone().map(|reference| Reference { selector: Some(selector), ..reference });
        let image: Option<OsString> = reference.as_ref().map(Reference::to_os_string);
        let blobs = layers.iter().map(|layer| locate(&self.medium, layer, self.discarded)).collect::<Result<_>>()?;
        let record = |layer: &Descriptor| LayerRecord {
            media_type: Some(layer.media_type.clone()),
            digest: Some(layer.digest),
            size: Some(layer.size),
            image: image.clone(),
            ..LayerRecord::default()
        };
        let records = layers.iter().map(record).collect();
        Ok(Image {
            id: ImageId(config_descriptor.digest),
            config,
            layers: super::join(records, &parsed),
            parsed,
            manifest: Some(manifest),
            digest: Some(digest),
            index: Some(Arc::clone(&self.index)),
            tags: tags.clone(),
            reference: image,
            blobs,
        })
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the document that `descriptor` describes.
fn read(medium: &Medium, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    let read = || {
        let blob = medium.open(&blob_name(digest))?.context("is not in the layout")?;
        crate::digest::check("size", &blob.size(), &descriptor.size)?;
        let bytes = blob.read_all()?;
        crate::digest::check("digest", &Digest::of(&bytes), digest)?;
        anyhow::Ok(bytes)
    };
    read().with_context(|| digest.to_string())
}

/// Returns the DiffIDs of layers that are all stored as plain tars: their digests.
fn plain_diff_ids(layers: &[Descriptor]) -> Option<Vec<DiffId>> {
    let plain = |layer: &Descriptor| Compression::of_media_type(&layer.media_type) == Some(Compression::None);
    layers.iter().map(|layer| plain(layer).then_some(DiffId(layer.digest))).collect()
}

/// Finds the blob of a layer without reading it. One that is elsewhere by its own word, at a URL, may be missing.
fn locate(medium: &Arc<Medium>, layer: &Descriptor, discarded: Discarded) -> Result<Stored> {
    let name = blob_name(&layer.digest);
    let locate = || {
        match medium.open(&name)? {
            Some(blob) => crate::digest::check("size", &blob.size(), &layer.size)?,
            None if layer.is_elsewhere() || discarded == Discarded::Allowed => return Ok(Stored::Elsewhere),
            None => bail!("is not in the layout"),
        }
        anyhow::Ok(Stored::Blob(Arc::clone(medium), name.clone()))
    };
    locate().with_context(|| layer.digest.to_string())
}

/// Collects the manifests that an index leads to, those of nested indexes at their place.
struct Walk<'a> {
    medium: &'a Medium,
    /// Descriptors that may still be met, so that indexes which lead to each other cannot multiply.
    left: usize,
    /// What was read already: an index is read once however many lead to it.
    indexes: HashMap<Digest, Option<Arc<[Descriptor]>>>,
}

impl Walk<'_> {
    fn top(mut self, index: Document) -> Result<Vec<Manifest>> {
        let mut found: Vec<Manifest> = Vec::new();
        let mut known: HashMap<Digest, usize> = HashMap::new();
        for (position, descriptor) in index.manifests.unwrap_or_default().0.into_iter().enumerate() {
            let tags = descriptor.tags();
            let mut below = Vec::new();
            self.manifests(descriptor, 0, &mut HashSet::new(), &mut below)?;
            for descriptor in below {
                let at = *known.entry(descriptor.digest).or_insert_with(|| {
                    found.push(Manifest { descriptor, tags: Vec::new(), positions: Vec::new() });
                    found.len() - 1
                });
                found[at].positions.push(position);
                let new = tags.iter().filter(|tag| !found[at].tags.contains(tag)).cloned().collect::<Vec<_>>();
                found[at].tags.extend(new);
            }
        }
        Ok(found)
    }

    fn manifests(
        &mut self,
        descriptor: Descriptor,
        depth: usize,
        seen: &mut HashSet<Digest>,
        found: &mut Vec<Descriptor>,
    ) -> Result<()> {
        self.left = self.left.checked_sub(1).with_context(|| {
            format!("index.json leads to more than {} descriptors, with nested indexes", limits::DESCRIPTORS)
        })?;
        ensure!(depth <= limits::INDEX_DEPTH, "indexes are nested more than {} deep", limits::INDEX_DEPTH);
        if !descriptor.may_be_image() || !seen.insert(descriptor.digest) {
            return Ok(());
        }
        if descriptor.kind() == Some(Kind::Manifest) {
            found.push(descriptor);
            return Ok(());
        }
        match self.index(&descriptor) {
            Some(nested) => {
                for descriptor in nested.iter() {
                    self.manifests(descriptor.clone(), depth + 1, seen, found)?;
                }
            }
            // Whoever asks for it meets the error; the other images are none the worse for it.
            None => found.push(descriptor),
        }
        Ok(())
    }

    /// Returns what a nested index holds, or `None` where it is missing or damaged.
    fn index(&mut self, descriptor: &Descriptor) -> Option<Arc<[Descriptor]>> {
        let read = || {
            let bytes = read(self.medium, descriptor)?;
            let document = Document::parse(&bytes, Kind::Index)?;
            anyhow::Ok(document.manifests.unwrap_or_default().0.into())
        };
        self.indexes.entry(descriptor.digest).or_insert_with(|| read().ok()).clone()
    }
}

//! Images in Docker's data root: what [`Store`] reads, as a medium.
//!
//! Layers have the directory of their files as `path` where it is in overlayfs's form, and as `driverPath` where the driver
//! keeps them in its own; `cacheId` is that directory's name and `layerSize` what the daemon counted in it. A layer without
//! its tar-split is written anew from its files and says so: `rebuilt`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::config::Config;
use super::platform::Platform;
use super::reference::{Reference, Selector};
use super::source::{Candidate, ImageSource};
use super::{Image, Stored};
use crate::change::Time;
use crate::config::time;
use crate::digest::{self, ChainId, Digest, ImageId};
use crate::docker_root::{Form, Layer, Repositories, Store};
use crate::record::{self, LayerRecord};
use crate::stream::Compression;

pub(super) struct DockerRoot {
    store: Arc<Store>,
    reference: Reference,
    /// `repositories.json` as stored.
    index: Arc<[u8]>,
    names: Repositories,
    images: Vec<Found>,
}

/// An image, by what is known without its layers.
struct Found {
    id: ImageId,
    created: Option<Time>,
    /// It has no name, and another image was made from it: a step of a build.
    intermediate: bool,
}

impl DockerRoot {
    /// Reads the names, and of each image what decides whether and where it is listed: the latest first, as `docker images`
    /// does.
    ///
    /// # Errors
    /// What [`Store::open`] gives, and names that cannot be read.
    pub(super) fn open(reference: Reference) -> Result<Self> {
        let store = Store::open(&reference.path)?;
        let names = store.repositories()?;
        let index = store.repositories_file()?.unwrap_or_default();
        let listed: HashSet<ImageId> = store.listed_images()?.into_iter().collect();
        let found = |id: ImageId| Found { id, created: created(&store, id), intermediate: !listed.contains(&id) };
        let mut images: Vec<Found> = store.image_ids()?.into_iter().map(found).collect();
        images.sort_by(|a, b| (b.created, a.id).cmp(&(a.created, b.id)));
        Ok(Self { store: Arc::new(store), reference, index: index.into(), names, images })
    }

    /// Reads the layers of an image, base first, and compares them with those that its configuration lists.
    fn layers(&self, config: &Config) -> Result<Vec<Layer>> {
        let Some(top) = ChainId::chain(config.diff_ids.iter().copied()).pop() else { return Ok(Vec::new()) };
        let layers = self.store.stack(top)?;
        super::check_count(layers.len(), config)?;
        for (layer, diff_id) in layers.iter().zip(&config.diff_ids) {
            digest::check("DiffID", &layer.diff_id, diff_id)?;
        }
        Ok(layers)
    }

    fn record(&self, layer: &Layer, image: &OsStr) -> Result<LayerRecord> {
        let mut record = LayerRecord {
            media_type: Some(Compression::None.media_type().to_owned()),
            digest: Some(layer.diff_id.0),
            chain_id: Some(layer.chain_id),
            parent: layer.parent,
            image: Some(image.to_owned()),
            ..LayerRecord::default()
        };
        if !self.store.has_tar_split(layer)? {
            record.digest = None;
            record.set_rebuilt()?;
        }
        record.set_member("cacheId", &layer.cache_id)?;
        record.set_member("layerSize", &layer.size)?;
        let path = self.store.layer_path(layer);
        if self.store.driver().form() == Form::Overlay {
            record.path = Some(path.into_os_string());
        } else if let Some(path) = path.to_str() {
            record.set_member("driverPath", &path)?;
        } else {
            record.set_member("driverPathRaw", &record::to_base64(path.as_os_str()))?;
        }
        Ok(record)
    }
}

/// Returns when the image was made. A damaged one has no time: it is listed last, and met by whoever asks for it.
fn created(store: &Store, id: ImageId) -> Option<Time> {
    time::parse_rfc3339(&Config::parse(&store.config(id).ok()?).ok()?.created?)
}

impl ImageSource for DockerRoot {
    fn index(&self) -> &[u8] {
        &self.index
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |image: &Found| Candidate {
            tags: [self.names.tags(image.id), self.names.digests(image.id)].concat(),
            positions: Vec::new(),
            digest: None,
            intermediate: image.intermediate,
        };
        self.images.iter().map(candidate).collect()
    }

    fn id(&self, candidate: usize) -> Result<Option<ImageId>> {
        Ok(Some(self.images[candidate].id))
    }

    fn platform(&self, candidate: usize) -> Result<Option<Platform>> {
        let id = self.images[candidate].id;
        Ok(Config::parse(&self.store.config(id)?).with_context(|| id.to_string())?.platform)
    }

    fn is_present(&self, _: usize) -> bool {
        true
    }

    fn load(&self, candidate: usize) -> Result<Image> {
        let id = self.images[candidate].id;
        let config = self.store.config(id)?;
        let parsed = Config::parse(&config).with_context(|| id.to_string())?;
        let layers = self.layers(&parsed).with_context(|| id.to_string())?;
        let selector = Some(Selector::Digest(id.hex()));
        let path = self.store.path().to_owned();
        let reference = Reference { selector, path, ..self.reference.clone() }.to_os_string();
        let records = layers.iter().map(|layer| self.record(layer, &reference)).collect::<Result<Vec<_>>>()?;
        let stored = |(record, layer): (&LayerRecord, Layer)| match record.is_rebuilt() {
            true => Stored::Rebuilt(Arc::clone(&self.store), layer),
            false => Stored::Layer(Arc::clone(&self.store), layer),
        };
        let blobs = records.iter().zip(layers).map(stored).collect();
        Ok(Image {
            id,
            config,
            layers: super::join(records, &parsed),
            parsed,
            manifest: None,
            digest: manifest_digest(&self.names.digests(id)),
            index: Some(Arc::clone(&self.index)),
            tags: self.names.tags(id),
            reference: Some(reference),
            blobs,
        })
    }
}

/// Returns the digest of the manifest that an image was pulled by, where all its names agree on it.
fn manifest_digest(names: &[String]) -> Option<Digest> {
    let mut digests = names.iter().filter_map(|name| name.split_once('@')?.1.parse().ok());
    let first = digests.next()?;
    digests.all(|digest: Digest| digest == first).then_some(first)
}

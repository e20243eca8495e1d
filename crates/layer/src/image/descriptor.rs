//! Descriptors, manifests and indexes: OCI's (image-spec, descriptor.md, manifest.md, image-index.md) and those of Docker's
//! schema 2, which say the same under other media types.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::list::List;
use super::platform::Platform;
use crate::digest::Digest;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Manifest,
    Index,
}

impl Kind {
    fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
                Some(Self::Manifest)
            }
            "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
                Some(Self::Index)
            }
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Manifest => "a manifest",
            Self::Index => "an index",
        }
    }
}

/// Says whether a media type is that of an image's configuration.
fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json")
}

/// Says whether a media type is that of a layer, with whatever suffix.
fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// What points to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    pub(super) artifact_type: Option<String>,
    annotations: Option<Annotations>,
    urls: Option<List<String>>,
}

/// The annotations that count here.
#[derive(Clone, Debug, Default, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    ref_name: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    image_name: Option<String>,
    #[serde(rename = "vnd.docker.reference.type")]
    reference_type: Option<String>,
}

impl Descriptor {
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.media_type.as_str() {
            // It says nothing of the target; go-containerregistry reads a manifest then, and so does this.
            "application/vnd.oci.descriptor.v1+json" => Some(Kind::Manifest),
            media_type => Kind::of_media_type(media_type),
        }
    }

    /// Says whether what it points to is an image or an index of such, as far as the descriptor tells: not an attestation of
    /// BuildKit's, and not an artifact.
    pub(super) fn may_be_image(&self) -> bool {
        let attestation = self.annotations.as_ref().is_some_and(|annotations| annotations.reference_type.is_some())
            || self.platform.as_ref().is_some_and(Platform::is_unknown);
        // Some name the configuration's type here, of images too.
        let artifact = self.artifact_type.as_deref().is_some_and(|kind| !kind.is_empty() && !is_image_config(kind));
        self.kind().is_some() && !attestation && !artifact
    }

    /// Returns the names that it has: the layout's own, and the one that containerd and BuildKit add.
    pub(super) fn tags(&self) -> Vec<String> {
        let Annotations { image_name, ref_name, .. } = self.annotations.clone().unwrap_or_default();
        let tag = ref_name.filter(|tag| Some(tag) != image_name.as_ref());
        image_name.into_iter().chain(tag).collect()
    }

    /// Says whether the blob may be fetched from a URL instead.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.0.is_empty())
    }
}

/// A manifest or an index: which of them is told by its members, as the media type inside it is optional.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<List<Descriptor>>,
    pub(super) manifests: Option<List<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Parses a document that is said to be `expected`.
    ///
    /// # Errors
    /// What is no such document, has the members of both kinds (image-spec warns of these: two readers would see two
    /// images), or a media type of the other kind.
    pub(super) fn parse(bytes: &[u8], expected: Kind) -> Result<Self> {
        let name = expected.name();
        let document: Self = serde_json::from_slice(bytes).with_context(|| format!("not {name}"))?;
        if let Some(version) = document.schema_version.filter(|version| *version != 2) {
            bail!("not {name}: `schemaVersion` is {version}, expected 2");
        }
        let of_manifest = document.config.is_some() || document.layers.is_some() || document.fs_layers.is_some();
        let of_index = document.manifests.is_some();
        ensure!(!(of_manifest && of_index), "has members of a manifest and of an index");
        ensure!(if expected == Kind::Index { of_index } else { of_manifest }, "not {name}: has no members of one");
        let media_type = document.media_type.as_deref().unwrap_or_default();
        match Kind::of_media_type(media_type) {
            Some(kind) if kind == expected => {}
            None if media_type.is_empty() => {}
            _ => bail!("media type is `{media_type}`, expected that of {name}"),
        }
        Ok(document)
    }

    /// Returns the layers of a manifest, base first.
    pub(super) fn layers(&self) -> &[Descriptor] {
        self.layers.as_ref().map_or(&[], |layers| &layers.0)
    }

    /// Returns the descriptor of the configuration where this is the manifest of an image, and not of an artifact. Cosign's
    /// signatures have the configuration of an image, but layers that are none.
    pub(super) fn image_config(&self) -> Option<&Descriptor> {
        let artifact = self.artifact_type.as_deref().is_some_and(|kind| !kind.is_empty() && !is_image_config(kind));
        let layers = self.layers().iter().all(|layer| is_layer(&layer.media_type));
        self.config.as_ref().filter(|config| !artifact && layers && is_image_config(&config.media_type))
    }
}

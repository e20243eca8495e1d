//! What `docker save` writes: a tar with `manifest.json`, a list of images, each with the names of its configuration and of
//! its layers (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").
//!
//! Until Docker 25 a layer was `ID/layer.tar`, a symlink to another one where two were the same; since then the tar is an
//! OCI image layout besides, and names are `blobs/sha256/...`. Other tools name the files as they like.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::config::Config;
use super::list::List;
use super::medium::Medium;
use super::platform::Platform;
use super::reference::{Reference, Selector};
use super::source::{Candidate, ImageSource};
use super::{Image, Stored};
use crate::digest::{DiffId, Digest, ImageId};
use crate::record::LayerRecord;
use crate::stream::Compression;

pub(super) struct DockerArchive {
    medium: Arc<Medium>,
    reference: Option<Reference>,
    index: Arc<[u8]>,
    entries: Vec<(Box<RawValue>, Entry)>,
    /// Layers may be missing.
    partial: bool,
}

/// One element of `manifest.json`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    config: String,
    tags: Vec<String>,
    layers: Vec<String>,
}

impl DockerArchive {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// An archive without it, and what is no list of images.
    pub(super) fn open(medium: Arc<Medium>, reference: Option<Reference>, partial: bool) -> Result<Self> {
        let Some(index) = medium.read("manifest.json")? else {
            if medium.read("repositories")?.is_some() {
                bail!(
                    "has no `manifest.json`: saved by Docker before 1.10 (load it into a later one and save it there)"
                );
            }
            bail!("has no `manifest.json`: not an archive of docker save");
        };
        let elements: List<Box<RawValue>> =
            serde_json::from_slice(&index).context("manifest.json: not a list of images")?;
        let parse = |(position, raw): (usize, Box<RawValue>)| {
            let entry = serde_json::from_str(raw.get()).with_context(|| format!("manifest.json: image {position}"))?;
            anyhow::Ok((raw, entry))
        };
        let entries = elements.0.into_iter().enumerate().map(parse).collect::<Result<_>>()?;
        Ok(Self { medium, reference, index: index.into(), entries, partial })
    }

    /// Reads a configuration, and checks it where its name is its digest.
    fn config(&self, entry: &Entry) -> Result<(ImageId, Vec<u8>)> {
        let name = &entry.config;
        let read = || {
            let bytes = self.medium.open(name)?.context("is not in the archive")?.read_all()?;
            let digest = Digest::of(&bytes);
            if let Some(named) = digest_in(name) {
                crate::digest::check("digest", &digest, &named)?;
            }
            anyhow::Ok((ImageId(digest), bytes))
        };
        read().with_context(|| format!("configuration `{name}`"))
    }

    /// Finds a layer's blob. Of its content only the head is read, to tell the compression.
    fn layer(&self, name: &str, diff_id: DiffId) -> Result<LayerRecord> {
        let locate = || {
            // The name says it where it is an OCI layout's; a plain tar's digest is its DiffID.
            let named = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
            let Some(blob) = self.medium.open(name)? else {
                ensure!(self.partial, "is not in the archive");
                return Ok(LayerRecord { digest: named, ..LayerRecord::default() });
            };
            let compression = Compression::sniff(&blob.head(Compression::HEAD as u64)?)?;
            let digest = named.or((compression == Compression::None).then_some(diff_id.0));
            anyhow::Ok(LayerRecord {
                media_type: Some(compression.media_type().to_owned()),
                digest,
                size: Some(blob.size()),
                ..LayerRecord::default()
            })
        };
        locate().with_context(|| format!("layer `{name}`"))
    }
}

impl ImageSource for DockerArchive {
    fn index(&self) -> &[u8] {
        &self.index
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(position, (_, entry)): (usize, &(Box<RawValue>, Entry))| Candidate {
            tags: entry.tags.clone(),
            positions: vec![position],
            digest: None,
            intermediate: false,
        };
        self.entries.iter().enumerate().map(candidate).collect()
    }

    fn id(&self, candidate: usize) -> Result<Option<ImageId>> {
        self.config(&self.entries[candidate].1).map(|(id, _)| Some(id))
    }

    fn platform(&self, candidate: usize) -> Result<Option<Platform>> {
        let (_, config) = self.config(&self.entries[candidate].1)?;
        Ok(Config::parse(&config)?.platform)
    }

    fn is_present(&self, _: usize) -> bool {
        true
    }

    fn load(&self, candidate: usize) -> Result<Image> {
        let (raw, entry) = &self.entries[candidate];
        let (id, config) = self.config(entry)?;
        let parsed = Config::parse(&config).with_context(|| format!("configuration `{}`", entry.config))?;
        super::check_count(entry.layers.len(), &parsed)?;
        let selector = Some(Selector::Position(candidate));
        let reference = self.reference.clone().map(|reference| Reference { selector, ..reference }.to_os_string());
        let layer = |(name, diff_id): (&String, &DiffId)| {
            anyhow::Ok(LayerRecord { image: reference.clone(), ..self.layer(name, *diff_id)? })
        };
        let records: Vec<LayerRecord> = entry.layers.iter().zip(&parsed.diff_ids).map(layer).collect::<Result<_>>()?;
        let stored = |(name, record): (&String, &LayerRecord)| match record.size {
            Some(_) => Stored::Blob(Arc::clone(&self.medium), name.clone()),
            None => Stored::Elsewhere,
        };
        let blobs = entry.layers.iter().zip(&records).map(stored).collect();
        Ok(Image {
            id,
            config,
            layers: super::join(records, &parsed),
            parsed,
            manifest: Some(raw.get().as_bytes().to_vec()),
            digest: None,
            index: Some(Arc::clone(&self.index)),
            tags: entry.tags.clone(),
            reference,
            blobs,
        })
    }
}

/// Returns the digest that the name of a configuration is: `HEX.json` of Docker, `sha256:HEX` of kaniko, `blobs/sha256/HEX`.
fn digest_in(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    Digest::from_hex(hex.strip_prefix("sha256:").unwrap_or(hex)).ok()
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

/// Reads member names in any case, as Go does, who wrote and reads most of these; jib writes them in lower camel case. Two
/// that differ only in case are refused: which one counts depends on who reads them.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut config: Option<String> = None;
        let mut tags: Option<Option<List<String>>> = None;
        let mut layers: Option<Option<List<String>>> = None;
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.to_ascii_lowercase().as_str() {
                "config" => config.replace(map.next_value()?).is_some(),
                "repotags" => tags.replace(map.next_value()?).is_some(),
                "layers" => layers.replace(map.next_value()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(de::Error::custom(format_args!("member `{key}` stands twice")));
            }
        }
        Ok(Entry {
            config: config.ok_or_else(|| de::Error::missing_field("Config"))?,
            tags: tags.flatten().unwrap_or_default().0,
            layers: layers.flatten().unwrap_or_default().0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Entry, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn member_names_are_read_in_any_case() {
        let want = Entry { config: "c".into(), tags: vec!["a:1".into()], layers: vec!["l".into()] };
        for text in [
            r#"{"Config":"c","RepoTags":["a:1"],"Layers":["l"]}"#,
            r#"{"config":"c","repoTags":["a:1"],"layers":["l"],"LayerSources":{"x":[]}}"#,
        ] {
            assert_eq!(parse(text).unwrap(), want);
        }
        let bare = parse(r#"{"Config":"c","RepoTags":null}"#).unwrap();
        assert_eq!(bare, Entry { config: "c".into(), ..Entry::default() });
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_reason() {
        for (text, want) in [
            ("null", "expected an object"),
            ("{}", "missing field `Config`"),
            (r#"{"Config":null}"#, "expected a string"),
            (r#"{"Config":["a"]}"#, "expected a string"),
            (r#"{"Config":"a","Layers":"l"}"#, "expected a list"),
            (r#"{"Config":"a","config":"b"}"#, "member `config` stands twice"),
            (r#"{"Config":"a","Layers":[],"LAYERS":[]}"#, "member `LAYERS` stands twice"),
        ] {
            let err = parse(text).unwrap_err().to_string();
            assert!(err.contains(want), "{text}: {err}");
        }
    }

    #[test]
    fn names_of_configurations_may_be_digests() {
        let digest = Digest::of(b"");
        let hex = digest.hex();
        for name in [format!("{hex}.json"), format!("sha256:{hex}"), format!("blobs/sha256/{hex}")] {
            assert_eq!(digest_in(&name), Some(digest));
        }
        for name in ["config.json", "", &hex[1..]] {
            assert_eq!(digest_in(name), None);
        }
    }
}

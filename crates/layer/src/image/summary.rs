//! What image-inspect prints of an image, as JSON and as tables.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Image, Platform};
use crate::cli::{Table, bar, human_size};
use crate::digest::{DiffId, Digest, ImageId};
use crate::record::LayerRecord;
use crate::stream::Compression;

/// An image in one line: what tells it from the others of its medium.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brief<'a> {
    /// Its absolute reference alone, under the name that it has in records; nothing for one that came on stdin.
    #[serde(flatten)]
    pub image: LayerRecord,
    /// ImageID.
    pub id: ImageId,
    /// Digest of the manifest, where the medium has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Names.
    pub tags: &'a [String],
    /// What it runs on: `linux/amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<&'a str>,
    /// Bytes of all layers as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes of all layers uncompressed, where that is known without reading them: where none is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_size: Option<u64>,
    /// Bytes of all layers' files, where the medium keeps them unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_size: Option<i64>,
    /// Number of layers.
    pub layer_count: usize,
    /// Number of history entries, those of empty layers counted.
    pub history_count: usize,
}

/// An image in one object.
#[derive(Serialize)]
pub struct Summary<'a> {
    /// What tells it from others.
    #[serde(flatten)]
    pub brief: Brief<'a>,
    /// The configuration's `config`, as it is written there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<&'a RawValue>,
    /// The layers, base first.
    pub layers: Vec<LayerRecord>,
}

impl Image {
    /// Returns the image in one line.
    pub fn brief(&self) -> Brief<'_> {
        let parsed = self.parsed();
        // What descriptors claim may be anything.
        let sum = |of: fn(&LayerRecord) -> Option<u64>| -> Option<u64> {
            self.layers().iter().map(of).try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)))
        };
        Brief {
            image: LayerRecord { image: self.reference().map(ToOwned::to_owned), ..LayerRecord::default() },
            id: self.id(),
            digest: self.digest(),
            tags: self.tags(),
            platform: parsed.platform.as_ref().map(Platform::to_string),
            created: parsed.created.as_deref(),
            size: sum(|layer| layer.size),
            diff_size: sum(|layer| layer.diff_size),
            layer_size: layer_size(self.layers()),
            layer_count: self.layers().len(),
            history_count: parsed.history.len(),
        }
    }

    /// Returns the image in one object.
    pub fn summary(&self) -> Summary<'_> {
        // Every layer has the same reference, and --history shows the history.
        let short = |layer: &LayerRecord| LayerRecord { image: None, history: None, ..layer.clone() };
        Summary {
            brief: self.brief(),
            config: self.parsed().config.as_deref(),
            layers: self.layers().iter().map(short).collect(),
        }
    }

    /// Returns one record for each history entry, oldest first: that of the layer which it made, or one with `history` alone
    /// where it made none or none can be told.
    pub fn history(&self) -> Vec<LayerRecord> {
        let parsed = self.parsed();
        let record = |(entry, layer): (&super::HistoryEntry, Option<usize>)| LayerRecord {
            history: Some(entry.raw.clone()),
            ..layer.map(|layer| self.layers()[layer].clone()).unwrap_or_default()
        };
        parsed.history.iter().zip(parsed.layers_of_history()).map(record).collect()
    }
}

/// Returns the summary of an image for people.
pub fn table(image: &Image) -> Table {
    let brief = image.brief();
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let mut row = |field: &str, value: String| table.row([field.to_owned(), value]);
    row("id", brief.id.to_string());
    if let Some(digest) = brief.digest {
        row("digest", digest.to_string());
    }
    for tag in brief.tags {
        row("tag", tag.clone());
    }
    row("platform", brief.platform.unwrap_or_default());
    row("created", brief.created.unwrap_or_default().to_owned());
    row("size", human_either(brief.size, brief.layer_size));
    row("uncompressed", human(brief.diff_size));
    row("layers", brief.layer_count.to_string());
    row("history", brief.history_count.to_string());
    let config = image.parsed().config.as_ref().map(|config| config.get());
    for (name, value) in
        config.and_then(|config| serde_json::from_str(config).ok()).map(Run::members).unwrap_or_default()
    {
        if let Some(value) = value.filter(|value| !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")) {
            row(name, value.get().to_owned());
        }
    }
    table
}

/// What a table shows of how a container runs, as it is written in the configuration.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run<'a> {
    #[serde(borrow)]
    entrypoint: Option<&'a RawValue>,
    cmd: Option<&'a RawValue>,
    env: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    working_dir: Option<&'a RawValue>,
    exposed_ports: Option<&'a RawValue>,
    volumes: Option<&'a RawValue>,
    labels: Option<&'a RawValue>,
}

impl<'a> Run<'a> {
    fn members(self) -> [(&'static str, Option<&'a RawValue>); 8] {
        [
            ("entrypoint", self.entrypoint),
            ("cmd", self.cmd),
            ("env", self.env),
            ("user", self.user),
            ("working directory", self.working_dir),
            ("exposed ports", self.exposed_ports),
            ("volumes", self.volumes),
            ("labels", self.labels),
        ]
    }
}

/// Returns the layers for people, base first, with bars of their sizes.
pub fn layers_table(image: &Image) -> Table {
    let size = |layer: &LayerRecord| layer.size.or(layer.member("layerSize"));
    let most = image.layers().iter().filter_map(size).max().unwrap_or(0);
    let mut table = Table::new(&[">#", "DIFF ID", "DIGEST", "COMPRESSION", ">SIZE", "", "CREATED BY"]);
    for (number, layer) in image.layers().iter().enumerate() {
        table.row([
            number.to_string(),
            layer.diff_id.map(short_diff_id).unwrap_or_default(),
            layer.digest.map(short).unwrap_or_default(),
            compression(layer).to_owned(),
            human_either(layer.size, layer.member("layerSize")),
            bar(size(layer).unwrap_or(0), 0, most),
            Entry::of(layer).created_by,
        ]);
    }
    table
}

/// Returns the history for people, oldest first.
pub fn history_table(image: &Image) -> Table {
    let mut table = Table::new(&["CREATED", "DIFF ID", ">SIZE", "CREATED BY", "COMMENT"]);
    for layer in image.history() {
        let entry = Entry::of(&layer);
        table.row([
            entry.created,
            layer.diff_id.map(short_diff_id).unwrap_or_default(),
            human_either(layer.size, layer.member("layerSize")),
            entry.created_by,
            entry.comment,
        ]);
    }
    table
}

/// Returns a table with a row for each image.
pub fn list_table(images: &[Image]) -> Table {
    let mut table = Table::new(&["TAG", "ID", "DIGEST", "PLATFORM", "CREATED", ">LAYERS", ">SIZE"]);
    for image in images {
        let brief = image.brief();
        table.row([
            brief.tags.join(" "),
            short(brief.id.0),
            brief.digest.map(short).unwrap_or_default(),
            brief.platform.unwrap_or_default(),
            brief.created.unwrap_or_default().to_owned(),
            brief.layer_count.to_string(),
            human_either(brief.size, brief.layer_size),
        ]);
    }
    table
}

/// Returns the sum of `layerSize`, where all layers have it.
fn layer_size(layers: &[LayerRecord]) -> Option<i64> {
    let mut sizes = layers.iter().map(|layer| layer.member::<i64>("layerSize")).peekable();
    sizes.peek()?;
    sizes.try_fold(0i64, |sum, size| Some(sum.saturating_add(size?)))
}

/// Returns bytes as stored, or else those of the files.
fn human_either(size: Option<u64>, files: Option<i64>) -> String {
    human(size.or(files.and_then(|files| u64::try_from(files).ok())))
}

fn human(size: Option<u64>) -> String {
    size.map(human_size).unwrap_or_default()
}

fn short(digest: Digest) -> String {
    digest.hex()[..12].to_owned()
}

fn short_diff_id(diff_id: DiffId) -> String {
    short(diff_id.0)
}

fn compression(layer: &LayerRecord) -> &'static str {
    match layer.media_type.as_deref().and_then(Compression::of_media_type) {
        Some(Compression::None) => "none",
        Some(Compression::Gzip) => "gzip",
        Some(Compression::Zstd) => "zstd",
        None => "?",
    }
}

/// What a table shows of a history entry.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Entry {
    created: String,
    created_by: String,
    comment: String,
}

impl Entry {
    /// Takes what it finds: a member of the wrong type costs a table only its cells.
    fn of(record: &LayerRecord) -> Self {
        let history = record.history.as_ref().map(|history| history.get());
        history.and_then(|history| serde_json::from_str(history).ok()).unwrap_or_default()
    }
}

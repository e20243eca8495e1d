//! Image configurations: a new one made from that of the image below, or from nothing.
//!
//! A configuration is edited as text: what this module does not know survives byte for byte, and the same input gives the
//! same bytes, the top level sorted by name as Docker writes it. Reading one is the media's job.

mod apply;
mod duration;
mod expand;
mod expose;
mod instruction;
mod lines;
mod members;
#[cfg(test)]
mod tests;
pub mod time;
mod words;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::change::Time;
use crate::digest::DiffId;
use crate::image::Platform;
use members::Members;

pub use instruction::{Command, Healthcheck, Instruction};

/// What a commit changes in a configuration.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Who made the image; the author of the image below is not taken over.
    pub author: Option<String>,
    /// What was changed.
    pub comment: Option<String>,
    /// When.
    pub created: Time,
    /// The command that made the change, as the history shows it.
    pub created_by: Option<String>,
    /// What happens to the config object, in this order.
    pub instructions: Vec<Instruction>,
    /// The new layer; `None` for a change of the configuration alone.
    pub diff_id: Option<DiffId>,
}

/// One step of an image's history (image-spec, config.md), its members in Docker's order.
#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

/// Members that tell of one image alone and would be untrue of another on top of it: its identifiers in Docker's first
/// format, the container and the daemon that it was made by.
const OWN: [&str; 6] = ["container", "container_config", "docker_version", "id", "parent", "Size"];

/// Returns the configuration of the image that has one more layer than `parent`'s, or the same layers and another config.
///
/// As with `docker commit`, author and comment are the new image's alone. There is no container, so what Docker notes of
/// it is left out, and of the members that it drops those stay that speak of more than the image below.
///
/// # Errors
/// `parent` is no configuration, or its history names more layers than it has; an instruction cannot be applied.
pub fn child_config(parent: &[u8], change: &Commit) -> Result<Vec<u8>> {
    let parent = serde_json::from_slice(parent).context("not an image configuration")?;
    serde_json::to_vec(&child(parent, change)?).context("cannot write the configuration")
}

/// Returns the configuration of an image that has nothing below: `docker import`.
///
/// # Errors
/// An instruction cannot be applied.
pub fn import_config(platform: &Platform, change: &Commit) -> Result<Vec<u8>> {
    let mut scratch = Members::default();
    scratch.write("architecture", &platform.architecture)?;
    scratch.write("os", &platform.os)?;
    for (name, text) in [("variant", &platform.variant), ("os.version", &platform.os_version)] {
        if let Some(text) = text {
            scratch.write(name, text)?;
        }
    }
    scratch.write("rootfs", &RootFs::default())?;
    serde_json::to_vec(&child(scratch, change)?).context("cannot write the configuration")
}

/// The list of an image's layers.
#[derive(Serialize, Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<Vec<DiffId>>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: None }
    }
}

fn child(mut config: Members, change: &Commit) -> Result<Members> {
    let root_fs: Option<RootFs> = config.read("rootfs")?;
    let mut root_fs = root_fs.context("not an image configuration: missing member `rootfs`")?;
    ensure!(root_fs.kind == "layers", "rootfs has the type `{}`, expected `layers`", root_fs.kind.escape_debug());
    let diff_ids = root_fs.diff_ids.get_or_insert_default();

    let mut history: Vec<Box<RawValue>> = config.read("history")?.unwrap_or_default();
    check_history(&history, diff_ids.len())?;
    let created = time::to_rfc3339(change.created)?;
    history.push(to_raw_value(&History {
        created: &created,
        author: change.author.as_deref(),
        created_by: change.created_by.as_deref(),
        comment: change.comment.as_deref(),
        empty_layer: change.diff_id.is_none(),
    })?);
    diff_ids.extend(change.diff_id);

    let image: Members = config.read("config")?.unwrap_or_default();
    config.write("config", &apply::apply(&image, &change.instructions)?)?;
    config.write("created", &created)?;
    config.write("history", &history)?;
    config.write("rootfs", &root_fs)?;
    for (name, text) in [("author", &change.author), ("comment", &change.comment)] {
        match text {
            Some(text) => config.write(name, text)?,
            None => config.remove(name),
        }
    }
    OWN.iter().for_each(|name| config.remove(name));
    Ok(config)
}

/// Entries that made a layer pair with the layers in their order, so there may not be more of them. Fewer are common:
/// tools that write no history, and imports.
fn check_history(history: &[Box<RawValue>], layers: usize) -> Result<()> {
    #[derive(Deserialize)]
    struct Entry {
        empty_layer: Option<bool>,
    }
    let mut made = 0;
    for entry in history {
        let entry: Entry = serde_json::from_str(entry.get()).context("member `history` of the configuration")?;
        made += usize::from(entry.empty_layer != Some(true));
    }
    ensure!(made <= layers, "history names {made} layers, expected at most the {layers} of rootfs");
    Ok(())
}

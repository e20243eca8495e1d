//! All that is known of an image's files as one page for a web browser: no network, nothing to install.
//!
//! The page is a frame of HTML, CSS and JavaScript with the facts as one JSON object in it. Paths are in the order of a walk,
//! each with the number of its parent, so that a name stands there once; columns are arrays.

use std::collections::HashMap;
use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::story::{Act, acts, cause};
use super::waste::{self, Lost};
use super::{Files, list};
use crate::cli::human_size;
use crate::digest::ImageId;
use crate::tree::{EntryId, PathId, Tree, What};

const HTML: &str = include_str!("report/page.html");
const CSS: &str = include_str!("report/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("report/model.js"),
    include_str!("report/treemap.js"),
    include_str!("report/table.js"),
    include_str!("report/page.js"),
];

/// Writes the page.
///
/// # Errors
/// What writing gives.
pub fn write(files: &Files, out: &mut dyn Write) -> Result<()> {
    let name = files.image.tags().first().cloned().unwrap_or_else(|| files.image.id().to_string());
    for part in HTML.split_inclusive("-->") {
        let (text, mark) = part.rfind("<!--").map_or((part, ""), |at| part.split_at(at));
        out.write_all(text.as_bytes())?;
        match mark {
            "<!--title-->" => out.write_all(escape(&name).as_bytes())?,
            "<!--css-->" => out.write_all(CSS.as_bytes())?,
            "<!--data-->" => serde_json::to_writer(InScript(&mut *out), &Facts::of(files, &name))?,
            "<!--js-->" => SCRIPTS.iter().try_for_each(|script| out.write_all(script.as_bytes()))?,
            other => out.write_all(other.as_bytes())?,
        }
    }
    Ok(())
}

/// Makes text safe between tags.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The facts, as the page's scripts know them.
#[derive(Serialize)]
struct Facts<'a> {
    image: &'a str,
    id: ImageId,
    summary: String,
    layers: Vec<serde_json::Value>,
    paths: Columns,
}

impl<'a> Facts<'a> {
    fn of(files: &Files, image: &'a str) -> Self {
        let waste = waste::find(files, &[]);
        let layer = |(number, layer): (usize, &super::Layer)| {
            let counted = waste.layers[number];
            json!({
                "command": layer.created_by,
                "diffId": layer.diff_id,
                "chainId": layer.chain_id,
                "stored": counted.stored,
                "wasted": counted.wasted,
                "hides": counted.hides,
            })
        };
        let summary = format!(
            "{} in {} layers, {} wasted ({:.1}%), efficiency {:.1}%",
            human_size(waste.stored),
            files.layers.len(),
            human_size(waste.wasted),
            waste.percent(),
            waste.efficiency * 100.0
        );
        let layers = files.layers.iter().enumerate().map(layer).collect();
        Self { image, id: files.image.id(), summary, layers, paths: Columns::of(&files.tree) }
    }
}

/// Writes JSON into a script element: no `<` is left that could end it. JSON has them in strings only.
struct InScript<'a>(&'a mut dyn Write);

impl Write for InScript<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (number, part) in bytes.split(|&byte| byte == b'<').enumerate() {
            if number > 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(part)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The paths, one array for each of their properties.
#[derive(Default, Serialize)]
struct Columns {
    /// Number of the directory that holds it.
    parent: Vec<u32>,
    name: Vec<String>,
    /// One letter each, as `ls -l` has them.
    kind: String,
    size: Vec<u64>,
    /// The layer that gave it, -1 where it is not there in the end.
    layer: Vec<i64>,
    mode: Vec<u16>,
    /// Number of the owner in `owners`.
    owner: Vec<u32>,
    owners: Vec<String>,
    mtime: Vec<i64>,
    /// Bytes stored for it that are not to be seen.
    wasted: Vec<u64>,
    target: HashMap<usize, String>,
    /// What happened to it, where that is more than that its layer added it: layer, letter, size, and who took it away.
    story: HashMap<usize, Vec<(usize, char, u64, String)>>,
}

impl Columns {
    fn of(tree: &Tree) -> Self {
        let mut columns = Self::default();
        let lost = Lost::of(tree);
        let mut numbers: HashMap<PathId, u32> = HashMap::new();
        let mut owners: HashMap<String, u32> = HashMap::new();
        for path in tree.walk_all(Tree::ROOT) {
            let acts = acts(tree, path);
            // Of a path that only removals speak of there is nothing to show.
            let (Some(entry), false) = (last(tree, path, &acts), acts.is_empty() && path != Tree::ROOT) else {
                continue;
            };
            let number = columns.name.len();
            numbers.insert(path, number as u32);
            columns.parent.push(numbers.get(&tree.parent(path)).copied().unwrap_or(0));
            columns.name.push(tree.name(path).to_string_lossy().into_owned());
            let (node, meta) = (tree.node(entry), tree.meta(entry));
            columns.kind.push_str(&list::mode(&node, 0)[..1]);
            columns.size.push(tree.size(entry));
            columns.layer.push(tree.visible(path).map_or(-1, |entry| tree.layer_of(entry) as i64));
            columns.mode.push(meta.mode as u16);
            let next = owners.len() as u32;
            let owner = format!("{}:{}", meta.uid, meta.gid);
            columns.owner.push(*owners.entry(owner.clone()).or_insert(next));
            if owners.len() > columns.owners.len() {
                columns.owners.push(owner);
            }
            columns.mtime.push(meta.mtime.secs);
            let entries = tree.entries_at(path).into_iter().filter(|&entry| lost.by(tree, entry).is_some());
            columns.wasted.push(entries.map(|entry| tree.stored(entry)).sum());
            if let crate::change::Node::Symlink(target) = node {
                columns.target.insert(number, target.to_string_lossy().into_owned());
            }
            if !matches!(acts[..], [] | [(_, Act::Added(_))]) {
                columns.story.insert(number, acts.into_iter().map(|act| step(tree, path, act)).collect());
            }
        }
        columns
    }
}

/// Returns the entry that describes a path best: what is there, or was there last.
fn last(tree: &Tree, path: PathId, acts: &[(usize, Act)]) -> Option<EntryId> {
    tree.visible(path).or_else(|| match acts.last()?.1 {
        Act::Added(entry) | Act::Modified { to: entry, .. } | Act::Removed(entry) => Some(entry),
    })
}

fn step(tree: &Tree, path: PathId, (layer, act): (usize, Act)) -> (usize, char, u64, String) {
    match act {
        Act::Added(entry) => (layer, 'A', tree.size(entry), String::new()),
        Act::Modified { to, .. } => (layer, 'M', tree.size(to), String::new()),
        Act::Removed(entry) => {
            let by = cause(tree, path, layer).map(|(via, at)| format!("{} /{}", via.word(), tree.path(at)));
            let size = if tree.what(entry) == What::File { tree.size(entry) } else { 0 };
            (layer, 'D', size, by.unwrap_or_default())
        }
    }
}

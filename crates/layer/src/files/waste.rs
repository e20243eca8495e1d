//! What is stored for nothing: files that a later layer removed or stored again.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use super::Files;
use super::list::absolute;
use crate::cli::{Table, bar, human_size};
use crate::digest::Mismatch;
use crate::record::name_member;
use crate::tree::{EntryId, PathId, Tree, What};

/// What an image stores for nothing.
pub struct Waste {
    /// Bytes of file content in all layers.
    pub stored: u64,
    /// Bytes of those that the merged root does not show.
    pub wasted: u64,
    /// dive's score: for each path the smallest of the sizes that layers give it, all together, over the sum of all sizes.
    pub efficiency: f64,
    /// By layer.
    pub layers: Vec<LayerWaste>,
    /// Paths with wasted bytes, the most first.
    pub paths: Vec<PathWaste>,
}

/// What one layer stores, and what of it is lost.
#[derive(Clone, Copy, Default)]
pub struct LayerWaste {
    /// Bytes of file content that it stores.
    pub stored: u64,
    /// Bytes of those that later layers took from view.
    pub wasted: u64,
    /// Bytes of lower layers that it took from view.
    pub hides: u64,
}

/// A path of which copies are stored for nothing.
pub struct PathWaste {
    /// Where.
    pub path: PathId,
    /// Bytes of content stored for it, in all layers.
    pub stored: u64,
    /// Bytes of those that are not to be seen.
    pub wasted: u64,
    /// The layers that store it, the bytes, and the layer that took them from view.
    pub copies: Vec<(usize, u64, Option<usize>)>,
}

/// Finds what `files` stores for nothing; of the paths, what of `paths` has a share in it.
pub fn find(files: &Files, paths: &[PathId]) -> Waste {
    let tree = &files.tree;
    let lost = Lost::of(tree);
    let mut waste = Waste {
        stored: 0,
        wasted: 0,
        efficiency: efficiency(tree),
        layers: vec![LayerWaste::default(); tree.layers()],
        paths: Vec::new(),
    };
    for entry in (0..tree.layers()).flat_map(|layer| tree.entries_of(layer)) {
        let (layer, size) = (tree.layer_of(entry), tree.stored(entry));
        waste.stored += size;
        waste.layers[layer].stored += size;
        if let Some(by) = lost.by(tree, entry) {
            waste.wasted += size;
            waste.layers[layer].wasted += size;
            waste.layers[by].hides += size;
        }
    }
    for &path in paths {
        let entries = tree.entries_at(path).into_iter().filter(|&entry| tree.stored(entry) > 0);
        let copies: Vec<_> =
            entries.map(|entry| (tree.layer_of(entry), tree.stored(entry), lost.by(tree, entry))).collect();
        let sum = |copies: &mut dyn Iterator<Item = &(usize, u64, Option<usize>)>| copies.map(|copy| copy.1).sum();
        let wasted = sum(&mut copies.iter().filter(|copy| copy.2.is_some()));
        if wasted > 0 {
            waste.paths.push(PathWaste { path, stored: sum(&mut copies.iter()), wasted, copies });
        }
    }
    waste.paths.sort_by_key(|path| std::cmp::Reverse(path.wasted));
    waste
}

/// By which layer the content of each file went: when its last name went.
pub(super) struct Lost(Vec<Option<u32>>);

impl Lost {
    /// Looks at all entries of `tree`.
    pub(super) fn of(tree: &Tree) -> Self {
        let entries = || (0..tree.layers()).flat_map(|layer| tree.entries_of(layer));
        let len = entries().next_back().map_or(0, |last| last.index() + 1);
        // The layer after which no name was left; none where one is.
        let mut lost = vec![Some(0); len];
        for entry in entries().filter(|&entry| matches!(tree.what(entry), What::File | What::Hardlink)) {
            let gone = tree.gone(entry).map(|layer| layer as u32);
            let inode = &mut lost[tree.inode(entry).index()];
            *inode = inode.zip(gone).map(|(a, b)| a.max(b));
        }
        Self(lost)
    }

    /// Returns the layer that took the content of a file from view.
    pub(super) fn by(&self, tree: &Tree, entry: EntryId) -> Option<usize> {
        if tree.what(entry) == What::File { self.0[entry.index()].map(|layer| layer as usize) } else { None }
    }
}

/// Computes dive's score. dive looks at each layer's tree of names by itself: of its leaves, which are files, empty directories
/// and whiteouts, a file counts with its size, and the whiteout of a directory with the bytes below it.
fn efficiency(tree: &Tree) -> f64 {
    // The last layer in which the path has something below it.
    let mut parents: Vec<Option<u32>> = Vec::new();
    // Smallest size and sum by path.
    let mut sizes: Vec<Option<(u64, u64)>> = Vec::new();
    for layer in 0..tree.layers() {
        for entry in tree.entries_of(layer).filter(|&entry| !matches!(tree.what(entry), What::Opaque | What::Implied)) {
            let mut at = tree.path_of(entry);
            while at != Tree::ROOT {
                at = tree.parent(at);
                grow(&mut parents, at);
                if parents[at.index()].replace(layer as u32) == Some(layer as u32) {
                    break;
                }
            }
        }
        for entry in tree.entries_of(layer) {
            let path = tree.path_of(entry);
            let leaf = parents.get(path.index()).copied().flatten() != Some(layer as u32) && path != Tree::ROOT;
            let Some(size) = leaf.then(|| leaf_size(tree, entry)).flatten() else { continue };
            grow(&mut sizes, path);
            let known = &mut sizes[path.index()];
            *known = Some(known.map_or((size, size), |(least, sum)| (least.min(size), sum.saturating_add(size))));
        }
    }
    let (least, sum) = sizes
        .iter()
        .flatten()
        .fold((0u64, 0u64), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)));
    if sum == 0 { 1.0 } else { least as f64 / sum as f64 }
}

fn grow<T: Clone>(list: &mut Vec<Option<T>>, path: PathId) {
    if list.len() <= path.index() {
        list.resize(path.index() + 1, None);
    }
}

/// Returns the bytes with which an entry counts as a leaf, if it does.
fn leaf_size(tree: &Tree, entry: EntryId) -> Option<u64> {
    let path = tree.path_of(entry);
    match tree.what(entry) {
        What::Implied => None,
        What::Whiteout => {
            let layer = tree.layer_of(entry);
            let hidden = |before: &EntryId| {
                tree.layer_of(*before) < layer && tree.gone(*before) == Some(layer) && !tree.what(*before).is_removal()
            };
            let before = tree.entries_at(path).into_iter().rfind(hidden)?;
            Some(if tree.what(before).is_dir() { tree.removed(entry) } else { 0 })
        }
        // Of two members with one name the later counts.
        _ if is_repeated(tree, path, entry) => None,
        _ => Some(tree.stored(entry)),
    }
}

fn is_repeated(tree: &Tree, path: PathId, entry: EntryId) -> bool {
    // Only what was replaced can be followed by another of the same layer.
    tree.gone(entry) == Some(tree.layer_of(entry)) && tree.entries_at(path).last() != Some(&entry)
}

/// The most that may be wasted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxWaste {
    /// So many bytes.
    Bytes(u64),
    /// A share of the bytes stored, in percent.
    Percent(f64),
}

impl FromStr for MaxWaste {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("`{text}` is neither a number of bytes nor a percentage");
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.parse().with_context(expected)?;
            ensure!((0.0..=100.0).contains(&percent), "`{text}` is not between 0% and 100%");
            return Ok(Self::Percent(percent));
        }
        text.parse().map(Self::Bytes).with_context(expected)
    }
}

impl Waste {
    /// Returns the share of wasted bytes in those stored, in percent.
    pub fn percent(&self) -> f64 {
        if self.stored == 0 { 0.0 } else { self.wasted as f64 * 100.0 / self.stored as f64 }
    }

    /// Holds the waste against the most allowed.
    ///
    /// # Errors
    /// [`Mismatch`] where it is more.
    pub fn check(&self, max: MaxWaste) -> Result<(), Mismatch> {
        let (exceeds, found, expected) = match max {
            MaxWaste::Bytes(max) => (self.wasted > max, format!("{} bytes", self.wasted), format!("{max} bytes")),
            MaxWaste::Percent(max) => (self.percent() > max, format!("{:.2}%", self.percent()), format!("{max}%")),
        };
        let expected = format!("at most {expected}");
        if exceeds { Err(Mismatch { what: "waste", found, expected }) } else { Ok(()) }
    }

    /// Returns the layers for people, with bars of what they store and how much of it is lost.
    pub fn layers_table(&self, files: &Files) -> Table {
        let most = self.layers.iter().map(|layer| layer.stored).max().unwrap_or(0);
        let mut table = Table::new(&[">#", ">STORED", ">WASTED", ">HIDES", "", "CREATED BY"]);
        for (number, layer) in self.layers.iter().enumerate() {
            table.row([
                number.to_string(),
                human_size(layer.stored),
                human_size(layer.wasted),
                human_size(layer.hides),
                bar(layer.stored, layer.wasted, most),
                files.layers[number].created_by.clone(),
            ]);
        }
        table
    }

    /// Returns the paths for people.
    pub fn paths_table(&self, files: &Files) -> Table {
        let mut table = Table::new(&[">WASTED", ">STORED", "LAYERS", "PATH"]);
        for path in &self.paths {
            let layers = path.copies.iter().map(|(layer, _, lost)| match lost {
                Some(by) => format!("{layer}-{by}"),
                None => layer.to_string(),
            });
            table.row([
                human_size(path.wasted),
                human_size(path.stored),
                layers.collect::<Vec<_>>().join(" "),
                format!("/{}", files.tree.path(path.path)),
            ]);
        }
        table
    }
}

/// The waste of an image, as one JSON object.
pub struct WasteObject<'a>(pub &'a Files, pub &'a Waste);

impl Serialize for WasteObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(files, waste) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("stored", &waste.stored)?;
        map.serialize_entry("wasted", &waste.wasted)?;
        map.serialize_entry("wastedPercent", &waste.percent())?;
        map.serialize_entry("efficiency", &waste.efficiency)?;
        let layer = |(number, layer): (usize, &LayerWaste)| {
            serde_json::json!({
                "layer": number,
                "chainId": files.layers[number].chain_id,
                "stored": layer.stored,
                "wasted": layer.wasted,
                "hides": layer.hides,
            })
        };
        map.serialize_entry("layers", &waste.layers.iter().enumerate().map(layer).collect::<Vec<_>>())?;
        let paths = waste.paths.iter().map(|path| PathLine(files, path));
        map.serialize_entry("paths", &paths.collect::<Vec<_>>())?;
        map.end()
    }
}

struct PathLine<'a>(&'a Files, &'a PathWaste);

impl Serialize for PathLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(files, path) = self;
        let mut map = serializer.serialize_map(None)?;
        name_member(&mut map, "path", &Some(absolute(&files.tree.path(path.path))))?;
        map.serialize_entry("stored", &path.stored)?;
        map.serialize_entry("wasted", &path.wasted)?;
        let copy = |(layer, size, lost): &(usize, u64, Option<usize>)| {
            let mut copy = serde_json::json!({ "layer": layer, "size": size });
            if let Some(by) = lost {
                copy["hiddenBy"] = (*by).into();
            }
            copy
        };
        map.serialize_entry("copies", &path.copies.iter().map(copy).collect::<Vec<_>>())?;
        map.end()
    }
}

//! What each layer did to a path, and to all paths.

use std::collections::HashMap;

use anyhow::Result;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::list::{Line, absolute};
use super::{Files, Layer};
use crate::change::{LayerPath, Node};
use crate::cli::Absent;
use crate::digest::Digest;
use crate::record::name_member;
use crate::tree::{EntryId, PathId, Tree, What};

/// What a layer did to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Put something where nothing was.
    Added(EntryId),
    /// Put something in the place of what was there.
    Modified {
        /// What was there.
        from: EntryId,
        /// What is there now.
        to: EntryId,
    },
    /// Took away what was there.
    Removed(EntryId),
}

/// Returns what happened to a path, base first: the layer and what it did.
pub fn acts(tree: &Tree, path: PathId) -> Vec<(usize, Act)> {
    let mut acts = Vec::new();
    let mut now: Option<EntryId> = None;
    for entry in tree.entries_at(path) {
        if tree.what(entry).is_removal() || (path == Tree::ROOT && tree.what(entry) == What::Implied) {
            continue;
        }
        let layer = tree.layer_of(entry);
        if let Some(before) = now
            && let Some(gone) = tree.gone(before).filter(|&gone| gone < layer)
        {
            acts.push((gone, Act::Removed(before)));
            now = None;
        }
        match (now.replace(entry), acts.last_mut()) {
            // A second member of the same name within the layer: the last one counts.
            (Some(before), Some((_, act))) if tree.layer_of(before) == layer => match act {
                Act::Added(to) | Act::Modified { to, .. } | Act::Removed(to) => *to = entry,
            },
            (Some(from), _) => acts.push((layer, Act::Modified { from, to: entry })),
            (None, _) => acts.push((layer, Act::Added(entry))),
        }
    }
    if let Some(last) = now
        && tree.visible(path) != Some(last)
        && let Some(gone) = tree.gone(last)
    {
        acts.push((gone, Act::Removed(last)));
    }
    acts
}

/// How a layer took a path away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a whiteout of it, or of a directory above.
    Whiteout,
    /// By an opaque whiteout in a directory above.
    Opaque,
    /// By something that is no directory in the place of one above.
    Replaced,
}

impl Via {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whiteout => "whiteout",
            Self::Opaque => "opaque",
            Self::Replaced => "replaced",
        }
    }
}

/// Returns how `layer` took `path` away, and where the cause stands.
pub fn cause(tree: &Tree, path: PathId, layer: usize) -> Option<(Via, PathId)> {
    let mut at = path;
    loop {
        for entry in tree.entries_at(at) {
            let via = match tree.what(entry) {
                What::Whiteout => Via::Whiteout,
                What::Opaque if at != path => Via::Opaque,
                What::Opaque | What::Dir | What::Implied => continue,
                _ if at == path => continue,
                _ => Via::Replaced,
            };
            if tree.layer_of(entry) == layer {
                return Some((via, at));
            }
        }
        if at == Tree::ROOT {
            return None;
        }
        at = tree.parent(at);
    }
}

/// One step in the story of a path, as a line of JSON.
pub struct Step<'a> {
    /// The layer that did it.
    pub layer: &'a Layer,
    /// Where.
    pub path: LayerPath,
    /// `added`, `modified` or `removed`.
    pub action: &'static str,
    /// What is there afterwards; of a removal, what was there before.
    pub line: Line,
    /// What a modification changed.
    pub changed: Vec<&'static str>,
    /// How a removal came about, and the path that the layer has for it.
    pub cause: Option<(Via, LayerPath)>,
}

impl Serialize for Step<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        name_member(&mut map, "path", &Some(absolute(&self.path)))?;
        map.serialize_entry("layer", &self.layer.layer)?;
        map.serialize_entry("chainId", &self.layer.chain_id)?;
        map.serialize_entry("action", self.action)?;
        if !self.changed.is_empty() {
            map.serialize_entry("changed", &self.changed)?;
        }
        if let Some((via, path)) = &self.cause {
            map.serialize_entry("via", via.word())?;
            name_member(&mut map, "by", &Some(absolute(path)))?;
        }
        if self.action != "removed" {
            map.serialize_entry("entry", &self.line)?;
        }
        if !self.layer.created_by.is_empty() {
            map.serialize_entry("createdBy", &self.layer.created_by)?;
        }
        map.end()
    }
}

/// Returns the whole story of `path`, base first. The path is meant itself, also if it is a symlink; symlinks above it are
/// followed where no layer speaks of it by that name.
///
/// # Errors
/// [`Absent`] where no layer ever had it; what reading gives, with contents to be compared.
pub fn whence<'a>(files: &'a Files, path: &LayerPath, digest: bool) -> Result<Vec<Step<'a>>> {
    let tree = &files.tree;
    let through = || {
        let (parent, _) = tree.resolve(path.parent()?.as_bytes()).ok()?;
        tree.find(&tree.path(parent).join(path.name()?).ok()?)
    };
    let told = |path: &PathId| !acts(tree, *path).is_empty();
    let found = tree.find(path).filter(told).or_else(|| through().filter(told));
    let found = found.ok_or_else(|| Absent(format!("`/{path}` is in no layer")))?;
    let acts = acts(tree, found);
    let entries = acts.iter().filter_map(|(_, act)| match act {
        Act::Added(entry) | Act::Modified { to: entry, .. } => Some(*entry),
        Act::Removed(_) => None,
    });
    let digests = if digest { files.digests_of(entries)? } else { HashMap::new() };
    let links = super::list::Links::new();
    let step = |(layer, act): (usize, Act)| {
        let (action, entry) = match act {
            Act::Added(entry) => ("added", entry),
            Act::Modified { to, .. } => ("modified", to),
            Act::Removed(entry) => ("removed", entry),
        };
        let line = Line::of_entry(files, entry, &links, &digests);
        let changed = match act {
            Act::Modified { from, .. } => changed(&Line::of_entry(files, from, &links, &digests), &line, digest),
            _ => Vec::new(),
        };
        let cause = (action == "removed").then(|| cause(tree, found, layer)).flatten();
        let cause = cause.map(|(via, at)| (via, tree.path(at)));
        Step { layer: &files.layers[layer], path: tree.path(found), action, line, changed, cause }
    };
    Ok(acts.into_iter().map(step).collect())
}

/// Names what differs between two states of a path. Contents are compared by their digests, where these are known.
fn changed(from: &Line, to: &Line, digest: bool) -> Vec<&'static str> {
    let kind = |line: &Line| super::list::kind(&line.node);
    let size = |node: &Node| if let Node::File(size) = node { Some(*size) } else { None };
    let content = |line: &Line| -> Option<Digest> { line.sha256 };
    let what = |node: &Node| if size(node).is_some() { None } else { Some(node.clone()) };
    [
        ("type", kind(from) != kind(to)),
        ("content", digest && content(from) != content(to)),
        ("size", size(&from.node) != size(&to.node)),
        ("target", kind(from) == kind(to) && what(&from.node) != what(&to.node)),
        ("mode", from.meta.mode != to.meta.mode),
        ("uid", from.meta.uid != to.meta.uid),
        ("gid", from.meta.gid != to.meta.gid),
        ("mtime", from.meta.mtime != to.meta.mtime),
        ("xattrs", from.meta.xattrs != to.meta.xattrs),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// What a layer did to all paths.
#[derive(Default)]
pub struct Changes {
    /// Paths where it put something and nothing was before.
    pub added: Vec<PathId>,
    /// Paths where it put something in the place of something else.
    pub modified: Vec<PathId>,
    /// Paths that it took away, the topmost only: what was below went with them.
    pub removed: Vec<PathId>,
    /// Directories that hide all that lower layers have in them.
    pub opaque: Vec<PathId>,
}

/// Returns what each layer did to `paths`, which are in the order of a walk.
pub fn changes(tree: &Tree, paths: &[PathId]) -> Vec<Changes> {
    let mut layers: Vec<Changes> = (0..tree.layers()).map(|_| Changes::default()).collect();
    for &path in paths {
        for (layer, act) in acts(tree, path) {
            match act {
                // The layer has no entry for it.
                Act::Added(entry) | Act::Modified { to: entry, .. } if tree.what(entry) == What::Implied => {}
                Act::Added(_) => layers[layer].added.push(path),
                Act::Modified { .. } => layers[layer].modified.push(path),
                Act::Removed(_) if is_below_removed(tree, path, layer) => {}
                Act::Removed(_) => layers[layer].removed.push(path),
            }
        }
        for entry in tree.entries_at(path) {
            let opaque = &mut layers[tree.layer_of(entry)].opaque;
            if tree.what(entry) == What::Opaque && opaque.last() != Some(&path) {
                opaque.push(path);
            }
        }
    }
    layers
}

/// Says whether the directory of `path` went in the same layer, so that `path` went with it.
fn is_below_removed(tree: &Tree, path: PathId, layer: usize) -> bool {
    let parent = tree.parent(path);
    let puts: Vec<EntryId> =
        tree.entries_at(parent).into_iter().filter(|&entry| !tree.what(entry).is_removal()).collect();
    let went = puts.iter().any(|&entry| tree.layer_of(entry) < layer && tree.gone(entry) == Some(layer));
    went && puts.iter().all(|&entry| tree.layer_of(entry) != layer)
}

/// What a layer did, as a line of JSON.
pub struct ChangesLine<'a> {
    /// The image.
    pub files: &'a Files,
    /// The layer.
    pub layer: &'a Layer,
    /// What it did.
    pub changes: &'a Changes,
}

impl Serialize for ChangesLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { files, layer, changes } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("layer", &layer.layer)?;
        map.serialize_entry("chainId", &layer.chain_id)?;
        map.serialize_entry("diffId", &layer.diff_id)?;
        if !layer.created_by.is_empty() {
            map.serialize_entry("createdBy", &layer.created_by)?;
        }
        for (key, paths) in [
            ("added", &changes.added),
            ("modified", &changes.modified),
            ("removed", &changes.removed),
            ("opaque", &changes.opaque),
        ] {
            // What is no UTF-8 goes to a list of its own, so that each list has one kind of member.
            let names = paths.iter().map(|&path| absolute(&files.tree.path(path)));
            let (text, raw): (Vec<_>, Vec<_>) = names.partition(|name| name.to_str().is_some());
            map.serialize_entry(key, &text.iter().filter_map(|name| name.to_str()).collect::<Vec<_>>())?;
            if !raw.is_empty() {
                let raw: Vec<_> = raw.iter().map(|name| crate::record::to_base64(name)).collect();
                map.serialize_entry(&format!("{key}Raw"), &raw)?;
            }
        }
        map.end()
    }
}

//! Which files there are: JSON lines, or columns for people.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::Files;
use crate::change::{Device, Escaped, LayerPath, Meta, Node, Time};
use crate::config::time::to_rfc3339;
use crate::digest::{ChainId, Digest};
use crate::record::name_member;
use crate::tree::{EntryId, PathId, Tree};

/// A file as a line of JSON.
pub struct Line {
    /// Where.
    pub path: LayerPath,
    /// What.
    pub node: Node,
    /// With which metadata.
    pub meta: Meta,
    /// How many names it has, and the first of them in order, where there are several.
    pub links: Option<(usize, LayerPath)>,
    /// The layer that gave it.
    pub layer: usize,
    /// The ChainID of the stack up to that layer.
    pub chain_id: ChainId,
    /// Digest of the content.
    pub sha256: Option<Digest>,
}

/// The names of files that have several, by the entry that holds them.
pub type Links = HashMap<EntryId, Vec<PathId>>;

/// Returns the names in the merged root of all files that have several there, in order.
pub fn links(tree: &Tree) -> Links {
    let mut links: Links = HashMap::new();
    let entries = (0..tree.layers()).flat_map(|layer| tree.entries_of(layer));
    for entry in entries.filter(|&entry| tree.inode(entry) != entry && tree.visible(tree.path_of(entry)) == Some(entry))
    {
        links.entry(tree.inode(entry)).or_default();
    }
    for path in tree.walk(Tree::ROOT) {
        if let Some(names) = tree.visible(path).and_then(|entry| links.get_mut(&tree.inode(entry))) {
            names.push(path);
        }
    }
    links.retain(|_, names| names.len() > 1);
    links
}

impl Line {
    /// Describes what is at `path`, if anything is.
    pub fn of(files: &Files, path: PathId, links: &Links, digests: &HashMap<EntryId, Digest>) -> Option<Self> {
        files.tree.visible(path).map(|entry| Self::of_entry(files, entry, links, digests))
    }

    /// Describes what is there because of an entry, which is no removal.
    pub fn of_entry(files: &Files, entry: EntryId, links: &Links, digests: &HashMap<EntryId, Digest>) -> Self {
        let tree = &files.tree;
        let inode = tree.inode(entry);
        let layer = tree.layer_of(entry);
        Self {
            path: tree.path(tree.path_of(entry)),
            node: tree.node(entry),
            meta: tree.meta(entry),
            links: links.get(&inode).map(|names| (names.len(), tree.path(names[0]))),
            layer,
            chain_id: files.layers[layer].chain_id,
            sha256: digests.get(&inode).copied(),
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        name_member(&mut map, "path", &Some(absolute(&self.path)))?;
        members(&mut map, &self.node, &self.meta)?;
        if let Some((count, first)) = &self.links {
            map.serialize_entry("links", count)?;
            if *first != self.path {
                name_member(&mut map, "hardlink", &Some(absolute(first)))?;
            }
        }
        map.serialize_entry("layer", &self.layer)?;
        map.serialize_entry("chainId", &self.chain_id)?;
        if let Some(digest) = &self.sha256 {
            map.serialize_entry("sha256", &digest.hex())?;
        }
        map.end()
    }
}

/// Writes what a file is and its metadata.
fn members<M: SerializeMap>(map: &mut M, node: &Node, meta: &Meta) -> Result<(), M::Error> {
    map.serialize_entry("type", kind(node))?;
    map.serialize_entry("mode", &format!("{:04o}", meta.mode))?;
    map.serialize_entry("uid", &meta.uid)?;
    map.serialize_entry("gid", &meta.gid)?;
    if let Node::File(size) = node {
        map.serialize_entry("size", size)?;
    }
    let mtime = RawValue::from_string(seconds(meta.mtime)).map_err(M::Error::custom)?;
    map.serialize_entry("mtime", &mtime)?;
    match node {
        Node::Symlink(target) => name_member(map, "linkname", &Some(target.clone()))?,
        Node::Char(Device { major, minor }) | Node::Block(Device { major, minor }) => {
            map.serialize_entry("device", &format!("{major}:{minor}"))?;
        }
        _ => {}
    }
    if !meta.xattrs.is_empty() {
        let values = meta.xattrs.iter().map(|(name, value)| (name.to_string_lossy(), STANDARD.encode(value)));
        map.serialize_entry("xattrs", &values.collect::<std::collections::BTreeMap<_, _>>())?;
    }
    Ok(())
}

/// Returns a path as the container knows it.
pub fn absolute(path: &LayerPath) -> OsString {
    OsString::from_vec([b"/", path.as_bytes()].concat())
}

/// Returns the word for what a file is.
pub fn kind(node: &Node) -> &'static str {
    match node {
        Node::File(_) | Node::Hardlink(_) => "file",
        Node::Dir => "directory",
        Node::Symlink(_) => "symlink",
        Node::Fifo => "fifo",
        Node::Char(_) => "char",
        Node::Block(_) => "block",
    }
}

/// Returns a time in seconds as a JSON number, exact to the nanosecond.
fn seconds(time: Time) -> String {
    match (time.secs, time.nanos) {
        (secs, 0) => secs.to_string(),
        (secs @ 0.., nanos) => format!("{secs}.{nanos:09}"),
        (secs, nanos) => format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}

/// Lines as `ls -l` prints them, with the layer.
pub struct Columns {
    owner: usize,
    size: usize,
    layer: usize,
}

impl Columns {
    /// Finds how wide the columns for `paths` have to be.
    pub fn of(files: &Files, paths: &[PathId]) -> Self {
        let mut columns = Self { owner: 3, size: 1, layer: files.tree.layers().saturating_sub(1).to_string().len() };
        for entry in paths.iter().filter_map(|&path| files.tree.visible(path)) {
            let meta = files.tree.meta(entry);
            columns.owner = columns.owner.max(owner(&meta).len());
            columns.size = columns.size.max(size(&files.tree.node(entry)).len());
        }
        columns
    }

    /// Returns one line, without the newline.
    pub fn line(&self, line: &Line) -> String {
        let Self { owner: wide, size: long, layer } = *self;
        let Line { path, node, meta, .. } = line;
        let time = to_rfc3339(Time { nanos: 0, ..meta.mtime }).unwrap_or_else(|_| meta.mtime.secs.to_string());
        let mut text = format!(
            "{} {:<wide$} {:>long$} {} {:>layer$} {}",
            mode(node, meta.mode),
            owner(meta),
            size(node),
            time,
            line.layer,
            Escaped(&[b"/", path.as_bytes()].concat())
        );
        match (node, &line.links) {
            (Node::Symlink(target), _) => {
                let _ = write!(text, " -> {}", Escaped(target.as_encoded_bytes()));
            }
            (_, Some((_, first))) if first != path => {
                let _ = write!(text, " = /{first}");
            }
            _ => {}
        }
        text
    }
}

fn owner(meta: &Meta) -> String {
    format!("{}:{}", meta.uid, meta.gid)
}

fn size(node: &Node) -> String {
    match node {
        Node::File(size) => size.to_string(),
        Node::Char(Device { major, minor }) | Node::Block(Device { major, minor }) => format!("{major},{minor}"),
        _ => "-".to_owned(),
    }
}

/// Returns type and mode in ten letters.
pub fn mode(node: &Node, mode: u32) -> String {
    let kind = match node {
        Node::File(_) | Node::Hardlink(_) => '-',
        Node::Dir => 'd',
        Node::Symlink(_) => 'l',
        Node::Fifo => 'p',
        Node::Char(_) => 'c',
        Node::Block(_) => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, lower, upper) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => lower,
            (false, true) => upper,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

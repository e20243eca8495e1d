//! The merged root as one tar.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result};

use super::{Files, list};
use crate::archive::TarSink;
use crate::change::{Body, Entry, NoBody, Node, Sink};
use crate::tree::{EntryId, PathId, Tree, What};

/// Writes `paths` of the merged root as a tar, with the directories that they lie in.
///
/// What is no directory comes first, in the order of the layers and, within one, of its tar: so each layer is read once, in
/// one direction, and nothing is kept. Directories come last, the deepest first: what is put into one changes its time, and
/// GNU tar sets that again only until an entry of another directory comes. A file with several names comes with the first of
/// those that are left, in order, and the others follow as hard links: whatever became of the name that the layer gave it.
///
/// # Errors
/// What reading and writing give, with the path.
pub fn write<W: Write>(files: &Files, paths: &[PathId], out: W) -> Result<W> {
    let tree = &files.tree;
    let mut sink = TarSink::new(out);
    let mut names: HashMap<EntryId, Vec<PathId>> = HashMap::new();
    let links = list::links(tree);
    let mut others = Vec::new();
    let mut dirs = Vec::new();
    for path in with_parents(tree, paths) {
        let Some(entry) = tree.visible(path) else { continue };
        if tree.what(entry).is_dir() {
            dirs.push((path, entry));
            continue;
        }
        let inode = tree.inode(entry);
        if links.contains_key(&inode) {
            let names = names.entry(inode).or_default();
            names.push(path);
            if names.len() > 1 {
                continue;
            }
        }
        others.push((inode, path));
    }
    drop(links);
    others.sort_unstable();
    let mut contents = files.contents();
    for (inode, path) in others {
        contents.read(inode, |body| put(tree, &mut sink, path, inode, body))?;
        for &name in names.get(&inode).into_iter().flatten().skip(1) {
            let node = Node::Hardlink(tree.path(path));
            let entry = Entry { path: tree.path(name), node, meta: tree.meta(inode) };
            sink.put(&entry, &mut NoBody).with_context(|| format!("`/{}`", entry.path))?;
        }
    }
    for (path, entry) in dirs.into_iter().rev() {
        put(tree, &mut sink, path, entry, &mut NoBody)?;
    }
    sink.finish()
}

fn put<W: Write>(tree: &Tree, sink: &mut TarSink<W>, path: PathId, entry: EntryId, body: &mut dyn Body) -> Result<()> {
    // Nobody described the root: whoever unpacks this keeps the one that is there.
    if path == Tree::ROOT && tree.what(entry) == What::Implied {
        return Ok(());
    }
    let entry = Entry { path: tree.path(path), node: tree.node(entry), meta: tree.meta(entry) };
    sink.put(&entry, body).with_context(|| format!("`/{}`", entry.path))
}

/// Returns `paths`, which are in order, and the directories that they lie in.
fn with_parents(tree: &Tree, paths: &[PathId]) -> Vec<PathId> {
    let mut all = Vec::with_capacity(paths.len());
    // The directories that the path before lies in, with itself.
    let mut above: Vec<PathId> = Vec::new();
    for &path in paths {
        let mut missing = vec![path];
        let mut at = path;
        while at != Tree::ROOT {
            at = tree.parent(at);
            missing.push(at);
        }
        missing.reverse();
        let known = above.iter().zip(&missing).take_while(|(a, b)| a == b).count();
        all.extend_from_slice(&missing[known..]);
        above = missing;
    }
    all
}

//! Trees for tests, by lines.

use anyhow::Result;

use super::Tree;
use crate::change::{BytesBody, Entry, LayerPath, Meta, Node, Sink};

/// A layer by lines: `dir/`, `name=content`, `name->symlink`, `name~hard link`, `-whiteout`, `!opaque directory`.
pub(crate) fn changes(lines: &str, sink: &mut dyn Sink) -> Result<()> {
    let path = |name: &str| LayerPath::parse(name.as_bytes()).unwrap();
    for line in lines.split_whitespace() {
        let put = |name: &str, node, sink: &mut dyn Sink, body: &str| {
            let meta = Meta { mode: 0o644, ..Meta::default() };
            sink.put(&Entry { path: path(name), node, meta }, &mut BytesBody::new(body.as_bytes()))
        };
        if let Some(name) = line.strip_prefix('-') {
            sink.whiteout(&path(name))?;
        } else if let Some(name) = line.strip_prefix('!') {
            sink.opaque(&path(name))?;
        } else if let Some((name, target)) = line.split_once("->") {
            put(name, Node::Symlink(target.into()), sink, "")?;
        } else if let Some((name, target)) = line.split_once('~') {
            put(name, Node::Hardlink(path(target)), sink, "")?;
        } else if let Some((name, content)) = line.split_once('=') {
            put(name, Node::File(content.len() as u64), sink, content)?;
        } else {
            put(line, Node::Dir, sink, "")?;
        }
    }
    Ok(())
}

/// Builds the tree of layers, each by its lines.
pub(crate) fn tree(layers: &[&str]) -> Result<Tree> {
    let mut tree = Tree::new();
    for lines in layers {
        let mut layer = tree.layer()?;
        changes(lines, &mut layer)?;
        layer.apply()?;
    }
    Ok(tree)
}

//! A layer's changes as the daemon applies them, where that differs from what the layers mean together.

use anyhow::{Context, Result};

use crate::apply::TreeSink;
use crate::change::{Body, Entry, LayerPath, Node, Sink};

/// Puts a layer's entries into its own directory, or with vfs into the copy of its parent's tree.
///
/// With overlay2 the layers below are not looked at: a directory that only its entries imply is 0755 and root's, also where it
/// hides one below with another mode, and a whiteout stands also where nothing is to be hidden. The entry of the root is left
/// out: what `/` shows is the container's. A directory that replaces something is opaque, which the daemon forgets.
pub(super) struct LayerSink<'a> {
    tree: TreeSink,
    /// With overlay2: lists the names in the root of the layers below, merged.
    below: Option<&'a dyn Fn() -> Result<Vec<LayerPath>>>,
    /// Bytes of regular files, by their headers.
    bytes: u64,
}

impl<'a> LayerSink<'a> {
    pub(super) fn new(tree: TreeSink, below: Option<&'a dyn Fn() -> Result<Vec<LayerPath>>>) -> Self {
        Self { tree, below, bytes: 0 }
    }

    /// Ends the layer and returns what could not be kept, and the size that vfs counts.
    pub(super) fn finish(self) -> Result<(Vec<String>, u64)> {
        Ok((self.tree.finish()?, self.bytes))
    }
}

impl Sink for LayerSink<'_> {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        if entry.path.is_root() && self.below.is_some() {
            return Ok(());
        }
        if let Node::File(size) = entry.node {
            self.bytes = self.bytes.saturating_add(size);
        }
        self.tree.put(entry, body)
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        self.tree.whiteout(path)
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        match self.below {
            // overlayfs does not heed the mark on the root, so each name there gets its whiteout.
            Some(below) if path.is_root() => {
                let names = below().context("cannot list the layers below")?;
                names.iter().try_for_each(|path| self.tree.whiteout(path))
            }
            _ => self.tree.opaque(path),
        }
    }
}

/// Takes changes and does nothing: for a second look at a layer's tar.
pub(super) struct Nothing;

impl Sink for Nothing {
    fn put(&mut self, _: &Entry, _: &mut dyn Body) -> Result<()> {
        Ok(())
    }

    fn whiteout(&mut self, _: &LayerPath) -> Result<()> {
        Ok(())
    }

    fn opaque(&mut self, _: &LayerPath) -> Result<()> {
        Ok(())
    }
}

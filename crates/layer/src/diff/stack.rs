//! A stack of overlayfs's directories, looked through as the kernel does (fs/overlayfs/namei.c).
//!
//! A layer's directory and those of the same name below it are one merged directory, until one is opaque or something else
//! ends the search. A redirect gives the name by which the layers below its own know the directory.

use std::cell::Cell;
use std::ffi::OsStr;

use anyhow::{Context, Result, bail, ensure};

use super::tree::{Inode, Tree};
use crate::change::LayerPath;
use crate::limits;
use crate::overlay::{Marks, Redirect};

/// The layers of a mount, the upper one first and the base last.
pub(super) struct Stack {
    layers: Vec<Tree>,
    /// Redirects that the search under way has followed.
    followed: Cell<usize>,
}

/// A file or directory of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the layer, 0 for the upper one.
    pub(super) layer: usize,
    /// Where in that layer.
    pub(super) path: LayerPath,
}

impl Stack {
    pub(super) fn new(layers: Vec<Tree>) -> Self {
        Self { layers, followed: Cell::new(0) }
    }

    /// Returns the layer of that index.
    pub(super) fn layer(&self, index: usize) -> &Tree {
        &self.layers[index]
    }

    /// Says whether there are layers below the upper one.
    pub(super) fn has_lowers(&self) -> bool {
        self.layers.len() > 1
    }

    /// Returns the roots from layer `from` down. They are always merged: the kernel asks no mark of a root.
    pub(super) fn roots(&self, from: usize) -> Vec<Place> {
        (from..self.layers.len()).map(|layer| Place { layer, path: LayerPath::root() }).collect()
    }

    /// Finds the topmost `name` in the merged directory `dirs`: what it is and where, and where else to look below it.
    /// `None` if there is nothing, or a whiteout.
    pub(super) fn find(&self, dirs: &[Place], name: &OsStr) -> Result<Option<(Inode, Place, Vec<Place>)>> {
        self.first(self.named(dirs, name)?)
    }

    /// Returns the directories that are merged into `top`, a directory with these marks, from those of its parent below its
    /// own layer, `parents`.
    pub(super) fn below(&self, top: &Place, marks: &Marks, parents: &[Place]) -> Result<Vec<Place>> {
        self.followed.set(0);
        let name = top.path.name().context("the root has no name")?;
        self.merged(top.layer, marks.clone(), self.named(parents, name)?)
    }

    /// Returns the file that holds the content of `top`, a metacopy with these marks. Content in a layer below `top` that is
    /// itself a metacopy leads further down.
    pub(super) fn content(&self, top: &Place, marks: &Marks, parents: &[Place]) -> Result<Option<Inode>> {
        self.followed.set(0);
        let name = top.path.name().context("the root has no name")?;
        let (mut layer, mut marks, mut rest) = (top.layer, marks.clone(), self.named(parents, name)?);
        loop {
            if let Some(redirect) = &marks.redirect {
                rest = self.redirected(layer, redirect, rest)?;
            }
            let Some((inode, place, below)) = self.first(rest)? else { return Ok(None) };
            if inode.file.is_none() {
                return Ok(None);
            }
            if !inode.marks.metacopy {
                return Ok(Some(inode));
            }
            (layer, marks, rest) = (place.layer, inode.marks, below);
        }
    }

    fn merged(&self, mut layer: usize, mut marks: Marks, mut rest: Vec<Place>) -> Result<Vec<Place>> {
        let mut dirs = Vec::new();
        while !marks.opaque {
            if let Some(redirect) = &marks.redirect {
                rest = self.redirected(layer, redirect, rest)?;
            }
            let Some((inode, place, below)) = self.first(rest)? else { break };
            if !inode.is_dir() {
                break;
            }
            (layer, marks, rest) = (place.layer, inode.marks, below);
            dirs.push(place);
        }
        Ok(dirs)
    }

    fn first(&self, mut places: Vec<Place>) -> Result<Option<(Inode, Place, Vec<Place>)>> {
        for at in 0..places.len() {
            if let Some(inode) = self.layer(places[at].layer).inode(&places[at].path)? {
                let below = places.split_off(at + 1);
                let place = places.swap_remove(at);
                return Ok((!inode.is_whiteout()).then_some((inode, place, below)));
            }
        }
        Ok(None)
    }

    fn named(&self, dirs: &[Place], name: &OsStr) -> Result<Vec<Place>> {
        let join = |dir: &Place| Ok(Place { layer: dir.layer, path: dir.path.join(name)? });
        dirs.iter().map(join).collect()
    }

    /// Returns where to look instead of at `rest`, now that something in `layer` said so.
    fn redirected(&self, layer: usize, redirect: &Redirect, rest: Vec<Place>) -> Result<Vec<Place>> {
        // Each redirect can lead through others in the layers below, so that a few of them could keep the search busy for ever.
        self.followed.set(self.followed.get() + 1);
        ensure!(self.followed.get() <= limits::REDIRECTS, "leads through more than {} redirects", limits::REDIRECTS);
        match redirect {
            Redirect::Sibling(name) => {
                let parents: Vec<Place> = rest
                    .into_iter()
                    .map(|place| Place { path: place.path.parent().unwrap_or_default(), ..place })
                    .collect();
                self.named(&parents, name)
            }
            Redirect::Absolute(path) => {
                let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
                    bail!("is redirected to the root")
                };
                let mut dirs = self.roots(layer + 1);
                for part in parent.components() {
                    let Some((inode, place, below)) = self.first(self.named(&dirs, part)?)? else {
                        return Ok(Vec::new());
                    };
                    if !inode.is_dir() {
                        return Ok(Vec::new());
                    }
                    let mut merged = self.merged(place.layer, inode.marks, below)?;
                    merged.insert(0, place);
                    dirs = merged;
                }
                self.named(&dirs, name)
            }
        }
    }
}

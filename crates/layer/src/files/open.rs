//! An image and the tree of its layers.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::apply::Pattern;
use crate::archive::{self, Input};
use crate::change::Body;
use crate::cli::Absent;
use crate::digest::{ChainId, DiffId, Digest, Hasher};
use crate::image::Image;
use crate::stream::{Expected, LayerReader};
use crate::tree::{self, Contents, EntryId, PathId, Tree};

/// Whether layers are read whole and held against their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// No: contents of uncompressed layers are leapt over.
    #[default]
    No,
    /// Digest, size and DiffID of each layer, before anything is said of it.
    Yes,
}

/// What is known of a layer besides its entries.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Its place, counted from the base.
    pub layer: usize,
    /// ChainID of the stack up to it.
    pub chain_id: ChainId,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// The command that made it, as the history has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// An image and the tree of its layers.
pub struct Files {
    /// The image.
    pub image: Image,
    /// What its layers hold.
    pub tree: Tree,
    /// Its layers, base first.
    pub layers: Vec<Layer>,
    max_size: Option<u64>,
}

impl Files {
    /// Reads the metadata of all files of `image`. A layer of more than `max_size` bytes uncompressed is refused.
    ///
    /// # Errors
    /// What reading the layers gives, each with the layer's number; [`crate::digest::Mismatch`] where one is verified and is
    /// not what it should be.
    pub fn open(image: Image, verify: Verify, max_size: Option<u64>) -> Result<Self> {
        let layers = layers(&image);
        let mut files = Self { image, tree: Tree::new(), layers, max_size };
        for layer in 0..files.layers.len() {
            files.read(layer, verify).with_context(|| format!("layer {layer}"))?;
        }
        Ok(files)
    }

    fn read(&mut self, layer: usize, verify: Verify) -> Result<()> {
        let mut builder = self.tree.layer()?;
        match verify {
            Verify::No => {
                archive::read_archive(self.image.open_tar(layer, self.max_size)?, &mut builder)?;
            }
            Verify::Yes => {
                let mut reader = LayerReader::new(self.image.open_layer(layer)?, self.max_size)?;
                archive::read_tar(&mut reader, &mut builder)?;
                Expected::of(&self.image.layers()[layer]).check(&reader.finish()?)?;
            }
        }
        builder.apply()
    }

    /// Reads contents.
    pub fn contents(&self) -> Contents<'_, Box<dyn Input>> {
        Contents::new(&self.tree, tree::open_image(&self.image, self.max_size))
    }

    /// Returns the digests of the contents of `paths`, by the entry that holds each: one pass over the layers that have them.
    ///
    /// # Errors
    /// What reading gives.
    pub fn digests(&self, paths: &[PathId]) -> Result<HashMap<EntryId, Digest>> {
        let entries = paths.iter().filter_map(|&path| self.tree.visible(path));
        self.digests_of(entries)
    }

    /// Returns the digests of the contents of files, by the entry that holds each.
    ///
    /// # Errors
    /// What reading gives.
    pub fn digests_of(&self, entries: impl Iterator<Item = EntryId>) -> Result<HashMap<EntryId, Digest>> {
        let inodes = entries.map(|entry| self.tree.inode(entry));
        let mut inodes: Vec<EntryId> = inodes.filter(|&inode| self.tree.what(inode) == tree::What::File).collect();
        inodes.sort_unstable();
        inodes.dedup();
        let mut contents = self.contents();
        let digest = |inode| anyhow::Ok((inode, contents.read(inode, |body| hash(body, self.tree.size(inode)))?));
        inodes.into_iter().map(digest).collect()
    }

    /// Returns what of the merged root `patterns` cover, in order; all of it where there are none.
    ///
    /// # Errors
    /// [`Absent`] where one of them covers nothing.
    pub fn select(&self, patterns: &[Pattern]) -> Result<Vec<PathId>> {
        self.select_from(self.tree.walk(Tree::ROOT), patterns)
    }

    /// Returns what of `paths` is covered, as [`Files::select`].
    ///
    /// # Errors
    /// As [`Files::select`].
    pub fn select_from(&self, paths: impl Iterator<Item = PathId>, patterns: &[Pattern]) -> Result<Vec<PathId>> {
        let mut found: HashSet<usize> = HashSet::new();
        let mut covered = |path: PathId| {
            let path = self.tree.path(path);
            let mut any = patterns.is_empty();
            for (number, pattern) in patterns.iter().enumerate() {
                if pattern.covers(&path) {
                    found.insert(number);
                    any = true;
                }
            }
            any
        };
        let selected = paths.filter(|&path| covered(path)).collect();
        if let Some(number) = (0..patterns.len()).find(|number| !found.contains(number)) {
            return Err(Absent(format!("`{}` is not in the image", patterns[number])).into());
        }
        Ok(selected)
    }
}

/// Returns the digest of a content, holes as zeros.
fn hash(body: &mut dyn Body, size: u64) -> Result<Digest> {
    let mut hasher = Hasher::new();
    tree::copy(body, size, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// What is of use of a history entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct History {
    created_by: String,
}

fn layers(image: &Image) -> Vec<Layer> {
    let diff_ids = image.layers().iter().filter_map(|record| record.diff_id);
    let chain_ids = ChainId::chain(diff_ids.clone());
    let created_by = image.layers().iter().map(|record| {
        let history = record.history.as_ref().and_then(|raw| serde_json::from_str::<History>(raw.get()).ok());
        history.unwrap_or_default().created_by
    });
    let both = diff_ids.zip(chain_ids).zip(created_by).enumerate();
    both.map(|(layer, ((diff_id, chain_id), created_by))| Layer { layer, chain_id, diff_id, created_by }).collect()
}

/// Returns the patterns that operands mean: none where one of them is the root, below which all is.
///
/// # Errors
/// One that can match nothing.
pub fn patterns(operands: &[String]) -> Result<Vec<Pattern>> {
    let is_root = |operand: &String| !operand.is_empty() && operand.split('/').all(|part| matches!(part, "" | "."));
    if operands.iter().any(is_root) {
        return Ok(Vec::new());
    }
    operands.iter().map(|operand| operand.parse()).collect()
}

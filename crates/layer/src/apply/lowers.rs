//! The layers below one in overlay form, looked at as the kernel would merge them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FileType, Stat};

use crate::change::LayerPath;
use crate::overlay::{self, Namespace};
use crate::root::{self, Dir, Root};

/// Directories in overlay form, each one layer, that lie one above the other.
#[derive(Debug)]
pub struct Lowers {
    /// Top first, as a lookup goes.
    roots: Vec<Root>,
    namespace: Namespace,
    /// The directories from the root to the one looked at last, each with the layers that have a part in it: archives are
    /// sorted, so most of it serves the next lookup too.
    levels: Vec<(OsString, Vec<usize>)>,
}

/// An entry as a layer has it.
pub(super) struct Found {
    /// The layer, counted from the top.
    pub(super) layer: usize,
    pub(super) stat: Stat,
}

impl Lowers {
    /// Opens the directories at `paths`, base first, whose opaque directories are marked in `namespace`.
    ///
    /// # Errors
    /// What opening gives.
    pub fn open<P: AsRef<Path>>(paths: &[P], namespace: Namespace) -> Result<Self> {
        let open = |path: &P| Root::open(path.as_ref()).with_context(|| path.as_ref().display().to_string());
        let roots = paths.iter().rev().map(open).collect::<Result<_>>()?;
        Ok(Self { roots, namespace, levels: Vec::new() })
    }

    /// Says whether there are none: the layer is the base.
    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Opens the directory `path` of one layer.
    pub(super) fn dir(&self, layer: usize, path: &LayerPath) -> Result<Dir> {
        self.roots[layer].dir(path).with_context(|| format!("layer below: `{path}`"))
    }

    /// Returns what the merged layers show at `name` in the directory `path`.
    pub(super) fn look(&mut self, path: &LayerPath, name: &OsStr) -> Result<Option<Found>> {
        for layer in self.stack(path)? {
            let Some(stat) = self.dir(layer, path)?.stat(name)? else { continue };
            return Ok((!is_whiteout(&stat)).then_some(Found { layer, stat }));
        }
        Ok(None)
    }

    /// Returns the topmost layer that has a part in the merged directory `path`, or `None` where that is none.
    pub(super) fn top(&mut self, path: &LayerPath) -> Result<Option<usize>> {
        Ok(self.stack(path)?.first().copied())
    }

    /// Returns all names in the merged root.
    ///
    /// # Errors
    /// What reading the directories gives.
    pub fn names(&mut self) -> Result<BTreeSet<OsString>> {
        let root = LayerPath::root();
        let mut names = BTreeSet::new();
        for layer in 0..self.roots.len() {
            names.extend(self.dir(layer, &root)?.names()?);
        }
        let mut shown = BTreeSet::new();
        for name in names {
            if self.look(&root, &name)?.is_some() {
                shown.insert(name);
            }
        }
        Ok(shown)
    }

    /// Returns the layers whose directories the kernel merges at `path`, top first; none where it shows no directory.
    fn stack(&mut self, path: &LayerPath) -> Result<Vec<usize>> {
        let same = path.components().zip(&self.levels).take_while(|(part, (name, _))| part == name).count();
        self.levels.truncate(same);
        let mut at = LayerPath::root();
        for (depth, part) in path.components().enumerate() {
            if depth >= same {
                let above = self.levels.last().map_or_else(|| (0..self.roots.len()).collect(), |level| level.1.clone());
                let stack = self.step(&above, &at, part)?;
                self.levels.push((part.to_owned(), stack));
            }
            at = at.join(part)?;
        }
        Ok(self.levels.last().map_or_else(|| (0..self.roots.len()).collect(), |level| level.1.clone()))
    }

    fn step(&self, above: &[usize], at: &LayerPath, part: &OsStr) -> Result<Vec<usize>> {
        let mut stack = Vec::new();
        for &layer in above {
            let dir = self.dir(layer, at)?;
            let Some(stat) = dir.stat(part)? else { continue };
            if root::kind(&stat) != FileType::Directory {
                break;
            }
            stack.push(layer);
            let opaque = dir.place(part).xattr(OsStr::new(self.namespace.opaque()))?;
            if opaque.as_deref() == Some(overlay::OPAQUE_VALUE) {
                break;
            }
        }
        Ok(stack)
    }

    /// Returns all names of the file with inode number `inode` in one layer, in no order.
    pub(super) fn links(&self, layer: usize, inode: u64) -> Result<Vec<LayerPath>> {
        let mut links = Vec::new();
        let mut todo = vec![LayerPath::root()];
        while let Some(path) = todo.pop() {
            let dir = self.dir(layer, &path)?;
            for name in dir.names()? {
                let Some(stat) = dir.stat(&name)? else { continue };
                if root::kind(&stat) == FileType::Directory {
                    todo.push(path.join(&name)?);
                } else if stat.st_ino == inode {
                    links.push(path.join(&name)?);
                }
            }
        }
        Ok(links)
    }

    /// Opens a regular file of one layer, which has to be the one that `stat` was of.
    pub(super) fn open_file(&self, found: &Found, dir: &LayerPath, name: &OsStr) -> Result<File> {
        let file = self.dir(found.layer, dir)?.open(name)?;
        let now = file.metadata().context("cannot stat")?;
        anyhow::ensure!(now.ino() == found.stat.st_ino && now.is_file(), "the layer below changed meanwhile");
        Ok(file)
    }
}

/// Says whether an entry hides a name of the layers below.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    root::kind(stat) == FileType::CharacterDevice && overlay::is_whiteout(root::device(stat))
}

//! Finding paths in a tree: by name, in order, and as a process in the container would.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail, ensure};

use super::build::{LINKS, components};
use super::{EntryId, NONE, PathId, Tree, What};
use crate::change::{Escaped, LayerPath};
use crate::check::Absent;
use crate::limits;

impl Tree {
    /// Returns a path as bytes.
    pub fn path(&self, path: PathId) -> LayerPath {
        let mut parts = Vec::new();
        let mut at = path.0;
        while at != 0 {
            let node = &self.paths[at as usize];
            parts.push(self.names.get(node.name));
            at = node.parent;
        }
        parts.reverse();
        LayerPath::of_components(&parts)
    }

    /// Returns the last component of a path; nothing for the root.
    pub fn name(&self, path: PathId) -> &OsStr {
        OsStr::from_bytes(self.names.get(self.paths[path.0 as usize].name))
    }

    /// Returns the directory that holds a path; the root's is the root.
    pub fn parent(&self, path: PathId) -> PathId {
        PathId(self.paths[path.0 as usize].parent)
    }

    /// Finds a path that some layer speaks of, by its name alone: no symlink is followed.
    pub fn find(&self, path: &LayerPath) -> Option<PathId> {
        path.components().try_fold(Self::ROOT, |at, name| self.child(at, name.as_bytes()))
    }

    pub(super) fn child(&self, parent: PathId, name: &[u8]) -> Option<PathId> {
        self.children.get(&(parent.0, self.names.find(name)?)).copied().map(PathId)
    }

    /// Returns the paths directly below `path` that some layer speaks of, sorted by name.
    pub fn children(&self, path: PathId) -> Vec<PathId> {
        let mut children = Vec::new();
        let mut child = self.paths[path.0 as usize].child;
        while child != NONE {
            children.push(PathId(child));
            child = self.paths[child as usize].sibling;
        }
        children.sort_unstable_by_key(|&child| self.name(child));
        children
    }

    /// Walks what is in the merged root at `from` and below: a directory before what is in it, and that sorted by name.
    pub fn walk(&self, from: PathId) -> Walk<'_> {
        Walk { tree: self, left: vec![from], all: false }
    }

    /// Walks all paths at `from` and below that any layer speaks of, in the same order.
    pub fn walk_all(&self, from: PathId) -> Walk<'_> {
        Walk { all: true, ..self.walk(from) }
    }

    /// Finds what a process in the container would: symlinks are followed within the root, also one at the end.
    ///
    /// # Errors
    /// [`Absent`] where there is nothing; a path through what is no directory, and symlinks that lead round.
    pub fn resolve(&self, path: &[u8]) -> Result<(PathId, EntryId)> {
        let absent = || Absent(format!("`{}` is not in the image", Escaped(path)));
        let mut at = Self::ROOT;
        let mut links = 0;
        let mut left: Vec<OsString> = components(path).rev().map(|part| OsStr::from_bytes(part).to_owned()).collect();
        while let Some(name) = left.pop() {
            let here = self.visible(at).ok_or_else(absent)?;
            ensure!(self.what(here).is_dir(), "`{}` is no directory", self.path(at));
            if name == ".." {
                at = self.parent(at);
                continue;
            }
            let child = self.child(at, name.as_bytes()).filter(|&child| self.visible(child).is_some());
            let child = child.ok_or_else(absent)?;
            let inode = self.inode(self.visible(child).ok_or_else(absent)?);
            if self.what(inode) != What::Symlink {
                at = child;
                continue;
            }
            links += 1;
            let target = self.names.get(self.row(inode).link);
            if links > LINKS || left.len() > limits::PATH_DEPTH {
                bail!("`{}` leads through more than {LINKS} symlinks", Escaped(path));
            }
            if target.starts_with(b"/") {
                at = Self::ROOT;
            }
            left.extend(components(target).rev().map(|part| OsStr::from_bytes(part).to_owned()));
        }
        Ok((at, self.visible(at).ok_or_else(absent)?))
    }
}

/// Paths in order; see [`Tree::walk`].
pub struct Walk<'a> {
    tree: &'a Tree,
    /// What comes, the next last.
    left: Vec<PathId>,
    all: bool,
}

impl Iterator for Walk<'_> {
    type Item = PathId;

    fn next(&mut self) -> Option<PathId> {
        while let Some(path) = self.left.pop() {
            if self.all || self.tree.visible(path).is_some() {
                self.left.extend(self.tree.children(path).into_iter().rev());
                return Some(path);
            }
        }
        None
    }
}

//! Adding a layer to a tree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, ensure};

use super::{Layer, NONE, Path, PathId, Row, Tree, What};
use crate::change::{Body, Device, Entry, LayerPath, Node, Sink};
use crate::limits;

/// How many symlinks one path may lead through, as in the kernel.
pub(super) const LINKS: usize = 40;

/// The layer that is being added. As a [`Sink`] it collects changes; [`LayerBuilder::apply`] makes them count.
pub struct LayerBuilder<'a> {
    tree: &'a mut Tree,
    layer: u32,
    first: u32,
    holes: bool,
}

impl<'a> LayerBuilder<'a> {
    pub(super) fn new(tree: &'a mut Tree) -> Result<Self> {
        let layer = u32::try_from(tree.layers.len()).context("too many layers")?;
        let first = u32::try_from(tree.rows.len()).context("too many entries")?;
        Ok(Self { tree, layer, first, holes: false })
    }

    /// Applies the layer: first its removals, then what it puts, in its order.
    ///
    /// # Errors
    /// More than [`limits::TREE_ENTRIES`] entries with those that are implied.
    pub fn apply(self) -> Result<()> {
        let Self { tree, layer, first, holes } = self;
        let end = tree.rows.len() as u32;
        for row in first..end {
            let Row { path, what, .. } = tree.rows[row as usize];
            match what {
                What::Whiteout => tree.rows[row as usize].size = tree.remove(path, layer),
                // A marker in what is no directory is for nothing.
                What::Opaque if tree.is_dir(path) => tree.remove_children(path, layer),
                _ => {}
            }
        }
        for row in first..end {
            let Row { path, what, .. } = tree.rows[row as usize];
            match what {
                What::Whiteout => {}
                // The directory that it is for is there afterwards.
                What::Opaque if tree.paths[path as usize].now != NONE => {}
                What::Opaque => tree.imply(path, layer)?,
                _ => tree.show(row, layer)?,
            }
        }
        tree.layers.push(Layer { rows: first..tree.rows.len() as u32, holes });
        Ok(())
    }

    /// Returns the tree as it is below this layer. What the layer puts is there when it is applied.
    pub(crate) fn tree(&self) -> &Tree {
        self.tree
    }

    /// Returns what this layer has put at `path` so far.
    pub(crate) fn own(&self, path: PathId) -> Option<What> {
        self.own_row(path.0).map(|row| row.what)
    }

    fn own_row(&self, path: u32) -> Option<&Row> {
        let put = self.tree.paths[path as usize].put;
        (put != NONE && put >= self.first).then(|| &self.tree.rows[put as usize])
    }

    /// Resolves a path: symlinks are followed, but not one at the end. `None` leads through what is no directory and does not
    /// give way to one: what this layer put itself, or where a symlink leads.
    pub(crate) fn place(&mut self, path: &LayerPath) -> Result<Option<PathId>> {
        let mut at = 0;
        let mut depth = 0;
        let mut links = 0;
        // What is left to walk, the next component last.
        let mut left: Vec<OsString> = path.components().rev().map(OsStr::to_owned).collect();
        while let Some(name) = left.pop() {
            if name == ".." {
                at = self.tree.paths[at as usize].parent;
                depth -= usize::from(depth > 0);
                continue;
            }
            let child = self.tree.add_child(at, name.as_bytes())?;
            let seen = self.seen(child).filter(|_| !left.is_empty());
            match seen.map(|row| (row.what, row.link, row.layer == self.layer)) {
                Some((What::Symlink, target, _)) => {
                    links += 1;
                    ensure!(links <= LINKS, "`{path}` leads through more than {LINKS} symlinks");
                    let target = self.tree.names.get(target);
                    if target.starts_with(b"/") {
                        (at, depth) = (0, 0);
                    }
                    left.extend(components(target).rev().map(|part| OsStr::from_bytes(part).to_owned()));
                }
                Some((what, _, own)) if !what.is_dir() && (own || links > 0) => return Ok(None),
                _ => {
                    at = child;
                    depth += 1;
                    ensure!(
                        depth <= limits::PATH_DEPTH,
                        "`{path}` leads to more than {} directories",
                        limits::PATH_DEPTH
                    );
                }
            }
        }
        Ok(Some(PathId(at)))
    }

    /// Returns what is at `path` while this layer is read: what it put, or else what lower layers have and it does not remove.
    fn seen(&self, path: u32) -> Option<&Row> {
        let Path { last, now, .. } = self.tree.paths[path as usize];
        let own = self.own_row(path).or_else(|| {
            let removed = last != NONE && last >= self.first;
            (now != NONE && !removed).then(|| &self.tree.rows[now as usize])
        })?;
        Some(&self.tree.rows[own.inode as usize])
    }

    /// Returns the row that holds the file which a hard link names: one of this layer, or else of those below.
    fn target(&mut self, target: &LayerPath) -> Result<u32> {
        let path = self.place(target).with_context(|| format!("hard link to `{target}`"))?;
        let inode = path.and_then(|path| self.seen(path.0)).map_or(NONE, |row| row.inode);
        ensure!(inode != NONE, "hard link to `{target}`, which is not there");
        ensure!(!self.tree.rows[inode as usize].what.is_dir(), "hard link to `{target}`, which is a directory");
        Ok(inode)
    }
}

impl Sink for LayerBuilder<'_> {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        let path = self.place(&entry.path)?.context("lies below what is no directory")?.0;
        let mut row = Row::new(path, self.layer, What::Dir);
        let number = |device: &Device| u64::from(device.major) << 32 | u64::from(device.minor);
        match &entry.node {
            Node::File(size) => {
                (row.what, row.size) = (What::File, *size);
                if let Some(place) = body.place() {
                    row.holes = !place.whole;
                    row.offset = if place.whole { place.content } else { place.header };
                    self.holes |= row.holes;
                }
            }
            Node::Dir => {}
            Node::Symlink(target) => {
                row.what = What::Symlink;
                row.link = self.tree.names.intern(target.as_bytes())?;
            }
            Node::Hardlink(target) => {
                row.what = What::Hardlink;
                row.inode = self.target(target)?;
            }
            Node::Fifo => row.what = What::Fifo,
            Node::Char(device) => (row.what, row.size) = (What::Char, number(device)),
            Node::Block(device) => (row.what, row.size) = (What::Block, number(device)),
        }
        let meta = &entry.meta;
        row.mode = (meta.mode & 0o7777) as u16;
        (row.uid, row.gid) = (meta.uid, meta.gid);
        (row.secs, row.nanos) = (meta.mtime.secs, meta.mtime.nanos);
        row.xattrs = self.tree.names.intern(&pack_xattrs(&meta.xattrs))?;
        let id = self.tree.push(row)?;
        self.tree.paths[path as usize].put = id;
        Ok(())
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        if let Some(path) = self.place(path)? {
            self.tree.push(Row::new(path.0, self.layer, What::Whiteout))?;
        }
        Ok(())
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        let path = self.place(path)?.context("lies below what is no directory")?.0;
        self.tree.push(Row::new(path, self.layer, What::Opaque))?;
        Ok(())
    }
}

impl Tree {
    /// Takes `path` and all below it from the merged root; returns how many bytes of files that were.
    fn remove(&mut self, path: u32, layer: u32) -> u64 {
        let mut bytes = 0;
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            let path = &mut self.paths[path as usize];
            let now = std::mem::replace(&mut path.now, NONE);
            // Below what is not there, nothing is.
            if now == NONE {
                continue;
            }
            let row = &mut self.rows[now as usize];
            row.gone = layer;
            if row.what == What::File {
                bytes += row.size;
            }
            let mut child = path.child;
            while child != NONE {
                left.push(child);
                child = self.paths[child as usize].sibling;
            }
        }
        bytes
    }

    /// Takes all that is in the directory `path` from the merged root.
    fn remove_children(&mut self, path: u32, layer: u32) {
        let mut child = self.paths[path as usize].child;
        while child != NONE {
            self.remove(child, layer);
            child = self.paths[child as usize].sibling;
        }
    }

    fn is_dir(&self, path: u32) -> bool {
        let now = self.paths[path as usize].now;
        now != NONE && self.rows[now as usize].what.is_dir()
    }

    /// Puts an entry into the merged root, in the place of what is there.
    fn show(&mut self, row: u32, layer: u32) -> Result<()> {
        let Row { path, what, .. } = self.rows[row as usize];
        self.show_parents(path, layer)?;
        let now = self.paths[path as usize].now;
        if now != NONE {
            if what.is_dir() && self.rows[now as usize].what.is_dir() {
                self.rows[now as usize].gone = layer;
            } else {
                self.remove(path, layer);
            }
        }
        self.paths[path as usize].now = row;
        Ok(())
    }

    /// Makes directories of all that `path` lies in.
    fn show_parents(&mut self, path: u32, layer: u32) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = path;
        while at != 0 {
            at = self.paths[at as usize].parent;
            if self.is_dir(at) {
                break;
            }
            missing.push(at);
        }
        while let Some(dir) = missing.pop() {
            self.remove(dir, layer);
            let row = self.push(Row::implied(dir, NONE, layer))?;
            self.paths[dir as usize].now = row;
        }
        Ok(())
    }

    /// Makes a directory of `path`, where nothing is, and of all that it lies in.
    fn imply(&mut self, path: u32, layer: u32) -> Result<()> {
        self.show_parents(path, layer)?;
        self.paths[path as usize].now = self.push(Row::implied(path, NONE, layer))?;
        Ok(())
    }
}

/// Returns the parts of a symlink's target that mean something.
pub(super) fn components(target: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    target.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Returns xattrs as one string of bytes, nothing for none.
fn pack_xattrs(xattrs: &[(OsString, Vec<u8>)]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in xattrs {
        for part in [name.as_bytes(), value] {
            packed.extend_from_slice(&(part.len() as u32).to_le_bytes());
            packed.extend_from_slice(part);
        }
    }
    packed
}

/// Reverses [`pack_xattrs`].
pub(super) fn unpack_xattrs(mut packed: &[u8]) -> Vec<(OsString, Vec<u8>)> {
    let mut part = || {
        let (len, rest) = packed.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        packed = rest;
        Some(part)
    };
    let mut xattrs = Vec::new();
    while let (Some(name), Some(value)) = (part(), part()) {
        xattrs.push((OsStr::from_bytes(name).to_owned(), value.to_vec()));
    }
    xattrs
}

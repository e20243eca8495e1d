//! What a stack of layers holds: every path that any layer speaks of, what each layer says of it, and what is there in the end.
//!
//! A [`Tree`] is built layer by layer, base first: [`Tree::layer`] is a [`Sink`](crate::change::Sink) for the changes of the next one, from
//! a tar or from a directory. Only metadata is kept, some 150 bytes for each path with its entry; contents stay where they are
//! and are read by [`Contents`].
//!
//! The merged root is what [`apply`](crate::apply) writes and overlayfs shows: a whiteout or an opaque whiteout removes what
//! lower layers put, never what its own layer puts, wherever it stands. A directory that a layer only implies keeps what
//! lower layers say of it, or is root's with mode 0755. Symlinks in the path of an entry are followed as the container will
//! see them.
//!
//! ```
//! use layer::archive::read_tar;
//! use layer::tree::Tree;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut tree = Tree::new();
//! let mut layer = tree.layer()?;
//! read_tar(&b""[..], &mut layer)?;
//! layer.apply()?;
//! for path in tree.walk(Tree::ROOT) {
//!     let entry = tree.visible(path).expect("walk returns what is there");
//!     let _ = (tree.path(path), tree.node(entry), tree.meta(entry), tree.layer_of(entry));
//! }
//! # Ok(())
//! # }
//! ```

mod build;
mod contents;
mod find;
mod names;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, ensure};

use crate::change::{Device, Meta, Node, Time};
use crate::limits;
use names::Names;

pub use build::LayerBuilder;
pub use contents::{Contents, copy, open_image};
pub use find::Walk;

/// A path that some layer speaks of, whether anything is there in the end or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u32);

/// What one layer says of one path. They rise with the layers and, within one, in the order of its tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u32);

impl PathId {
    /// Returns its number: paths are numbered from 0 as layers first speak of them.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl EntryId {
    /// Returns its number: entries are numbered in their order.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Neither a path nor an entry.
const NONE: u32 = u32::MAX;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Puts a regular file.
    File,
    /// Puts a directory.
    Dir,
    /// Puts a symbolic link.
    Symlink,
    /// Puts another name of a file.
    Hardlink,
    /// Puts a named pipe.
    Fifo,
    /// Puts a character device.
    Char,
    /// Puts a block device.
    Block,
    /// Removes what lower layers have there.
    Whiteout,
    /// Removes what lower layers have in that directory.
    Opaque,
    /// Puts a directory that the layer does not mention, but needs for what is below.
    Implied,
}

impl What {
    /// Says whether it is a directory afterwards.
    pub fn is_dir(self) -> bool {
        matches!(self, Self::Dir | Self::Implied)
    }

    /// Says whether it only removes.
    pub fn is_removal(self) -> bool {
        matches!(self, Self::Whiteout | Self::Opaque)
    }
}

/// A path: its place in the tree of names, and the entries that speak of it.
struct Path {
    parent: u32,
    name: u32,
    /// The child added last, and the child of the same parent added before this one.
    child: u32,
    sibling: u32,
    /// The entry added last, of any kind; [`Row::before`] leads on.
    last: u32,
    /// The entry added last that puts something.
    put: u32,
    /// The entry that is there once the layers so far are applied.
    now: u32,
}

/// An entry, as it is kept. 72 bytes: there may be a million.
struct Row {
    path: u32,
    /// The entry of the same path before this one.
    before: u32,
    layer: u32,
    /// The entry that holds the file: itself, but for hard links.
    inode: u32,
    /// The layer that removed or replaced it.
    gone: u32,
    link: u32,
    xattrs: u32,
    uid: u32,
    gid: u32,
    nanos: u32,
    secs: i64,
    /// Bytes of a file; major and minor number of a device; bytes of files that a whiteout removed.
    size: u64,
    /// Where the content is in the layer's tar: its first byte, or the header of a file with holes.
    offset: u64,
    mode: u16,
    what: What,
    holes: bool,
}

/// A layer that was added.
struct Layer {
    /// Its entries.
    rows: Range<u32>,
    /// Whether it has files with holes.
    holes: bool,
}

/// The paths of a stack of layers and what each layer says of them; see the module.
pub struct Tree {
    names: Names,
    paths: Vec<Path>,
    children: HashMap<(u32, u32), u32>,
    rows: Vec<Row>,
    layers: Vec<Layer>,
}

impl Tree {
    /// The root directory's path.
    pub const ROOT: PathId = PathId(0);

    /// Begins with no layers; the root directory is there.
    pub fn new() -> Self {
        let root = Path { parent: 0, name: 0, child: NONE, sibling: NONE, last: 0, put: NONE, now: 0 };
        Self {
            names: Names::new(),
            paths: vec![root],
            children: HashMap::new(),
            rows: vec![Row::implied(0, 0, 0)],
            layers: Vec::new(),
        }
    }

    /// Begins the next layer, which counts once it is applied: [`LayerBuilder::apply`].
    ///
    /// # Errors
    /// Too many layers.
    pub fn layer(&mut self) -> Result<LayerBuilder<'_>> {
        LayerBuilder::new(self)
    }

    /// Returns the number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Returns the entries of a layer in the order of its tar, directories that it implies behind those it has.
    pub fn entries_of(&self, layer: usize) -> impl DoubleEndedIterator<Item = EntryId> + use<> {
        self.layers.get(layer).map_or(0..0, |layer| layer.rows.clone()).map(EntryId)
    }

    /// Returns the entry that is at `path` in the merged root, if anything is. It may be a hard link or an implied directory.
    pub fn visible(&self, path: PathId) -> Option<EntryId> {
        Some(self.paths[path.0 as usize].now).filter(|&now| now != NONE).map(EntryId)
    }

    /// Returns the entries that speak of `path`, base first.
    pub fn entries_at(&self, path: PathId) -> Vec<EntryId> {
        let mut rows = Vec::new();
        let mut row = self.paths[path.0 as usize].last;
        while row != NONE {
            rows.push(EntryId(row));
            row = self.row(EntryId(row)).before;
        }
        rows.reverse();
        rows
    }

    /// Returns the path of an entry, symlinks of its layer followed.
    pub fn path_of(&self, entry: EntryId) -> PathId {
        PathId(self.row(entry).path)
    }

    /// Returns what an entry does.
    pub fn what(&self, entry: EntryId) -> What {
        self.row(entry).what
    }

    /// Returns the layer of an entry, counted from the base.
    pub fn layer_of(&self, entry: EntryId) -> usize {
        self.row(entry).layer as usize
    }

    /// Returns the layer that took an entry away from the merged root: by a removal, or by putting something in its place.
    pub fn gone(&self, entry: EntryId) -> Option<usize> {
        Some(self.row(entry).gone).filter(|&layer| layer != NONE).map(|layer| layer as usize)
    }

    /// Returns the entry that holds the file of which `entry` is a name: itself, but for hard links. Two names with the same
    /// inode are one file.
    pub fn inode(&self, entry: EntryId) -> EntryId {
        EntryId(self.row(entry).inode)
    }

    /// Returns the bytes of content of an entry: 0 for all but files and their hard links.
    pub fn size(&self, entry: EntryId) -> u64 {
        let row = self.row(self.inode(entry));
        if row.what == What::File { row.size } else { 0 }
    }

    /// Returns the bytes of content that an entry stores itself: 0 for a hard link.
    pub fn stored(&self, entry: EntryId) -> u64 {
        if self.what(entry) == What::File { self.row(entry).size } else { 0 }
    }

    /// Returns how many bytes of files a whiteout took from view.
    pub fn removed(&self, entry: EntryId) -> u64 {
        if self.what(entry) == What::Whiteout { self.row(entry).size } else { 0 }
    }

    /// Returns what is there because of an entry: never a hard link, but the file that it names. A removal is a directory here,
    /// as it has no better answer; whoever may hold one asks [`Tree::what`] first.
    pub fn node(&self, entry: EntryId) -> Node {
        let row = self.row(self.inode(entry));
        let device = || Device { major: (row.size >> 32) as u32, minor: row.size as u32 };
        match row.what {
            What::File => Node::File(row.size),
            What::Symlink => Node::Symlink(OsStr::from_bytes(self.names.get(row.link)).to_owned()),
            What::Fifo => Node::Fifo,
            What::Char => Node::Char(device()),
            What::Block => Node::Block(device()),
            What::Hardlink | What::Dir | What::Implied | What::Whiteout | What::Opaque => Node::Dir,
        }
    }

    /// Returns the metadata of what is there because of an entry; of a hard link, that of the file that it names.
    pub fn meta(&self, entry: EntryId) -> Meta {
        let row = self.row(self.inode(entry));
        Meta {
            mode: row.mode.into(),
            uid: row.uid,
            gid: row.gid,
            mtime: Time { secs: row.secs, nanos: row.nanos },
            xattrs: build::unpack_xattrs(self.names.get(row.xattrs)),
        }
    }

    fn row(&self, entry: EntryId) -> &Row {
        &self.rows[entry.0 as usize]
    }

    /// Adds an entry behind those of its path.
    fn push(&mut self, mut row: Row) -> Result<u32> {
        ensure!(self.rows.len() < limits::TREE_ENTRIES, "layers have more than {} entries", limits::TREE_ENTRIES);
        let id = u32::try_from(self.rows.len()).context("too many entries")?;
        let path = &mut self.paths[row.path as usize];
        row.before = std::mem::replace(&mut path.last, id);
        if row.inode == NONE {
            row.inode = id;
        }
        self.rows.push(row);
        Ok(id)
    }

    /// Returns the path of `name` in the directory `parent`, which is added if it is new.
    fn add_child(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let name = self.names.intern(name)?;
        if let Some(&child) = self.children.get(&(parent, name)) {
            return Ok(child);
        }
        ensure!(self.paths.len() < limits::TREE_ENTRIES, "layers have more than {} paths", limits::TREE_ENTRIES);
        let child = u32::try_from(self.paths.len()).context("too many paths")?;
        let sibling = std::mem::replace(&mut self.paths[parent as usize].child, child);
        self.paths.push(Path { parent, name, child: NONE, sibling, last: NONE, put: NONE, now: NONE });
        self.children.insert((parent, name), child);
        Ok(child)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Row {
    /// Makes an entry that holds itself and says nothing more than what it does.
    fn new(path: u32, layer: u32, what: What) -> Self {
        Self {
            path,
            before: NONE,
            layer,
            inode: NONE,
            gone: NONE,
            link: 0,
            xattrs: 0,
            uid: 0,
            gid: 0,
            nanos: 0,
            secs: 0,
            size: 0,
            offset: 0,
            mode: 0,
            what,
            holes: false,
        }
    }

    /// Makes a directory that a layer implies.
    fn implied(path: u32, inode: u32, layer: u32) -> Self {
        Self { mode: 0o755, inode, ..Self::new(path, layer, What::Implied) }
    }
}

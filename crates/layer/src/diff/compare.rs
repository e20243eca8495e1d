//! Comparing two trees: the layer that makes the new one out of the old.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::vec;

use anyhow::{Context, Result, ensure};

use super::body::same_content;
use super::names::Names;
use super::tree::{Dir, Inode, Tree};
use super::upper::put_file;
use crate::change::{Entry, LayerPath, Meta, NoBody, Node, Sink};
use crate::whiteout;

/// Tells `sink` what makes `old` into `new`, and returns the paths of the sockets in `new`, which no layer can hold.
///
/// Files are the same if type, mode, owner, modification time in whole seconds, xattrs, link target or device, content and
/// the set of their names are. Content is read unless both are one file: times and sizes can be made to agree. Around each
/// change come the directories that lead to it, as in an upperdir; the root comes only if it differs itself.
///
/// # Errors
/// What reading and the sink give; a name that begins with `.wh.` or a 0:0 character device, which a layer would take for
/// whiteouts; a file that changes while it is read.
pub fn compare(old: OwnedFd, new: OwnedFd, sink: &mut dyn Sink) -> Result<Vec<LayerPath>> {
    let (old, new) = (Tree::new(old), Tree::new(new));
    let (old_names, new_names) = (Names::read(&old)?, Names::read(&new)?);
    let buffer = Vec::new();
    Comparison { old, new, old_names, new_names, sink, sockets: Vec::new(), buffer }.run()
}

struct Comparison<'a> {
    old: Tree,
    new: Tree,
    old_names: Names,
    new_names: Names,
    sink: &'a mut dyn Sink,
    sockets: Vec<LayerPath>,
    buffer: Vec<u8>,
}

/// A directory on the way down.
struct Frame {
    path: LayerPath,
    in_old: bool,
    /// The directory itself, if nothing has changed in it so far.
    unsaid: Option<Entry>,
    names: vec::IntoIter<OsString>,
    /// Both directories, opened; closed while the walk is further down.
    open: Option<Open>,
}

struct Open {
    old: Option<Dir>,
    new: Dir,
}

impl Comparison<'_> {
    fn run(mut self) -> Result<Vec<LayerPath>> {
        let root = LayerPath::root();
        let (old, new) = (self.old.open_dir(&root)?.own()?.1, self.new.open_dir(&root)?.own()?.1);
        if old != new {
            self.sink.put(&Entry { path: root.clone(), node: Node::Dir, meta: new }, &mut NoBody)?;
        }
        let mut frames = vec![self.frame(root, true, None)?];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                frames.pop();
                continue;
            };
            let path = frame.path.join(&name)?;
            let child = self.name(&mut frames, &name, &path).with_context(|| path.to_string())?;
            frames.extend(child);
        }
        Ok(self.sockets)
    }

    fn open(&self, path: &LayerPath, in_old: bool) -> Result<Open> {
        let old = in_old.then(|| self.old.open_dir(path)).transpose()?;
        Ok(Open { old, new: self.new.open_dir(path)? })
    }

    fn frame(&self, path: LayerPath, in_old: bool, unsaid: Option<Entry>) -> Result<Frame> {
        let open = self.open(&path, in_old)?;
        let mut names = open.new.names()?;
        if let Some(old) = &open.old {
            names.extend(old.names()?);
            names.sort_unstable();
            names.dedup();
        }
        Ok(Frame { path, in_old, unsaid, names: names.into_iter(), open: Some(open) })
    }

    /// Compares one name of the innermost directory; if it is a directory in the new tree, returns it.
    fn name(&mut self, frames: &mut [Frame], name: &OsString, path: &LayerPath) -> Result<Option<Frame>> {
        ensure!(!whiteout::is_reserved(path), "begins with `.wh.`, which layers keep for whiteouts");
        let Some(frame) = frames.last_mut() else { return Ok(None) };
        let open = match &mut frame.open {
            Some(open) => open,
            closed => closed.insert(self.open(&frame.path, frame.in_old)?),
        };
        let old = open.old.as_ref().map(|old| old.inode(name)).transpose()?.flatten();
        let new = open.new.inode(name)?;
        let Some((inode, entry)) = self.entry(new, path)? else {
            // A socket in the old tree came from no layer.
            if old.as_ref().map(Inode::node).transpose()?.flatten().is_some() {
                say(self.sink, frames)?;
                self.sink.whiteout(path)?;
            }
            return Ok(None);
        };
        let same = self.same(old.as_ref(), &inode)?;
        if !inode.is_dir() {
            if !same {
                say(self.sink, frames)?;
                self.put(entry, &inode)?;
            }
            return Ok(None);
        }
        frame.open = None;
        let unsaid = if same {
            Some(entry)
        } else {
            say(self.sink, frames)?;
            self.sink.put(&entry, &mut NoBody)?;
            None
        };
        self.frame(path.clone(), old.is_some_and(|old| old.is_dir()), unsaid).map(Some)
    }

    /// Returns the file of the new tree with its entry, or `None` if there is none, or a socket.
    fn entry(&mut self, new: Option<Inode>, path: &LayerPath) -> Result<Option<(Inode, Entry)>> {
        let Some(inode) = new else { return Ok(None) };
        ensure!(!inode.is_whiteout(), "is a whiteout of overlayfs, which the tree of a root cannot hold");
        let entry = inode.entry(path)?;
        if entry.is_none() {
            self.sockets.push(path.clone());
        }
        Ok(entry.map(|entry| (inode, entry)))
    }

    fn same(&self, old: Option<&Inode>, new: &Inode) -> Result<bool> {
        let Some(old) = old else { return Ok(false) };
        if self.old_names.of(old.id()) != self.new_names.of(new.id()) {
            return Ok(false);
        }
        if old.id() == new.id() && !new.is_dir() {
            return Ok(true);
        }
        let meta = |inode: &Inode| -> Result<(Option<Node>, Meta)> { Ok((inode.node()?, inode.meta())) };
        if meta(old)? != meta(new)? {
            return Ok(false);
        }
        match (&old.file, &new.file) {
            (Some(a), Some(b)) => same_content((a, &old.stat), (b, &new.stat)).context("cannot read"),
            _ => Ok(true),
        }
    }

    fn put(&mut self, mut entry: Entry, inode: &Inode) -> Result<()> {
        match self.new_names.of(inode.id()).first() {
            Some(first) if *first != entry.path => {
                entry.node = Node::Hardlink(first.clone());
                self.sink.put(&entry, &mut NoBody)
            }
            _ => put_file(self.sink, &entry, inode, &mut self.buffer),
        }
    }
}

/// Puts the directories that lead to a change and have not been put yet.
fn say(sink: &mut dyn Sink, frames: &mut [Frame]) -> Result<()> {
    for frame in frames {
        if let Some(entry) = frame.unsaid.take() {
            sink.put(&entry, &mut NoBody)?;
        }
    }
    Ok(())
}

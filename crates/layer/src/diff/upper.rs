//! Reading an upperdir: what overlayfs, or Docker's overlay2, left there is the layer.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::vec;

use anyhow::{Context, Result, ensure};

use super::body::FileBody;
use super::stack::{Place, Stack};
use super::tree::{Dir, Inode, Tree};
use crate::change::{Entry, LayerPath, NoBody, Node, Sink};
use crate::whiteout;

/// Tells `sink` what the directory `upper` of overlayfs changes, and returns the paths of the sockets in it, which no layer
/// can hold. A directory comes before what is in it, and names in the order of their bytes; the root does not come at all,
/// as Docker has it: its mode and owner are the mount's own.
///
/// `lowers` are the directories below it, base first. Where they are given, directories that were renamed (`redirect_dir`)
/// become full copies, and files of which only the metadata were copied up (`metacopy`) get their content.
///
/// # Errors
/// What reading and the sink give; a name that begins with `.wh.`, which a layer would take for a whiteout; a redirect or
/// metacopy where no lowers are given, or which leads to nothing in them; a file that changes while it is read.
pub fn walk_upper(upper: OwnedFd, lowers: Vec<OwnedFd>, sink: &mut dyn Sink) -> Result<Vec<LayerPath>> {
    let layers = std::iter::once(upper).chain(lowers.into_iter().rev()).map(Tree::new).collect();
    let stack = Stack::new(layers);
    let mut walk = Walk { stack: &stack, sink, links: HashMap::new(), sockets: Vec::new(), buffer: Vec::new() };
    walk.root()?;
    Ok(walk.sockets)
}

struct Walk<'a> {
    stack: &'a Stack,
    sink: &'a mut dyn Sink,
    /// The first name of each file with several, and how many are still to come.
    links: HashMap<(usize, u64, u64), (LayerPath, u64)>,
    sockets: Vec<LayerPath>,
    buffer: Vec<u8>,
}

/// A directory on the way down.
struct Frame {
    path: LayerPath,
    /// Where it is in each layer that it is merged from, top first.
    dirs: Vec<Place>,
    mode: Mode,
    names: vec::IntoIter<OsString>,
    /// The topmost of `dirs`, opened; closed while the walk is further down.
    open: Option<Dir>,
}

/// How much of a merged directory goes into the layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// What the upper layer has: the layers below will be there.
    Changes,
    /// All of it: under this name the layers below have something else, which an opaque whiteout has removed.
    Whole,
}

impl Walk<'_> {
    fn root(&mut self) -> Result<()> {
        let root = LayerPath::root();
        if self.stack.layer(0).open_dir(&root)?.own()?.0.opaque {
            self.sink.opaque(&root)?;
        }
        let mut frames = vec![self.frame(root, self.stack.roots(0), Mode::Changes)?];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                frames.pop();
                continue;
            };
            let path = frame.path.join(&name)?;
            let child = self.name(frame, &name, &path).with_context(|| path.to_string())?;
            if let Some((dirs, mode)) = child {
                frame.open = None;
                let below = self.frame(path.clone(), dirs, mode).with_context(|| path.to_string())?;
                frames.push(below);
            }
        }
        Ok(())
    }

    fn frame(&self, path: LayerPath, dirs: Vec<Place>, mode: Mode) -> Result<Frame> {
        let open = self.stack.layer(dirs[0].layer).open_dir(&dirs[0].path)?;
        let mut names = open.names()?;
        if mode == Mode::Whole {
            for dir in &dirs[1..] {
                names.extend(self.stack.layer(dir.layer).open_dir(&dir.path)?.names()?);
            }
            names.sort_unstable();
            names.dedup();
        }
        Ok(Frame { path, dirs, mode, names: names.into_iter(), open: Some(open) })
    }

    /// Emits one name of a directory; if it is a directory itself, returns what it is merged from.
    fn name(&mut self, frame: &mut Frame, name: &OsString, path: &LayerPath) -> Result<Option<(Vec<Place>, Mode)>> {
        let (inode, place) = match frame.mode {
            Mode::Whole => match self.stack.find(&frame.dirs, name)? {
                Some((inode, place, _)) => (inode, place),
                None => return Ok(None),
            },
            Mode::Changes => {
                let Place { layer, path } = &frame.dirs[0];
                let dir = match &mut frame.open {
                    Some(dir) => dir,
                    closed => closed.insert(self.stack.layer(*layer).open_dir(path)?),
                };
                (dir.listed(name)?, Place { layer: *layer, path: path.join(name)? })
            }
        };
        ensure!(!whiteout::is_reserved(path), "begins with `.wh.`, which layers keep for whiteouts");
        if inode.is_whiteout() {
            self.sink.whiteout(path)?;
            return Ok(None);
        }
        let parents = frame.dirs.iter().filter(|dir| dir.layer > place.layer).cloned().collect::<Vec<_>>();
        if inode.is_dir() {
            return self.directory(&inode, place, &parents, frame.mode, path).map(Some);
        }
        self.file(&inode, &place, &parents, path)?;
        Ok(None)
    }

    fn directory(
        &mut self,
        inode: &Inode,
        place: Place,
        parents: &[Place],
        mode: Mode,
        path: &LayerPath,
    ) -> Result<(Vec<Place>, Mode)> {
        let redirect = inode.marks.redirect.as_ref().filter(|_| !inode.marks.opaque);
        let mut dirs = Vec::new();
        if self.stack.has_lowers() {
            dirs = self.stack.below(&place, &inode.marks, parents)?;
        }
        if let Some(to) = redirect {
            ensure!(self.stack.has_lowers(), "is redirected to `{to}` (name the lower directories with --lower)");
            ensure!(!dirs.is_empty(), "is redirected to `{to}`, which no lower directory has");
        }
        if let Some(entry) = inode.entry(path)? {
            self.sink.put(&entry, &mut NoBody)?;
        }
        let renamed = redirect.is_some() && mode == Mode::Changes;
        if renamed || (inode.marks.opaque && mode == Mode::Changes) {
            self.sink.opaque(path)?;
        }
        dirs.insert(0, place);
        Ok((dirs, if renamed { Mode::Whole } else { mode }))
    }

    fn file(&mut self, inode: &Inode, place: &Place, parents: &[Place], path: &LayerPath) -> Result<()> {
        let Some(mut entry) = inode.entry(path)? else {
            self.sockets.push(path.clone());
            return self.hide(place, parents, path);
        };
        if let Some(first) = self.first_name(inode, place.layer, path) {
            entry.node = Node::Hardlink(first);
            return self.sink.put(&entry, &mut NoBody);
        }
        if !inode.marks.metacopy {
            return put_file(self.sink, &entry, inode, &mut self.buffer);
        }
        ensure!(self.stack.has_lowers(), "is a metacopy without content (name the lower directories with --lower)");
        let content = self.stack.content(place, &inode.marks, parents)?;
        let content = content.context("is a metacopy of a file that no lower directory has")?;
        entry.node = Node::File(content.size());
        put_file(self.sink, &entry, &content, &mut self.buffer)
    }

    /// Removes what layers below have in the place of a socket, as the mounted tree does not show it.
    fn hide(&mut self, place: &Place, parents: &[Place], path: &LayerPath) -> Result<()> {
        let name = place.path.name().context("the root has no name")?;
        if place.layer == 0 && self.stack.find(parents, name)?.is_some() {
            self.sink.whiteout(path)?;
        }
        Ok(())
    }

    /// Returns the first name of a file with several, or `None` if this is it.
    fn first_name(&mut self, inode: &Inode, layer: usize, path: &LayerPath) -> Option<LayerPath> {
        if !inode.is_linked() {
            return None;
        }
        let (dev, ino) = inode.id();
        let left = inode.stat.st_nlink - 1;
        match self.links.entry((layer, dev, ino)) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert((path.clone(), left));
                None
            }
            std::collections::hash_map::Entry::Occupied(mut seen) => {
                seen.get_mut().1 = seen.get().1.saturating_sub(1);
                Some(if seen.get().1 == 0 { seen.remove().0 } else { seen.get().0.clone() })
            }
        }
    }
}

/// Puts an entry with the content of `inode`, if that has any.
pub(super) fn put_file(sink: &mut dyn Sink, entry: &Entry, inode: &Inode, buffer: &mut Vec<u8>) -> Result<()> {
    match &inode.file {
        Some(file) => sink.put(entry, &mut FileBody::new(file, &inode.stat, buffer)),
        None => sink.put(entry, &mut NoBody),
    }
}

//! The sink: one layer's entries put into a tree.

use std::ffi::OsStr;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::create::{self, Warnings};
use super::lowers::{Found, Lowers};
use super::options::Options;
use super::own::{Origin, Own};
use super::walk::Seen;
use crate::change::{Body, Entry, LayerPath, Meta, Node, Sink, Time};
use crate::overlay;
use crate::root::{self, Dir, Root};

/// Where the layers below the one that is written are.
#[derive(Debug)]
pub(super) enum Below {
    /// In the tree itself: plain form.
    Within,
    /// In directories of their own: overlay form.
    Beside(Lowers),
    /// Nobody said: overlay form too. All that may be there is taken to be there.
    Unknown,
}

/// The directory that the last entry was put into.
#[derive(Debug)]
pub(super) struct Parent {
    /// As the layer names it.
    asked: LayerPath,
    /// With its symlinks resolved.
    pub(super) path: LayerPath,
    pub(super) dir: Dir,
    /// What is made in it inherits an ACL, which no entry asked for.
    inherits: bool,
}

impl Parent {
    /// Returns the resolved path of `asked` if this is its directory.
    pub(super) fn resolved(&self, asked: &LayerPath) -> Option<LayerPath> {
        (self.asked == *asked || self.path == *asked).then(|| self.path.clone())
    }
}

/// Writes one layer to a directory.
///
/// Nothing is complete before [`TreeSink::finish`]: directories get their modes and times last.
#[derive(Debug)]
pub struct TreeSink {
    pub(super) root: Root,
    pub(super) below: Below,
    pub(super) own: Own,
    pub(super) options: Options,
    pub(super) parent: Option<Parent>,
    warnings: Warnings,
}

impl TreeSink {
    /// Applies the layer to the tree that `root` holds, which is that of the layers below.
    pub fn plain(root: Root, options: Options) -> Self {
        Self::new(root, Below::Within, options)
    }

    /// Makes the empty directory `root` the layer in overlay form, above `lowers` where these are known.
    ///
    /// # Errors
    /// What reading the root of the layers below and writing the layer's give.
    pub fn overlay(root: Root, lowers: Option<Lowers>, options: Options) -> Result<Self> {
        let mut sink = Self::new(root, lowers.map_or(Below::Unknown, Below::Beside), options);
        sink.start_root()?;
        Ok(sink)
    }

    /// Gives the root, a directory made for this tree, what the layers below show of theirs, or what a directory gets that
    /// no layer describes.
    ///
    /// # Errors
    /// What reading the one and setting the other give.
    pub fn start_root(&mut self) -> Result<()> {
        let top = LayerPath::root();
        let dir = self.root.dir(&top)?;
        match self.lower_meta(&top, None)? {
            Some(meta) => self.copy_meta(&top, &dir, &meta),
            None => self.default_meta(&top, &dir),
        }
    }

    fn new(root: Root, below: Below, options: Options) -> Self {
        Self { root, below, own: Own::new(), options, parent: None, warnings: Warnings::default() }
    }

    /// Gives the directories their modes and times, and returns what could not be kept, as messages.
    ///
    /// # Errors
    /// What setting them gives.
    pub fn finish(self) -> Result<Vec<String>> {
        // The last made first: what is below a directory comes before the directory, whose mode may keep us out.
        for number in (0..self.own.len()).rev() {
            let Some((path, state)) = self.own.nth(number) else { continue };
            if state.mode.is_none() && state.mtime.is_none() {
                continue;
            }
            let dir = match self.root.dir(&path) {
                // It went with a directory that was removed.
                Err(err) if err.is(Errno::NOENT) || err.is(Errno::NOTDIR) || err.is(Errno::LOOP) => continue,
                dir => dir.with_context(|| format!("`{path}`"))?,
            };
            let set = || -> root::Result<()> {
                state.mode.map_or(Ok(()), |mode| dir.itself().set_mode(mode))?;
                state.mtime.map_or(Ok(()), |mtime| dir.itself().set_mtime(mtime))
            };
            set().with_context(|| format!("`{path}`"))?;
        }
        Ok(self.warnings.into_messages())
    }

    /// Enters the directory `asked`, where something of the layer's will be put.
    fn enter(&mut self, asked: &LayerPath) -> Result<&Parent> {
        if self.parent.as_ref().is_none_or(|parent| parent.asked != *asked) {
            self.parent = None;
            let path = self.make_dirs(asked, Origin::Implied)?;
            self.parent = Some(self.open_parent(asked.clone(), path)?);
        }
        self.parent.as_ref().context("no directory was entered")
    }

    /// Opens the directory `path` for changes in it, and remembers its time.
    pub(super) fn open_parent(&mut self, asked: LayerPath, path: LayerPath) -> Result<Parent> {
        let dir = self.root.dir(&path).with_context(|| format!("`{path}`"))?;
        let state = self.own.dir_mut(&path)?;
        if state.mtime.is_none() {
            let stat = dir.itself().stat()?;
            state.mtime = Some(mtime(&stat));
            if stat.st_mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root() {
                state.mode.get_or_insert(stat.st_mode & 0o7777);
                dir.itself().grant()?;
            }
        }
        let inherits = dir.itself().xattr(OsStr::new(create::DEFAULT_ACL))?.is_some();
        Ok(Parent { asked, path, dir, inherits })
    }

    fn put_root(&mut self, entry: &Entry) -> Result<()> {
        ensure!(entry.node == Node::Dir, "the root is a directory, and nothing can take its place");
        self.parent = None;
        let dir = self.root.dir(&LayerPath::root())?;
        self.dress_dir(&entry.path, &dir, &entry.meta)
    }

    /// Gives a directory the metadata of its entry, mode and time in the end.
    fn dress_dir(&mut self, path: &LayerPath, dir: &Dir, meta: &Meta) -> Result<()> {
        create::drop_xattrs(dir.itself(), &meta.xattrs, &self.options)?;
        create::set_owner(dir.itself(), meta, &self.options.owner)?;
        create::set_xattrs(dir.itself(), path, meta, &self.options, &mut self.warnings)?;
        if !rustix::process::geteuid().is_root() {
            dir.itself().grant()?;
        }
        let state = self.own.dir_mut(path)?;
        (state.mode, state.mtime) = (Some(meta.mode), Some(meta.mtime));
        state.origin = Origin::Entry;
        Ok(())
    }

    fn put_dir(&mut self, path: &LayerPath, name: &OsStr, meta: &Meta) -> Result<()> {
        let parent = self.parent.as_ref().context("no directory was entered")?;
        let found = parent.dir.stat(name)?;
        let merges = found.as_ref().is_some_and(|stat| root::kind(stat) == FileType::Directory);
        if !merges {
            if found.is_some() {
                parent.dir.remove(name)?;
            }
            parent.dir.make_dir(name, 0o700)?;
        }
        let dir = parent.dir.dir(name)?;
        if !merges {
            self.fresh_dir(path, &dir, found.is_some())?;
        }
        if found.is_some() && !merges {
            self.forget_parent();
        }
        self.dress_dir(path, &dir, meta)?;
        self.own.imply(path)
    }

    /// Sees to it that a directory just made at `path` shows nothing of the layers below where it must not: where it
    /// replaced something of this layer's, or where these have something else.
    pub(super) fn fresh_dir(&mut self, path: &LayerPath, dir: &Dir, replaced: bool) -> Result<()> {
        let merged = match &mut self.below {
            Below::Within => false,
            Below::Beside(lowers) => lowers.top(path)?.is_some(),
            Below::Unknown => true,
        };
        if merged && replaced {
            self.set_opaque(dir)?;
        }
        self.own.forget(path);
        self.own.dir_mut(path)?.cleared = !merged || replaced;
        Ok(())
    }

    pub(super) fn set_opaque(&self, dir: &Dir) -> Result<()> {
        let name = self.options.namespace.opaque();
        let set = dir.itself().set_xattr(OsStr::new(name), overlay::OPAQUE_VALUE);
        set.with_context(|| format!("`{name}` (without root, `--userxattr` may help)"))
    }

    fn put_link(&mut self, path: &LayerPath, name: &OsStr, target: &LayerPath) -> Result<()> {
        let missing = || format!("hard link to `{target}`, which is not there");
        let at = target.parent().with_context(|| format!("hard link to `{target}`, which is a directory"))?;
        let at = self.find_dir(&at)?.with_context(missing)?;
        let from = target.name().with_context(missing)?;
        let real = at.join(from)?;
        let seen = self.look(&at, from)?.with_context(missing)?;
        ensure!(seen.kind() != FileType::Directory, "hard link to `{target}`, which is a directory");
        if let Seen::Lower(found) = &seen {
            self.copy_up(&real, &at, from, found)?;
        }
        if real == *path {
            return Ok(());
        }
        ensure!(!real.starts_with(path), "hard link to `{target}`, which it would replace");
        let dir = self.root.dir(&at)?;
        let parent = self.parent.as_ref().context("no directory was entered")?;
        let linked = parent.dir.link(name, &dir, from);
        match linked {
            Err(err) if err.is(Errno::EXIST) => {
                parent.dir.remove(name)?;
                parent.dir.link(name, &dir, from)?;
                self.forget_parent();
                Ok(())
            }
            linked => Ok(linked?),
        }
    }

    /// Puts the lower layers' file at `path` into this layer, so that it can get another name here; its other names too, for
    /// they would be names of another file.
    fn copy_up(&mut self, path: &LayerPath, dir: &LayerPath, name: &OsStr, found: &Found) -> Result<()> {
        let Below::Beside(lowers) = &self.below else { bail!("the file is of no layer below") };
        let source = lowers.dir(found.layer, dir)?;
        let entry = create::read_entry(path, source.place(name), &source)?;
        let mut body: Box<dyn Body> = match entry.node {
            Node::File(_) => Box::new(create::FileBody::new(lowers.open_file(found, dir, name)?)),
            _ => Box::new(crate::change::NoBody),
        };
        let links = if found.stat.st_nlink > 1 { lowers.links(found.layer, found.stat.st_ino)? } else { Vec::new() };
        self.make_dirs(dir, Origin::Lower)?;
        let parent = self.open_parent(dir.clone(), dir.clone())?;
        let verbatim = Options { owner: super::Owner::Same, no_xattrs: false, ..self.options.clone() };
        create::create(&parent.dir, name, &entry, &mut *body, &verbatim, parent.inherits, &mut self.warnings)?;
        for link in links.iter().filter(|link| *link != path) {
            let (Some(at), Some(other)) = (link.parent(), link.name()) else { continue };
            let shown = matches!(self.look(&at, other)?, Some(Seen::Lower(other))
                if other.layer == found.layer && other.stat.st_ino == found.stat.st_ino);
            if shown {
                self.make_dirs(&at, Origin::Lower)?;
                let holder = self.open_parent(at.clone(), at)?;
                holder.dir.link(other, &parent.dir, name)?;
            }
        }
        Ok(())
    }

    /// Leaves the directory entered if a symlink led to it: it may be the one that was just replaced. A directory that
    /// the layer put something into is never removed by the layer but for an entry above it, which then is entered.
    pub(super) fn forget_parent(&mut self) {
        self.parent.take_if(|parent| parent.asked != parent.path);
    }
}

impl Sink for TreeSink {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        let (Some(asked), Some(name)) = (entry.path.parent(), entry.path.name()) else {
            return self.put_root(entry);
        };
        let parent = self.enter(&asked)?;
        let path = parent.path.join(name)?;
        match &entry.node {
            Node::Dir => return self.put_dir(&path, name, &entry.meta),
            Node::Hardlink(target) => self.put_link(&path, name, target)?,
            _ => {
                let parent = self.parent.as_ref().context("no directory was entered")?;
                let made =
                    create::create(&parent.dir, name, entry, body, &self.options, parent.inherits, &mut self.warnings);
                match made {
                    Err(err) if err.downcast_ref().is_some_and(|err: &root::Error| err.is(Errno::EXIST)) => {
                        parent.dir.remove(name)?;
                        let inherits = parent.inherits;
                        create::create(&parent.dir, name, entry, body, &self.options, inherits, &mut self.warnings)?;
                        self.forget_parent();
                    }
                    made => made?,
                }
            }
        }
        self.own.imply(&path.parent().unwrap_or_default())?;
        self.own.add_file(&path);
        Ok(())
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        self.remove(path)
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        self.remove_all_in(path)
    }
}

/// Returns the time of the last modification.
pub(super) fn mtime(stat: &Stat) -> Time {
    Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

//! Paths of a layer resolved in the tree that the container will see, and the directories that they need.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::create;
use super::lowers::{Found, is_whiteout};
use super::own::Origin;
use super::tree::{Below, TreeSink};
use crate::change::{LayerPath, Meta, Time};
use crate::root::{self, Dir};

/// Symlinks followed on one path, as many as the kernel follows.
const LINKS: usize = 40;

/// What the merged tree shows somewhere.
pub(super) enum Seen {
    /// Something in the tree that is written. In plain form that may be a lower layer's.
    Here(Stat),
    /// Something in the directory of a layer below.
    Lower(Found),
}

impl Seen {
    pub(super) fn kind(&self) -> FileType {
        match self {
            Seen::Here(stat) => root::kind(stat),
            Seen::Lower(found) => root::kind(&found.stat),
        }
    }
}

/// How much of a path is there.
enum Step {
    Dir,
    Link(OsString),
    Missing,
    /// Something that is neither; this layer's own stays.
    Other {
        gives_way: bool,
    },
}

impl TreeSink {
    /// Returns what the merged tree shows at `name` in the directory `dir`, whose path is resolved.
    pub(super) fn look(&mut self, dir: &LayerPath, name: &OsStr) -> Result<Option<Seen>> {
        match self.open_dir(dir)? {
            Some(here) => self.look_in(Some(&here), dir, name),
            None => self.look_in(None, dir, name),
        }
    }

    fn look_in(&mut self, here: Option<&Dir>, dir: &LayerPath, name: &OsStr) -> Result<Option<Seen>> {
        if let Some(stat) = here.map(|here| here.stat(name)).transpose()?.flatten() {
            return Ok((!is_whiteout(&stat) || matches!(self.below, Below::Within)).then_some(Seen::Here(stat)));
        }
        match &mut self.below {
            Below::Beside(lowers) if !self.own.is_cleared(dir) => Ok(lowers.look(dir, name)?.map(Seen::Lower)),
            _ => Ok(None),
        }
    }

    /// Opens a directory of the tree that is written, or returns `None` where that has none of this path.
    pub(super) fn open_dir(&self, path: &LayerPath) -> Result<Option<Dir>> {
        match self.root.dir(path) {
            Err(err) if err.is(Errno::NOENT) || err.is(Errno::NOTDIR) || err.is(Errno::LOOP) => Ok(None),
            dir => dir.map(Some).with_context(|| format!("`{path}`")),
        }
    }

    /// Returns the resolved path of the directory `asked`, or `None` where the merged tree has none. Where nobody knows what the
    /// layers below have, what this layer does not have itself is taken to be a directory.
    pub(super) fn find_dir(&mut self, asked: &LayerPath) -> Result<Option<LayerPath>> {
        if let Some(path) = self.entered(asked) {
            return Ok(Some(path));
        }
        let unknown = matches!(self.below, Below::Unknown);
        Ok(self.walk(asked)?.and_then(|(path, there)| (there || unknown).then_some(path)))
    }

    /// Resolves `asked`: returns the path without symlinks, and whether all of it is there. `None` is a path through
    /// something that is no directory.
    fn walk(&mut self, asked: &LayerPath) -> Result<Option<(LayerPath, bool)>> {
        let mut todo: Vec<OsString> = asked.components().map(OsStr::to_owned).collect();
        todo.reverse();
        let mut links = 0;
        let mut path = LayerPath::root();
        // None: not in the tree that is written; it may be in the layers below.
        let mut here = self.open_dir(&path)?;
        let mut there = true;
        while let Some(part) = todo.pop() {
            if part == ".." {
                path = path.parent().unwrap_or_default();
                here = self.open_dir(&path)?;
                there = here.is_some() || self.is_lower_dir(&path)?;
                continue;
            }
            let step = if there { self.step(here.as_ref(), &path, &part)? } else { Step::Missing };
            match step {
                Step::Dir => {
                    path = path.join(&part)?;
                    self.note_mode(here.as_ref(), &part, &path)?;
                    here = match here.take().map(|dir| dir.dir(&part)).transpose() {
                        Err(err) if err.is(Errno::NOENT) => None,
                        dir => dir.with_context(|| format!("`{path}`"))?,
                    };
                }
                Step::Link(target) => {
                    links += 1;
                    ensure!(links <= LINKS, "`{asked}` leads through more than {LINKS} symlinks");
                    if target.as_bytes().starts_with(b"/") {
                        path = LayerPath::root();
                        here = self.open_dir(&path)?;
                    }
                    let parts = target.as_bytes().split(|&b| b == b'/').rev();
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    todo.extend(parts.map(|part| OsStr::from_bytes(part).to_owned()));
                }
                // A lower layer's file gives way to the directory that this layer needs there, but not where a symlink led.
                Step::Other { gives_way: false } => return Ok(None),
                Step::Other { .. } if links > 0 => return Ok(None),
                Step::Missing | Step::Other { .. } => {
                    path = path.join(&part)?;
                    (here, there) = (None, false);
                }
            }
        }
        Ok(Some((path, there)))
    }

    fn step(&mut self, here: Option<&Dir>, path: &LayerPath, part: &OsStr) -> Result<Step> {
        let Some(seen) = self.look_in(here, path, part)? else { return Ok(Step::Missing) };
        Ok(match (seen.kind(), seen) {
            (FileType::Directory, _) => Step::Dir,
            (FileType::Symlink, Seen::Here(_)) => Step::Link(here.context("the directory went away")?.read_link(part)?),
            (FileType::Symlink, Seen::Lower(found)) => {
                let Below::Beside(lowers) = &self.below else { return Ok(Step::Missing) };
                Step::Link(lowers.dir(found.layer, path)?.read_link(part)?)
            }
            (_, Seen::Here(_)) => Step::Other { gives_way: !self.own.is_file(&path.join(part)?) },
            (_, Seen::Lower(_)) => Step::Other { gives_way: true },
        })
    }

    fn is_lower_dir(&mut self, path: &LayerPath) -> Result<bool> {
        match &mut self.below {
            Below::Beside(lowers) if !self.own.is_cleared(path) => Ok(path.is_root() || lowers.top(path)?.is_some()),
            _ => Ok(false),
        }
    }

    /// Resolves the directory `asked` and makes what is missing of it; returns the resolved path. `origin` says whether
    /// the layer puts something into it, or only hides something in it.
    pub(super) fn make_dirs(&mut self, asked: &LayerPath, origin: Origin) -> Result<LayerPath> {
        if let Some(path) = self.entered(asked) {
            return Ok(path);
        }
        // Mostly it is there and no symlink leads to it: one call tells.
        let path = if self.root.dir(asked).is_ok() {
            asked.clone()
        } else {
            let (path, _) = self.walk(asked)?.with_context(|| format!("`{asked}` is not a directory"))?;
            self.make(&path)?;
            path
        };
        if origin == Origin::Implied {
            self.own.imply(&path)?;
        }
        Ok(path)
    }

    /// Makes what is missing of a resolved path.
    fn make(&mut self, path: &LayerPath) -> Result<()> {
        let mut at = LayerPath::root();
        let mut dir = self.root.dir(&at)?;
        for part in path.components() {
            let next = at.join(part)?;
            let found = dir.stat(part)?;
            let kind = found.as_ref().map(root::kind);
            if kind == Some(FileType::Directory) {
                self.note_mode(Some(&dir), part, &next)?;
                dir = dir.dir(part)?;
            } else {
                if kind.is_some() && self.own.is_file(&next) {
                    bail!("`{next}` is not a directory");
                }
                let time = mtime_of(&dir)?;
                if kind.is_some() {
                    dir.remove(part)?;
                    self.forget_parent();
                }
                dir.make_dir(part, 0o700)?;
                self.own.dir_mut(&at)?.mtime.get_or_insert(time);
                dir = dir.dir(part)?;
                let below = if found.is_some() { None } else { self.lower_meta(&at, Some(part))? };
                self.fresh_dir(&next, &dir, found.is_some())?;
                match below {
                    Some(meta) => self.copy_meta(&next, &dir, &meta)?,
                    None => self.default_meta(&next, &dir)?,
                }
            }
            at = next;
        }
        Ok(())
    }

    /// Remembers the mode of the directory `path`, `name` in `dir`, if opening it will change that to let us in.
    fn note_mode(&mut self, dir: Option<&Dir>, name: &OsStr, path: &LayerPath) -> Result<()> {
        let Some(dir) = dir.filter(|_| !rustix::process::geteuid().is_root()) else { return Ok(()) };
        let mode = dir.stat(name)?.map_or(0o700, |stat| stat.st_mode & 0o7777);
        if mode & 0o700 != 0o700 {
            self.own.dir_mut(path)?.mode.get_or_insert(mode);
        }
        Ok(())
    }

    /// Returns the metadata that the layers below show of a directory: `name` in `dir`, or `dir` itself.
    pub(super) fn lower_meta(&mut self, dir: &LayerPath, name: Option<&OsStr>) -> Result<Option<Meta>> {
        let path = name.map_or_else(|| Ok(dir.clone()), |name| dir.join(name))?;
        if self.own.is_cleared(dir) {
            return Ok(None);
        }
        let Below::Beside(lowers) = &mut self.below else { return Ok(None) };
        if lowers.is_empty() {
            return Ok(None);
        }
        let Some(layer) = lowers.top(&path)? else { return Ok(None) };
        create::read_meta(lowers.dir(layer, &path)?.itself()).map(Some)
    }

    /// Gives a directory of which this layer has no entry what the layers below show of it.
    pub(super) fn copy_meta(&mut self, path: &LayerPath, dir: &Dir, meta: &Meta) -> Result<()> {
        for (name, value) in &meta.xattrs {
            dir.itself().set_xattr(name, value).with_context(|| format!("`{path}`"))?;
        }
        let stat = dir.itself().stat()?;
        if (stat.st_uid, stat.st_gid) != (meta.uid, meta.gid) {
            dir.itself().set_owner(meta.uid, meta.gid).with_context(|| format!("`{path}`"))?;
        }
        let state = self.own.dir_mut(path)?;
        (state.mode, state.mtime) = (Some(meta.mode), Some(meta.mtime));
        Ok(())
    }

    /// Gives a directory that no layer describes what every tool gives it: 0755, root's; and a time that is always the same.
    pub(super) fn default_meta(&mut self, path: &LayerPath, dir: &Dir) -> Result<()> {
        let meta = Meta { mode: 0o755, mtime: Time::default(), ..Meta::default() };
        create::drop_xattrs(dir.itself(), &[], &self.options).with_context(|| format!("`{path}`"))?;
        create::set_owner(dir.itself(), &meta, &self.options.owner).with_context(|| format!("`{path}`"))?;
        let state = self.own.dir_mut(path)?;
        (state.mode, state.mtime) = (Some(meta.mode), Some(meta.mtime));
        Ok(())
    }

    /// Returns the resolved path of `asked` if it is the directory entered.
    fn entered(&self, asked: &LayerPath) -> Option<LayerPath> {
        self.parent.as_ref().and_then(|parent| parent.resolved(asked))
    }
}

fn mtime_of(dir: &Dir) -> Result<Time> {
    Ok(super::tree::mtime(&dir.itself().stat()?))
}

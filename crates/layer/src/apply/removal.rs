//! Whiteouts: what the layers below put goes, what this layer put stays.

use std::ffi::OsStr;

use anyhow::{Result, bail};
use rustix::fs::FileType;

use super::own::Origin;
use super::tree::{Below, TreeSink};
use super::walk::Seen;
use crate::change::{Device, LayerPath};

impl TreeSink {
    /// Removes what the layers below have at `asked`.
    pub(super) fn remove(&mut self, asked: &LayerPath) -> Result<()> {
        let (Some(at), Some(name)) = (asked.parent(), asked.name()) else { bail!("the root cannot be removed") };
        let Some(dir) = self.find_dir(&at)? else { return Ok(()) };
        let path = dir.join(name)?;
        if self.own.is_file(&path) {
            return Ok(());
        }
        match self.own.dir(&path).map(|state| state.origin) {
            Some(origin @ (Origin::Implied | Origin::Entry)) => {
                if origin == Origin::Implied {
                    self.reset(&path)?;
                }
                self.hide_all_in(&path)
            }
            Some(Origin::Lower) | None => self.hide(&dir, name),
        }
    }

    /// Takes away what is at `name` and is not this layer's.
    fn hide(&mut self, dir: &LayerPath, name: &OsStr) -> Result<()> {
        let hidden = self.own.is_cleared(dir);
        let path = dir.join(name)?;
        let there = match &mut self.below {
            Below::Within => self.root.dir(dir)?.stat(name)?.is_some(),
            Below::Beside(lowers) => !hidden && lowers.look(dir, name)?.is_some(),
            Below::Unknown => !hidden,
        };
        if !there {
            // The kernel would show a whiteout that hides nothing as an entry that cannot be read.
            return Ok(());
        }
        let resolved = self.make_dirs(dir, Origin::Lower)?;
        let holder = self.open_parent(resolved.clone(), resolved)?;
        if holder.dir.remove(name)? {
            self.own.forget(&path);
            self.forget_parent();
        }
        if !matches!(self.below, Below::Within) {
            holder.dir.device(name, FileType::CharacterDevice, 0, Device::WHITEOUT)?;
        }
        Ok(())
    }

    /// Removes what the layers below have in the directory `asked`, and leaves the directory.
    pub(super) fn remove_all_in(&mut self, asked: &LayerPath) -> Result<()> {
        let (Some(at), Some(name)) = (asked.parent(), asked.name()) else { return self.remove_all() };
        let at = self.make_dirs(&at, Origin::Implied)?;
        let path = at.join(name)?;
        // A marker makes no directory of a file, and is not for the directory that a symlink names.
        match self.look(&at, name)? {
            Some(seen) if seen.kind() != FileType::Directory => return Ok(()),
            Some(Seen::Here(_)) => {}
            Some(Seen::Lower(_)) | None => {
                self.make_dirs(&path, Origin::Implied)?;
            }
        }
        self.own.imply(&path)?;
        self.hide_all_in(&path)
    }

    /// Removes all that the layers below have.
    fn remove_all(&mut self) -> Result<()> {
        let root = LayerPath::root();
        if self.own.is_cleared(&root) {
            return Ok(());
        }
        match &mut self.below {
            Below::Within => return self.hide_all_in(&root),
            Below::Unknown => {
                bail!("an opaque root has no overlay form without the layers below (name them with `--lower`)")
            }
            // The kernel takes no root as opaque, so each name goes by itself.
            Below::Beside(lowers) => {
                for name in lowers.names()? {
                    self.remove(&root.join(&name)?)?;
                }
            }
        }
        self.own.dir_mut(&root)?.cleared = true;
        Ok(())
    }

    /// Takes away all in the layer's own directory `path` that is not this layer's, at any depth.
    fn hide_all_in(&mut self, path: &LayerPath) -> Result<()> {
        if self.own.is_cleared(path) {
            return Ok(());
        }
        let Some(dir) = self.open_dir(path)? else { return Ok(()) };
        let merged = match &mut self.below {
            Below::Within => false,
            Below::Beside(lowers) => lowers.top(path)?.is_some(),
            Below::Unknown => true,
        };
        if merged {
            self.set_opaque(&dir)?;
        }
        let mut todo = vec![path.clone()];
        while let Some(at) = todo.pop() {
            let holder = self.open_parent(at.clone(), at.clone())?;
            for name in holder.dir.names()? {
                let child = at.join(&name)?;
                if !self.own.holds(&child) {
                    holder.dir.remove(&name)?;
                    self.own.forget(&child);
                } else if self.own.dir(&child).is_some_and(|state| !state.cleared) {
                    if self.own.dir(&child).is_some_and(|state| state.origin == Origin::Implied) {
                        self.reset(&child)?;
                    }
                    todo.push(child);
                }
            }
        }
        self.forget_parent();
        self.own.dir_mut(path)?.cleared = true;
        Ok(())
    }

    /// Takes from a directory, which the layer only implies, what the layers below say of it.
    fn reset(&mut self, path: &LayerPath) -> Result<()> {
        match self.open_dir(path)? {
            Some(dir) => self.default_meta(path, &dir),
            None => Ok(()),
        }
    }
}

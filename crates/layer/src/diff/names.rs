//! Which names of a tree are one file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::vec;

use anyhow::{Context, Result};
use rustix::fs::FileType;

use super::tree::{Dir, Tree};
use crate::change::LayerPath;

/// All names of the files that have several in a tree, each list in the order of the walk.
pub(super) struct Names(HashMap<(u64, u64), Vec<LayerPath>>);

struct Frame {
    path: LayerPath,
    rest: vec::IntoIter<OsString>,
    /// Closed while the walk is further down.
    open: Option<Dir>,
}

impl Names {
    /// Walks through a tree.
    pub(super) fn read(tree: &Tree) -> Result<Self> {
        let mut names = HashMap::<_, Vec<LayerPath>>::new();
        let mut frames = vec![Frame::open(tree, LayerPath::root())?];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.rest.next() else {
                frames.pop();
                continue;
            };
            let path = frame.path.join(&name)?;
            let dir = match &mut frame.open {
                Some(dir) => dir,
                closed => closed.insert(tree.open_dir(&frame.path)?),
            };
            let stat = dir.stat(&name).with_context(|| path.to_string())?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                frame.open = None;
                let below = Frame::open(tree, path.clone()).with_context(|| path.to_string())?;
                frames.push(below);
            } else if stat.st_nlink > 1 {
                names.entry((stat.st_dev, stat.st_ino)).or_default().push(path);
            }
        }
        names.retain(|_, paths| paths.len() > 1);
        Ok(Self(names))
    }

    /// Returns the names of a file by its device and inode number; none if it has only one.
    pub(super) fn of(&self, id: (u64, u64)) -> &[LayerPath] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }
}

impl Frame {
    fn open(tree: &Tree, path: LayerPath) -> Result<Self> {
        let dir = tree.open_dir(&path)?;
        Ok(Self { path, rest: dir.names()?.into_iter(), open: Some(dir) })
    }
}

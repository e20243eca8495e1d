//! A store of unpacked layers: a directory that holds one directory in overlay form a layer, named by the ChainID, so that
//! images which share a stack share its directories.
//!
//! What is there by that name is whole: it was built under another one, verified, and renamed. Nothing else is kept, so any
//! file system, and any tool, can copy a store or part of it.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

use crate::apply::{Destination, Lowers, Options, Select, TreeSink};
use crate::change::LayerPath;
use crate::confine::Confinement;
use crate::digest::{self, ChainId, Digest};
use crate::record::LayerRecord;
use crate::root::{NewDir, Root};
use crate::stream::Expected;
use crate::unpack::unpack;

/// An opened store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: Root,
}

/// What adding a layer gave.
#[derive(Debug)]
pub enum Added {
    /// It was unpacked; what could not be kept, as messages.
    Unpacked(Vec<String>),
    /// It is there already and was left alone.
    AlreadyExists,
}

impl Store {
    /// Opens the store at `path`; a directory that is missing is made, but not its parents.
    ///
    /// # Errors
    /// What making and opening the directory give.
    pub fn open(path: &Path) -> Result<Self> {
        match fs::create_dir(path) {
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.context("cannot make the directory")?,
        }
        let root = Root::open(path)?;
        let path = fs::canonicalize(path).context("cannot find the absolute path")?;
        Ok(Self { path, root })
    }

    /// Adds to `confinement` what writing here takes.
    ///
    /// # Errors
    /// What duplicating the descriptor gives.
    pub fn keep(&self, confinement: Confinement) -> Result<Confinement> {
        confinement.writes(self.root.as_fd())
    }

    /// Returns the absolute path of the directory of a layer, whether it is there or not.
    pub fn path_of(&self, chain_id: ChainId) -> PathBuf {
        self.path.join(chain_id.hex())
    }

    /// Says whether a layer is there.
    ///
    /// # Errors
    /// What looking gives; something there that is no directory.
    pub fn has(&self, chain_id: ChainId) -> Result<bool> {
        match Root::open(&self.path_of(chain_id)) {
            Err(err) if err.is_missing() => Ok(false),
            found => Ok(found.map(|_| true)?),
        }
    }

    /// Unpacks the top layer of the stack `chain`, base first, unless it is there. The others have to be. `open` is called for the
    /// blob only if it is needed, and the blob has to be the `expected` one.
    ///
    /// # Errors
    /// Whatever opening, unpacking and checking give; nothing stays of the layer then.
    pub fn add<R: Read + Send + 'static>(
        &self,
        chain: &[ChainId],
        expected: &Expected,
        max_size: Option<u64>,
        options: &Options,
        open: impl FnOnce() -> Result<R>,
    ) -> Result<Added> {
        let Some((&top, below)) = chain.split_last() else { bail!("a stack of no layers has no top") };
        if self.has(top)? {
            return Ok(Added::AlreadyExists);
        }
        let _lock = self.lock()?;
        if self.has(top)? {
            // Another process was quicker.
            return Ok(Added::AlreadyExists);
        }
        let below: Vec<_> = below.iter().map(|&chain_id| self.path_of(chain_id)).collect();
        let lowers = Lowers::open(&below, options.namespace).context("the layers below have to be in the store")?;
        let destination = Destination::open(&self.path_of(top))?;
        let sink = TreeSink::overlay(destination.root()?, Some(lowers), options.clone())?;
        let unpacked = unpack(open()?, expected, max_size, &Select::default(), sink)?;
        destination.finish()?;
        Ok(Added::Unpacked(unpacked.warnings))
    }

    /// Waits until no other process writes to the store, and removes what those left that were killed.
    fn lock(&self) -> Result<Lock<'_>> {
        let lock = || rustix::fs::flock(self.root.as_fd(), FlockOperation::LockExclusive);
        rustix::io::retry_on_intr(lock).context("cannot lock the store")?;
        let lock = Lock { root: &self.root };
        let dir = self.root.dir(&LayerPath::root())?;
        for name in dir.names()?.iter().filter(|name| is_leftover(name)) {
            dir.remove(name).context("cannot remove what a run before left")?;
        }
        Ok(lock)
    }
}

/// The right to write to a store; gone when dropped.
struct Lock<'a> {
    root: &'a Root,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // It goes with the descriptor at the latest.
        let _ = rustix::fs::flock(self.root.as_fd(), FlockOperation::Unlock);
    }
}

/// Says whether a directory was to become that of a layer.
fn is_leftover(name: &OsString) -> bool {
    let digits = name.as_bytes().get(1..65).and_then(|digits| str::from_utf8(digits).ok());
    digits.is_some_and(|digits| Digest::from_hex(digits).is_ok() && NewDir::is_leftover(name, digits.as_ref()))
}

/// The stack that a sequence of records builds, base first.
#[derive(Debug, Default)]
pub struct Chain {
    ids: Vec<ChainId>,
    image: Option<OsString>,
}

impl Chain {
    /// Takes the next record and returns the stack with its layer on top. ChainIDs are computed from the DiffIDs; where the
    /// record has some, they have to be these. A base layer starts another stack: one without `parent`, or, where no
    /// record has ChainIDs, the first of another image.
    ///
    /// # Errors
    /// A record without `diffId`; [`digest::Mismatch`] for a ChainID or a parent that is another.
    pub fn push(&mut self, record: &LayerRecord) -> Result<&[ChainId]> {
        let diff_id = *LayerRecord::require(&record.diff_id, "diffId")?;
        let starts = match record.chain_id {
            Some(chain_id) => record.parent.is_none() && chain_id == ChainId::extend(None, diff_id),
            None => record.parent.is_none() && record.image != self.image,
        };
        if starts {
            self.ids.clear();
        }
        self.image.clone_from(&record.image);
        let below = self.ids.last().copied();
        if let Some(parent) = &record.parent {
            let below = below.map_or("none".to_owned(), |below| below.to_string());
            let expected = "is not on top of the one before (expected all layers of an image, base first)";
            digest::check("parent", &parent.to_string(), &below).context(expected)?;
        }
        let chain_id = ChainId::extend(below, diff_id);
        if let Some(found) = &record.chain_id {
            digest::check("ChainID", found, &chain_id)?;
        }
        self.ids.push(chain_id);
        Ok(&self.ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DiffId;

    fn diff_id(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    fn record(text: &str, image: &str, ids: Option<(ChainId, Option<ChainId>)>) -> LayerRecord {
        let (chain_id, parent) = ids.map_or((None, None), |(chain_id, parent)| (Some(chain_id), parent));
        LayerRecord {
            diff_id: Some(diff_id(text)),
            image: Some(image.into()),
            chain_id,
            parent,
            ..LayerRecord::default()
        }
    }

    #[test]
    fn stacks_follow_the_records() {
        let ids = ChainId::chain(["a", "b", "a"].map(diff_id));
        let other = ChainId::chain(["a", "a"].map(diff_id));
        let mut chain = Chain::default();
        for (text, image, want) in [
            ("a", "x", &ids[..1]),
            ("b", "x", &ids[..2]),
            ("a", "x", &ids),
            ("a", "y", &other[..1]),
            ("a", "y", &other),
        ] {
            assert_eq!(chain.push(&record(text, image, None)).unwrap(), want);
        }
        let mut chain = Chain::default();
        for (text, at) in [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("b", 1)] {
            let parent = (at > 0).then(|| ids[at - 1]);
            assert_eq!(chain.push(&record(text, "x", Some((ids[at], parent)))).unwrap(), &ids[..=at]);
        }
    }

    #[test]
    fn chain_ids_are_not_believed() {
        let ids = ChainId::chain(["a", "b"].map(diff_id));
        for (found, parent, want) in
            [(ids[1], None, "ChainID is"), (ids[1], Some(ids[0]), "parent is"), (ids[0], Some(ids[0]), "parent is")]
        {
            let err = Chain::default().push(&record("b", "x", Some((found, parent)))).unwrap_err();
            assert!(format!("{err:#}").contains(want), "{err:#}");
            assert_eq!(crate::cli::Status::of(&err), crate::cli::Status::Different);
        }
        assert!(Chain::default().push(&LayerRecord::default()).unwrap_err().to_string().contains("`diffId`"));
    }

    #[test]
    fn a_layer_is_whole_or_absent_and_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        let tar = vec![0; 1024];
        let chain = ChainId::chain([DiffId(Digest::of(&tar))]);
        let left = path.join(format!(".{}.0123ab", chain[0].hex()));
        std::fs::create_dir_all(left.join("x")).unwrap();
        let expected = Expected { diff_id: Some(DiffId(Digest::of(&tar))), ..Expected::default() };
        let wrong = Expected { diff_id: Some(diff_id("wrong")), ..Expected::default() };
        let options = Options::default();
        let add = |expected: &Expected| {
            let blob = std::io::Cursor::new(tar.clone());
            store.add(&chain, expected, None, &options, || Ok(blob))
        };
        assert!(add(&wrong).unwrap_err().is::<digest::Mismatch>());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        assert!(matches!(add(&expected).unwrap(), Added::Unpacked(_)));
        assert!(matches!(add(&expected).unwrap(), Added::AlreadyExists));
        assert!(store.path_of(chain[0]).is_dir());
    }
}

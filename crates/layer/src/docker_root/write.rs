//! Writing to a data root that no daemon runs on, in the steps that the daemon takes itself, so that it starts on the root
//! whenever this is cut short.
//!
//! A layer is built under names that nothing refers to, and is there with one rename. Images come after their layers, names
//! after their images. What a killed run has left says so by its name, and the next run removes it.

mod cache;
mod layer;
mod leftovers;
mod lock;
mod names;
mod new;
mod sink;

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Driver, Store};
use crate::change::LayerPath;
use crate::digest::{self, ChainId, Digest, ImageId};
use crate::root::{Dir, Root};

pub use cache::Cache;
pub use layer::{LayerSource, Written};
pub use lock::Lock;

/// Layers that the daemon stacks at most.
pub const MAX_LAYERS: usize = 125;

/// A data root, locked for writing. The locks go with it.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    cache: Cache,
    _lock: Lock,
}

impl Writer {
    /// Opens the data root at `path`, which is made where it is missing or empty: for `driver`, or overlay2. What killed runs
    /// left is removed.
    ///
    /// # Errors
    /// A daemon that runs on the root; a directory that is something else; a driver that is not the one asked for, or that
    /// cannot be written.
    pub fn open(path: &Path, driver: Option<Driver>) -> Result<Self> {
        let made = new::make_dir(path)?;
        let root = Root::open(path)?;
        let lock = Lock::take(&root)?;
        let driver = if made || !Store::is_at(path) {
            new::check_empty(&root)?;
            driver.unwrap_or(Driver::Overlay2)
        } else {
            let store = Store::open_driver(path, driver.filter(|driver| *driver == Driver::Vfs).map(Driver::name))?;
            let found = store.driver();
            ensure!(
                store.path() == std::path::absolute(path).context("has no absolute path")?,
                "belongs to the user namespace {} (name that directory)",
                store.path().file_name().unwrap_or_default().display()
            );
            ensure!(driver.is_none_or(|driver| driver == found), "is a data root of the driver {found}");
            found
        };
        ensure!(
            matches!(driver, Driver::Overlay2 | Driver::Vfs),
            "is a data root of the driver {driver}, expected overlay2 or vfs: others are only read"
        );
        new::make_dirs(&root, driver)?;
        let writer = Self {
            store: Store::open_driver(path, Some(driver.name()))?,
            cache: Cache::new(root, driver),
            _lock: lock,
        };
        leftovers::remove(&writer)?;
        Ok(writer)
    }

    /// Returns the data root for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Says whether the root has the layer at its place in a stack, with all that the daemon asks of one.
    ///
    /// # Errors
    /// A layer that is damaged: then it cannot be written either.
    pub fn has_layer(&self, chain_id: ChainId) -> Result<bool> {
        let hint = "a damaged layer is in the way";
        let Some(layer) = self.store.layer(chain_id).context(hint)? else { return Ok(false) };
        digest::check("ChainID of parent and diff", &ChainId::extend(layer.parent, layer.diff_id), &chain_id)
            .context(hint)?;
        self.store.layer_dir(&layer).context(hint)?;
        Ok(true)
    }

    /// Writes an image's configuration, whose layers are there. Returns its ImageID, and whether it is new.
    ///
    /// # Errors
    /// What writing gives.
    pub fn add_image(&self, config: &[u8]) -> Result<(ImageId, bool)> {
        let id = ImageId(Digest::of(config));
        if self.store.config(id).is_ok() {
            return Ok((id, false));
        }
        let dir = self.image_dir("imagedb/content/sha256")?;
        dir.replace(OsStr::new(&id.hex()), 0o600, config).context("imagedb")?;
        Ok((id, true))
    }

    /// Opens a directory below `image/DRIVER`.
    fn image_dir(&self, name: &str) -> Result<Dir> {
        let path = format!("image/{}/{name}", self.store.driver());
        self.cache.root().dir(&LayerPath::parse(path.as_bytes())?).context(path)
    }
}

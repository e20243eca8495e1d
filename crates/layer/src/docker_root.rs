//! Docker's data root (`/var/lib/docker`), read without a daemon; the only place that knows Docker's words for its parts.
//!
//! `image/DRIVER/` says what there is: `imagedb` the configurations, `layerdb` the layers and the containers' places on them,
//! `repositories.json` the names. `DRIVER/` holds the layers' files, one directory each, of a random name, the cache-id. A
//! layer's tar is not kept: tar-split and the files make it anew.
//!
//! Nothing is written, locked or mounted. A daemon that runs on the root changes it meanwhile; what is read of images and
//! layers is never changed in place, so that it is whole or not there.

mod container;
mod dir;
mod driver;
mod images;
mod layers;
mod rebuild;
mod size;
mod usage;
pub mod write;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::digest::Digest;

pub use container::{Container, Mount};
pub use dir::Dir;
pub use driver::{Driver, Form};
pub use images::{Repositories, Repository};
pub use layers::Layer;
pub use size::files_size;
pub use usage::{ContainerUsage, ImageUsage, Usage, containers_table, sizes_table};

/// A data root.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    path: PathBuf,
    driver: Driver,
    /// `image/DRIVER`.
    image: Dir,
}

impl Store {
    /// Opens the data root at `path`, with the driver that `DOCKER_DRIVER` names or that the daemon would find. A root
    /// that was only used with user namespaces is the one `UID.GID` directory in it.
    ///
    /// # Errors
    /// What is no data root, one of several drivers or user namespaces, and a driver whose layers cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let asked = std::env::var("DOCKER_DRIVER").ok().filter(|name| !name.is_empty());
        Self::open_driver(path, asked.as_deref())
    }

    /// Opens the data root at `path` with the driver that is asked for by its name, or that the daemon would find.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_driver(path: &Path, driver: Option<&str>) -> Result<Self> {
        let mut path = std::path::absolute(path).context("has no absolute path")?;
        let mut root = Dir::open(&path)?;
        if root.dir("image")?.is_none()
            && let Some(name) = remapped(&root)?
        {
            path.push(&name);
            root = Dir::open(&path).context(name)?;
        }
        let driver = Driver::find(&root, driver)?;
        let image = format!("image/{driver}");
        let image = root.dir(&image)?.with_context(|| format!("{image}: is missing (no image was ever in it)"))?;
        Ok(Self { root, path, driver, image })
    }

    /// Says whether the directory at `path` looks like a data root: it has `image/DRIVER/layerdb`, itself or in the
    /// directory of a user namespace.
    pub fn is_at(path: &Path) -> bool {
        let has_layers = |root: &Dir| {
            let image = root.dir("image").ok().flatten()?;
            let drivers = image.names().ok()?;
            drivers.iter().any(|name| matches!(image.dir(&format!("{name}/layerdb")), Ok(Some(_)))).then_some(())
        };
        let Ok(root) = Dir::open(path) else { return false };
        let below = || root.dir(&remapped(&root).ok()??).ok()?;
        has_layers(&root).is_some() || below().is_some_and(|root| has_layers(&root).is_some())
    }

    /// Returns the storage driver.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Returns the absolute path of the data root, or of the user namespace's directory in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the data root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Returns `image/DRIVER`.
    pub fn image_dir(&self) -> &Dir {
        &self.image
    }
}

/// Returns the name of the one directory that a daemon with `--userns-remap` has made its data root.
fn remapped(root: &Dir) -> Result<Option<String>> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_remapped = |name: &String| name.split_once('.').is_some_and(|(uid, gid)| number(uid) && number(gid));
    let mut names: Vec<String> = root.names()?.into_iter().filter(is_remapped).collect();
    ensure!(names.len() <= 1, "has the data roots of several user namespaces: {} (name one)", names.join(", "));
    Ok(names.pop())
}

/// Reads a file that holds one digest, which the daemon trims.
fn trimmed_digest(dir: &Dir, name: &str) -> Result<Option<Digest>> {
    let Some(text) = dir.text(name)? else { return Ok(None) };
    text.trim().parse().map(Some).with_context(|| dir.name(name))
}

/// Returns what has to be there.
fn required<T>(found: Option<T>, dir: &Dir, name: &str) -> Result<T> {
    match found {
        Some(found) => Ok(found),
        None => bail!("{}: is missing", dir.name(name)),
    }
}

/// Returns the digests among names, which other files may stand beside.
fn digests(names: Vec<String>) -> impl Iterator<Item = Digest> {
    names.into_iter().filter_map(|name| Digest::from_hex(&name).ok())
}

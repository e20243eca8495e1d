//! The directories of a data root.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{self, CWD, Mode};
use rustix::io::Errno;

use crate::change::{Escaped, LayerPath};
use crate::docker_root::Driver;
use crate::root::{Dir, Root};

/// Makes the directory at `path` if there is none, and says whether it was made.
pub(super) fn make_dir(path: &Path) -> Result<bool> {
    match fs::mkdirat(CWD, path, Mode::from_raw_mode(0o710)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno).context("cannot make the directory"),
    }
}

/// Refuses a directory that holds something else than a run of this one may have made before it was killed.
pub(super) fn check_empty(root: &Root) -> Result<()> {
    let names = root.dir(&LayerPath::root())?.names()?;
    let foreign = names.iter().find(|name| !["image", "overlay2", "vfs", "lost+found"].iter().any(|own| *name == own));
    if let Some(name) = foreign {
        let name = Escaped(name.as_encoded_bytes());
        ensure!(
            !names.iter().any(|name| name == "containerd"),
            "has no graph driver's images: its daemon keeps them in containerd's store, which is only read"
        );
        anyhow::bail!("is neither a data root of Docker nor empty: it holds `{name}`");
    }
    Ok(())
}

/// Makes what is missing of the directories that layers and images need, each with the mode that the daemon gives it.
pub(super) fn make_dirs(root: &Root, driver: Driver) -> Result<()> {
    let image = format!("image/{driver}");
    let metadata: &[(&str, u32)] = &[
        ("", 0o700),
        ("/imagedb", 0o700),
        ("/imagedb/content", 0o700),
        ("/imagedb/content/sha256", 0o700),
        ("/imagedb/metadata", 0o700),
        ("/imagedb/metadata/sha256", 0o700),
        ("/layerdb", 0o700),
        ("/layerdb/sha256", 0o755),
        ("/layerdb/tmp", 0o755),
    ];
    // The driver's come first: metadata without them is that of a driver which is gone.
    ensure_dir(root, driver.name(), if driver == Driver::Vfs { 0o701 } else { 0o710 })?;
    match driver {
        Driver::Vfs => ensure_dir(root, "vfs/dir", 0o701)?,
        _ => ensure_dir(root, "overlay2/l", 0o700)?,
    }
    ensure_dir(root, "image", 0o700)?;
    for (name, mode) in metadata {
        ensure_dir(root, &format!("{image}{name}"), *mode)?;
    }
    Ok(())
}

fn ensure_dir(root: &Root, name: &str, mode: u32) -> Result<()> {
    let path = LayerPath::parse(name.as_bytes())?;
    let (parent, last) = (path.parent().unwrap_or_default(), path.name().unwrap_or(OsStr::new(".")));
    let make = || {
        let parent: Dir = root.dir(&parent)?;
        if parent.stat(last)?.is_none() {
            parent.make_dir(last, mode)?;
            parent.dir(last)?.itself().set_mode(mode)?;
            parent.sync()?;
        }
        anyhow::Ok(())
    };
    make().with_context(|| name.to_owned())
}

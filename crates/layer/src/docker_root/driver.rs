//! Storage drivers: where each keeps a layer's files and in what form, and how the one that a root belongs to is found.
//!
//! The metadata, `image/DRIVER/`, is the same for all; what differs between them is here and nowhere else.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use super::dir::Dir;
use crate::change::LayerPath;
use crate::limits;

/// A storage driver of Docker's whose directories can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A directory of changes a layer, in overlayfs's form.
    Overlay2,
    /// As overlay2, with whiteouts by their names in the tar.
    FuseOverlayfs,
    /// A directory of changes a layer, with whiteouts by their names in the tar.
    Aufs,
    /// The first overlay driver: layers are whole trees, containers are upperdirs.
    Overlay,
    /// A subvolume a layer, a whole tree.
    Btrfs,
    /// A directory a layer, a whole tree.
    Vfs,
}

/// What the directory of a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What the layer changes, as overlayfs has it.
    Overlay,
    /// What the layer changes, removals as files with the names that they have in the tar.
    Literal,
    /// The whole tree, with the layers below.
    Tree,
}

impl Driver {
    /// The drivers in the order in which the daemon looks for them; it takes vfs last and never beside another.
    pub const ALL: [Driver; 6] =
        [Self::Btrfs, Self::Overlay2, Self::FuseOverlayfs, Self::Aufs, Self::Overlay, Self::Vfs];

    /// Returns the name, which its directories have as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay2 => "overlay2",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Aufs => "aufs",
            Self::Overlay => "overlay",
            Self::Btrfs => "btrfs",
            Self::Vfs => "vfs",
        }
    }

    /// Returns the driver of that name.
    ///
    /// # Errors
    /// A driver whose layers are not files that could be read, and a name that none has.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some(driver) = Self::ALL.into_iter().find(|driver| driver.name() == name) {
            return Ok(driver);
        }
        ensure!(
            !UNREADABLE.contains(&name),
            "the storage driver is {name}, whose layers are no directories below the data root (save the images with a \
             daemon that has it)"
        );
        bail!("`{name}` is not a storage driver of Docker")
    }

    /// Finds the driver of a data root as the daemon does: the one that was `asked` for, or the one that left something
    /// behind.
    ///
    /// # Errors
    /// Several, none, and one that cannot be read.
    pub fn find(root: &Dir, asked: Option<&str>) -> Result<Self> {
        if let Some(name) = asked {
            return Self::parse(name).context("DOCKER_DRIVER");
        }
        let names = Self::ALL.into_iter().map(Self::name).filter(|name| *name != "vfs").chain(UNREADABLE);
        let mut prior = Vec::new();
        for name in names {
            // What is no directory of a driver is none, as a file of the name of one.
            if let Ok(Some(dir)) = root.dir(name)
                && !dir.names()?.is_empty()
            {
                prior.push(name);
            }
        }
        match prior[..] {
            [one] => Self::parse(one),
            [] if root.dir("image/vfs")?.is_some() || root.dir("vfs/dir")?.is_some() => Ok(Self::Vfs),
            [] => bail!("has no directory of a storage driver: not a data root of Docker"),
            _ => bail!("has several storage drivers: {} (choose with DOCKER_DRIVER=NAME)", prior.join(", ")),
        }
    }

    /// Says what a layer's directory holds.
    pub fn form(self) -> Form {
        match self {
            Self::Overlay2 => Form::Overlay,
            Self::FuseOverlayfs | Self::Aufs => Form::Literal,
            Self::Overlay | Self::Btrfs | Self::Vfs => Form::Tree,
        }
    }

    /// Returns the directory of the layer `id`, from the data root on.
    pub fn layer(self, id: &str) -> String {
        match self {
            Self::Overlay2 | Self::FuseOverlayfs => format!("{}/{id}/diff", self.name()),
            Self::Aufs => format!("aufs/diff/{id}"),
            Self::Overlay => format!("overlay/{id}/root"),
            Self::Btrfs => format!("btrfs/subvolumes/{id}"),
            Self::Vfs => format!("vfs/dir/{id}"),
        }
    }

    /// Returns the directory of a container's own files, or of its init layer, from the data root on.
    pub fn writable(self, id: &str) -> String {
        match self {
            Self::Overlay => format!("overlay/{id}/upper"),
            _ => self.layer(id),
        }
    }

    /// Says what a container's own directory holds. What fuse-overlayfs wrote while a container ran may be in either form.
    pub fn writable_form(self) -> Form {
        match self {
            Self::Overlay | Self::FuseOverlayfs => Form::Overlay,
            _ => self.form(),
        }
    }

    /// Returns the directories below that of the layer, init layer or container `id`, base first, from the data root on: what
    /// the driver would mount under it. None where its own directory is the whole tree.
    ///
    /// # Errors
    /// A file of the driver that is missing, damaged or leads out of its directory.
    pub fn lowers(self, root: &Dir, id: &str) -> Result<Vec<String>> {
        let mut lowers = match self {
            Self::Vfs | Self::Btrfs => Vec::new(),
            Self::Overlay2 | Self::FuseOverlayfs => self.overlay_lowers(root, id)?,
            Self::Aufs => aufs_lowers(root, id)?,
            Self::Overlay => {
                let lower = root.text(&format!("overlay/{id}/lower-id"))?;
                lower.map(|lower| self.layer(lower.trim())).into_iter().collect()
            }
        };
        lowers.reverse();
        Ok(lowers)
    }

    /// Reads `lower`: `l/LINK` or any other relative path, the immediate parent first.
    fn overlay_lowers(self, root: &Dir, id: &str) -> Result<Vec<String>> {
        let file = format!("{}/{id}/lower", self.name());
        let Some(text) = root.text(&file)? else { return Ok(Vec::new()) };
        let resolve = |entry: &str| self.overlay_lower(root, entry).with_context(|| format!("`{entry}`"));
        let check = || {
            ensure!(!text.ends_with('\n'), "ends in a newline, which makes dockerd mount nothing (remove it)");
            text.split(':').map(resolve).collect()
        };
        check().context(file)
    }

    fn overlay_lower(self, root: &Dir, entry: &str) -> Result<String> {
        let name = self.name();
        let path = match entry.strip_prefix("l/") {
            None => entry.to_owned(),
            Some(link) => {
                let link = format!("{name}/l/{link}");
                let target = root.link(&link)?.with_context(|| format!("{link}: is missing"))?;
                let target = target.to_str().with_context(|| format!("{link}: leads to what is no UTF-8"))?;
                // Docker's own are `../ID/diff`; an absolute one ends in the same, whatever the root was called then.
                if target.starts_with('/') {
                    let parts: Vec<&str> = target.rsplitn(3, '/').collect();
                    ensure!(parts.len() == 3, "{link}: leads to `{target}`");
                    format!("{}/{}", parts[1], parts[0])
                } else {
                    format!("l/{target}")
                }
            }
        };
        // A layer's own path type: it refuses what leads out.
        let path = LayerPath::parse(path.as_bytes())?;
        ensure!(!path.is_root(), "is not the directory of a layer");
        Ok(format!("{name}/{path}"))
    }
}

/// Drivers whose layers are no directories: datasets of a pool, or blocks of a device.
const UNREADABLE: [&str; 2] = ["zfs", "devicemapper"];

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads `layers/ID`: the ancestors, one a line, the immediate parent first.
fn aufs_lowers(root: &Dir, id: &str) -> Result<Vec<String>> {
    let file = format!("aufs/layers/{id}");
    let text = root.text(&file)?.with_context(|| format!("{file}: is missing"))?;
    let line = |line: &str| {
        check_id(line).with_context(|| file.clone())?;
        Ok(Driver::Aufs.layer(line))
    };
    text.lines().filter(|line| !line.is_empty()).map(line).collect()
}

/// Refuses what is not the name of a directory in a driver's: identifiers come from files.
pub(super) fn check_id(id: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_name = !id.is_empty() && id != "." && id != ".." && id.len() <= 255 && id.bytes().all(plain);
    let short: String = id.chars().take(limits::STORE_ID_SHOWN).collect();
    ensure!(is_name, "`{}` is not the name of a layer's directory", short.escape_debug());
    Ok(())
}

//! containerd's root (`/var/lib/containerd`, or `containerd/daemon` in Docker's data root since Docker 29), read without a
//! daemon; the only place that knows containerd's words for its parts.
//!
//! Blobs lie in a content store that looks like those of an OCI layout. A bolt database says which images there are, in
//! namespaces: `default` is what `ctr` uses, `moby` Docker, `k8s.io` a kubelet. Layers that were unpacked are snapshots of the
//! overlayfs snapshotter, a directory of changes each, and another database tells which: the snapshot of a layer is named by
//! its ChainID.
//!
//! Nothing is written or locked.

mod containers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::bolt::{self, Bucket};
use crate::digest::{ChainId, Digest};
use crate::docker_root::Dir;
use crate::limits;

pub use containers::{Container, containers_table};

const METADATA: &str = "io.containerd.metadata.v1.bolt/meta.db";
const CONTENT: &str = "io.containerd.content.v1.content";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.overlayfs";
/// Kind of a snapshot that nothing will change any more.
const COMMITTED: &[u8] = &[3];

/// A root of containerd's.
#[derive(Debug)]
pub struct Root {
    root: Dir,
    path: PathBuf,
    /// Docker's data root, if it is within one.
    docker: Option<Dir>,
}

/// A name, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The namespace that knows the name.
    pub namespace: String,
    /// The name, in full.
    pub name: String,
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// The directories of layers and containers.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// By their keys: `NAMESPACE/N/NAME`.
    all: HashMap<String, Snapshot>,
    /// The keys of those of layers. Each namespace has its own; they are equal.
    layers: HashMap<ChainId, String>,
}

#[derive(Debug)]
struct Snapshot {
    /// The name of its directory.
    number: u64,
    /// The key of the one below.
    parent: Option<String>,
}

/// Returns the ChainID in the key of a snapshot, which that of a layer ends with.
fn layer_of(key: &str) -> Option<ChainId> {
    key.rsplit('/').next()?.parse().ok()
}

impl Root {
    /// Opens the root at `path`, or the one in the data root of Docker's at `path`; `None` where there is neither.
    ///
    /// # Errors
    /// What opening gives, and a symlink within.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let path = std::path::absolute(path).context("has no absolute path")?;
        let daemon = path.join("containerd/daemon");
        let docker = path.clone();
        for (path, is_docker) in [(path, false), (daemon, true)] {
            if path.is_dir() {
                let root = Dir::open(&path)?;
                if root.file(METADATA)?.is_some() {
                    let docker = is_docker.then(|| Dir::open(&docker)).transpose()?;
                    return Ok(Some(Self { root, path, docker }));
                }
            }
        }
        Ok(None)
    }

    /// Returns the absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the content store, which has the blobs of images as an OCI layout has them.
    ///
    /// # Errors
    /// What opening gives; a store that is missing.
    pub fn content(&self) -> Result<Dir> {
        self.root.dir(CONTENT)?.with_context(|| format!("{CONTENT}: is missing"))
    }

    /// Reads the names of images: of the namespace that `namespace` says, or of all.
    ///
    /// # Errors
    /// A damaged database; more than [`limits::DESCRIPTORS`] names.
    pub fn targets(&self, namespace: Option<&str>) -> Result<Vec<Target>> {
        self.read(METADATA, |root| {
            let mut targets = Vec::new();
            let Some(version) = root.bucket("v1")? else { return Ok(targets) };
            for space in texts(&version).filter(|space| namespace.is_none_or(|only| only == *space)) {
                let Some(images) = version.descend(&[space, "images"])? else { continue };
                for name in texts(&images) {
                    let target = images.descend(&[name, "target"])?;
                    targets.push(
                        parse_target(space, name, target)
                            .with_context(|| format!("image `{}`", name.escape_debug()))?,
                    );
                    let limit = limits::DESCRIPTORS;
                    ensure!(targets.len() <= limit, "has more than {limit} names of images");
                }
            }
            Ok(targets)
        })
        .map(Option::unwrap_or_default)
    }

    /// Reads which layers are unpacked: none where containerd keeps its snapshots otherwise than in overlayfs.
    ///
    /// # Errors
    /// A damaged database.
    pub fn snapshots(&self) -> Result<Snapshots> {
        let snapshots = self.read(&format!("{SNAPSHOTTER}/metadata.db"), |root| {
            let mut found = Snapshots::default();
            let Some(snapshots) = root.descend(&["v1", "snapshots"])? else { return Ok(found) };
            for key in texts(&snapshots) {
                let Some(snapshot) = snapshots.bucket(key)? else { continue };
                let number = snapshot.get("id").and_then(varint);
                let number = number.with_context(|| format!("snapshot `{}`: has no number", key.escape_debug()))?;
                let parent = snapshot.get("parent").and_then(|key| String::from_utf8(key.to_vec()).ok());
                let committed = snapshot.get("kind") == Some(COMMITTED);
                if let Some(chain_id) = layer_of(key).filter(|_| committed) {
                    found.layers.entry(chain_id).or_insert_with(|| key.to_owned());
                }
                found.all.insert(key.to_owned(), Snapshot { number, parent });
            }
            Ok(found)
        })?;
        Ok(snapshots.unwrap_or_default())
    }

    /// Returns the directory of a layer's changes, if it was unpacked.
    ///
    /// # Errors
    /// What looking gives; a symlink on the way.
    pub fn layer_path(&self, snapshots: &Snapshots, chain_id: ChainId) -> Result<Option<PathBuf>> {
        let snapshot = snapshots.layers.get(&chain_id).and_then(|key| snapshots.all.get(key));
        let Some(snapshot) = snapshot else { return Ok(None) };
        Ok(self.snapshot_dir(snapshot)?.map(|_| self.snapshot_path(snapshot)))
    }

    fn snapshot_dir(&self, snapshot: &Snapshot) -> Result<Option<Dir>> {
        self.root.dir(&directory(snapshot))
    }

    fn snapshot_path(&self, snapshot: &Snapshot) -> PathBuf {
        self.path.join(directory(snapshot))
    }

    /// Reads from the database `name`; `None` where there is none.
    fn read<T>(&self, name: &str, read: impl Fn(&Bucket) -> Result<T>) -> Result<Option<T>> {
        let Some(file) = self.root.file(name)? else { return Ok(None) };
        bolt::read(&file, read).map(Some).with_context(|| self.root.name(name))
    }
}

fn directory(snapshot: &Snapshot) -> String {
    format!("{SNAPSHOTTER}/snapshots/{}/fs", snapshot.number)
}

/// Returns the one namespace that is asked for in the environment, as `ctr` reads it.
pub fn namespace() -> Option<String> {
    std::env::var("CONTAINERD_NAMESPACE").ok().filter(|name| !name.is_empty())
}

/// Returns the keys of a bucket. containerd takes no namespace and no name that is no UTF-8.
fn texts<'a>(bucket: &'a Bucket) -> impl Iterator<Item = &'a str> {
    bucket.keys().filter_map(|key| std::str::from_utf8(key).ok())
}

fn parse_target(namespace: &str, name: &str, target: Option<Bucket>) -> Result<Target> {
    let target = target.context("has no target")?;
    let text = |key: &str| {
        let value = target.get(key).and_then(|value| std::str::from_utf8(value).ok());
        value.with_context(|| format!("its target has no `{key}`"))
    };
    let size = target.get("size").and_then(varint).map(unfold);
    Ok(Target {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        media_type: text("mediatype")?.to_owned(),
        digest: text("digest")?.parse()?,
        size: size.and_then(|size| u64::try_from(size).ok()).context("its target has no `size`")?,
    })
}

/// Reads a number as Go's `binary.Uvarint` does: 7 bits a byte, the lowest first.
fn varint(bytes: &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * u32::try_from(index).ok()?;
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Undoes the zigzag of Go's signed numbers.
fn unfold(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_writes_them() {
        for (bytes, want) in [
            (&b"\x01"[..], Some(1)),
            (b"\xd6\x08", Some(1110)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some(u64::MAX)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", None),
            (b"\x80", None),
            (b"", None),
        ] {
            assert_eq!(varint(bytes), want, "{bytes:?}");
        }
        for (folded, want) in [(0, 0), (1, -1), (2, 1), (1110, 555), (u64::MAX, i64::MIN)] {
            assert_eq!(unfold(folded), want);
        }
    }
}

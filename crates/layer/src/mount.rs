//! Overlay mounts: a stack of layers as data, what the kernel makes of it, and how to find it again.
//!
//! Lower directories are held base first, as layers are everywhere else here; overlayfs wants the top one first, and this
//! module alone turns them round. It needs nothing of images or archives: directories go in.
//!
//! A mount keeps no state of its own anywhere: the kernel's mountinfo names every directory of it, and the mount's source
//! (`ovl-mount:target:work`) says which of them were made for it. So another process can read the mount ([`overlay_at`])
//! or take it away with all that was made ([`unmount`]).

mod command;
mod kernel;
mod mountinfo;
mod namespace;
mod session;
mod undo;
mod unmount;

use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::digest::{self, ChainId};
use crate::record::{self, LayerRecord};

pub use mountinfo::{Mount, overlay_at};
pub use namespace::{enter, run};
pub use session::{Mounted, Plan, Upper};
pub use unmount::{Detach, unmount};

/// Lower directories that overlayfs takes at most (OVL_MAX_STACK).
pub const MAX_LOWERS: usize = 500;

/// The directory of one layer, in overlay form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lower {
    /// The directory, absolute.
    pub path: PathBuf,
    /// ChainID of the stack up to and with this layer, where it is known.
    pub chain_id: Option<ChainId>,
}

impl From<PathBuf> for Lower {
    fn from(path: PathBuf) -> Self {
        Self { path, chain_id: None }
    }
}

/// What catches the changes of a writable overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writable {
    /// The upperdir, absolute: it holds the changes.
    pub upper: PathBuf,
    /// The workdir, absolute, on the filesystem of the upperdir: overlayfs prepares changes there.
    pub work: PathBuf,
}

/// A stack of directories as overlayfs merges them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayMount {
    /// Lower directories, base first.
    pub lowers: Vec<Lower>,
    /// Where changes go; none for a read-only overlay.
    pub writable: Option<Writable>,
    /// Whether overlayfs keeps its marks in `user.overlay.*`, where it may do so without privileges, instead of
    /// `trusted.overlay.*`.
    pub user_xattr: bool,
}

/// A mounted overlay as tools print it: one JSON object.
#[derive(Clone, Copy, Debug)]
pub struct MountRecord<'a> {
    /// Where it is mounted.
    pub target: &'a Path,
    /// What is mounted there.
    pub mount: &'a OverlayMount,
}

impl Serialize for MountRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |path: &Path| Some(OsString::from(path));
        let mut map = serializer.serialize_map(None)?;
        record::name_member(&mut map, "target", &name(self.target))?;
        map.serialize_entry("type", "overlay")?;
        map.serialize_entry("readOnly", &self.mount.writable.is_none())?;
        map.serialize_entry("lowers", &self.mount.lowers)?;
        if let Some(Writable { upper, work }) = &self.mount.writable {
            record::name_member(&mut map, "upper", &name(upper))?;
            record::name_member(&mut map, "work", &name(work))?;
        }
        map.end()
    }
}

impl Serialize for Lower {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        record::name_member(&mut map, "path", &Some(self.path.clone().into_os_string()))?;
        if let Some(chain_id) = &self.chain_id {
            map.serialize_entry("chainId", chain_id)?;
        }
        map.end()
    }
}

/// Reads the lower directories that layer records name, base first.
///
/// # Errors
/// What is no record, a record without `path`, and a record whose `parent` is not the stack of
/// those before it.
pub fn read_lowers(input: impl BufRead) -> Result<Vec<Lower>> {
    let mut lowers: Vec<Lower> = Vec::new();
    for (index, record) in record::read_records(input).enumerate() {
        let lower = lower(&record?, lowers.last()).with_context(|| format!("record {}", index + 1))?;
        lowers.push(lower);
    }
    Ok(lowers)
}

fn lower(record: &LayerRecord, below: Option<&Lower>) -> Result<Lower> {
    let path = LayerRecord::require(&record.path, "path").context("names no unpacked layer (see layer-unpack(1))")?;
    let below = below.and_then(|below| below.chain_id).filter(|_| record.chain_id.is_some());
    if let Some(below) = below {
        // A base layer has no parent: then it is that of another image.
        let parent = record.parent.map_or("none".to_owned(), |parent| parent.to_string());
        digest::check("parent", &parent, &below.to_string())
            .context("is not on top of the one before (expected one image, base layer first)")?;
    }
    Ok(Lower { path: absolute(path.as_ref())?, chain_id: record.chain_id })
}

/// Makes a path absolute without following symbolic links, and takes a slash at its end away.
///
/// # Errors
/// An empty path.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    ensure!(!path.as_os_str().is_empty(), "the path of a directory is empty");
    let path = std::path::absolute(path).context("cannot find the current directory")?;
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn read(lines: &str) -> Result<Vec<Lower>> {
        read_lowers(lines.as_bytes())
    }

    #[test]
    fn records_are_read_base_first() {
        let lowers = read("{\"path\":\"/a\"}\n{\"pathRaw\":\"L2L/\"}\n").unwrap();
        assert_eq!(lowers, [PathBuf::from("/a").into(), PathBuf::from(OsStr::from_bytes(b"/b\xff")).into()]);
    }

    #[test]
    fn records_that_are_no_stack_are_refused() {
        let [a, b] = ["aa", "bb"].map(|byte| format!("sha256:{}", byte.repeat(32)));
        let base = format!(r#"{{"path":"/a","chainId":"{a}"}}"#);
        let top = format!(r#"{{"path":"/b","chainId":"{b}","parent":"{a}"}}"#);
        let wrong = format!(r#"{{"path":"/b","chainId":"{b}","parent":"{b}"}}"#);
        assert_eq!(read(&format!("{base}\n{top}")).unwrap().len(), 2);
        for (lines, want) in [
            (
                "{}".to_owned(),
                "record 1: names no unpacked layer (see layer-unpack(1)): not a layer record: missing member `path`",
            ),
            (format!("{base}\n{{"), "line 2: not a layer record"),
            (
                format!("{base}\n{wrong}"),
                "record 2: is not on top of the one before (expected one image, base layer first): parent is sha256:bb",
            ),
        ] {
            let err = format!("{:#}", read(&lines).unwrap_err());
            assert!(err.starts_with(want), "{err}");
        }
        let err = read(&format!("{base}\n{base}")).unwrap_err();
        assert!(format!("{err:#}").contains("parent is none, expected sha256:aa"), "{err:#}");
        assert!(err.chain().any(|cause| cause.is::<digest::Mismatch>()));
    }

    #[test]
    fn a_record_names_what_is_mounted() {
        let mount = OverlayMount {
            lowers: vec![PathBuf::from("/l").into()],
            writable: Some(Writable { upper: "/u".into(), work: OsStr::from_bytes(b"/w\xff").into() }),
            user_xattr: false,
        };
        let record = MountRecord { target: Path::new("/m"), mount: &mount };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"target":"/m","type":"overlay","readOnly":false,"lowers":[{"path":"/l"}],"upper":"/u","workRaw":"L3f/"}"#
        );
    }
}

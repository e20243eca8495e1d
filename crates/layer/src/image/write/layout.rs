//! Writing to an OCI image layout in a directory: a new one, or more images for one that is there.
//!
//! A blob is written under another name and renamed, `index.json` last, so that the layout is one at any time. The
//! directory is locked as umoci and this program do it, by flock(2).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{self, CWD, FlockOperation, Mode};
use rustix::io::Errno;
use serde_json::{Map, Value};

use super::{ArchiveImage, CONFIG, Descriptor, Hashing, INDEX, NAME, REF, named, platform};
use crate::change::{Escaped, LayerPath};
use crate::digest::{Digest, Hasher, check};
use crate::limits;
use crate::record::LayerRecord;
use crate::root::{Dir, Root};

/// A layout in a directory, locked.
#[derive(Debug)]
pub struct LayoutWriter {
    top: Dir,
    blobs: Dir,
    _lock: File,
}

/// How the names of files begin that are not finished.
const PREFIX: &str = ".layer-tools-";

impl LayoutWriter {
    /// Opens the layout at `path`, a directory that is made where it is missing.
    ///
    /// # Errors
    /// A directory that holds something else; a layout of another version; what creating and locking give.
    pub fn open(path: &Path) -> Result<Self> {
        match fs::mkdirat(CWD, path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("cannot make the directory"),
        }
        let root = Root::open(path)?;
        let lock = File::from(root.try_clone()?.into_fd());
        rustix::io::retry_on_intr(|| fs::flock(&lock, FlockOperation::LockExclusive)).context("cannot lock")?;
        let top = root.dir(&LayerPath::root())?;
        let layout = OsStr::new("oci-layout");
        if top.stat(layout)?.is_some() {
            let version = read_json(&top, "oci-layout")?;
            let version = version.get("imageLayoutVersion").and_then(Value::as_str).unwrap_or_default();
            ensure!(
                version == "1.0.0",
                "is an OCI image layout of version `{}`, expected `1.0.0`",
                version.escape_debug()
            );
        } else {
            let foreign = top.names()?.into_iter().find(|name| !is_own(name));
            let foreign = foreign.map(|name| Escaped(name.as_encoded_bytes()).to_string());
            ensure!(foreign.is_none(), "is no OCI image layout, and holds `{}`", foreign.unwrap_or_default());
        }
        for name in top.names()?.iter().filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
            top.remove(name)?;
        }
        let blobs = sub_dir(&sub_dir(&top, "blobs")?, "sha256")?;
        Ok(Self { top, blobs, _lock: lock })
    }

    /// Returns the size of a blob that is there.
    ///
    /// # Errors
    /// What stat gives; what is no file.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(stat) = self.blobs.stat(OsStr::new(&digest.hex()))? else { return Ok(None) };
        let is_file = crate::root::kind(&stat) == rustix::fs::FileType::RegularFile;
        ensure!(is_file, "blobs/sha256/{}: is not a regular file", digest.hex());
        Ok(Some(stat.st_size.try_into()?))
    }

    /// Copies a blob from `input`, which is read to its end.
    ///
    /// # Errors
    /// [`Mismatch`](crate::digest::Mismatch) where the bytes are not `size` or have another digest: then there is no such
    /// blob. And what reading and writing give.
    pub fn add_blob(&self, digest: Digest, size: u64, input: &mut dyn Read) -> Result<()> {
        let name = OsString::from(digest.hex());
        let temporary = OsString::from(format!("{PREFIX}{}", digest.hex()));
        self.top.remove(&temporary)?;
        let mut write = || {
            let file = self.top.create(&temporary, 0o666)?;
            let mut hashing = Hashing { out: file, hasher: Hasher::new() };
            // One byte more shows that there are more.
            let copied = io::copy(&mut input.take(size.saturating_add(1)), &mut hashing)?;
            check("size", &copied, &size)?;
            check("digest", &hashing.hasher.finish(), &digest)?;
            hashing.out.flush()?;
            hashing.out.sync_all().context("cannot write")?;
            Ok(self.top.rename(&temporary, &self.blobs, &name)?)
        };
        write().inspect_err(|_: &anyhow::Error| {
            let _ = self.top.remove(&temporary);
        })
    }

    /// Writes the documents of `images` and lists them in `index.json`. A name that another image has there goes over to
    /// these.
    ///
    /// # Errors
    /// A layer is not there, an index that is none, and what writing gives.
    pub fn finish(self, images: &[ArchiveImage]) -> Result<()> {
        let mut listed = Vec::new();
        for image in images {
            for layer in &image.layers {
                let digest = LayerRecord::require(&layer.digest, "digest")?;
                ensure!(self.size(digest)?.is_some(), "layer {digest} is not in the layout");
            }
            self.document(CONFIG, &image.config)?;
            let (media_type, manifest) = image.manifest_document()?;
            let mut manifest = self.document(&media_type, &manifest)?;
            manifest.platform = platform(&image.config);
            listed.extend(named(&manifest, image));
        }
        self.blobs.sync()?;
        if self.top.stat(OsStr::new("oci-layout"))?.is_none() {
            self.top.replace(OsStr::new("oci-layout"), 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let mut index = match self.top.stat(OsStr::new("index.json"))? {
            Some(_) => read_json(&self.top, "index.json")?,
            None => Map::new(),
        };
        list(&mut index, &listed).context("index.json")?;
        Ok(self.top.replace(OsStr::new("index.json"), 0o644, &serde_json::to_vec(&index)?)?)
    }

    /// Writes a document as a blob, if it is not there, and returns its descriptor.
    fn document(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        if self.size(&digest)?.is_none() {
            self.add_blob(digest, bytes.len() as u64, &mut &*bytes)?;
        }
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }
}

/// Says whether a killed run may have left a file of this name where there is no layout yet.
fn is_own(name: &OsStr) -> bool {
    name == "blobs" || name == "lost+found" || name.as_encoded_bytes().starts_with(b".")
}

fn sub_dir(dir: &Dir, name: &str) -> Result<Dir> {
    if dir.stat(OsStr::new(name))?.is_none() {
        dir.make_dir(OsStr::new(name), 0o777)?;
    }
    dir.dir(OsStr::new(name)).context(name.to_owned())
}

fn read_json(dir: &Dir, name: &str) -> Result<Map<String, Value>> {
    let read = || {
        let mut bytes = Vec::new();
        let file = dir.open(OsStr::new(name))?;
        ensure!(file.metadata()?.is_file(), "is not a regular file");
        file.take(limits::JSON_DOCUMENT).read_to_end(&mut bytes).context("cannot read")?;
        serde_json::from_slice(&bytes).context("not a JSON object")
    };
    read().context(name.to_owned())
}

/// Adds descriptors to an index, in place of those that have a name of theirs, or none and the same digest.
fn list(index: &mut Map<String, Value>, new: &[Descriptor]) -> Result<()> {
    index.entry("schemaVersion").or_insert(2.into());
    index.entry("mediaType").or_insert(INDEX.into());
    let manifests = index.entry("manifests").or_insert(Value::Array(Vec::new()));
    let manifests = manifests.as_array_mut().context("`manifests` is not a list")?;
    manifests.retain(|old| !new.iter().any(|new| replaces(new, old)));
    for descriptor in new {
        manifests.push(serde_json::to_value(descriptor)?);
    }
    Ok(())
}

fn replaces(new: &Descriptor, old: &Value) -> bool {
    let old_name = |key: &str| old.pointer("/annotations")?.get(key)?.as_str();
    let new_name = |key: &str| new.annotations.get(key).map(String::as_str);
    match (old_name(NAME), old_name(REF), new_name(NAME), new_name(REF)) {
        (None, None, ..) => old.get("digest").and_then(Value::as_str) == Some(&new.digest.to_string()),
        (Some(old), _, Some(new), _) => old == new,
        // One of them has only the tag: skopeo and umoci go by that alone.
        (_, Some(old), _, Some(new)) => old == new,
        _ => false,
    }
}

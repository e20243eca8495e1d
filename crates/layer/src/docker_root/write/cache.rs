//! The driver's directories: one for each layer, init layer or container, under a random name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::apply::{Options, TreeSink};
use crate::change::LayerPath;
use crate::diff;
use crate::docker_root::Driver;
use crate::root::{Dir, Root};

/// The directories of a driver, overlay2 or vfs.
#[derive(Debug)]
pub struct Cache {
    root: Root,
    driver: Driver,
}

/// Characters of the short name by which overlay2 mounts a directory.
const LINK: usize = 26;

impl Cache {
    /// Takes the directories of `driver` in the data root `root`.
    pub fn new(root: Root, driver: Driver) -> Self {
        Self { root, driver }
    }

    /// Returns the data root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    fn dir(&self) -> Result<Dir> {
        let name = if self.driver == Driver::Vfs { "vfs/dir" } else { "overlay2" };
        self.root.dir(&LayerPath::parse(name.as_bytes())?).context(name)
    }

    /// Makes the directory `id` on top of `parent`'s, in the steps of the daemon. Returns the directory that the layer's files
    /// go into: an empty one, or with vfs a copy of the parent's tree. Nothing is on disk for sure before
    /// [`Cache::commit`].
    ///
    /// # Errors
    /// What creating gives, and a parent without the files of its driver.
    pub fn create(&self, id: &str, parent: Option<&str>) -> Result<Root> {
        let dir = self.dir()?;
        if self.driver == Driver::Vfs {
            make(&dir, id, 0o755)?;
            let tree = self.open(id)?;
            if let Some(parent) = parent {
                copy(&self.open(parent)?, self.open(id)?).with_context(|| format!("copy of vfs/dir/{parent}"))?;
            }
            return Ok(tree);
        }
        make(&dir, id, 0o710)?;
        let own = dir.dir(OsStr::new(id))?;
        make(&own, "diff", 0o755)?;
        let link = base32(random::<17>()?);
        let links = dir.dir(OsStr::new("l"))?;
        links.symlink(OsStr::new(&link), OsStr::new(&format!("../{id}/diff")))?;
        own.write(OsStr::new("link"), 0o644, link.as_bytes())?;
        if let Some(parent) = parent {
            make(&own, "work", 0o700)?;
            let below = dir.dir(OsStr::new(parent)).with_context(|| format!("overlay2/{parent}"))?;
            commit(&below)?;
            let lower = lower(&below).with_context(|| format!("overlay2/{parent}"))?;
            own.write(OsStr::new("lower"), 0o644, lower.as_bytes())?;
        }
        self.open(id)
    }

    /// Opens the directory of a layer's files.
    ///
    /// # Errors
    /// What opening gives.
    pub fn open(&self, id: &str) -> Result<Root> {
        let path: PathBuf = self.driver.layer(id).into();
        self.root.sub(&LayerPath::parse(path.as_os_str().as_encoded_bytes())?).with_context(|| self.driver.layer(id))
    }

    /// Ends the writing of a layer: the daemon will mount it for reading only, and it is on disk.
    ///
    /// # Errors
    /// What writing gives.
    pub fn commit(&self, id: &str) -> Result<()> {
        let dir = self.dir()?;
        if self.driver != Driver::Vfs {
            commit(&dir.dir(OsStr::new(id))?)?;
        }
        Ok(dir.sync_all()?)
    }

    /// Removes the directory `id` with all that belongs to it, as far as it was made.
    ///
    /// # Errors
    /// What removing gives.
    pub fn remove(&self, id: &str) -> Result<()> {
        let dir = self.dir()?;
        if self.driver != Driver::Vfs {
            let links = dir.dir(OsStr::new("l"))?;
            let target = OsString::from(format!("../{id}/diff"));
            // Not by the file `link`: a killed run may have made the symlink and not the file.
            for name in links.names()? {
                if links.read_link(&name).is_ok_and(|found| found == target) {
                    links.remove(&name)?;
                }
            }
        }
        dir.remove(OsStr::new(id))?;
        Ok(())
    }
}

fn make(dir: &Dir, name: &str, mode: u32) -> Result<()> {
    dir.make_dir(OsStr::new(name), mode)?;
    // The umask has had a say.
    Ok(dir.dir(OsStr::new(name))?.itself().set_mode(mode)?)
}

fn commit(own: &Dir) -> Result<()> {
    let name = OsStr::new("committed");
    if own.stat(name)?.is_none() {
        own.write(name, 0o600, b"")?;
    }
    Ok(())
}

/// Returns the `lower` of a directory on top of `parent`.
fn lower(parent: &Dir) -> Result<String> {
    let read = |name: &'static str| {
        let mut text = String::new();
        let limit = crate::limits::STORE_LINE;
        let file = parent.open(OsStr::new(name)).context(name)?;
        file.take(limit).read_to_string(&mut text).context(name)?;
        anyhow::Ok(text.trim().to_owned())
    };
    let link = format!("l/{}", read("link")?);
    if parent.stat(OsStr::new("lower"))?.is_none() {
        return Ok(link);
    }
    Ok(format!("{link}:{}", read("lower")?))
}

/// Fills the empty directory `to` with what `from` holds.
fn copy(from: &Root, to: Root) -> Result<()> {
    let nothing = tempfile::tempdir().context("cannot make a temporary directory")?;
    let empty = Root::open(nothing.path())?;
    let mut sink = TreeSink::plain(to, Options::default());
    diff::compare(empty.into_fd(), from.try_clone()?.into_fd(), &mut sink)?;
    sink.finish()?;
    Ok(())
}

/// Returns a new random name for a directory: 64 hexadecimal digits, of which the first 12 are no decimal number, as the
/// daemon sees to as well.
///
/// # Errors
/// What reading the kernel's random numbers gives.
pub(super) fn random_id() -> Result<String> {
    loop {
        let id = hex::encode(random::<32>()?);
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return Ok(id);
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let file = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    file.context("/dev/urandom: cannot read")?;
    Ok(bytes)
}

/// Writes bytes in RFC 4648's base 32, cut to [`LINK`] characters.
fn base32(bytes: [u8; 17]) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let digit = |at: usize| (0..5).fold(0, |value, offset| value << 1 | bit(5 * at + offset));
    (0..LINK).map(|at| char::from(DIGITS[usize::from(digit(at))])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_base_32() {
        assert_eq!(base32([0; 17]), "A".repeat(26));
        assert_eq!(base32([255; 17]), "7".repeat(26));
        // RFC 4648, section 10.
        let mut bytes = [0; 17];
        bytes[..6].copy_from_slice(b"foobar");
        assert_eq!(base32(bytes)[..9], *"MZXW6YTBO");
    }

    #[test]
    fn random_names_are_those_of_directories() {
        let id = random_id().unwrap();
        assert!(id.len() == 64 && id != random_id().unwrap());
    }
}

//! How large files are, as the daemon counts them for `docker ps -s` and for a new layer's `size`.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};

use crate::change::{Body, Entry, Escaped, LayerPath, Node, Sink};

/// Returns the bytes of all that is below `root` and is no directory, each inode once: a symlink has those of its target's
/// name, a device none (moby, pkg/directory).
///
/// # Errors
/// What reading gives, with the path below `root`.
pub fn files_size(root: &OwnedFd) -> Result<u64> {
    let mut size = 0u64;
    let mut seen = HashSet::new();
    let mut left: Vec<Vec<u8>> = vec![b".".to_vec()];
    while let Some(path) = left.pop() {
        let mut walk = || {
            let dir = open_dir(root, &path)?;
            for entry in fs::Dir::read_from(&dir).context("cannot list")? {
                let entry = entry.context("cannot list")?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .with_context(|| format!("{}: cannot stat", Escaped(name.to_bytes())))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    left.push([&path, &b"/"[..], name.to_bytes()].concat());
                } else if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
                    size = size.saturating_add(stat.st_size.cast_unsigned());
                }
            }
            anyhow::Ok(())
        };
        walk().with_context(|| Escaped(&path).to_string())?;
    }
    Ok(size)
}

fn open_dir(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let path = CString::new(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(root, path.as_c_str(), flags, Mode::empty(), beneath).context("cannot open")
}

/// Counts what a tree has that another has not, as the daemon does where a container's files are a whole tree.
#[derive(Default)]
pub(super) struct Count {
    pub(super) size: u64,
}

impl Sink for Count {
    fn put(&mut self, entry: &Entry, _: &mut dyn Body) -> Result<()> {
        let size = match &entry.node {
            Node::File(size) => *size,
            Node::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        self.size = self.size.saturating_add(size);
        Ok(())
    }

    fn whiteout(&mut self, _: &LayerPath) -> Result<()> {
        Ok(())
    }

    fn opaque(&mut self, _: &LayerPath) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_inode_counts_once_and_symlinks_by_their_text() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("a"), [0; 1000]).unwrap();
        std::fs::write(at("d/e/b"), [0; 10]).unwrap();
        std::fs::hard_link(at("a"), at("d/again")).unwrap();
        symlink("/etc/passwd", at("d/link")).unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        assert_eq!(files_size(&root).unwrap(), 1000 + 10 + 11);
    }
}

//! The files of an archive, found by name without reading them.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::medium::Blob;
use crate::archive::{ArchiveFile, Kind, Members};
use crate::change::LayerPath;
use crate::limits;

/// How many links may lead to a file, as in the kernel.
const LINKS: usize = 40;

/// The members of a tar by their names. Of two with one name the later counts, as where Docker unpacks the archive.
pub(super) struct TarFiles {
    file: Arc<File>,
    members: HashMap<Vec<u8>, Place>,
}

enum Place {
    /// Content at an offset, so many bytes of it.
    File(u64, u64),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    /// Something that cannot be read, and what it is.
    Other(&'static str),
}

impl TarFiles {
    /// Reads the headers of `file`, and leaps over all content.
    ///
    /// # Errors
    /// What is no tar, one that is cut short, and one with more names than [`limits::ARCHIVE_NAMES`].
    pub(super) fn new(file: File) -> Result<Self> {
        let mut members = HashMap::new();
        let mut names = 0;
        let mut archive = Members::new(ArchiveFile::new(file.try_clone().context("cannot duplicate")?)?);
        while let Some((member, _)) = archive.next_member()? {
            names += member.name.len() + member.link.len() + 64;
            ensure!(
                names <= limits::ARCHIVE_NAMES,
                "has names of more than {} bytes, expected an image and not a file tree",
                limits::ARCHIVE_NAMES
            );
            let place = match member.kind {
                Kind::File if member.stored != member.size => Place::Other("a sparse file"),
                Kind::File => Place::File(member.content_offset, member.size),
                Kind::Symlink => Place::Symlink(member.link.clone()),
                Kind::Hardlink => Place::Hardlink(member.link.clone()),
                Kind::Dir => Place::Other("a directory"),
                _ => Place::Other("a special file"),
            };
            // A name that leads out of the archive is one that nothing in it can mean.
            if let Ok(path) = LayerPath::parse(&member.name) {
                members.insert(path.as_bytes().to_vec(), place);
            }
        }
        let length = file.metadata().context("cannot stat")?.len();
        ensure!(!members.is_empty() || length == 0, "is an archive without members, expected an image");
        Ok(Self { file: Arc::new(file), members })
    }

    /// Opens the file `name`; `None` where there is none. Links are followed within the archive.
    ///
    /// # Errors
    /// What is no regular file, and links that lead out of the archive or round.
    pub(super) fn open(&self, name: &str) -> Result<Option<Blob>> {
        let mut path = normal(name.as_bytes())?;
        for _ in 0..LINKS {
            if let Some(target) = self.through_symlink(&path)? {
                path = target;
                continue;
            }
            match self.members.get(&path) {
                None => return Ok(None),
                Some(Place::File(at, size)) => return Ok(Some(Blob::new(Arc::clone(&self.file), *at, *size))),
                Some(Place::Hardlink(target)) => path = normal(target)?,
                Some(Place::Other(what)) => bail!("is {what}, expected a regular file"),
                // It was followed above.
                Some(Place::Symlink(_)) => bail!("is a symlink, expected a regular file"),
            }
        }
        bail!("leads through more than {LINKS} links")
    }

    /// Follows the first component of `path` that is a symlink, if one is.
    fn through_symlink(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([path.len()]);
        for end in ends {
            let Some(Place::Symlink(target)) = self.members.get(&path[..end]) else { continue };
            ensure!(!target.starts_with(b"/"), "is a symlink that leads out of the archive");
            let parent = path[..end].iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |slash| &path[..slash]);
            return normal(&[parent, b"/", target, &path[end..]].concat()).map(Some);
        }
        Ok(None)
    }
}

fn normal(name: &[u8]) -> Result<Vec<u8>> {
    // The cause speaks of a layer.
    let Ok(path) = LayerPath::parse(name) else { bail!("leads out of the archive") };
    Ok(path.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn files(members: &[(&str, Result<&str, &str>)]) -> TarFiles {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            let mut data: &[u8] = b"";
            match content {
                Ok(text) => data = text.as_bytes(),
                Err(link) => {
                    let kind = if link.starts_with('=') { tar::EntryType::Link } else { tar::EntryType::Symlink };
                    header.set_entry_type(kind);
                    header.set_link_name_literal(link.trim_start_matches('=')).unwrap();
                }
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        TarFiles::new(file).unwrap()
    }

    #[test]
    fn files_are_found_through_links_inside() {
        let files = files(&[
            ("./a/layer.tar", Ok("one")),
            ("b/layer.tar", Err("../a/layer.tar")),
            ("c", Err("a")),
            ("hard", Err("=a/layer.tar")),
            ("two", Ok("old")),
            ("two", Ok("new")),
            ("/absolute", Ok("x")),
            ("../out", Ok("never")),
        ]);
        for (name, want) in [
            ("a/layer.tar", "one"),
            ("./a//layer.tar", "one"),
            ("b/layer.tar", "one"),
            ("c/layer.tar", "one"),
            ("hard", "one"),
            ("two", "new"),
            ("absolute", "x"),
        ] {
            let mut text = String::new();
            files.open(name).unwrap().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, want, "{name}");
        }
        assert!(files.open("nothing").unwrap().is_none());
        assert!(files.open("out").unwrap().is_none());
    }

    #[test]
    fn links_out_and_round_are_refused() {
        let files = files(&[
            ("out", Err("/etc/passwd")),
            ("up", Err("../../etc/passwd")),
            ("self", Err("self")),
            ("there", Err("back")),
            ("back", Err("there")),
            ("steps", Err("out")),
        ]);
        for (name, want) in [
            ("out", "leads out"),
            ("up", "leads out"),
            ("steps", "leads out"),
            ("../x", "leads out"),
            ("self", "more than 40 links"),
            ("there", "more than 40 links"),
        ] {
            let err = files.open(name).unwrap_err().to_string();
            assert!(err.contains(want), "{name}: {err}");
        }
    }
}

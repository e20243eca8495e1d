//! From tar-split's entries and a layer's directory back to the tar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use anyhow::{Context, Error, Result, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Checksum, Entries, Entry, check_size};
use crate::change::{Escaped, LayerPath};
use crate::digest;

/// A layer's tar, put together while it is read.
///
/// Contents are read beneath the layer's directory; no symbolic link is followed, whatever a layer has put there. One
/// that is missing, or not what it was, ends the stream with an error that names it.
pub struct Assembly<R: Read> {
    entries: Entries<R>,
    layer: OwnedFd,
    resolve: ResolveFlags,
    current: Source,
}

enum Source {
    Segment(io::Cursor<Vec<u8>>),
    Content(Box<Content>),
}

struct Content {
    file: File,
    name: Vec<u8>,
    left: u64,
    checksum: Checksum,
    crc: u64,
}

impl<R: Read> Assembly<R> {
    /// Reads the entries from the gzipped `tar_split` and contents from the directory `layer`.
    pub fn new(tar_split: R, layer: OwnedFd) -> Self {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Self::resolving(tar_split, layer, resolve)
    }

    /// Reads as [`Assembly::new`] does, but from the whole tree `layer`, to which the layer was applied on top of those
    /// below. There a member may have been written through a directory's symlink; that is followed, and never out of the
    /// tree.
    pub fn in_tree(tar_split: R, tree: OwnedFd) -> Self {
        Self::resolving(tar_split, tree, ResolveFlags::IN_ROOT)
    }

    fn resolving(tar_split: R, layer: OwnedFd, resolve: ResolveFlags) -> Self {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        Self { entries: Entries::new(tar_split), layer, resolve, current: Source::Segment(io::Cursor::default()) }
    }

    /// Says whether the content of a file entry is in the directory.
    fn has(&self, name: Vec<u8>, size: u64, crc: u64) -> bool {
        let Ok(file) = self.open(&name, size) else { return false };
        let mut content = Content { file, name, left: size, checksum: Checksum::default(), crc };
        let mut buffer = vec![0; 128 << 10];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Makes the next entry current; false at the end.
    fn advance(&mut self) -> Result<bool> {
        self.current = match self.entries.next().transpose()? {
            None => return Ok(false),
            Some(Entry::Segment(bytes)) => Source::Segment(io::Cursor::new(bytes)),
            Some(Entry::File { size: 0, .. }) => Source::Segment(io::Cursor::default()),
            Some(Entry::File { name, size, crc }) => {
                let file = self.open(&name, size).with_context(|| format!("entry `{}`", Escaped(&name)))?;
                Source::Content(Box::new(Content { file, name, left: size, checksum: Checksum::default(), crc }))
            }
        };
        Ok(true)
    }

    fn open(&self, name: &[u8], size: u64) -> Result<File> {
        check_size(size)?;
        let path = LayerPath::parse(name)?;
        // A fifo must not block the open; what is no regular file is refused below.
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.resolve.contains(ResolveFlags::IN_ROOT) {
            // The member itself is a regular file.
            flags |= OFlags::NOFOLLOW;
        }
        let open = || openat2(&self.layer, path.as_path(), flags, Mode::empty(), self.resolve);
        let fd = loop {
            match open() {
                // The kernel could not be sure while something was renamed.
                Err(Errno::AGAIN | Errno::INTR) => {}
                fd => break fd.context("cannot open")?,
            }
        };
        let file = File::from(fd);
        let metadata = file.metadata().context("cannot stat")?;
        ensure!(metadata.is_file(), "is not a regular file");
        digest::check("size", &metadata.len(), &size)?;
        Ok(file)
    }
}

/// Returns which of the file entries of the gzipped `tar_split`, counted from 0, have a content that is not in the directory
/// `layer`.
///
/// # Errors
/// What reading the entries gives.
pub fn lost_contents(tar_split: impl Read, layer: OwnedFd) -> Result<BTreeSet<u64>> {
    let mut assembly = Assembly::new(tar_split, layer);
    let mut lost = BTreeSet::new();
    let mut number = 0;
    while let Some(entry) = assembly.entries.next().transpose()? {
        let Entry::File { name, size, crc } = entry else { continue };
        if size > 0 && !assembly.has(name, size, crc) {
            lost.insert(number);
        }
        number += 1;
    }
    Ok(lost)
}

impl Content {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        // One byte more than is left, so that a file that has grown shows.
        let want = usize::try_from(self.left.saturating_add(1)).map_or(buf.len(), |want| want.min(buf.len()));
        let read = self.file.read(&mut buf[..want]).context("cannot read")?;
        self.checksum.update(&buf[..read]);
        let left = self.left.checked_sub(read as u64).context("is longer than its size")?;
        ensure!(read > 0 || left == 0 || buf.is_empty(), "is shorter than its size");
        if read == 0 && !buf.is_empty() {
            let hex = |crc: u64| format!("{crc:016x}");
            digest::check("checksum", &hex(self.checksum.finish()), &hex(self.crc))?;
        }
        self.left = left;
        Ok(read)
    }
}

impl<R: Read> Read for Assembly<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.current {
                Source::Segment(bytes) => bytes.read(buf)?,
                Source::Content(content) => content
                    .read(buf)
                    .map_err(|err| into_io(err.context(format!("entry `{}`", Escaped(&content.name)))))?,
            };
            if read > 0 || buf.is_empty() || !self.advance().map_err(into_io)? {
                return Ok(read);
            }
        }
    }
}

/// Carries an error through [`Read`] with all its causes.
fn into_io(err: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tar_split::Writer;

    fn crc(bytes: &[u8]) -> u64 {
        let mut checksum = Checksum::default();
        checksum.update(bytes);
        checksum.finish()
    }

    fn file(name: &str, content: &[u8]) -> Entry {
        Entry::File { name: name.as_bytes().to_vec(), size: content.len() as u64, crc: crc(content) }
    }

    /// Assembles `entries` over a directory with the files `a` (`content`) and `d/b`, and symbolic links `link` and `dir`.
    fn assemble(entries: &[Entry]) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"content").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/b"), b"below").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("d", dir.path().join("dir")).unwrap();
        let mut writer = Writer::new(Vec::new());
        for entry in entries {
            writer.write(entry).unwrap();
        }
        let tar_split = io::Cursor::new(writer.finish().unwrap());
        let layer = OwnedFd::from(File::open(dir.path()).unwrap());
        let mut tar = Vec::new();
        Assembly::new(tar_split, layer).read_to_end(&mut tar).map(|_| tar)
    }

    #[test]
    fn segments_and_contents_come_in_order() {
        let entries = [
            Entry::Segment(b"<".to_vec()),
            file("./a", b"content"),
            Entry::Segment(Vec::new()),
            Entry::File { name: b"not there".to_vec(), size: 0, crc: 0 },
            Entry::Segment(b"|".to_vec()),
            file("/d//b", b"below"),
            Entry::Segment(b">".to_vec()),
        ];
        assert_eq!(assemble(&entries).unwrap(), b"<content|below>");
    }

    #[test]
    fn what_is_not_as_it_was_is_refused_by_name() {
        for (entry, want) in [
            (file("a", b"Content"), "entry `a`: checksum is "),
            (file("a", b"contents"), "entry `a`: size is 7, expected 8"),
            (file("gone", b"x"), "entry `gone`: cannot open: No such file"),
            (file("link", b"content"), "entry `link`: cannot open: Too many levels of symbolic links"),
            (file("dir/b", b"below"), "entry `dir/b`: cannot open: Too many levels of symbolic links"),
            (file("../a", b"content"), "leads out of the layer"),
            (file("d", b"content"), "entry `d`: is not a regular file"),
            (Entry::File { name: b"a".to_vec(), size: u64::MAX, crc: 0 }, "expected at most"),
        ] {
            let err = assemble(&[entry]).unwrap_err();
            let text = format!("{:#}", Error::from(err));
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}

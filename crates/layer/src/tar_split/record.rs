//! The recording of a layer's tar while it is read.
//!
//! All bytes of the archive pass [`Tape`], which stands between the parser and the input, so that what the parser makes of
//! them cannot get lost on the way. It is told where contents begin, and cuts there.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, Read, Write};
use std::mem;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::{Checksum, Entry, Writer};
use crate::archive::{Input, Kind, Member, Stats, read_watched};
use crate::change::Sink;
use crate::whiteout::{self, Name};

/// Bytes of a segment, before the block that makes it longer.
const SEGMENT: usize = 64 << 10;

/// Reads a layer's tar to its last byte, gives its changes to `sink`, and writes to `out` how it is put together again.
///
/// The content of a regular file is to come from the layer's directory, unless there is another of its name before it. All
/// other content is kept in segments: behind whiteouts, with holes in it. So is that of the file entries whose numbers are in
/// `inline`, as a recording without would count them: those that [`super::lost_contents`] returns, because a later member
/// took the file away, or because it lies elsewhere by a symlink.
///
/// # Errors
/// What reading, the sink and writing give.
pub fn record<W: Write>(
    input: impl BufRead,
    sink: &mut dyn Sink,
    inline: &BTreeSet<u64>,
    out: W,
) -> Result<(W, Stats)> {
    let tape = Rc::new(RefCell::new(Tape { writer: Writer::new(out), pending: Vec::new(), file: None, error: None }));
    let mut taped = Taped { input, tape: Rc::clone(&tape) };
    let mut choice = Choice { inline, seen: HashSet::new(), keys: [RandomState::new(), RandomState::new()], files: 0 };
    let stats = read_watched(&mut taped, sink, &mut |member| {
        let by_name = choice.by_name(member);
        tape.borrow_mut().begin(by_name.then_some(member))
    })?;
    loop {
        let rest = taped.fill_buf().context("cannot read")?.len();
        if rest == 0 {
            break;
        }
        taped.consume(rest);
    }
    drop(taped);
    let tape = Rc::into_inner(tape).context("the recording is still going on")?.into_inner();
    Ok((tape.finish()?, stats))
}

/// Chooses which contents are to come from the layer's directory.
struct Choice<'a> {
    inline: &'a BTreeSet<u64>,
    /// Paths, as two keyed hashes that nobody can make collide: a layer may have millions.
    seen: HashSet<[u64; 2]>,
    keys: [RandomState; 2],
    files: u64,
}

impl Choice<'_> {
    fn by_name(&mut self, member: &Member) -> bool {
        let whole = member.kind == Kind::File && member.stored == member.size && member.size > 0;
        let Ok(Name::Entry(path)) = whiteout::decode(&member.name) else { return false };
        // Docker takes no two file entries of one path.
        if !whole || !self.seen.insert(self.keys.each_ref().map(|key| key.hash_one(path.as_bytes()))) {
            return false;
        }
        self.files += 1;
        !self.inline.contains(&(self.files - 1))
    }
}

/// What becomes of the bytes that pass.
struct Tape<W: Write> {
    writer: Writer<W>,
    /// Bytes for the next segment.
    pending: Vec<u8>,
    /// The content that passes, if it is not for a segment.
    file: Option<Content>,
    /// The error that writing gave, until somebody asks: passing bytes cannot fail.
    error: Option<anyhow::Error>,
}

struct Content {
    name: Vec<u8>,
    size: u64,
    left: u64,
    checksum: Checksum,
}

impl<W: Write> Tape<W> {
    /// Notes that a content begins: that of `file`, or one for a segment.
    fn begin(&mut self, file: Option<&Member>) -> Result<()> {
        if let Some(member) = file {
            self.cut();
            let (name, size) = (member.name.clone(), member.size);
            self.file = Some(Content { name, size, left: size, checksum: Checksum::default() });
        }
        self.error.take().map_or(Ok(()), Err)
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(content) = &mut self.file else {
                self.pending.extend_from_slice(bytes);
                if self.pending.len() >= SEGMENT {
                    self.cut();
                }
                return;
            };
            let here = usize::try_from(content.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(here);
            content.checksum.update(now);
            content.left -= now.len() as u64;
            bytes = later;
            if content.left == 0
                && let Some(Content { name, size, checksum, .. }) = self.file.take()
            {
                self.write(&Entry::File { name, size, crc: checksum.finish() });
            }
        }
    }

    /// Writes what is pending as a segment.
    fn cut(&mut self) {
        if !self.pending.is_empty() {
            let segment = Entry::Segment(mem::take(&mut self.pending));
            self.write(&segment);
        }
    }

    fn write(&mut self, entry: &Entry) {
        if self.error.is_none() {
            self.error = self.writer.write(entry).err();
        }
    }

    fn finish(mut self) -> Result<W> {
        self.cut();
        match self.error {
            Some(err) => Err(err),
            None => self.writer.finish(),
        }
    }
}

/// The input, whose bytes the tape sees as they are consumed.
struct Taped<R, W: Write> {
    input: R,
    tape: Rc<RefCell<Tape<W>>>,
}

impl<R: BufRead, W: Write> Read for Taped<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead, W: Write> BufRead for Taped<R, W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What was handed out is still in the buffer, so this reads nothing.
        if let Ok(bytes) = self.input.fill_buf() {
            self.tape.borrow_mut().pass(&bytes[..amount]);
        }
        self.input.consume(amount);
    }
}

impl<R: BufRead, W: Write> Input for Taped<R, W> {
    fn skip(&mut self, mut n: u64) -> io::Result<()> {
        while n > 0 {
            let here = self.fill_buf()?.len();
            if here == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
            }
            let amount = usize::try_from(n).map_or(here, |n| n.min(here));
            self.consume(amount);
            n -= amount as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::apply::{Options, TreeSink};
    use crate::change::{Body, LayerPath};
    use crate::root::Root;
    use crate::tar_split::{Assembly, Entries, lost_contents};

    struct Nothing;

    impl Sink for Nothing {
        fn put(&mut self, _: &crate::change::Entry, _: &mut dyn Body) -> Result<()> {
            Ok(())
        }

        fn whiteout(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }

        fn opaque(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }
    }

    /// A tar of regular files, symlinks (`-> target`) and hard links (`= target`), without an end marker.
    fn tar(members: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            let link = content.strip_prefix("-> ").map(|target| (tar::EntryType::Symlink, target));
            let link = link.or_else(|| content.strip_prefix("= ").map(|target| (tar::EntryType::Link, target)));
            let content = if link.is_some() || name.ends_with('/') { "" } else { content };
            header.set_entry_type(if name.ends_with('/') {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            if let Some((kind, target)) = link {
                header.set_entry_type(kind);
                header.set_link_name(target).unwrap();
            }
            header.set_mode(0o755);
            header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
            header.set_gid(u64::from(rustix::process::getegid().as_raw()));
            header.set_mtime(1);
            header.set_size(content.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), b'p');
        }
        bytes
    }

    /// Records `tar` into a directory as a layer is, and puts it together again. Returns the names of the file entries.
    fn round_trip(tar: &[u8]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let open = || OwnedFd::from(File::open(dir.path()).unwrap());
        let mut sink = TreeSink::plain(Root::open(dir.path()).unwrap(), Options::default());
        let (mut split, _) = record(tar, &mut sink, &BTreeSet::new(), Vec::new()).unwrap();
        sink.finish().unwrap();
        let lost = lost_contents(&split[..], open()).unwrap();
        if !lost.is_empty() {
            split = record(tar, &mut Nothing, &lost, Vec::new()).unwrap().0;
        }
        let mut again = Vec::new();
        Assembly::new(io::Cursor::new(split.clone()), open()).read_to_end(&mut again).unwrap();
        assert!(again == tar);
        let name = |entry| match entry {
            Entry::File { name, .. } => Some(String::from_utf8(name).unwrap()),
            Entry::Segment(bytes) => {
                assert!(bytes.len() < 2 * SEGMENT + crate::limits::ENTRY_METADATA as usize);
                None
            }
        };
        Entries::new(&split[..]).filter_map(|entry| name(entry.unwrap())).collect()
    }

    #[test]
    fn contents_come_from_files_wherever_they_can() {
        let long = "x".repeat(200_000);
        assert_eq!(round_trip(&tar(&[("d/", ""), ("d/a", "a"), ("./b", &long), ("e", "")])), ["d/a", "./b"]);
        let mut padded = tar(&[("a", "a")]);
        padded.resize(padded.len() + 1024 + 300_000, 0);
        padded.extend_from_slice(b"behind the end");
        assert_eq!(round_trip(&padded), ["a"]);
        assert_eq!(round_trip(b""), Vec::<String>::new());
        assert_eq!(round_trip(&[0; 1024]), Vec::<String>::new());
    }

    #[test]
    fn contents_without_a_file_are_kept_in_segments() {
        for (members, want) in [
            (&[("a", "one"), ("./a", "two"), ("b", "b")][..], &["b"][..]),
            (&[("a", "same"), ("/a", "same")], &["a"]),
            (&[("a", "one"), ("a", "-> b"), ("b", "b")], &["b"]),
            (&[("a", "one"), ("h", "= a"), ("a", "two")], &[]),
            (&[("d/a", "one"), ("d", "file")], &["d"]),
            (&[("d", "file"), ("d", "-> ."), ("d/a", "through")], &[]),
            (&[("e/", ""), ("d", "-> e"), ("d/a", "through"), ("e/b", "b")], &["e/b"]),
            (&[(".wh.a", "content"), ("b", "b")], &["b"]),
            (&[(".wh..wh.plnk/1.2", "content"), ("b", "b")], &["b"]),
        ] {
            assert_eq!(round_trip(&tar(members)), want, "{members:?}");
        }
    }
}

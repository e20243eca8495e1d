//! What a layer does to the stack below it, wherever that was read: from a tar, an upperdir, or two trees.
//!
//! A layer is a changeset (image-spec, layer.md): additions and modifications are [`Entry`]s, removals are whiteouts and
//! opaque whiteouts. Readers decode one encoding and call a [`Sink`]; sinks encode another or write to disk. So each
//! encoding is read in one place and written in one place.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::limits;

/// The place of an entry within a layer: bytes, relative to the root, with no empty, `.` or `..` component and no slash at
/// either end. The root itself is the empty path.
///
/// It is parsed once, where the name is read; whoever holds one need not check again.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Returns the root's path.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a name as archives spell it: a leading slash, `.` and empty components mean nothing, and `a/..` takes `a`
    /// back, by the text alone.
    ///
    /// # Errors
    /// A name that leads out of the layer, holds a NUL, has a component over 255 bytes, or is longer or deeper than
    /// [`limits::PATH_BYTES`] and [`limits::PATH_DEPTH`].
    pub fn parse(name: &[u8]) -> Result<Self> {
        ensure!(!name.contains(&0), "`{}` holds a NUL byte", Escaped(name));
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    ensure!(parts.pop().is_some(), "`{}` leads out of the layer", Escaped(name))
                }
                part if part.len() > 255 => {
                    bail!("`{}` has a component of {} bytes, expected at most 255", Escaped(name), part.len())
                }
                part => parts.push(part),
            }
        }
        ensure!(
            parts.len() <= limits::PATH_DEPTH,
            "`{}` has {} components, expected at most {}",
            Escaped(name),
            parts.len(),
            limits::PATH_DEPTH
        );
        let path = parts.join(&b'/');
        ensure!(
            path.len() <= limits::PATH_BYTES,
            "`{}` has {} bytes, expected at most {}",
            Escaped(name),
            path.len(),
            limits::PATH_BYTES
        );
        Ok(Self(path))
    }

    /// Makes a path of components that come from paths.
    pub(crate) fn of_components(components: &[&[u8]]) -> Self {
        Self(components.join(&b'/'))
    }

    /// Returns the path of the entry `name` in this directory.
    ///
    /// # Errors
    /// A name that [`LayerPath::parse`] refuses, or that is not one component.
    pub fn join(&self, name: &OsStr) -> Result<Self> {
        let bytes = name.as_bytes();
        let single = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/');
        ensure!(single, "`{}` is not the name of an entry", Escaped(bytes));
        if self.is_root() {
            return Self::parse(bytes);
        }
        Self::parse(&[&self.0, b"/".as_slice(), bytes].concat())
    }

    /// Says whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the directory that holds this entry, or `None` for the root.
    pub fn parent(&self) -> Option<LayerPath> {
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        (!self.is_root()).then(|| Self(self.0[..end].to_vec()))
    }

    /// Returns the last component, or `None` for the root.
    pub fn name(&self) -> Option<&OsStr> {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        (!self.is_root()).then(|| OsStr::from_bytes(&self.0[start..]))
    }

    /// Returns the components from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty()).map(OsStr::from_bytes)
    }

    /// Says whether this is `dir` or lies below it.
    pub fn starts_with(&self, dir: &LayerPath) -> bool {
        let Some(rest) = self.0.strip_prefix(dir.0.as_slice()) else { return false };
        dir.is_root() || rest.is_empty() || rest[0] == b'/'
    }

    /// Returns the bytes, without a leading slash; none for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path for system calls that take it relative to the layer's directory; empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { Escaped(&self.0).fmt(f) }
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A name as messages show it: text as it is, control characters and bytes that are no UTF-8 as `\n` or `\xNN`, so that
/// no input can reach the terminal's escape sequences.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A point in time, from the epoch. `nanos` counts forward from `secs`, so -1.5 s is `secs: -2, nanos: 500_000_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since the epoch, negative before it.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// What every kind of entry carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with set-user-ID, set-group-ID and sticky: 12 bits, no file type.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Extended attributes by full name (`user.x`), sorted by name, each name once. Bookkeeping of overlayfs
    /// (`trusted.overlay.*`, `user.overlay.*`) is never among them: readers turn it into changes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// A device's number, as `st_rdev` splits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Major number, below 2^12 on Linux.
    pub major: u32,
    /// Minor number, below 2^20 on Linux.
    pub minor: u32,
}

impl Device {
    /// The number of the character device that means a whiteout to overlayfs.
    pub const WHITEOUT: Device = Device { major: 0, minor: 0 };
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file of this many bytes, holes counted.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link with its target, any bytes but NUL, never changed.
    Symlink(OsString),
    /// Another name of the entry at this path, which the same layer or one below it put there before.
    Hardlink(LayerPath),
    /// A named pipe.
    Fifo,
    /// A character device, never [`Device::WHITEOUT`]: that is a whiteout.
    Char(Device),
    /// A block device.
    Block(Device),
}

/// An addition or modification: what is at `path` once the layer is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where; the root is allowed and is a directory.
    pub path: LayerPath,
    /// What.
    pub node: Node,
    /// With which metadata. A hard link's is what its header says, and most writers repeat the target's.
    pub meta: Meta,
}

/// The content of a regular file, as the runs of bytes that it holds. What lies between them, before the first or after
/// the last is a hole and reads as zeros.
pub trait Body {
    /// Returns the next run as its offset and bytes, never empty, at rising offsets and never overlapping, or `None` at
    /// the end. A run may come in any number of pieces.
    ///
    /// # Errors
    /// Whatever reading the source gives; the source ending too soon is [`io::ErrorKind::UnexpectedEof`].
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>>;

    /// Returns where in an archive the content lies, so that it can be read again later; `None` where it comes from elsewhere.
    fn place(&self) -> Option<Place> {
        None
    }
}

/// Where a content lies in an archive, from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the member's own header.
    pub header: u64,
    /// Offset of the first byte of content.
    pub content: u64,
    /// Whether it lies there in one run, as it does but for files with holes.
    pub whole: bool,
}

/// The body of whatever has no content.
pub struct NoBody;

impl Body for NoBody {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        Ok(None)
    }
}

/// Content in memory, without holes.
pub struct BytesBody<'a> {
    bytes: &'a [u8],
    done: bool,
}

impl<'a> BytesBody<'a> {
    /// Makes a body of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, done: bytes.is_empty() }
    }
}

impl Body for BytesBody<'_> {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let first = !std::mem::replace(&mut self.done, true);
        Ok(first.then_some((0, self.bytes)))
    }
}

/// Something that takes the changes of one layer, in the order of the source.
///
/// Order does not change the result (image-spec, layer.md): a whiteout or an opaque whiteout removes what lower layers
/// put, never what its own layer puts, wherever it stands.
pub trait Sink {
    /// Takes an addition or modification. `body` is the content of a [`Node::File`] and is empty for all else; what the
    /// sink does not read of it, the caller skips.
    ///
    /// # Errors
    /// What the sink refuses or cannot write; the caller adds the entry's path to the message.
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()>;

    /// Takes the removal of whatever lower layers have at `path`. Never the root.
    ///
    /// # Errors
    /// As [`Sink::put`].
    fn whiteout(&mut self, path: &LayerPath) -> Result<()>;

    /// Takes the removal of whatever lower layers have in the directory `path`, which itself stays.
    ///
    /// # Errors
    /// As [`Sink::put`].
    fn opaque(&mut self, path: &LayerPath) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        LayerPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_normalised() {
        for (name, want) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("a", "a"),
            ("./a/./b//c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("a/b/../c", "a/c"),
            ("a/..", ""),
            ("...", "..."),
            ("..x/. ", "..x/. "),
            ("a\\..\\b", "a\\..\\b"),
        ] {
            assert_eq!(path(name).as_bytes(), want.as_bytes(), "{name:?}");
        }
    }

    #[test]
    fn names_that_lead_out_or_are_too_long_are_refused() {
        let deep = "a/".repeat(limits::PATH_DEPTH + 1);
        let long = vec!["n".repeat(255); 17].join("/");
        for (name, want) in [
            ("..", "leads out"),
            ("../a", "leads out"),
            ("/..", "leads out"),
            ("a/../../b", "leads out"),
            ("a\0b", "NUL"),
            (&"n".repeat(256), "256 bytes, expected at most 255"),
            (&deep, "components"),
            (&long, "bytes, expected at most"),
        ] {
            let err = LayerPath::parse(name.as_bytes()).unwrap_err().to_string();
            assert!(err.contains(want), "{want}: {err}");
        }
    }

    #[test]
    fn parent_and_name_take_a_path_apart_and_join_puts_it_together() {
        for name in ["a", "a/b", "a/b/c"] {
            let path = path(name);
            assert_eq!(path.parent().unwrap().join(path.name().unwrap()).unwrap(), path);
        }
        assert_eq!(LayerPath::root().parent(), None);
        assert_eq!(LayerPath::root().name(), None);
        for name in ["", ".", "..", "a/b"] {
            assert!(path("d").join(OsStr::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn starts_with_goes_by_components() {
        assert!(path("a/b").starts_with(&path("a")));
        assert!(path("a").starts_with(&path("a")));
        assert!(path("a").starts_with(&LayerPath::root()));
        assert!(!path("ab").starts_with(&path("a")));
    }

    #[test]
    fn messages_carry_no_escape_sequences() {
        let shown = LayerPath::parse(b"\x1b]0;x\x07\xff\nok\xc3\xa9").unwrap().to_string();
        assert_eq!(shown, "\\u{1b}]0;x\\u{7}\\xff\\nok\u{e9}");
    }
}

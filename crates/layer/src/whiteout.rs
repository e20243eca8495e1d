//! The image-spec's encoding of removals as names (layer.md, "Whiteouts"), and the only place that knows it.
//!
//! `.wh.NAME` removes NAME of the lower layers; `.wh..wh..opq` removes all that they have in its directory. AUFS, from
//! which the scheme came, kept bookkeeping of its own under other names that begin with `.wh..wh.`; these are skipped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, bail};

use crate::change::{Escaped, LayerPath};

const PREFIX: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the name of a tar entry means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An entry of that path.
    Entry(LayerPath),
    /// The removal of what lower layers have at that path.
    Whiteout(LayerPath),
    /// The removal of all that lower layers have in that directory.
    Opaque(LayerPath),
    /// Bookkeeping of AUFS, or an entry below it: not part of the tree.
    Aufs,
}

/// Decodes the name of a tar entry.
///
/// # Errors
/// A name that [`LayerPath::parse`] refuses; `.wh.` alone, `.wh..` and `.wh...`, which would remove nothing, a directory
/// that holds them, or its parent; and a directory component that begins with `.wh.`, which no layer can hold.
pub fn decode(name: &[u8]) -> Result<Name> {
    // The marker of a 255-byte name is longer than a component may be, so it comes off before the path is parsed.
    let trimmed = trim_slashes(name);
    let (dir, last) = match trimmed.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&trimmed[..slash], &trimmed[slash + 1..]),
        None => (&trimmed[..0], trimmed),
    };
    let dir = LayerPath::parse(dir)?;
    for part in dir.components() {
        if part.as_bytes().starts_with(META) {
            return Ok(Name::Aufs);
        }
        if part.as_bytes().starts_with(PREFIX) {
            bail!("`{}` lies below a whiteout", Escaped(name));
        }
    }
    if last == OPAQUE {
        return Ok(Name::Opaque(dir));
    }
    if last.starts_with(META) {
        return Ok(Name::Aufs);
    }
    match last.strip_prefix(PREFIX) {
        None => LayerPath::parse(name).map(Name::Entry),
        Some(b"" | b"." | b"..") => bail!("`{}` is a whiteout of no name", Escaped(name)),
        Some(hidden) => dir.join(OsStr::from_bytes(hidden)).map(Name::Whiteout),
    }
}

/// Encodes the removal of `path`, which is not the root, as the name of a tar entry.
pub fn encode(path: &LayerPath) -> OsString {
    let name = path.name().map_or(&[][..], OsStrExt::as_bytes);
    beside(path.parent().unwrap_or_default(), &[PREFIX, name].concat())
}

/// Encodes the removal of all in the directory `path` as the name of a tar entry.
pub fn encode_opaque(path: &LayerPath) -> OsString {
    beside(path.clone(), OPAQUE)
}

/// Says whether an entry of this path would be read as a removal, so that it cannot be stored in a layer.
pub fn is_reserved(path: &LayerPath) -> bool {
    path.components().any(|part| part.as_bytes().starts_with(PREFIX))
}

fn beside(dir: LayerPath, name: &[u8]) -> OsString {
    let mut bytes = dir.as_bytes().to_vec();
    if !dir.is_root() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name);
    OsString::from_vec(bytes)
}

fn trim_slashes(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        LayerPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn names_mean_what_the_spec_says() {
        for (name, want) in [
            ("etc/motd", Name::Entry(path("etc/motd"))),
            ("./", Name::Entry(LayerPath::root())),
            (".wh", Name::Entry(path(".wh"))),
            (".whx", Name::Entry(path(".whx"))),
            ("x.wh.a", Name::Entry(path("x.wh.a"))),
            (".WH.a", Name::Entry(path(".WH.a"))),
            (".wh.a", Name::Whiteout(path("a"))),
            ("./d/.wh.a/", Name::Whiteout(path("d/a"))),
            ("d/.wh..a", Name::Whiteout(path("d/.a"))),
            ("d/.wh....", Name::Whiteout(path("d/..."))),
            (".wh..wh..opq", Name::Opaque(LayerPath::root())),
            ("a/b/.wh..wh..opq", Name::Opaque(path("a/b"))),
            (".wh..wh.plnk", Name::Aufs),
            (".wh..wh.plnk/x", Name::Aufs),
            (".wh..wh..opqx", Name::Aufs),
            (".wh./../x", Name::Entry(path("x"))),
        ] {
            assert_eq!(decode(name.as_bytes()).unwrap(), want, "{name:?}");
        }
    }

    #[test]
    fn whiteouts_of_no_name_are_refused() {
        for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
            assert!(decode(name.as_bytes()).unwrap_err().to_string().contains("whiteout of no name"), "{name:?}");
        }
        assert!(decode(b".wh.d/x").unwrap_err().to_string().contains("below a whiteout"));
        assert!(decode(b"../.wh.x").unwrap_err().to_string().contains("leads out"));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for name in ["a", "d/a", "d/e/.a", &"n".repeat(255)] {
            let path = path(name);
            assert_eq!(decode(encode(&path).as_bytes()).unwrap(), Name::Whiteout(path.clone()));
            assert_eq!(decode(encode_opaque(&path).as_bytes()).unwrap(), Name::Opaque(path));
        }
        assert_eq!(encode_opaque(&LayerPath::root()), ".wh..wh..opq");
    }

    #[test]
    fn names_that_would_read_as_removals_are_reserved() {
        assert!(is_reserved(&path(".wh.x")));
        assert!(is_reserved(&path("d/.wh.x/y")));
        assert!(!is_reserved(&path("d/.whx")));
    }
}

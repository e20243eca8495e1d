//! Reading overlayfs's encoding: what the xattrs of a file in an upperdir or lowerdir mean.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, bail, ensure};

use crate::change::{Escaped, LayerPath};

/// Extended attributes by full name, with their values.
pub type Xattrs = Vec<(OsString, Vec<u8>)>;

/// What overlayfs noted on a file, in either dialect (`trusted.overlay.*`, `user.overlay.*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// `opaque=y`: the directory hides all that the layers below have in it.
    pub opaque: bool,
    /// `opaque=x`: the directory may hold files that are whiteouts by their `whiteout` mark (Linux 6.7).
    pub xattr_whiteouts: bool,
    /// `whiteout`: an empty file that is a whiteout if its directory says that it may hold such.
    pub whiteout: bool,
    /// `redirect`: the layers below know the directory, or the file that this is a metacopy of, by another name.
    pub redirect: Option<Redirect>,
    /// `metacopy`: the file has metadata only, its content is in a layer below.
    pub metacopy: bool,
}

/// The name by which the layers below know an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Another name in the same directory.
    Sibling(OsString),
    /// A path from the root of the layers.
    Absolute(LayerPath),
}

impl std::fmt::Display for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sibling(name) => Escaped(name.as_bytes()).fmt(f),
            Self::Absolute(path) => write!(f, "/{}", Escaped(path.as_bytes())),
        }
    }
}

/// Takes the bookkeeping out of a file's xattrs: returns what it means, and the other xattrs sorted by name.
///
/// The escape of nested overlays (`trusted.overlay.overlay.x` stands for the `trusted.overlay.x` that the mounted tree
/// shows) is undone by one level.
///
/// # Errors
/// A redirect that the kernel would not take, and one, or a metacopy, in the `user.` dialect: the kernel follows neither
/// there, as whoever owns a file could then read any other through it.
pub fn decode(xattrs: Xattrs) -> Result<(Marks, Xattrs)> {
    let mut marks = Marks::default();
    let mut others = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        let Some((prefix, key)) = split(&name) else {
            others.push((name, value));
            continue;
        };
        if let Some(inner) = key.strip_prefix(b"overlay.") {
            others.push((OsString::from_vec([prefix, inner].concat()), value));
            continue;
        }
        match key {
            b"opaque" => {
                marks.opaque |= value == b"y";
                marks.xattr_whiteouts |= value == b"x";
            }
            b"whiteout" => marks.whiteout = true,
            b"redirect" | b"metacopy" if prefix != TRUSTED => {
                bail!("has `{}`, which the kernel does not follow", Escaped(name.as_bytes()))
            }
            b"redirect" => marks.redirect = Some(parse_redirect(&value)?),
            b"metacopy" => marks.metacopy = true,
            // impure, origin, nlink, uuid, upper, protattr, verity...: of use to the mount that wrote them alone.
            _ => {}
        }
    }
    others.sort_unstable();
    Ok((marks, others))
}

const TRUSTED: &[u8] = b"trusted.overlay.";
const USER: &[u8] = b"user.overlay.";

/// Splits the name of an xattr of overlayfs into prefix and key.
fn split(name: &OsStr) -> Option<(&'static [u8], &[u8])> {
    let name = name.as_bytes();
    [TRUSTED, USER].into_iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))
}

fn parse_redirect(value: &[u8]) -> Result<Redirect> {
    let refused = || format!("is redirected to `{}`, which is no name", Escaped(value));
    let Some(path) = value.strip_prefix(b"/") else {
        LayerPath::root().join(OsStr::from_bytes(value)).with_context(refused)?;
        return Ok(Redirect::Sibling(OsString::from_vec(value.to_vec())));
    };
    let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    ensure!(path.split(|&b| b == b'/').all(plain), refused());
    LayerPath::parse(path).with_context(refused).map(Redirect::Absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(list: &[(&str, &str)]) -> Xattrs {
        list.iter().map(|(name, value)| (OsString::from(name), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn marks_are_taken_out_in_both_dialects() {
        let dir = |opaque, xattr_whiteouts| Marks { opaque, xattr_whiteouts, ..Marks::default() };
        for (list, want) in [
            (&[("trusted.overlay.opaque", "y")][..], dir(true, false)),
            (&[("user.overlay.opaque", "y")], dir(true, false)),
            (&[("user.overlay.opaque", "x")], dir(false, true)),
            (&[("trusted.overlay.opaque", "n")], dir(false, false)),
            (&[("trusted.overlay.opaque", "yy")], dir(false, false)),
            (&[("trusted.overlay.opaque", "y"), ("user.overlay.opaque", "x")], dir(true, true)),
            (&[("user.overlay.whiteout", "")], Marks { whiteout: true, ..Marks::default() }),
            (&[("trusted.overlay.metacopy", "")], Marks { metacopy: true, ..Marks::default() }),
            (&[("trusted.overlay.origin", "\0"), ("user.overlay.impure", "y")], Marks::default()),
        ] {
            assert_eq!(decode(xattrs(list)).unwrap(), (want, Vec::new()), "{list:?}");
        }
    }

    #[test]
    fn other_xattrs_stay_and_nested_ones_are_unescaped_once() {
        let list = xattrs(&[
            ("user.b", "2"),
            ("trusted.overlay.overlay.opaque", "y"),
            ("user.overlay.overlay.overlay.x", "1"),
            ("security.capability", "c"),
            ("trusted.overlayx", "o"),
            ("trusted.overlay.nlink", "U+1"),
        ]);
        let (marks, others) = decode(list).unwrap();
        assert_eq!(marks, Marks::default());
        let want = [
            ("security.capability", "c"),
            ("trusted.overlay.opaque", "y"),
            ("trusted.overlayx", "o"),
            ("user.b", "2"),
            ("user.overlay.overlay.x", "1"),
        ];
        assert_eq!(others, xattrs(&want));
    }

    #[test]
    fn redirects_are_names_or_absolute_paths() {
        let redirect = |value| decode(xattrs(&[("trusted.overlay.redirect", value)])).map(|(marks, _)| marks.redirect);
        assert_eq!(redirect("old").unwrap(), Some(Redirect::Sibling("old".into())));
        let path = LayerPath::parse(b"a/b").unwrap();
        assert_eq!(redirect("/a/b").unwrap(), Some(Redirect::Absolute(path)));
        for value in ["", "/", ".", "..", "a/b", "/a//b", "/a/", "/../a", "/a/./b", "a\0"] {
            let err = redirect(value).unwrap_err().to_string();
            assert!(err.starts_with("is redirected to"), "{value:?}: {err}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_follow_is_refused() {
        for name in ["user.overlay.redirect", "user.overlay.metacopy"] {
            let err = decode(xattrs(&[(name, "/etc/shadow")])).unwrap_err().to_string();
            assert_eq!(err, format!("has `{name}`, which the kernel does not follow"));
        }
    }
}

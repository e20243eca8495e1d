//! References to images: `TRANSPORT:PATH[:REF]`, or a path alone.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::change::Escaped;

/// Which medium holds an image, by its name in containers-transports(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A tar that `docker save` wrote.
    DockerArchive,
    /// An OCI image layout in a directory.
    Oci,
    /// An OCI image layout in a tar.
    OciArchive,
    /// Docker's data root, a directory.
    DockerRoot,
}

impl Transport {
    const ALL: [Transport; 4] = [Self::DockerArchive, Self::Oci, Self::OciArchive, Self::DockerRoot];

    /// Returns the name in front of the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::DockerArchive => "docker-archive",
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerRoot => "docker-root",
        }
    }
}

/// Which of the images that a medium holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `@N`: the N-th from 0 on, in the order of `manifest.json` or of the layout's `index.json`.
    Position(usize),
    /// `sha256:` and 1 to 64 hexadecimal digits, which are all that is kept here: an ImageID or a manifest's digest, or
    /// the beginning of one.
    Digest(String),
    /// A tag or `name:tag`.
    Name(String),
}

impl Selector {
    fn parse(text: &OsStr) -> Result<Self> {
        let text = text.to_str().with_context(|| format!("`{}` is no UTF-8", Escaped(text.as_bytes())))?;
        ensure!(!text.is_empty(), "is empty, expected a tag, `name:tag`, `@N` or `sha256:DIGITS` behind the colon");
        if let Some(number) = text.strip_prefix('@') {
            let position = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()));
            return position
                .map(Self::Position)
                .with_context(|| format!("`{text}`: expected `@` and a number from 0 on"));
        }
        let Some(digits) = text.strip_prefix("sha256:") else { return Ok(Self::Name(text.to_owned())) };
        let hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(
            hex && (1..=64).contains(&digits.len()),
            "`{text}`: expected `sha256:` and 1 to 64 lower-case hexadecimal digits"
        );
        Ok(Self::Digest(digits.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "@{position}"),
            Self::Digest(digits) => write!(f, "sha256:{digits}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where an image is: a medium and which of its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The medium; `None` is told by what lies at the path.
    pub transport: Option<Transport>,
    /// The archive or directory; `-` is stdin.
    pub path: PathBuf,
    /// Which image; `None` where there is only one, or only one for the platform.
    pub selector: Option<Selector>,
}

impl Reference {
    /// Parses `TRANSPORT:PATH[:REF]`, `PATH[:REF]` or `-`.
    ///
    /// Paths and references may both hold colons. The longest path that exists is taken, so that what
    /// [`Reference::to_os_string`] prints names the same file again; where none exists, the path ends at the first colon. A
    /// file whose name begins with a transport is named with `./` in front of it.
    ///
    /// # Errors
    /// An empty path, a transport that is not known, and a reference that is none of [`Selector`].
    pub fn parse(text: &OsStr) -> Result<Self> {
        // `-` is stdin, not a file of that name.
        parse(text, |path| path == Path::new("-") || path.symlink_metadata().is_ok())
    }

    /// Returns the text that [`Reference::parse`] reads, with an absolute path. `-` stays as it is.
    pub fn to_os_string(&self) -> OsString {
        let mut text = OsString::new();
        if let Some(transport) = self.transport {
            text.push(transport.name());
            text.push(":");
        }
        if self.is_stdin() {
            text.push("-");
        } else {
            text.push(std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()));
        }
        if let Some(selector) = &self.selector {
            text.push(format!(":{selector}"));
        }
        text
    }

    /// Says whether the archive comes on stdin.
    pub fn is_stdin(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// Parses with `exists` saying which paths there are.
fn parse(text: &OsStr, exists: impl Fn(&Path) -> bool) -> Result<Reference> {
    let (transport, rest) = split_transport(text);
    ensure!(!rest.is_empty(), "`{}` has no path", Escaped(text.as_bytes()));
    let bytes = rest.as_bytes();
    let split = |at: usize| (Path::new(OsStr::from_bytes(&bytes[..at])), OsStr::from_bytes(&bytes[at + 1..]));
    let colons: Vec<usize> = (1..bytes.len()).filter(|&at| bytes[at] == b':').collect();
    if exists(Path::new(rest)) || colons.is_empty() {
        return Ok(Reference { transport, path: rest.into(), selector: None });
    }
    let found = colons.iter().rev().find(|&&at| exists(split(at).0));
    let (path, selector) = split(*found.unwrap_or(&colons[0]));
    if found.is_none() && transport.is_none() {
        refuse_transport(path)?;
    }
    let selector = Selector::parse(selector).with_context(|| format!("`{}`", Escaped(text.as_bytes())))?;
    Ok(Reference { transport, path: path.to_owned(), selector: Some(selector) })
}

fn split_transport(text: &OsStr) -> (Option<Transport>, &OsStr) {
    for transport in Transport::ALL {
        let rest = text.as_bytes().strip_prefix(transport.name().as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
        if let Some(rest) = rest {
            return (Some(transport), OsStr::from_bytes(rest));
        }
    }
    (None, text)
}

/// Refuses what is no file but looks like another tool's transport: `docker://alpine`.
fn refuse_transport(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let word = bytes.len() > 1 && bytes.iter().all(|b| b.is_ascii_lowercase() || *b == b'-');
    if word {
        bail!(
            "there is no file `{}` and no such transport (expected docker-archive, oci, oci-archive or docker-root)",
            Escaped(bytes)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, there: &[&str]) -> Result<Reference> {
        parse(OsStr::new(text), |path| there.iter().any(|name| Path::new(name) == path))
    }

    #[test]
    fn transport_path_and_selector_are_told_apart() {
        use Transport::{DockerArchive, DockerRoot, Oci, OciArchive};
        let name = |text: &str| Some(Selector::Name(text.to_owned()));
        for (text, there, transport, path, selector) in [
            ("a.tar", &["a.tar"][..], None, "a.tar", None),
            ("a.tar", &[], None, "a.tar", None),
            ("-", &["-"], None, "-", None),
            ("-:alpine:3.10", &["-"], None, "-", name("alpine:3.10")),
            ("docker-archive:-", &["-"], Some(DockerArchive), "-", None),
            ("a.tar:latest", &["a.tar"], None, "a.tar", name("latest")),
            ("docker-archive:a.tar", &[], Some(DockerArchive), "a.tar", None),
            ("docker-archive:a.tar:alpine:3.10", &["a.tar"], Some(DockerArchive), "a.tar", name("alpine:3.10")),
            ("docker-archive:a.tar:@2", &[], Some(DockerArchive), "a.tar", Some(Selector::Position(2))),
            ("oci:/l:sha256:0a", &["/l"], Some(Oci), "/l", Some(Selector::Digest("0a".into()))),
            ("docker-root:/d:a:1", &["/d"], Some(DockerRoot), "/d", name("a:1")),
            ("oci-archive:l.tar:x/y:1", &[], Some(OciArchive), "l.tar", name("x/y:1")),
            // Colons in the path: what exists decides, the longest first.
            ("oci:/a:b", &["/a:b"], Some(Oci), "/a:b", None),
            ("oci:/a:b", &["/a"], Some(Oci), "/a", name("b")),
            ("oci:/a:b", &["/a", "/a:b"], Some(Oci), "/a:b", None),
            ("oci:/a:b:sha256:0a", &["/a:b"], Some(Oci), "/a:b", Some(Selector::Digest("0a".into()))),
            ("./oci:x", &["./oci:x"], None, "./oci:x", None),
        ] {
            let want = Reference { transport, path: path.into(), selector };
            assert_eq!(with(text, there).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        for (text, there, want) in [
            ("", &[][..], "has no path"),
            ("oci:", &[], "has no path"),
            ("a.tar:", &["a.tar"], "is empty"),
            ("a.tar:@", &["a.tar"], "a number from 0 on"),
            ("a.tar:@-1", &["a.tar"], "a number from 0 on"),
            ("a.tar:@+1", &["a.tar"], "a number from 0 on"),
            ("a.tar:@99999999999999999999", &["a.tar"], "a number from 0 on"),
            ("a.tar:sha256:", &["a.tar"], "1 to 64"),
            ("a.tar:sha256:0A", &["a.tar"], "1 to 64"),
            ("docker://alpine", &[], "no such transport"),
            ("docker-daemon:alpine:3", &[], "no such transport"),
        ] {
            let err = format!("{:#}", with(text, there).unwrap_err());
            assert!(err.contains(want), "{text}: {err}");
        }
    }

    #[test]
    fn what_is_printed_is_absolute_and_parsed_again() {
        for path in [&b"/a/b.tar"[..], b"/caf\xe9:x", b"rel/x"] {
            let path = Path::new(OsStr::from_bytes(path));
            let reference = Reference {
                transport: Some(Transport::OciArchive),
                path: path.to_owned(),
                selector: Some(Selector::Digest("0a".repeat(32))),
            };
            let text = reference.to_os_string();
            let absolute = std::path::absolute(path).unwrap();
            let again = parse(&text, |path| path == absolute).unwrap();
            assert_eq!(again, Reference { path: absolute, ..reference });
            assert_eq!(again.to_os_string(), text);
        }
    }
}

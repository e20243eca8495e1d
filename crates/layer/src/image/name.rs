//! Names of images, `[host[:port]/]path[:tag]`, in the two ways that Docker and its kin write them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};

/// Docker Hub's host, which is left out of familiar names.
const HUB: &str = "docker.io";
/// Where Docker Hub keeps what it calls official images, left out as well.
const OFFICIAL: &str = "library/";
/// What a name without a tag means.
const LATEST: &str = "latest";

/// An image's name with its tag. Displayed, it is the familiar form: `alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    host: String,
    path: String,
    tag: String,
}

impl Name {
    /// Returns the name in full, as containerd keeps it: `docker.io/library/alpine:latest`.
    pub fn canonical(&self) -> String {
        format!("{}/{}:{}", self.host, self.path, self.tag)
    }

    /// Returns the tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HUB {
            return write!(f, "{}/{}:{}", self.host, self.path, self.tag);
        }
        let official = self.path.strip_prefix(OFFICIAL).filter(|path| !path.contains('/'));
        write!(f, "{}:{}", official.unwrap_or(&self.path), self.tag)
    }
}

impl FromStr for Name {
    type Err = Error;

    /// Parses a name as one types it: without a host it is on Docker Hub, without a tag it is `latest`.
    ///
    /// # Errors
    /// What the grammar of distribution's reference package or `docker tag` refuse, and a digest in place of the tag.
    fn from_str(text: &str) -> Result<Self> {
        let shown = text.escape_debug();
        ensure!(!text.contains('@'), "`{shown}` has a digest, expected a name with a tag");
        let (host, rest) = split_host(text);
        let (path, tag) = rest.split_once(':').unwrap_or((rest, LATEST));
        ensure!(path == path.to_lowercase(), "`{shown}` has upper-case letters in its name, where only a tag may");
        let path = if host == HUB && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        let valid = is_host(host) && path.split('/').all(is_component);
        ensure!(valid, "`{shown}` is not an image's name (`alpine:3.10`, `host:5000/group/name:tag`)");
        ensure!(
            is_tag(tag),
            "`{shown}` has no good tag: up to 128 letters, digits, `_`, `.` and `-`, not these two first"
        );
        // Either would be taken for an ImageID.
        let hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(!hex && (host != HUB || path != "library/sha256"), "`{shown}` looks like an ImageID");
        let length = host.len() + 1 + path.len();
        ensure!(length <= 255, "`{shown}` has {length} bytes with its host, expected at most 255");
        Ok(Self { host: host.to_owned(), path, tag: tag.to_owned() })
    }
}

/// Says whether `asked`, a tag or `name:tag`, means the image that is tagged `tag`.
///
/// A tag may be written as Docker prints it or in full (`docker.io/library/alpine:3.10`), a name without a tag means
/// `latest`, and a tag alone matches whatever the name. Layouts may have tags that are no names: those match as they are.
pub(super) fn matches(asked: &str, tag: &str) -> bool {
    let (asked_name, tag_name) = (asked.parse::<Name>(), tag.parse::<Name>());
    let same = matches!((asked_name, tag_name), (Ok(asked), Ok(tag)) if asked == tag);
    let version = tag.rsplit_once(':').is_some_and(|(_, version)| !version.contains('/') && asked == version);
    asked == tag || same || version
}

/// Splits the host off. What stands before the first slash is one only where it looks so.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (HUB, rest),
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => (HUB, text),
    }
}

/// Says whether this is `host[:port]`: letters, digits and dashes between dots.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |label: &str| {
        let chars = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        chars && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Says whether this is lower-case letters and digits, with one dot, one or two underscores or any number of dashes between
/// them.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = text.split(alphanumeric);
    let separator = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    separators.all(separator) && text.starts_with(alphanumeric) && text.ends_with(alphanumeric)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let rest = text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    (1..=128).contains(&text.len()) && rest && text.bytes().next().is_some_and(word)
}

#[cfg(test)]
mod tests {
    use super::{Name, matches};

    /// The familiar names are what `docker tag` (20.10.24) made of these.
    #[test]
    fn names_are_written_as_docker_does() {
        for (text, familiar, canonical) in [
            ("alpine", "alpine:latest", "docker.io/library/alpine:latest"),
            ("alpine:3.10", "alpine:3.10", "docker.io/library/alpine:3.10"),
            ("docker.io/alpine", "alpine:latest", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine:x", "alpine:x", "docker.io/library/alpine:x"),
            ("index.docker.io/me/a", "me/a:latest", "docker.io/me/a:latest"),
            ("library/alpine", "alpine:latest", "docker.io/library/alpine:latest"),
            ("docker.io/library/a/b", "library/a/b:latest", "docker.io/library/a/b:latest"),
            ("me/b/c", "me/b/c:latest", "docker.io/me/b/c:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost", "localhost:latest", "docker.io/library/localhost:latest"),
            ("localhost:5000", "localhost:5000", "docker.io/library/localhost:5000"),
            ("localhost:5000/a:1", "localhost:5000/a:1", "localhost:5000/a:1"),
            ("host:5000/a/b:t", "host:5000/a/b:t", "host:5000/a/b:t"),
            ("example.com/library/a", "example.com/library/a:latest", "example.com/library/a:latest"),
            ("FOO.com/a", "FOO.com/a:latest", "FOO.com/a:latest"),
            ("1.2.3.4:80/a:b", "1.2.3.4:80/a:b", "1.2.3.4:80/a:b"),
            ("a-b.c_d", "a-b.c_d:latest", "docker.io/library/a-b.c_d:latest"),
            ("a__b", "a__b:latest", "docker.io/library/a__b:latest"),
            ("a---b", "a---b:latest", "docker.io/library/a---b:latest"),
            ("a:A.b-c_D", "a:A.b-c_D", "docker.io/library/a:A.b-c_D"),
            ("sha256/a", "sha256/a:latest", "docker.io/sha256/a:latest"),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!((name.to_string(), name.canonical()), (familiar.to_owned(), canonical.to_owned()));
            assert_eq!(familiar.parse::<Name>().unwrap(), name);
            assert_eq!(canonical.parse::<Name>().unwrap(), name);
        }
        let hex = "a".repeat(64);
        for text in
            [format!("me/{hex}"), format!("docker.io/{hex}"), format!("a:{hex}"), format!("a:{}", "t".repeat(128))]
        {
            assert!(text.parse::<Name>().is_ok(), "{text}");
        }
    }

    /// All of these `docker tag` refuses too, but for `exa_mple.com/a`, which it takes for a path without a host.
    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let (long, hex) = (format!("x/{}", "a".repeat(250)), "a".repeat(64));
        let long_tag = format!("a:{}", "t".repeat(129));
        for (text, want) in [
            ("", "is not an image's name"),
            ("-a", "is not an image's name"),
            ("a_", "is not an image's name"),
            ("a..b", "is not an image's name"),
            ("a___b", "is not an image's name"),
            ("a.-b", "is not an image's name"),
            ("a//b", "is not an image's name"),
            ("/a", "is not an image's name"),
            ("a/", "is not an image's name"),
            ("a b", "is not an image's name"),
            ("docker.io/", "is not an image's name"),
            ("\u{e9}", "is not an image's name"),
            ("host:port/a", "is not an image's name"),
            ("host:/a", "is not an image's name"),
            ("http://a/b", "is not an image's name"),
            ("-x.com/a", "is not an image's name"),
            ("a..com/b", "is not an image's name"),
            ("exa_mple.com/a", "is not an image's name"),
            ("[::1]:5000/a", "is not an image's name"),
            ("Alpine", "has upper-case letters"),
            ("Foo/a", "has upper-case letters"),
            ("a/B", "has upper-case letters"),
            ("alpine:", "has no good tag"),
            ("alpine:-x", "has no good tag"),
            ("alpine:x/y", "is not an image's name"),
            ("a:b:c", "has no good tag"),
            ("a:\u{e9}", "has no good tag"),
            (&long_tag, "has no good tag"),
            ("a@sha256:00", "has a digest"),
            ("sha256", "looks like an ImageID"),
            ("sha256:x", "looks like an ImageID"),
            (&hex, "looks like an ImageID"),
            (&long, "has 262 bytes with its host"),
        ] {
            let err = text.parse::<Name>().unwrap_err().to_string();
            assert!(err.contains(want), "{text}: {err}");
        }
    }

    #[test]
    fn short_and_full_names_mean_the_same() {
        for (asked, tag, want) in [
            ("alpine:3.10", "alpine:3.10", true),
            ("alpine:3.10", "docker.io/library/alpine:3.10", true),
            ("docker.io/library/alpine:3.10", "alpine:3.10", true),
            ("docker.io/alpine:3.10", "alpine:3.10", true),
            ("alpine", "alpine:latest", true),
            ("me/a:1", "docker.io/me/a:1", true),
            ("me/a:1", "index.docker.io/me/a:1", true),
            ("3.10", "alpine:3.10", true),
            ("latest", "latest", true),
            ("host:5000/a", "host:5000/a:latest", true),
            ("alpine:3.1", "alpine:3.10", false),
            ("alpine", "alpine:3.10", false),
            ("a:1", "me/a:1", false),
            ("localhost/a:1", "a:1", false),
            ("5000/a", "host:5000/a", false),
        ] {
            assert_eq!(matches(asked, tag), want, "{asked} {tag}");
        }
    }
}

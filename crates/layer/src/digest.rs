//! Digests and the identifiers made of them.
//!
//! A digest names bytes; what was hashed decides which identifier it is, so each has a type of its own and a blob's
//! digest cannot pass for a DiffID. Only SHA-256 is known: it is what every registry, Docker and the image-spec's ChainID
//! recursion use in practice. Another algorithm is refused by name, and would be added in this file alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

pub use crate::check::{Mismatch, check};

const PREFIX: &str = "sha256:";

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits (image-spec, descriptor.md, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Returns the 64 hexadecimal digits without the algorithm, as file names in OCI layouts and Docker's store spell it.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Parses 64 lower-case hexadecimal digits without an algorithm.
    pub fn from_hex(digits: &str) -> Result<Self, ParseError> {
        let mut bytes = [0; 32];
        let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(digits, &mut bytes).is_err() {
            return Err(ParseError::new(digits, "expected 64 lower-case hexadecimal digits"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some(("sha256", digits)) => Self::from_hex(digits)
                .map_err(|_| ParseError::new(text, "expected `sha256:` and 64 lower-case hexadecimal digits")),
            Some((algorithm @ ("sha384" | "sha512" | "blake3"), _)) => {
                Err(ParseError::new(text, &format!("digests by {algorithm} are not supported, only sha256")))
            }
            _ => Err(ParseError::new(text, "expected `sha256:` and 64 lower-case hexadecimal digits")),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no digest: what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    found: String,
    expected: String,
}

impl ParseError {
    fn new(found: &str, expected: &str) -> Self {
        // A digest is 71 bytes; what is much longer is something else and must not flood the message.
        let mut short: String = found.chars().take(80).collect();
        if short.len() < found.len() {
            short.push('…');
        }
        Self { found: short, expected: expected.to_owned() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a digest: {}", self.found, self.expected)
    }
}

impl std::error::Error for ParseError {}

/// A running SHA-256.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes `bytes` after those before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes given.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the 64 hexadecimal digits without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.parse().map(Self)
            }
        }
    };
}

identifier! {
    /// The digest of a layer's uncompressed tar, every byte of it, padding after the end marker included (image-spec,
    /// config.md, "Layer DiffID").
    DiffId
}

identifier! {
    /// The digest that names a stack of layers from the base up (image-spec, config.md, "Layer ChainID").
    ChainId
}

identifier! {
    /// The digest of an image's configuration as stored (image-spec, config.md, "ImageID").
    ImageId
}

impl ChainId {
    /// Returns the ChainID of the stack that has the layer `diff_id` on top of `parent`, or of that layer alone.
    ///
    /// For the base layer it is the DiffID itself; above, the digest of both identifiers with one space between them.
    pub fn extend(parent: Option<ChainId>, diff_id: DiffId) -> ChainId {
        match parent {
            None => ChainId(diff_id.0),
            Some(parent) => ChainId(Digest::of(format!("{parent} {diff_id}").as_bytes())),
        }
    }

    /// Returns the ChainID of each stack from the base layer alone to the whole of `diff_ids`, base first.
    pub fn chain(diff_ids: impl IntoIterator<Item = DiffId>) -> Vec<ChainId> {
        let mut parent = None;
        let extend = |diff_id| {
            let chain_id = ChainId::extend(parent, diff_id);
            parent = Some(chain_id);
            chain_id
        };
        diff_ids.into_iter().map(extend).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Hasher::new().finish().to_string(), EMPTY);
    }

    #[test]
    fn what_is_printed_is_parsed() {
        let digest = Digest::of(b"layer");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused_with_the_reason() {
        let upper = EMPTY.to_uppercase();
        let short = &EMPTY[..EMPTY.len() - 1];
        let long = format!("{EMPTY}0");
        let space = format!(" {EMPTY}");
        let newline = format!("{EMPTY}\n");
        for text in
            ["", "sha256", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd9", &upper, short, &long, &space, &newline]
        {
            let err = text.parse::<Digest>().unwrap_err().to_string();
            assert!(err.contains("expected `sha256:` and 64 lower-case"), "{text:?}: {err}");
        }
        let err = format!("sha512:{}", "a".repeat(128)).parse::<Digest>().unwrap_err().to_string();
        assert!(err.contains("sha512 are not supported"), "{err}");
    }

    #[test]
    fn a_long_text_is_cut_in_the_message() {
        assert!("x".repeat(10_000).parse::<Digest>().unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn chain_follows_the_recursion() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| DiffId(Digest::of(bytes)));
        let ab = ChainId(Digest::of(format!("{a} {b}").as_bytes()));
        let abc = ChainId(Digest::of(format!("{ab} {c}").as_bytes()));
        assert_eq!(ChainId::chain([a, b, c]), [ChainId(a.0), ab, abc]);
        assert_eq!(ChainId::chain([]), []);
    }
}

//! How a blob is compressed, told by its first bytes and never by a name, and how one is to be.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// How a blob is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A tar as it is.
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
}

impl Compression {
    /// The most bytes that [`Compression::sniff`] looks at.
    pub(crate) const HEAD: usize = 512;

    /// Tells the compression of a stream from its first bytes, as many as there are up to [`Compression::HEAD`]. A tar header with
    /// a right checksum is a tar, whatever name it begins with.
    ///
    /// # Errors
    /// A compression that image-spec does not know; the message names it.
    pub fn sniff(head: &[u8]) -> Result<Self> {
        if head.len() >= 512 && is_tar_header(&head[..512]) {
            return Ok(Self::None);
        }
        match head {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                return Ok(Self::Zstd);
            }
            _ => {}
        }
        let foreign: [(&[u8], &str); 5] = [
            (b"BZh", "bzip2"),
            (b"\xfd7zXZ\0", "xz"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"LZIP", "lzip"),
            (b"PK\x03\x04", "zip"),
        ];
        for (magic, name) in foreign {
            if head.starts_with(magic) {
                bail!("is compressed with {name}, expected a plain, gzip or zstd stream");
            }
        }
        Ok(Self::None)
    }

    /// Returns the image-spec's media type of a layer stored so (media-types.md).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Returns what a layer's media type says of its compression; `None` for one that is no layer's. Docker's schema 2
    /// types and the non-distributable ones count.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Says whether a block is a tar header: its checksum, over unsigned or signed bytes, is right, and it is not all zeros.
fn is_tar_header(block: &[u8]) -> bool {
    let field = String::from_utf8_lossy(&block[148..156]);
    let digits = field.trim_matches(|c| c == ' ' || c == '\0');
    let Ok(stored) = i64::from_str_radix(digits, 8) else { return false };
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
    let sum = |value: fn(u8) -> i64| block.iter().enumerate().map(byte).map(value).sum::<i64>();
    stored == sum(i64::from) || stored == sum(|byte| i64::from(byte as i8))
}

/// How a blob is to be stored: `none`, `gzip`, `gzip:9`, `zstd`, `zstd:19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A tar as it is.
    None,
    /// Gzip of this level, 1 to 9.
    Gzip(u32),
    /// Zstd of this level, 1 to 22.
    Zstd(i32),
}

impl Encoding {
    /// Returns what a blob stored so is.
    pub fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
        let level = |default: u32, max: u32| match level.map(str::parse) {
            None => Ok(default),
            Some(Ok(level)) if (1..=max).contains(&level) => Ok(level),
            Some(_) => bail!("`{text}`: expected a level from 1 to {max}"),
        };
        match (name, text.contains(':')) {
            ("none", false) => Ok(Self::None),
            ("gzip", _) => level(6, 9).map(Self::Gzip),
            ("zstd", _) => level(3, 22).map(|level| Self::Zstd(level.cast_signed())),
            _ => bail!("`{text}`: expected `none`, `gzip[:1-9]` or `zstd[:1-22]`"),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_compression() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut disguised = header.clone();
        disguised.as_mut_bytes()[..3].copy_from_slice(b"\x1f\x8b\x08");
        disguised.set_cksum();
        for (head, want) in [
            (&b""[..], Compression::None),
            (b"\x1f\x8b\x08\0", Compression::Gzip),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x51\x2a\x4d\x18", Compression::Zstd),
            (header.as_bytes(), Compression::None),
            (disguised.as_bytes(), Compression::None),
            (&[0; 512], Compression::None),
        ] {
            assert_eq!(Compression::sniff(head).unwrap(), want);
        }
        assert!(Compression::sniff(b"BZh9").unwrap_err().to_string().contains("bzip2"));
        assert!(Compression::sniff(b"\xfd7zXZ\0\0").unwrap_err().to_string().contains("xz"));
    }

    #[test]
    fn media_types_go_both_ways() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(Compression::of_media_type(compression.media_type()), Some(compression));
        }
        assert_eq!(Compression::of_media_type("application/json"), None);
    }

    #[test]
    fn encodings_are_parsed_and_printed() {
        for text in ["none", "gzip:6", "gzip:1", "zstd:3", "zstd:22"] {
            assert_eq!(text.parse::<Encoding>().unwrap().to_string(), text);
        }
        assert_eq!("gzip".parse::<Encoding>().unwrap(), Encoding::Gzip(6));
        assert_eq!("zstd".parse::<Encoding>().unwrap(), Encoding::Zstd(3));
        for text in ["", "gz", "gzip:", "gzip:0", "gzip:10", "zstd:23", "none:1", "xz"] {
            assert!(text.parse::<Encoding>().is_err(), "{text:?}");
        }
    }
}

//! PAX records: what an extended header says of the entry behind it (POSIX pax, "pax Extended Header").

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::number::{parse_decimal, parse_time};
use super::sparse::{Extent, from_pairs};
use crate::change::{Escaped, Time};

/// libarchive writes no padding; whoever does is understood as well.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The records of one header that change an entry. Of two with the same key the later one counts. An empty value takes a
/// record back, but for an xattr, which may be empty.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) devmajor: Option<u64>,
    pub(super) devminor: Option<u64>,
    /// In the order of the records; a name may stand there twice.
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

/// The `GNU.sparse.*` records.
#[derive(Default)]
pub(super) struct Sparse {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    extents: Option<u64>,
    numbers: Vec<u64>,
}

/// Where a sparse file's map is.
pub(super) enum Map {
    /// In the records: PAX 0.0 and 0.1.
    Records(Vec<Extent>),
    /// In front of the content: PAX 1.0.
    Content,
}

impl Pax {
    /// Reads the records of one extended header.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<()> {
        for_each_record(data, |key, value| self.take(key, value))
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.linkpath = name(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            // A time that is none is no reason to refuse a layer: the header's stays.
            b"mtime" => self.mtime = parse_time(value),
            b"SCHILY.devmajor" => self.devmajor = number(value)?,
            b"SCHILY.devminor" => self.devminor = number(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.take_xattr(name.to_vec(), value.to_vec())?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.take_xattr(percent_decode(name), BASE64.decode(value)?)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().take(key, value)?;
                }
                // All else says nothing that a layer keeps: comment, uname, atime, vendors' own, and SCHILY.acl.*, ACLs
                // as text with names of users, which no container runtime reads; system.posix_acl_* carries them.
            }
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<()> {
        ensure!(!name.is_empty() && !name.contains(&0), "`{}` is not the name of an xattr", Escaped(&name));
        self.xattrs.push((OsString::from_vec(name), value));
        Ok(())
    }

    /// Returns the xattrs sorted by name, each name once.
    pub(super) fn take_xattrs(&mut self) -> Vec<(OsString, Vec<u8>)> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        // The sort is stable: reversed, the last of each name comes first and is the one that dedup keeps.
        xattrs.reverse();
        xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        xattrs.dedup_by(|later, first| later.0 == first.0);
        xattrs
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"name" => self.name = name(value)?,
            b"size" | b"realsize" => self.size = number(value)?,
            b"numblocks" => self.extents = number(value)?,
            b"offset" | b"numbytes" => {
                let paired = self.numbers.len().is_multiple_of(2) == (key == b"offset");
                ensure!(paired, "GNU.sparse.{} stands out of turn", Escaped(key));
                self.numbers.push(parse_decimal(value)?);
            }
            b"map" if value.is_empty() => self.numbers.clear(),
            b"map" => self.numbers = value.split(|&b| b == b',').map(parse_decimal).collect::<Result<_>>()?,
            _ => {}
        }
        Ok(())
    }

    /// Returns the file's size with its holes, and where its map is.
    pub(super) fn resolve(&self) -> Result<(u64, Map)> {
        let map = match (self.major, self.minor) {
            (Some(1), Some(0)) => Map::Content,
            (None, None) | (Some(0), Some(0 | 1)) => {
                let count = self.extents.context("GNU.sparse records without GNU.sparse.numblocks")?;
                let mut extents = Vec::new();
                from_pairs(&self.numbers, &mut extents)?;
                ensure!(extents.len() as u64 == count, "sparse map has {} extents, expected {count}", extents.len());
                Map::Records(extents)
            }
            (major, minor) => {
                let show = |part: Option<u64>| part.map_or("none".to_owned(), |part| part.to_string());
                bail!("GNU.sparse version is {}.{}, expected 0.0, 0.1 or 1.0", show(major), show(minor))
            }
        };
        let size = self.size.context("GNU.sparse records without the file's size")?;
        Ok((super::header::size("GNU.sparse size", size.into())?, map))
    }
}

/// Checks a global header: its records stay in force up to the archive's end for some parsers (GNU tar, bsdtar, Python)
/// and mean nothing to others (Go). They are passed over, but for those that move where the next header is.
pub(super) fn check_global(data: &[u8]) -> Result<()> {
    for_each_record(data, |key, _| {
        let moves = key == b"size" || key.starts_with(b"GNU.sparse.");
        ensure!(!moves, "`{}` in a global header, which parsers disagree on", Escaped(key));
        Ok(())
    })
}

/// Calls `take` with key and value of each record: `LENGTH KEY=VALUE\n`, where the length is decimal and counts all of it.
fn for_each_record(data: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        let at = data.len() - rest.len();
        let (key, value, behind) = parse_record(rest).with_context(|| format!("malformed PAX record at byte {at}"))?;
        take(key, value).with_context(|| format!("PAX record `{}`", Escaped(&key[..key.len().min(80)])))?;
        rest = behind;
    }
    Ok(())
}

/// Returns the key, the value and what follows the record.
fn parse_record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|&b| b == b' ').context("no length")?;
    let len = parse_decimal(&data[..blank])?;
    let len = usize::try_from(len).ok().filter(|len| (blank + 2..=data.len()).contains(len));
    let len = len.context("its length leads out of the header")?;
    let (record, behind) = data.split_at(len);
    let Some((b'\n', record)) = record[blank + 1..].split_last() else { bail!("no newline at its end") };
    let equals = record.iter().position(|&b| b == b'=').context("no `=`")?;
    ensure!(equals > 0, "no key");
    Ok((&record[..equals], &record[equals + 1..], behind))
}

/// A name, which a NUL would cut for whoever passes it to the kernel.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>> {
    ensure!(!value.contains(&0), "`{}` holds a NUL byte", Escaped(value));
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() { Ok(None) } else { parse_decimal(value).map(Some) }
}

/// Decodes `%XX`; what is no such sequence stays, as in libarchive.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let mut decoded = [0];
        if byte == b'%' && behind.len() >= 2 && hex::decode_to_slice(&behind[..2], &mut decoded).is_ok() {
            out.push(decoded[0]);
            rest = &behind[2..];
        } else {
            out.push(byte);
            rest = behind;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::record;

    fn read(records: &[(&str, &[u8])]) -> Result<Pax> {
        let mut pax = Pax::default();
        pax.read(&records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())?;
        Ok(pax)
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_takes_back() {
        let pax = read(&[
            ("path", b"first"),
            ("path", b"a\n12 path=b\nc"),
            ("linkpath", b"l"),
            ("linkpath", b""),
            ("size", b"9"),
            ("size", b"12"),
            ("uid", b""),
            ("mtime", b"nan"),
            ("VENDOR.k", b"\0"),
        ]);
        let pax = pax.unwrap();
        assert_eq!(pax.path.unwrap(), b"a\n12 path=b\nc");
        assert_eq!((pax.linkpath, pax.size, pax.uid, pax.mtime), (None, Some(12), None, None));
    }

    #[test]
    fn xattrs_come_in_two_spellings_sorted_and_once() {
        let mut pax = read(&[
            ("SCHILY.xattr.user.b", b"x\n=\0\xff"),
            ("SCHILY.xattr.user.a", b"one"),
            ("LIBARCHIVE.xattr.user.%63%zz", b"eQ"),
            ("LIBARCHIVE.xattr.user.d", b"eQ=="),
            ("SCHILY.xattr.user.a", b""),
        ])
        .unwrap();
        let want: [(&str, &[u8]); 4] =
            [("user.a", b""), ("user.b", b"x\n=\0\xff"), ("user.c%zz", b"y"), ("user.d", b"y")];
        assert_eq!(pax.take_xattrs(), want.map(|(name, value)| (name.into(), value.to_vec())));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (data, want) in [
            (&b"0 path=abc\n"[..], "leads out"),
            (b"99 path=abc\n", "leads out"),
            (b"99999999999999999999 path=abc\n", "no length"),
            (b"12 path=abc\n\n", "no length"),
            (b"abc\n", "no length"),
            (b" path=abc\n", "not a number"),
            (b"12 pathabcd\n", "no `=`"),
            (b"12\tpath=abc\n", "no length"),
            (b"12 path=abcd", "no newline"),
            (b"8 =abcd\n", "no key"),
            (b"3 \n", "no `=`"),
            (b"2 ", "leads out"),
        ] {
            let err = format!("{:#}", Pax::default().read(data).err().unwrap());
            assert!(err.starts_with("malformed PAX record at byte ") && err.contains(want), "{data:?}: {err}");
        }
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused() {
        for (key, value) in [
            ("path", &b"ok\0/../x"[..]),
            ("linkpath", b"a\0b"),
            ("size", b"-1"),
            ("size", b"0x200"),
            ("size", b"18446744073709551616"),
            ("size", b"512\0"),
            ("gid", b"-1"),
            ("SCHILY.xattr.", b"x"),
            ("SCHILY.xattr.user.a\0b", b"x"),
            ("LIBARCHIVE.xattr.user.a", b"!"),
            ("GNU.sparse.numbytes", b"1"),
            ("GNU.sparse.map", b"0,1,"),
            ("GNU.sparse.realsize", b"-1"),
        ] {
            let err = format!("{:#}", read(&[(key, value)]).err().unwrap());
            assert!(err.starts_with(&format!("PAX record `{}`", Escaped(key.as_bytes()))), "{err}");
        }
    }

    #[test]
    fn sparse_records_need_a_known_version_a_map_and_a_size() {
        for (records, want) in [
            (&[("GNU.sparse.name", "x")][..], "without GNU.sparse.numblocks"),
            (&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], "version is 2.0"),
            (&[("GNU.sparse.major", "1")], "version is 1.none"),
            (&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")], "without the file's size"),
            (&[("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,1")], "has 1 extents, expected 2"),
            (&[("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,1,2")], "expected pairs"),
            (&[("GNU.sparse.numblocks", "0"), ("GNU.sparse.size", "9223372036854775808")], "expected 0 to 2^63-1"),
        ] {
            let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
            let err = format!("{:#}", read(&records).unwrap().sparse.unwrap().resolve().err().unwrap());
            assert!(err.contains(want), "{err}");
        }
    }

    #[test]
    fn global_records_that_move_headers_are_refused() {
        for (key, fine) in [("comment", true), ("path", true), ("size", false), ("GNU.sparse.major", false)] {
            assert_eq!(check_global(&record(key, b"1")).is_ok(), fine, "{key}");
        }
    }
}

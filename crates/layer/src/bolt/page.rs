//! The pages of a bolt database: little-endian numbers at fixed places, elements with offsets to their keys and values.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0xED0C_DAED;
const VERSION: u64 = 2;

/// Bytes of a page's header: number, kind, elements, and how many pages it runs over into.
const HEADER_SIZE: usize = 16;
/// Bytes of an element of a branch or a leaf, without its key and value.
const ELEMENT_SIZE: usize = 16;
/// Bytes of a bucket's header: the page of its root, and a counter.
pub(super) const BUCKET_SIZE: usize = 16;
/// Bytes of a meta page behind the header, checksum included.
const META_SIZE: usize = 64;

const BRANCH: u64 = 1;
const LEAF: u64 = 2;
const META: u64 = 4;
/// Flag of an element whose value is a bucket.
const BUCKET: u64 = 1;

/// What a meta page says.
pub(super) struct Meta {
    pub(super) page_size: u64,
    /// The page at the root of all buckets.
    pub(super) root: u64,
    /// Pages in use are below this.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// Returns what the later one of the two meta pages says, or the one that is whole.
    pub(super) fn find(file: &File) -> Result<Self> {
        let len = file.metadata().context("cannot stat")?.len();
        let first = Self::read(file, 0);
        // The second one stands behind a page of unknown size if the first is damaged.
        let second = match &first {
            Ok(meta) => Self::read(file, meta.page_size),
            Err(_) => {
                let found = (10..=24)
                    .map(|log| 1 << log)
                    .find_map(|at| Self::read(file, at).ok().filter(|meta| meta.page_size == at));
                found.context("no second meta page")
            }
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) => {
                if second.transaction > first.transaction {
                    second
                } else {
                    first
                }
            }
            (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => meta,
            (Err(err), Err(_)) => return Err(err.context("not a bolt database")),
        };
        let size = meta.pages.checked_mul(meta.page_size).filter(|size| *size <= len);
        ensure!(size.is_some(), "is cut short: {len} bytes, expected {} pages of {}", meta.pages, meta.page_size);
        Ok(meta)
    }

    fn read(file: &File, at: u64) -> Result<Self> {
        let mut bytes = [0; HEADER_SIZE + META_SIZE];
        match file.read_exact_at(&mut bytes, at) {
            Err(err) if err.kind() == ErrorKind::UnexpectedEof => bail!("its meta page is cut short"),
            read => read.context("cannot read")?,
        }
        let meta = &bytes[HEADER_SIZE..];
        ensure!(half(meta, 0)? == MAGIC && short(&bytes, 8)? & META != 0, "has no meta page");
        let version = half(meta, 4)?;
        ensure!(version == VERSION, "is of version {version}, expected {VERSION}");
        let sum = META_SIZE - 8;
        ensure!(fnv1a(&meta[..sum]) == number(meta, sum)?, "its meta page does not match its checksum");
        let page_size = half(meta, 8)?;
        ensure!(
            page_size.is_power_of_two() && (1 << 10..=1 << 24).contains(&page_size),
            "has pages of {page_size} bytes"
        );
        Ok(Self { page_size, root: number(meta, 16)?, pages: number(meta, 40)?, transaction: number(meta, 48)? })
    }
}

/// A page of a tree, with those that it runs over into.
pub(super) struct Page<'a> {
    pub(super) id: u64,
    kind: u64,
    count: usize,
    pub(super) overflow: u32,
    bytes: &'a [u8],
}

/// A key of a leaf, and what it stands for.
pub(super) struct Element<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) is_bucket: bool,
}

impl<'a> Page<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let kind = short(bytes, 8)?;
        ensure!(kind == BRANCH || kind == LEAF, "is neither a branch nor a leaf");
        Ok(Self {
            id: number(bytes, 0)?,
            kind,
            count: usize::try_from(short(bytes, 10)?)?,
            overflow: u32::try_from(half(bytes, 12)?)?,
            bytes,
        })
    }

    pub(super) fn is_branch(&self) -> bool {
        self.kind == BRANCH
    }

    /// Returns the pages that a branch leads to.
    pub(super) fn children(&self) -> Result<Vec<u64>> {
        (0..self.count).map(|index| number(self.element(index)?, 8)).collect()
    }

    /// Returns what a leaf holds.
    pub(super) fn elements(&self) -> Result<Vec<Element<'a>>> {
        if self.is_branch() {
            bail!("is a branch, expected a leaf");
        }
        // Each byte belongs to one key or value: none is taken a second time.
        let mut left = self.bytes.len();
        let element = |index| {
            let element = self.element(index)?;
            let at = |offset| half(element, offset).and_then(|size| Ok(usize::try_from(size)?));
            let (place, key_size, value_size) = (at(4)?, at(8)?, at(12)?);
            // The place is counted from the element on.
            let rest = element.get(place..).context("has a key outside of it")?;
            let (key, rest) = rest.split_at_checked(key_size).context("has a key outside of it")?;
            let value = rest.get(..value_size).context("has a value outside of it")?;
            left = left.checked_sub(key_size + value_size).context("has keys and values that overlap")?;
            Ok(Element { key, value, is_bucket: half(element, 0)? & BUCKET != 0 })
        };
        (0..self.count).map(element).collect()
    }

    /// Returns the bytes from an element on, to the end of the page.
    fn element(&self, index: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(HEADER_SIZE + index * ELEMENT_SIZE..);
        rest.filter(|rest| rest.len() >= ELEMENT_SIZE).context("has elements outside of it")
    }
}

/// Reads 2 bytes.
fn short(bytes: &[u8], at: usize) -> Result<u64> {
    array(bytes, at).map(|bytes| u16::from_le_bytes(bytes).into())
}

/// Reads 4 bytes.
fn half(bytes: &[u8], at: usize) -> Result<u64> {
    array(bytes, at).map(|bytes| u32::from_le_bytes(bytes).into())
}

/// Reads 8 bytes.
pub(super) fn number(bytes: &[u8], at: usize) -> Result<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().context("is cut short")
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

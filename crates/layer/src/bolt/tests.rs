//! Bolt databases made byte by byte, whole and damaged.

use std::io::Write;

use super::*;

const SIZE: usize = 1024;

/// What a key stands for in a database to write.
enum Put<'a> {
    Bytes(&'a [u8]),
    /// A bucket within the leaf.
    Inline(&'a [(&'a str, Put<'a>)]),
    /// A bucket whose root is this page.
    At(u64),
}

/// Returns a page whose header says this, without what would fill it up.
fn page(id: u64, kind: u16, count: usize, overflow: u32, rest: &[u8]) -> Vec<u8> {
    let count = u16::try_from(count).unwrap();
    [&id.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &overflow.to_le_bytes(), rest].concat()
}

fn leaf(id: u64, overflow: u32, entries: &[(&str, Put)]) -> Vec<u8> {
    let (mut elements, mut data) = (Vec::new(), Vec::new());
    for (index, (key, value)) in entries.iter().enumerate() {
        let (flags, value) = match value {
            Put::Bytes(bytes) => (0u32, bytes.to_vec()),
            Put::Inline(entries) => (1, [vec![0; 16], leaf(0, 0, entries)].concat()),
            Put::At(page) => (1, [page.to_le_bytes(), [0; 8]].concat()),
        };
        let place = (entries.len() - index) * 16 + data.len();
        for number in [flags, place as u32, key.len() as u32, value.len() as u32] {
            elements.extend(number.to_le_bytes());
        }
        data.extend(key.as_bytes());
        data.extend(value);
    }
    page(id, 2, entries.len(), overflow, &[elements, data].concat())
}

fn branch(id: u64, children: &[u64]) -> Vec<u8> {
    let element = |child: &u64| [vec![0; 8], child.to_le_bytes().to_vec()].concat();
    page(id, 1, children.len(), 0, &children.iter().flat_map(element).collect::<Vec<_>>())
}

fn meta(id: u64, transaction: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0xED0C_DAED_u32, 2, SIZE as u32, 0] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [root, 0, 2, pages, transaction] {
        bytes.extend(number.to_le_bytes());
    }
    // By the definition of FNV-1a, one step after the other.
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in &bytes {
        sum ^= u64::from(*byte);
        sum = sum.wrapping_mul(0x100_0000_01b3);
    }
    bytes.extend(sum.to_le_bytes());
    page(id, 4, 0, 0, &bytes)
}

/// Returns a database of two meta pages, the second one later, and these pages from page 2 on.
fn database(root: u64, pages: &[Vec<u8>]) -> Vec<u8> {
    let count = 2 + pages.iter().map(|page| page.len().div_ceil(SIZE) as u64).sum::<u64>();
    let mut bytes = Vec::new();
    for page in [meta(0, 6, 99, count), meta(1, 7, root, count)].iter().chain(pages) {
        bytes.extend(page);
        bytes.resize(bytes.len().next_multiple_of(SIZE), 0);
    }
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Prints all of a bucket, as `key=value` and `key{...}`.
fn dump(bucket: &Bucket) -> Result<String> {
    let mut text = String::new();
    for key in bucket.keys() {
        let name = String::from_utf8_lossy(key);
        match bucket.bucket(key)? {
            Some(below) => text += &format!("{name}{{{}}}", dump(&below)?),
            None => text += &format!("{name}={};", String::from_utf8_lossy(bucket.get(&name).unwrap_or_default())),
        }
    }
    Ok(text)
}

fn read_all(bytes: &[u8]) -> Result<String> {
    read(&file(bytes), dump)
}

/// A database with a branch, a page that runs over, an inline bucket and one with pages of its own.
fn sample() -> Vec<u8> {
    let long = leaf(3, 1, &[("a", Put::Bytes(&[b'x'; 1200]))]);
    let inline = [("k", Put::Bytes(b"v")), ("n", Put::Inline(&[]))];
    database(
        2,
        &[branch(2, &[3, 5]), long, leaf(5, 0, &[("b", Put::Inline(&inline)), ("c", Put::At(6))]), {
            leaf(6, 0, &[("d", Put::Bytes(b"")), ("e", Put::Bytes(b"z"))])
        }],
    )
}

#[test]
fn branches_overflow_and_buckets_are_read() {
    assert_eq!(read_all(&sample()).unwrap(), format!("a={};b{{k=v;n{{}}}}c{{d=;e=z;}}", "x".repeat(1200)));
    let deep = |root: &Bucket| Ok(root.descend(&["b", "n"])?.is_some());
    assert!(read(&file(&sample()), deep).unwrap());
    for missing in [&["b", "k"][..], &["b", "x", "y"], &["a"]] {
        assert!(read(&file(&sample()), |root| Ok(root.descend(missing)?.is_none())).unwrap(), "{missing:?}");
    }
}

#[test]
fn the_later_whole_meta_page_counts() {
    let mut bytes = sample();
    let want = read_all(&bytes).unwrap();
    bytes[20] ^= 1;
    assert_eq!(read_all(&bytes).unwrap(), want, "the first one is damaged");
    let mut bytes = sample();
    bytes[SIZE + 40] ^= 1;
    let err = format!("{:#}", read_all(&bytes).unwrap_err());
    assert!(err.starts_with("page 99: is not in the database"), "the first one leads elsewhere: {err}");
    bytes[40] ^= 1;
    let err = format!("{:#}", read_all(&bytes).unwrap_err());
    assert_eq!(err, "not a bolt database: its meta page does not match its checksum");
}

#[test]
fn damage_is_refused_with_the_reason() {
    let one = |page: Vec<u8>| database(2, &[page]);
    let mut outside = leaf(2, 0, &[("a", Put::Bytes(b"x"))]);
    outside[16 + 4..16 + 8].copy_from_slice(&9999u32.to_le_bytes());
    let mut huge = leaf(2, 0, &[("a", Put::Bytes(b"x"))]);
    huge[16 + 12..16 + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut same = leaf(2, 0, &[("a", Put::Bytes(&[0; 700])), ("b", Put::Bytes(b""))]);
    same[32 + 4..32 + 16].copy_from_slice(&[16, 0, 0, 0, 188, 2, 0, 0, 0, 0, 0, 0]);
    let short_bucket =
        page(2, 2, 1, 0, &[[1, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0].as_slice(), b"kabc"].concat());
    for (bytes, want) in [
        (Vec::new(), "not a bolt database: its meta page is cut short"),
        (vec![0; 8192], "not a bolt database: has no meta page"),
        (sample()[..sample().len() - 1].to_vec(), "is cut short: 7167 bytes, expected 7 pages of 1024"),
        (database(9, &[leaf(2, 0, &[])]), "page 9: is not in the database, of 3 pages"),
        (database(1, &[leaf(2, 0, &[])]), "page 1: is not in the database"),
        (one(leaf(3, 0, &[])), "page 2: says that it is page 3"),
        (one(page(2, 0x10, 0, 0, &[])), "page 2: is neither a branch nor a leaf"),
        (one(leaf(2, 1, &[])), "page 2: runs over the end of the database"),
        (one(branch(2, &[2])), "page 2: is reached twice"),
        (database(2, &[branch(2, &[3]), branch(3, &[2])]), "page 2: is reached twice"),
        (database(2, &[branch(2, &[3, 3]), leaf(3, 0, &[])]), "page 3: is reached twice"),
        (one(page(2, 2, 500, 0, &[])), "page 2: has elements outside of it"),
        (one(outside), "page 2: has a key outside of it"),
        (one(huge), "page 2: has a value outside of it"),
        (one(same), "page 2: has keys and values that overlap"),
        (one(leaf(2, 0, &[("a", Put::Bytes(b"")), ("a", Put::Bytes(b""))])), "page 2: has a key twice"),
        (one(short_bucket), "a bucket is cut short"),
    ] {
        let err = format!("{:#}", read_all(&bytes).unwrap_err());
        assert!(err.starts_with(want), "{want}: {err}");
    }
}

#[test]
fn buckets_that_lead_to_each_other_end() {
    let mut bytes = database(2, &[leaf(2, 8191, &[("a", Put::At(2))]), vec![0; 8191 * SIZE]]);
    bytes.resize(8194 * SIZE, 0);
    let path = vec!["a"; 100];
    let deeper = |root: &Bucket| {
        let mut bucket = root.bucket("a")?.unwrap();
        for name in &path {
            bucket = bucket.bucket(name)?.unwrap();
        }
        Ok(())
    };
    let err = format!("{:#}", read(&file(&bytes), deeper).unwrap_err());
    assert!(err.contains("more than 268435456 bytes to read"), "{err}");
}

#[test]
fn no_damaged_byte_panics() {
    let whole = sample();
    for at in 0..whole.len() {
        for flip in [1, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            // Some bytes do not matter, or are a value's.
            drop(read_all(&bytes));
        }
    }
}

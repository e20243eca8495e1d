//! Reads bolt databases (`go.etcd.io/bbolt`), in which containerd keeps what it knows: the pages of the format, and buckets
//! of keys and values on top of them.
//!
//! A bucket is a B+ tree of pages: branches lead to leaves, leaves hold the keys in order, and a value may be a bucket again,
//! within the leaf as long as it is small. Two meta pages name the root; a transaction writes new pages and then the older of
//! the two, so that the other one always stands for a whole database.
//!
//! The file is read page by page, never mapped: it may be cut while it is read. No page, place or length in it is taken on
//! trust, a page is reached only once in a tree, and all reading of one file has one bound.

mod page;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};

use crate::limits;
use page::{Element, Meta, Page};

/// How often a database that changes meanwhile is read.
const TRIES: usize = 10;

/// Reads from the database in `file` what `read` wants, all of it from one transaction: a daemon may go on writing.
///
/// # Errors
/// What is no bolt database or damaged, what `read` gives, and a database that changes faster than it can be read.
pub fn read<T>(file: &File, read: impl Fn(&Bucket) -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        let database = Database::open(file)?;
        let found =
            database.tree(database.meta.root).and_then(|entries| read(&Bucket { database: &database, entries }));
        // Pages that a later transaction gave up may have been written anew, so that even an error says nothing.
        if Meta::find(file)?.transaction == database.meta.transaction {
            return found;
        }
    }
    bail!("changes faster than it can be read");
}

/// A database as one transaction left it.
struct Database<'a> {
    file: &'a File,
    meta: Meta,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

/// A bucket: keys in order, with values or buckets.
pub struct Bucket<'a> {
    database: &'a Database<'a>,
    entries: BTreeMap<Vec<u8>, Value>,
}

/// What a key stands for.
enum Value {
    Bytes(Vec<u8>),
    /// The bucket's header, and the page behind it if it is within the leaf.
    Bucket(Vec<u8>),
}

impl<'a> Bucket<'a> {
    /// Returns the keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.keys().map(Vec::as_slice)
    }

    /// Returns the value of `key`; `None` where it has none, or is a bucket's.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        match self.entries.get(key.as_bytes())? {
            Value::Bytes(bytes) => Some(bytes),
            Value::Bucket(_) => None,
        }
    }

    /// Reads the bucket `key`; `None` where there is none, or a value.
    ///
    /// # Errors
    /// A damaged bucket.
    pub fn bucket(&self, key: impl AsRef<[u8]>) -> Result<Option<Bucket<'a>>> {
        let Some(Value::Bucket(value)) = self.entries.get(key.as_ref()) else { return Ok(None) };
        let (header, inline) = value.split_at_checked(page::BUCKET_SIZE).context("a bucket is cut short")?;
        let root = page::number(header, 0)?;
        let entries = if root == 0 {
            let mut entries = BTreeMap::new();
            add_leaf(Page::parse(inline)?, &mut entries)?;
            entries
        } else {
            self.database.tree(root)?
        };
        Ok(Some(Bucket { database: self.database, entries }))
    }

    /// Reads the bucket at the end of a path of buckets; `None` where one is missing.
    ///
    /// # Errors
    /// As [`Bucket::bucket`].
    pub fn descend(&self, path: &[&str]) -> Result<Option<Bucket<'a>>> {
        let [first, rest @ ..] = path else { bail!("no bucket was named") };
        match self.bucket(first)? {
            Some(bucket) if !rest.is_empty() => bucket.descend(rest),
            found => Ok(found),
        }
    }
}

impl<'a> Database<'a> {
    fn open(file: &'a File) -> Result<Self> {
        Ok(Self { file, meta: Meta::find(file)?, left: Cell::new(limits::BOLT_READ) })
    }

    /// Reads the tree of pages below `root`.
    fn tree(&self, root: u64) -> Result<BTreeMap<Vec<u8>, Value>> {
        let mut entries = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            ensure!(seen.insert(id), "page {id}: is reached twice");
            let read = || {
                let bytes = self.page(id)?;
                let page = Page::parse(&bytes)?;
                ensure!(page.id == id, "says that it is page {}", page.id);
                if page.is_branch() {
                    return page.children();
                }
                add_leaf(page, &mut entries).map(|()| Vec::new())
            };
            waiting.extend(({ read })().with_context(|| format!("page {id}"))?);
        }
        Ok(entries)
    }

    /// Reads a page, with those that it runs over into.
    fn page(&self, id: u64) -> Result<Vec<u8>> {
        let Meta { page_size, pages, .. } = self.meta;
        // The first two are the meta pages.
        ensure!((2..pages).contains(&id), "is not in the database, of {pages} pages");
        let at = id * page_size;
        let mut bytes = self.bytes(at, page_size)?;
        let overflow = u64::from(Page::parse(&bytes)?.overflow);
        ensure!(overflow < pages - id, "runs over the end of the database");
        if overflow > 0 {
            bytes.extend(self.bytes(at + page_size, overflow * page_size)?);
        }
        Ok(bytes)
    }

    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let left = self.left.get().checked_sub(len);
        self.left.set(left.with_context(|| format!("more than {} bytes to read", limits::BOLT_READ))?);
        let mut bytes = vec![0; usize::try_from(len)?];
        self.file.read_exact_at(&mut bytes, at).context("cannot read")?;
        Ok(bytes)
    }
}

fn add_leaf(page: Page, entries: &mut BTreeMap<Vec<u8>, Value>) -> Result<()> {
    for element in page.elements()? {
        let Element { key, value, is_bucket } = element;
        let value = if is_bucket { Value::Bucket(value.to_vec()) } else { Value::Bytes(value.to_vec()) };
        ensure!(entries.insert(key.to_vec(), value).is_none(), "has a key twice");
    }
    Ok(())
}

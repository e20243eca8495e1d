//! Bytes of archives for tests: headers that no writer would write.

use anyhow::Result;

use super::header::Block;
use crate::change::{Body, Entry, LayerPath, Node, Sink};

/// Fields of a header; [`Raw::header`] makes the block.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) block: Block,
}

impl Raw {
    /// Begins a ustar header of mode 0644.
    pub(super) fn new(typeflag: u8, name: &str) -> Self {
        let raw = Self { block: [0; 512] };
        raw.field(0, name.as_bytes()).field(100, b"0000644\0").field(156, &[typeflag]).field(257, b"ustar\x0000")
    }

    /// Begins a GNU header.
    pub(super) fn gnu(typeflag: u8, name: &str) -> Self {
        Self::new(typeflag, name).field(257, b"ustar  \0")
    }

    /// Overwrites the bytes at `offset`.
    pub(super) fn field(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.block[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets the size.
    pub(super) fn size(self, size: usize) -> Self {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    /// Sets the link's target.
    pub(super) fn link(self, target: &str) -> Self {
        self.field(157, target.as_bytes())
    }

    /// Returns the block with the right checksum.
    pub(super) fn header(self) -> Block {
        let raw = self.field(148, b"        ");
        let sum: u32 = raw.block.iter().map(|&b| u32::from(b)).sum();
        raw.field(148, format!("{sum:06o}\0 ").as_bytes()).block
    }

    /// Returns the header and `data`, padded; the header's size becomes that of the data.
    pub(super) fn with(self, data: &[u8]) -> Vec<u8> {
        let mut out = self.size(data.len()).header().to_vec();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

/// Returns one PAX record.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len += 1;
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Returns an `x` header with its records.
pub(super) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value.as_bytes())).collect();
    Raw::new(b'x', "PaxHeaders/x").with(&data)
}

/// Returns an `L` or `K` header with its name.
pub(super) fn long(typeflag: u8, name: &str) -> Vec<u8> {
    Raw::gnu(typeflag, "././@LongLink").with(format!("{name}\0").as_bytes())
}

/// The two blocks that end an archive.
pub(super) const END: [u8; 1024] = [0; 1024];

/// What a sink was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(Entry, Vec<u8>),
    Whiteout(LayerPath),
    Opaque(LayerPath),
}

/// Keeps what it is given; contents with their holes as zeros.
#[derive(Default)]
pub(super) struct Changes(pub(super) Vec<Change>);

impl Sink for Changes {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        let mut content = Vec::new();
        while let Some((offset, run)) = body.next_run()? {
            assert!(!run.is_empty() && offset >= content.len() as u64);
            content.resize(offset as usize, 0);
            content.extend_from_slice(run);
        }
        if let Node::File(size) = entry.node {
            content.resize(size as usize, 0);
        }
        self.0.push(Change::Put(entry.clone(), content));
        Ok(())
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        self.0.push(Change::Whiteout(path.clone()));
        Ok(())
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        self.0.push(Change::Opaque(path.clone()));
        Ok(())
    }
}

/// Returns the changes that a tar means.
pub(super) fn changes(tar: &[u8]) -> Result<Vec<Change>> {
    let mut sink = Changes::default();
    super::read_tar(tar, &mut sink)?;
    Ok(sink.0)
}

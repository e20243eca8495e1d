//! Reading contents again, once it is known which are wanted.

use std::io;

use anyhow::{Context, Result, bail, ensure};

use super::{EntryId, Row, Tree, What};
use crate::archive::{Input, Members};
use crate::change::{Body, NoBody};
use crate::image::Image;

/// Reads the contents of files of a stack from its layers' tars.
///
/// Entries asked for in rising order cost one pass over each layer that has one of them, up to the last of them; where a layer
/// is a tar in a file, what lies between is leapt over. Asking for one before the last begins the layer anew. Nothing is
/// kept, so memory does not depend on sizes.
pub struct Contents<'a, I> {
    tree: &'a Tree,
    open: Box<dyn FnMut(usize) -> Result<I> + 'a>,
    current: Option<(u32, Layer<I>)>,
}

/// A layer while it is read.
enum Layer<I> {
    /// By the places of the contents, and how far it was read.
    Raw(I, u64),
    /// Member by member, as files with holes need it, and the entry read last.
    Members(Box<Members<I>>, u32),
}

/// Returns how [`Contents`] opens the layers of an image.
pub fn open_image(image: &Image, max_size: Option<u64>) -> impl FnMut(usize) -> Result<Box<dyn Input>> + '_ {
    move |layer| image.open_tar(layer, max_size).with_context(|| format!("layer {layer}"))
}

impl<'a, I: Input> Contents<'a, I> {
    /// Reads the contents of `tree`, whose layers `open` gives as tars, counted from the base.
    pub fn new(tree: &'a Tree, open: impl FnMut(usize) -> Result<I> + 'a) -> Self {
        Self { tree, open: Box::new(open), current: None }
    }

    /// Gives the content of a file to `take`; of a hard link, that of the file that it names, and of all else an empty one.
    ///
    /// # Errors
    /// What opening and reading the layer give, and what `take` returns.
    pub fn read<T>(&mut self, entry: EntryId, take: impl FnOnce(&mut dyn Body) -> Result<T>) -> Result<T> {
        let inode = self.tree.inode(entry);
        let row = self.tree.row(inode);
        if row.what != What::File || row.size == 0 {
            return take(&mut NoBody);
        }
        match self.layer_at(inode, row)? {
            Layer::Raw(input, at) => {
                input.skip(row.offset - *at).with_context(|| format!("layer {}", row.layer))?;
                *at = row.offset;
                let mut body = RawBody { input, at, start: row.offset, size: row.size, lent: 0 };
                let taken = take(&mut body)?;
                body.settle();
                Ok(taken)
            }
            Layer::Members(members, last) => {
                *last = inode.0;
                while let Some((member, mut content)) = members.next_member()? {
                    let offset = if row.holes { member.header_offset } else { member.content_offset };
                    if offset == row.offset {
                        return take(&mut content);
                    }
                }
                bail!("layer {}: the archive has changed while it was read", row.layer)
            }
        }
    }

    /// Returns the layer of an entry, opened and not read beyond it.
    fn layer_at(&mut self, inode: EntryId, row: &Row) -> Result<&mut Layer<I>> {
        let ahead = self.current.as_ref().is_some_and(|(layer, state)| {
            *layer == row.layer
                && match state {
                    Layer::Raw(_, at) => *at <= row.offset,
                    Layer::Members(_, last) => *last < inode.0,
                }
        });
        if !ahead {
            // The one before is closed first.
            self.current = None;
            let layer = row.layer as usize;
            let input = (self.open)(layer)?;
            let holes = self.tree.layers.get(layer).is_some_and(|layer| layer.holes);
            let state = if holes { Layer::Members(Box::new(Members::new(input)), 0) } else { Layer::Raw(input, 0) };
            self.current = Some((row.layer, state));
        }
        let (_, layer) = self.current.as_mut().context("no layer is open")?;
        Ok(layer)
    }
}

/// Content that lies in one run.
struct RawBody<'a, I> {
    input: &'a mut I,
    /// Offset of the input.
    at: &'a mut u64,
    start: u64,
    size: u64,
    /// Bytes handed out, to be passed over at the next call.
    lent: usize,
}

impl<I: Input> RawBody<'_, I> {
    fn settle(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.input.consume(lent);
        *self.at += lent as u64;
    }
}

impl<I: Input> Body for RawBody<'_, I> {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.settle();
        let done = *self.at - self.start;
        let left = self.size - done;
        if left == 0 {
            return Ok(None);
        }
        let here = self.input.fill_buf()?;
        if here.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.lent = usize::try_from(left).map_or(here.len(), |left| left.min(here.len()));
        Ok(Some((done, &here[..self.lent])))
    }
}

/// Copies a content to `out`, holes as zeros.
///
/// # Errors
/// What reading and writing give.
pub fn copy(body: &mut dyn Body, size: u64, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    const ZEROS: [u8; 8192] = [0; 8192];
    let mut at = 0;
    let zeros = |mut n: u64, out: &mut dyn FnMut(&[u8]) -> Result<()>| -> Result<()> {
        while n > 0 {
            let amount = n.min(ZEROS.len() as u64);
            out(&ZEROS[..amount as usize])?;
            n -= amount;
        }
        Ok(())
    };
    while let Some((offset, run)) = body.next_run()? {
        let end = offset.checked_add(run.len() as u64).filter(|&end| offset >= at && end <= size);
        let Some(end) = end else { bail!("content at {offset} leads out of a file of {size} bytes") };
        zeros(offset - at, out)?;
        out(run)?;
        at = end;
    }
    ensure!(at <= size, "content is longer than {size} bytes");
    zeros(size - at, out)
}

//! The content of a member, handed on from the input's own buffer.

use std::io;

use super::input::{Input, Source};
use super::sparse::Extent;
use crate::change::{Body, Place};

/// How far the content of the current member was read. It outlives [`Content`], so that what was left is skipped.
#[derive(Default)]
pub(super) struct Progress {
    /// Bytes of content and of what was handed out but not yet passed over.
    left: u64,
    /// Bytes handed out from the buffer: passed over at the next call.
    lent: usize,
    /// The current extent and what was read of it.
    extent: usize,
    done: u64,
}

impl Progress {
    /// Begins a content of `stored` bytes.
    pub(super) fn of(stored: u64) -> Self {
        Self { left: stored, ..Self::default() }
    }

    fn settle(&mut self, source: &mut Source<impl Input>) {
        source.consume(std::mem::take(&mut self.lent));
    }

    /// Passes over what is left of the content.
    pub(super) fn skip_rest(&mut self, source: &mut Source<impl Input>) -> io::Result<()> {
        self.settle(source);
        source.skip(std::mem::take(&mut self.left))
    }
}

/// The content of a member; see [`Body`]. What is not read of it, the next member skips.
pub struct Content<'a, I> {
    pub(super) source: &'a mut Source<I>,
    pub(super) progress: &'a mut Progress,
    pub(super) extents: &'a [Extent],
    pub(super) place: Place,
}

impl<I: Input> Body for Content<'_, I> {
    fn next_run(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.progress.settle(self.source);
        let Progress { left, lent, extent, done } = self.progress;
        if self.extents.get(*extent).is_some_and(|current| current.len == *done) {
            *extent += 1;
            *done = 0;
        }
        let Some(current) = self.extents.get(*extent) else { return Ok(None) };
        let here = self.source.content()?;
        let rest = current.len - *done;
        let amount = usize::try_from(rest).map_or(here.len(), |rest| rest.min(here.len()));
        let offset = current.offset + *done;
        *lent = amount;
        *left -= amount as u64;
        *done += amount as u64;
        Ok(Some((offset, &here[..amount])))
    }

    fn place(&self) -> Option<Place> {
        Some(self.place)
    }
}

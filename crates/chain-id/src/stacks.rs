//! Layers become stacks, and stacks lines.

use std::ffi::OsString;
use std::io::{BufReader, Read, Write};

use anyhow::Result;
use layer::cli::Lines;
use layer::digest::{self, ChainId};
use layer::record::LayerRecord;

use crate::args::Args;
use crate::input;

/// Prints the stacks of one input.
pub(crate) struct Printer<'a, W: Write> {
    args: &'a Args,
    out: &'a mut Lines<W>,
    stack: Stack,
    /// The image of the record before.
    image: Option<OsString>,
    /// The layer on top of the stack, where only that is printed.
    top: Option<LayerRecord>,
}

impl<'a, W: Write> Printer<'a, W> {
    pub(crate) fn new(args: &'a Args, out: &'a mut Lines<W>) -> Self {
        Self { args, out, stack: Stack(args.parent), image: None, top: None }
    }

    /// Reads `input` and prints the stacks in it.
    pub(crate) fn stacks(&mut self, input: impl Read) -> Result<()> {
        input::read(BufReader::with_capacity(256 << 10, input), |mut record, begins| {
            // Records of several images in one stream: each image is a stack of its own.
            if begins || record.image != self.image {
                self.end()?;
                self.image.clone_from(&record.image);
            }
            self.stack.push(&mut record)?;
            if self.args.last {
                self.top = Some(record);
                return Ok(());
            }
            self.print(&record)
        })?;
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stack = Stack(self.args.parent);
        self.top.take().map_or(Ok(()), |top| self.print(&top))
    }

    fn print(&mut self, record: &LayerRecord) -> Result<()> {
        match record.chain_id {
            Some(chain_id) if self.args.plain => self.out.text(&chain_id.to_string()),
            _ => self.out.write(record),
        }
    }
}

/// The stack up to the layer read last.
struct Stack(Option<ChainId>);

impl Stack {
    /// Puts a layer on top and fills its ChainIDs in; those that are there already are checked.
    fn push(&mut self, record: &mut LayerRecord) -> Result<()> {
        let diff_id = *LayerRecord::require(&record.diff_id, "diffId")?;
        let chain_id = ChainId::extend(self.0, diff_id);
        if let Some(said) = record.chain_id.replace(chain_id) {
            digest::check("ChainID", &said, &chain_id)?;
        }
        record.parent = self.0.replace(chain_id);
        Ok(())
    }
}

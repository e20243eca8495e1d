//! `chain-id`: DiffIDs in, ChainIDs out.

mod args;
mod input;

use std::io::{BufReader, Read};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use layer::cli::{self, Lines, Status};
use layer::digest::{self, ChainId};
use layer::record::LayerRecord;

use args::Args;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    let mut out = Lines::stdout();
    let mut status = Status::Success;
    for file in &args.files {
        let mut printer = Printer { args: &args, out: &mut out, stack: Stack::new(args.parent), top: None };
        let done = cli::open(file).and_then(|input| printer.stacks(input));
        // What was printed stands before the message about what was not, and stdout's own trouble ends the run.
        out.flush()?;
        if let Err(err) = done.with_context(|| cli::name(file)) {
            status = status.max(cli::report(&err));
        }
    }
    Ok(status)
}

/// Prints the stacks of one input.
struct Printer<'a, W: std::io::Write> {
    args: &'a Args,
    out: &'a mut Lines<W>,
    stack: Stack,
    top: Option<LayerRecord>,
}

impl<W: std::io::Write> Printer<'_, W> {
    fn stacks(&mut self, input: impl Read) -> Result<()> {
        let mut image = None;
        input::read(BufReader::with_capacity(256 << 10, input), |mut record, begins| {
            // Records of several images in one stream: each image is a stack of its own.
            if begins || record.image != image {
                self.end()?;
                image.clone_from(&record.image);
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
        self.stack = Stack::new(self.args.parent);
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
    fn new(parent: Option<ChainId>) -> Self {
        Self(parent)
    }

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

//! `chain-id`: DiffIDs in, ChainIDs out.

mod args;
mod input;
mod stacks;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use layer::cli::{self, Lines, Status};

use args::Args;
use stacks::Printer;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    let mut out = Lines::stdout();
    let mut status = Status::Success;
    for file in &args.files {
        let mut printer = Printer::new(&args, &mut out);
        let done = cli::open(file).and_then(|input| printer.stacks(input));
        // What was printed comes before the message about what was not.
        out.flush()?;
        if let Err(err) = done.with_context(|| cli::name(file)) {
            status = status.max(cli::report_input(err)?);
        }
    }
    Ok(status)
}

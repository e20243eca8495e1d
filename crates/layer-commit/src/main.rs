//! Turns changes on disk into an image layer, or a whole new image; layer-commit(1) is its specification.

mod args;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use layer::cli::{self, Lines, Status};
use layer::commit::{Changes, Layer};
use layer::config::time;

use args::Args;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    let record = args.record.as_ref().map(|file| create(file)).transpose()?;
    let name = args.diff.get(1).or(args.dir.as_ref()).map_or_else(|| "<stdin>".to_owned(), |dir| cli::name(dir));
    let layer = commit(&args).with_context(|| name.clone())?;
    for socket in &layer.sockets {
        cli::warn(&format!("{name}: {socket}: is a socket, left out"));
    }
    if let Some(file) = record {
        let mut out = Lines::to(file);
        out.write(&layer.record).and_then(|()| out.flush()).context("--record: cannot write")?;
    }
    Ok(Status::Success)
}

fn create(file: &Path) -> Result<File> {
    File::create(file).with_context(|| format!("{}: cannot create", cli::name(file)))
}

fn commit(args: &Args) -> Result<Layer> {
    let latest = time::source_date_epoch()?;
    let stdout = cli::binary_stdout()?;
    Ok(changes(args)?.write(stdout, args.compress, latest)?.1)
}

fn changes(args: &Args) -> Result<Changes> {
    Ok(match (&args.dir, args.diff.as_slice()) {
        (Some(dir), _) => Changes::of_directory(dir, args.lowers.clone())?,
        (None, [old, new]) => Changes::Trees { old: old.clone(), new: new.clone() },
        (None, _) => bail!("nothing to commit"),
    })
}

//! `layer-hash`: blobs in, layer records out.

mod args;
mod hash;

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use layer::cli::{self, Lines, Progress, RecordFile, Status};
use layer::confine::Confinement;
use layer::image::{self, ImageCache};
use layer::record::{self, LayerRecord};

use args::Args;
use hash::Hash;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    ensure!(args.tee.is_none() || args.blobs.len() == 1, "--tee takes one blob, got {}", args.blobs.len());
    let mut out: Lines<Box<dyn Write>> = Lines::to(match &args.record {
        Some(file) if file != Path::new("-") => Box::new(RecordFile::create(file)?),
        Some(_) if args.tee.is_some() => bail!("--record -: stdout takes what --tee copies"),
        None if args.tee.is_some() => Box::new(std::io::sink()),
        _ => Box::new(cli::stdout()),
    });
    Confinement::reader().enforce();
    let hash =
        Hash { expect: args.expect, tee: args.tee, max_size: args.max_size, progress: Progress::new(args.quiet) };
    let mut status = Status::Success;
    for file in &args.blobs {
        let name = cli::name(file);
        let done = if args.check { check(&hash, file, &mut out) } else { identify(&hash, file, &mut out) };
        out.flush()?;
        match done.with_context(|| name) {
            Ok(found) => status = status.max(found),
            Err(err) => status = status.max(cli::report_input(err)?),
        }
    }
    Ok(status)
}

/// Prints the record of the blob `file`.
fn identify(hash: &Hash, file: &Path, out: &mut Lines<impl Write>) -> Result<Status> {
    let mut record = LayerRecord::default();
    hash.fill(&mut record, cli::open(file)?, &cli::name(file))?;
    out.write(&record)?;
    Ok(Status::Success)
}

/// Verifies the blobs of the records in `file` and prints those that hold.
fn check(hash: &Hash, file: &Path, out: &mut Lines<impl Write>) -> Result<Status> {
    let mut status = Status::Success;
    let mut images = ImageCache::default();
    for (index, record) in record::read_records(BufReader::new(cli::open(file)?)).enumerate() {
        let mut record = record?;
        let verified = image::open_blob(&record, &mut images)
            .and_then(|blob| hash.fill(&mut record, blob, &format!("layer {index}")));
        match verified {
            Ok(()) => out.write(&record)?,
            Err(err) => {
                let err = err.context(format!("{}: layer {index}", cli::name(file)));
                status = status.max(cli::report_input(err)?);
            }
        }
    }
    Ok(status)
}

//! Turns changes on disk into an image layer, or a whole new image; layer-commit(1) is its specification.

mod args;

use std::ffi::OsStr;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use layer::change::Time;
use layer::cli::{self, Lines, Progress, RecordFile, Status};
use layer::commit::{Changes, Layer, NewImage, Spooled};
use layer::config::{Instruction, time};
use layer::image::{Image, OpenOptions, Platform, Reference};

use args::Args;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    ensure!(args.record.as_deref() != Some(Path::new("-")), "--record -: stdout takes the layer");
    let record = args.record.as_deref().map(RecordFile::create).transpose()?;
    let name = args.diff.get(1).or(args.dir.as_ref()).map_or_else(|| "<stdin>".to_owned(), |dir| cli::name(dir));
    let layer = commit(&args, &name)?;
    for socket in &layer.sockets {
        cli::warn(&format!("{name}: {socket}: is a socket, left out"));
    }
    if let (Some(file), true) = (record, layer.is_written) {
        let mut out = Lines::to(file);
        out.write(&layer.record).and_then(|()| out.flush())?;
    }
    Ok(Status::Success)
}

/// Writes what was asked for to stdout and returns its new layer. `name` is how messages name the changes.
fn commit(args: &Args, name: &str) -> Result<Layer> {
    let latest = time::source_date_epoch()?;
    let stdout = cli::binary_stdout()?;
    let said = said(args, latest)?;
    let parent = args.onto.as_ref().map(|onto| open(args, onto).with_context(|| onto.display().to_string()));
    let parent = parent.transpose()?;
    let progress = Progress::new(args.quiet);
    let changes = changes(args).with_context(|| name.to_owned())?;
    if !args.import && parent.is_none() {
        let out = progress.writer(stdout, "writing");
        return Ok(changes.write(out, args.compress, latest).with_context(|| name.to_owned())?.1);
    }
    let top = Spooled::new(changes, args.compress, latest, &progress).with_context(|| name.to_owned())?;
    let out = BufWriter::with_capacity(256 << 10, stdout);
    match (parent, &args.onto) {
        (Some(parent), Some(onto)) => {
            said.write_onto(&parent, top, out, &progress).with_context(|| onto.display().to_string())
        }
        _ => said.write_import(&args.platform.clone().unwrap_or_else(Platform::host), top, out),
    }
}

fn changes(args: &Args) -> Result<Changes> {
    Ok(match (&args.dir, args.diff.as_slice()) {
        (Some(dir), _) => Changes::of_directory(dir, args.lowers.clone())?,
        (None, [old, new]) => Changes::Trees { old: old.clone(), new: new.clone() },
        (None, _) => Changes::Tar(cli::open(Path::new("-"))?),
    })
}

fn said(args: &Args, latest: Option<Time>) -> Result<NewImage> {
    let (author, comment, created_by) = (args.author.clone(), args.message.clone(), args.created_by.clone());
    let instructions = args.changes.iter().map(|change| Instruction::parse(change)).collect::<Result<Vec<_>>>();
    let instructions = instructions.context("--change")?.concat();
    Ok(NewImage { author, comment, created_by, instructions, names: args.tags.clone(), latest })
}

fn open(args: &Args, onto: &OsStr) -> Result<Image> {
    let options = OpenOptions { platform: args.platform.clone(), ..OpenOptions::default() };
    Image::open(&Reference::parse(onto)?, &options)
}

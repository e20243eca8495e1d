//! `image-files`: shows what is in an image, and which layer gave it.

mod args;
mod print;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use layer::cli::{self, Status};
use layer::files::{Files, Verify};
use layer::image::{Image, OpenOptions, Reference};

use args::Args;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    answer(&args).with_context(|| cli::name(Path::new(&args.image)))
}

fn answer(args: &Args) -> Result<Status> {
    let patterns = layer::files::patterns(&args.paths)?;
    let options = OpenOptions { platform: args.platform.clone(), max_size: args.max_size, ..OpenOptions::default() };
    let image = Image::open(&Reference::parse(&args.image)?, &options)?;
    if args.what.lint {
        return print::lint(&image, args, &patterns);
    }
    let verify = if args.verify { Verify::Yes } else { Verify::No };
    let files = Files::open(image, verify, args.max_size)?;
    match &args.what {
        args::What { layers: true, .. } => print::layers(&files, args, &patterns),
        args::What { whence: Some(path), .. } => print::whence(&files, args, path),
        args::What { cat: Some(path), .. } => print::cat(&files, path),
        args::What { tar: true, .. } => print::tar(&files, &patterns),
        args::What { waste: true, .. } => print::waste(&files, args, &patterns),
        args::What { html: true, .. } => print::html(&files),
        _ => print::list(&files, args, &patterns),
    }
}

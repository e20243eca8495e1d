//! image-inspect: shows what an image consists of.

mod args;
mod store;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use layer::cli::{self, Lines, Status, Stdout, Table};
use layer::confine::Confinement;
use layer::image::{self, Image, OpenOptions, Reference, summary};

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = args::Args::parse();
    print(&args).with_context(|| cli::name(Path::new(&args.image)))
}

fn print(args: &args::Args) -> Result<Status> {
    let reference = Reference::parse(&args.image)?;
    let options = OpenOptions { platform: args.platform.clone(), max_size: args.max_size, ..OpenOptions::default() };
    Confinement::reader().enforce();
    let mut out = Lines::stdout();
    let what = &args.what;
    if what.containers || what.sizes {
        return store::print(args, &reference, &mut out);
    }
    if what.index {
        // Of the medium, whichever of its images are damaged.
        out.bytes(&image::read_index(&reference, &options)?)?;
    } else if what.list {
        let images = Image::open_all(&reference, &options)?;
        if args.table {
            table(&mut out, &summary::list_table(&images))?;
        } else {
            images.iter().try_for_each(|image| out.write(&image.brief()))?;
        }
    } else {
        let image = Image::open(&reference, &options)?;
        match (what, args.table) {
            (args::What { config: true, .. }, _) => out.bytes(image.config())?,
            (args::What { manifest: true, .. }, _) => out.bytes(image.manifest().context("has no manifest")?)?,
            (args::What { layers: true, .. }, false) => {
                image.layers().iter().try_for_each(|record| out.write(record))?
            }
            (args::What { layers: true, .. }, true) => table(&mut out, &summary::layers_table(&image))?,
            (args::What { history: true, .. }, false) => {
                image.history().iter().try_for_each(|entry| out.write(entry))?
            }
            (args::What { history: true, .. }, true) => table(&mut out, &summary::history_table(&image))?,
            (_, false) => out.write(&image.summary())?,
            (_, true) => table(&mut out, &summary::table(&image))?,
        }
    }
    out.flush()?;
    Ok(Status::Success)
}

fn table(out: &mut Lines<Stdout>, table: &Table) -> Result<()> {
    out.bytes(table.to_string().as_bytes())
}

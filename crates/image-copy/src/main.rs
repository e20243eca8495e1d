//! Copies images from one medium into another; image-copy(1) is its specification.

mod args;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use layer::change::Escaped;
use layer::cli::{self, Lines, Status};
use layer::copy::{self, Copied, Destination, Have, Options, Target, Which};
use layer::docker_root;
use layer::image::{OpenOptions, Reference};

use args::{Args, Driver};

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    let target = Target::parse(&args.target).with_context(|| shown(&args.target))?;
    let out: Box<dyn Write> = match &args.record {
        Some(file) => Box::new(File::create(file).with_context(|| format!("{}: cannot create", file.display()))?),
        // The archive is there already.
        None if target.path == Path::new("-") => Box::new(io::sink()),
        None => Box::new(cli::stdout()),
    };
    let options = options(&args, &target)?;
    let reference = Reference::parse(&args.source)?;
    let opening = OpenOptions { platform: args.platform.clone(), max_size: args.max_size, ..OpenOptions::default() };
    let which = if args.all { Which::All } else { Which::One };
    let source = || if reference.is_stdin() { cli::name(&reference.path) } else { shown(&args.source) };
    let images = copy::open(&reference, which, &opening, &options).with_context(source)?;
    let mut destination = Destination::open(&target, &options).with_context(|| shown(&args.target))?;
    let mut results = Vec::new();
    for image in &images {
        results.push(destination.put(image, &options).with_context(source)?);
    }
    destination.finish().with_context(|| shown(&args.target))?;
    report(&results, args.verbose, &mut Lines::to(out))?;
    Ok(Status::Success)
}

fn options(args: &Args, target: &Target) -> Result<Options> {
    let names: Vec<_> = target.name.iter().chain(&args.tags).cloned().collect();
    ensure!(!args.all || names.is_empty(), "{}: a name is for one image, not for --all", shown(&args.target));
    let have = |file: &Path| Have::read(BufReader::new(cli::open(file)?)).with_context(|| cli::name(file));
    let driver = args.driver.map(|driver| match driver {
        Driver::Overlay2 => docker_root::Driver::Overlay2,
        Driver::Vfs => docker_root::Driver::Vfs,
    });
    let have = args.have.as_deref().map(have).transpose()?;
    Ok(Options { encoding: args.compress, have, names, max_size: args.max_size, driver })
}

fn report(results: &[Copied], verbose: bool, out: &mut Lines<Box<dyn Write>>) -> Result<()> {
    for copied in results {
        let details = copied.notes.details.iter().filter(|_| verbose);
        copied.notes.warnings.iter().chain(details).for_each(|note| cli::warn(note));
        out.write(copied)?;
    }
    out.flush()
}

fn shown(operand: &OsStr) -> String {
    Escaped(operand.as_encoded_bytes()).to_string()
}

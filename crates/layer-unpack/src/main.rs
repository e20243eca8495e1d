//! Unpacks container layers into directories; layer-unpack(1) is its specification.

mod args;
mod job;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use layer::cli::{self, Status};

use args::Args;
use job::Job;

fn main() -> ExitCode {
    cli::main(env!("CARGO_BIN_NAME"), run)
}

fn run() -> Result<Status> {
    let args = Args::parse();
    let job = Job::new(&args)?;
    match (&args.store, &args.overlay, &args.dir) {
        (Some(store), ..) => job.fill(store)?,
        (_, Some(dir), _) => job.make_overlay(dir, &args.lowers)?,
        (.., Some(dir)) => job.apply(dir)?,
        // clap has seen to it that one is there.
        (None, None, None) => {}
    }
    Ok(Status::Success)
}

//! Mounts a stack of unpacked container layers; ovl-mount(1) is its specification.

mod args;
mod layers;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use layer::cli::{self, Lines, Status};
use layer::mount::{self, Detach, Plan, Upper};

use args::Args;

fn main() -> ExitCode {
    let mut command_status = None;
    let status = cli::main(env!("CARGO_BIN_NAME"), || run(&mut command_status));
    command_status.map_or(status, ExitCode::from)
}

fn run(command_status: &mut Option<u8>) -> Result<Status> {
    let args = Args::parse();
    let name = cli::name(&args.target);
    if args.unmount {
        let detach = if args.lazy { Detach::Now } else { Detach::WhenFree };
        mount::unmount(&args.target, detach).context(name)?;
        return Ok(Status::Success);
    }
    let plan =
        Plan { lowers: layers::lowers(&args)?, upper: upper(&args), target: args.target, user_xattr: args.userxattr };
    if args.print {
        let command = plan.command().context(name)?;
        print(|out| out.bytes(&[&command, b"\n".as_slice()].concat()))?;
    } else if args.command.is_empty() {
        let mounted = plan.mount().context(name)?;
        print(|out| out.write(&mounted.record()))?;
        mounted.keep();
    } else {
        *command_status = Some(run_in_namespace(&plan, &args.command).context(name)?);
    }
    Ok(Status::Success)
}

fn print(write: impl FnOnce(&mut Lines<cli::Stdout>) -> Result<()>) -> Result<()> {
    let mut out = Lines::stdout();
    write(&mut out)?;
    out.flush()
}

fn run_in_namespace(plan: &Plan, command: &[OsString]) -> Result<u8> {
    mount::enter()?;
    let mounted = plan.mount()?;
    let (status, err) = mount::run(command);
    if let Some(err) = err {
        cli::report(&err);
    }
    mounted.close()?;
    Ok(status)
}

fn upper(args: &Args) -> Upper {
    match &args.upper {
        Some(upper) => Upper::Dir { upper: upper.clone(), work: args.work.clone() },
        None if args.tmp => Upper::Scratch,
        None => Upper::ReadOnly,
    }
}

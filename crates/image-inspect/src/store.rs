//! What is asked of a whole data root of Docker's.

use anyhow::{Error, Result, ensure};
use layer::cli::{self, Lines, Status, Stdout};
use layer::containerd;
use layer::docker_root::{self, Store};
use layer::image::{Reference, Transport};

use crate::args::Args;

/// Prints containers or sizes. What cannot be read is reported and the rest printed.
pub(crate) fn print(args: &Args, reference: &Reference, out: &mut Lines<Stdout>) -> Result<Status> {
    ensure!(reference.transport.is_none_or(|transport| transport == Transport::DockerRoot), "is no docker-root");
    ensure!(reference.selector.is_none(), "names an image, expected a data root of Docker alone");
    if !Store::is_at(&reference.path)
        && let Some(root) = containerd::Root::open(&reference.path)?
    {
        return print_containerd(args, &root, out);
    }
    let store = Store::open(&reference.path)?;
    let troubles = if args.what.sizes {
        let usage = store.usage()?;
        match args.table {
            true => out.bytes(docker_root::sizes_table(&usage).to_string().as_bytes())?,
            false => out.write(&usage)?,
        }
        usage.troubles
    } else {
        let (containers, troubles) = store.container_usage()?;
        match args.table {
            true => out.bytes(docker_root::containers_table(&containers).to_string().as_bytes())?,
            false => containers.iter().try_for_each(|container| out.write(container))?,
        }
        troubles
    };
    report(args, troubles, out)
}

fn print_containerd(args: &Args, root: &containerd::Root, out: &mut Lines<Stdout>) -> Result<Status> {
    ensure!(!args.what.sizes, "is a store of containerd's, whose sizes are not known");
    let (containers, troubles) = root.containers(containerd::namespace().as_deref())?;
    match args.table {
        true => out.bytes(containerd::containers_table(&containers).to_string().as_bytes())?,
        false => containers.iter().try_for_each(|container| out.write(container))?,
    }
    report(args, troubles, out)
}

fn report(args: &Args, troubles: Vec<Error>, out: &mut Lines<Stdout>) -> Result<Status> {
    out.flush()?;
    let name = cli::name(args.image.as_ref());
    let mut status = Status::Success;
    for trouble in troubles {
        status = status.max(cli::report_input(trouble.context(name.clone()))?);
    }
    Ok(status)
}

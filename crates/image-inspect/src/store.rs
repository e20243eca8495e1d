//! What is asked of a whole data root of Docker's.

use anyhow::{Result, ensure};
use layer::cli::{self, Lines, Status, Stdout};
use layer::docker_root::{self, Store};
use layer::image::{Reference, Transport};

use crate::args::Args;

/// Prints containers or sizes. What cannot be read is reported and the rest printed.
pub(crate) fn print(args: &Args, reference: &Reference, out: &mut Lines<Stdout>) -> Result<Status> {
    ensure!(reference.transport.is_none_or(|transport| transport == Transport::DockerRoot), "is no docker-root");
    ensure!(reference.selector.is_none(), "names an image, expected a data root of Docker alone");
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
    out.flush()?;
    let name = cli::name(args.image.as_ref());
    let mut status = Status::Success;
    for trouble in troubles {
        status = status.max(cli::report_input(trouble.context(name.clone()))?);
    }
    Ok(status)
}

//! Where the layers are that are to be mounted.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use layer::apply::Options;
use layer::cli::{self, Progress};
use layer::digest::ChainId;
use layer::image::{Image, OpenOptions, Reference};
use layer::mount::{self, Lower};
use layer::overlay::Namespace;
use layer::store::{Added, Chain, Store};
use layer::stream::Expected;

use crate::args::Args;

/// Returns the layers, base first: of the image, as named, or from the records on stdin.
pub(crate) fn lowers(args: &Args) -> Result<Vec<Lower>> {
    if let (Some(image), Some(store)) = (&args.image, &args.store) {
        return unpack(args, image, store).with_context(|| cli::name(Path::new(image)));
    }
    if args.lowers.is_empty() {
        let stdin = io::stdin();
        ensure!(!stdin.is_terminal(), "<stdin>: is a terminal (give layers with --lower, or pipe records to it)");
        return mount::read_lowers(stdin.lock()).context("<stdin>");
    }
    args.lowers.iter().map(|dir| Ok(mount::absolute(dir).context("--lower")?.into())).collect()
}

/// Sees to it that the store has the layers of the image, and returns where they are; for `--print`, where they will be.
fn unpack(args: &Args, image: &OsStr, store: &Path) -> Result<Vec<Lower>> {
    let open = OpenOptions { platform: args.platform.clone(), ..OpenOptions::default() };
    let image = Image::open(&Reference::parse(image)?, &open)?;
    if args.print {
        let store = mount::absolute(store)?;
        let stack = ChainId::chain(image.layers().iter().filter_map(|record| record.diff_id));
        return Ok(stack.into_iter().map(|id| Lower { path: store.join(id.hex()), chain_id: Some(id) }).collect());
    }
    let store = Store::open(store).with_context(|| cli::name(store))?;
    let namespace = if args.userxattr { Namespace::User } else { Namespace::Trusted };
    let options = Options { namespace, ..Options::default() };
    let progress = Progress::new(args.quiet);
    let mut chain = Chain::default();
    let mut lowers = Vec::new();
    for (number, record) in image.layers().iter().enumerate() {
        let label = format!("layer {number}");
        let mut add = || {
            let stack = chain.push(record)?;
            let blob = || Ok(progress.reader(image.open_layer(number)?, &label, record.size));
            let added = store.add(stack, &Expected::of(record), None, &options, blob)?;
            let top = *stack.last().context("a stack of no layers has no top")?;
            anyhow::Ok((top, added))
        };
        let (top, added) = add().with_context(|| label.clone())?;
        if let Added::Unpacked(warnings) = added {
            for warning in warnings {
                cli::warn(&format!("{}: {label}: {warning}", cli::name(store.path_of(top).as_path())));
            }
        }
        lowers.push(Lower { path: store.path_of(top), chain_id: Some(top) });
    }
    Ok(lowers)
}

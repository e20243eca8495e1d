//! The command line of `chain-id`.

use std::path::PathBuf;

use clap::Parser;

/// Name the stacks that layers make: their ChainIDs
///
/// Reads DiffIDs as lines of text, layer records, an image configuration or the output of `docker inspect`, base layer
/// first, and prints a layer record with the ChainID for each layer. Each FILE is a stack of its own.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// What to read (`-` is standard input, the default)
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) files: Vec<PathBuf>,

    /// Print ChainIDs alone, not records
    #[arg(long)]
    pub(crate) plain: bool,

    /// Print only the top layer's line of each stack
    #[arg(long)]
    pub(crate) last: bool,

    /// Start above the stack of this ChainID
    #[arg(long, value_name = "CHAINID")]
    pub(crate) parent: Option<layer::digest::ChainId>,
}

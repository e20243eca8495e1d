//! The command line of layer-commit.

use std::path::PathBuf;

use clap::Parser;

/// Turn changes on disk into an image layer
///
/// The layer goes to stdout.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Take the changes that overlayfs left in DIR, an upperdir or the mount point of an overlay
    #[arg(value_name = "DIR", required_unless_present = "diff", conflicts_with = "diff")]
    pub(crate) dir: Option<PathBuf>,

    /// Take what makes the tree OLD into the tree NEW
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    pub(crate) diff: Vec<PathBuf>,

    /// Look for renamed directories and metadata-only copies in DIR; repeat for each lowerdir, base first
    #[arg(long = "lower", value_name = "DIR", conflicts_with = "diff")]
    pub(crate) lowers: Vec<PathBuf>,

    /// Store the layer as `none`, `gzip[:1-9]` or `zstd[:1-22]`
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) compress: layer::stream::Encoding,

    /// Write the new layer's record to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

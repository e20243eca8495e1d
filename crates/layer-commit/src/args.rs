//! The command line of layer-commit.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// Turn changes on disk into an image layer, or a whole new image
///
/// The layer, or with --onto or --import the image's archive, goes to stdout.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Take the changes that overlayfs left in DIR, an upperdir or the mount point of an overlay
    #[arg(value_name = "DIR", required_unless_present_any = ["diff", "import"], conflicts_with_all = ["diff", "import"])]
    pub(crate) dir: Option<PathBuf>,

    /// Take what makes the tree OLD into the tree NEW
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "import")]
    pub(crate) diff: Vec<PathBuf>,

    /// Look for renamed directories and metadata-only copies in DIR; repeat for each lowerdir, base first
    #[arg(long = "lower", value_name = "DIR", conflicts_with_all = ["diff", "import"])]
    pub(crate) lowers: Vec<PathBuf>,

    /// Store the layer as `none`, `gzip[:1-9]` or `zstd[:1-22]`
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) compress: layer::stream::Encoding,

    /// Write the new layer's record to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Write a new image: IMAGE and the layer on top
    #[arg(long, value_name = "IMAGE", group = "image")]
    pub(crate) onto: Option<OsString>,

    /// Write a new image of one layer, a root directory's tar from stdin
    #[arg(long, group = "image")]
    pub(crate) import: bool,

    /// Name the image's author
    #[arg(short, long, requires = "image")]
    pub(crate) author: Option<String>,

    /// Say what was changed
    #[arg(short, long, value_name = "TEXT", requires = "image")]
    pub(crate) message: Option<String>,

    /// Change the image's configuration by a Dockerfile instruction, as `docker commit -c` does; repeat for more
    #[arg(short = 'c', long = "change", value_name = "INSTRUCTION", requires = "image")]
    pub(crate) changes: Vec<String>,

    /// Show COMMAND in the history as what made the layer
    #[arg(long, value_name = "COMMAND", requires = "image")]
    pub(crate) created_by: Option<String>,

    /// Name the image; repeat for more names
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]", requires = "image")]
    pub(crate) tags: Vec<layer::image::Name>,

    /// Say what the imported image runs on, or choose among the platforms of --onto
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "image")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Show no progress bars
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

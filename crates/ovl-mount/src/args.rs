//! The command line of ovl-mount.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// Mount a stack of unpacked container layers
///
/// The layers are read as records with `path` from stdin, base layer first, named with --lower, or those of an image.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Mount this layer directory; repeat for each layer, base layer first
    #[arg(long = "lower", value_name = "DIR", conflicts_with = "unmount")]
    pub(crate) lowers: Vec<PathBuf>,

    /// Mount the layers of this image, unpacked in --store
    #[arg(long, value_name = "IMAGE", requires = "store", conflicts_with_all = ["lowers", "unmount"])]
    pub(crate) image: Option<OsString>,

    /// Keep the image's layers in DIR, as layer-unpack --store does, and unpack what is missing there
    #[arg(long, value_name = "DIR", requires = "image")]
    pub(crate) store: Option<PathBuf>,

    /// Choose the image for this platform, as in `linux/arm64`
    #[arg(long, value_name = "PLATFORM", requires = "image")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Make it writable, with the changes in DIR, created if missing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tmp", "unmount"])]
    pub(crate) upper: Option<PathBuf>,

    /// Let overlayfs work in DIR, on the filesystem of --upper [default: `.NAME.work` beside it]
    #[arg(long, value_name = "DIR", requires = "upper")]
    pub(crate) work: Option<PathBuf>,

    /// Make it writable, with the changes in memory until it is unmounted
    #[arg(long, conflicts_with = "unmount")]
    pub(crate) tmp: bool,

    /// Keep overlayfs' marks in user.overlay.* attributes, as layer-unpack --userxattr does
    #[arg(long, conflicts_with = "unmount")]
    pub(crate) userxattr: bool,

    /// Print the mount command that does the same, and do nothing
    #[arg(long, conflicts_with_all = ["tmp", "unmount", "command"])]
    pub(crate) print: bool,

    /// Unmount TARGET and remove what was made for the mount, but not --upper
    #[arg(short, long, conflicts_with = "command")]
    pub(crate) unmount: bool,

    /// With -u, take a mount that is in use out of sight at once
    #[arg(long, requires = "unmount")]
    pub(crate) lazy: bool,

    /// Draw no progress bars
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Directory to mount on, created if missing
    pub(crate) target: PathBuf,

    /// Run CMD, which alone sees the mount, and unmount when it ends
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

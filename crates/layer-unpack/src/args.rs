//! The command line of layer-unpack.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};

/// Unpack container layers into directories
///
/// Applies the layer on stdin, or all layers of an image, to a plain root directory; or makes each layer a directory that
/// overlayfs can stack.
#[derive(Debug, Parser)]
#[command(version)]
#[command(group = ArgGroup::new("destination").required(true).args(["dir", "overlay", "store"]))]
pub(crate) struct Args {
    /// Apply the layers to this plain directory, created if missing
    pub(crate) dir: Option<PathBuf>,

    /// Make DIR, empty or missing, the one layer in overlay form
    #[arg(long, value_name = "DIR")]
    pub(crate) overlay: Option<PathBuf>,

    /// Keep one directory in overlay form a layer under DIR, and print records with `path`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "excludes"])]
    pub(crate) store: Option<PathBuf>,

    /// With --overlay, name a layer directory below; repeat for each, base layer first
    #[arg(long = "lower", value_name = "DIR", requires = "overlay")]
    pub(crate) lowers: Vec<PathBuf>,

    /// Unpack the layers of this image, not stdin
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<OsString>,

    /// Choose the image for this platform, as in `linux/arm64`
    #[arg(long, value_name = "PLATFORM", requires = "image")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Unpack only these layers, counted from 0 at the base: N, A..B with both ends, A.. or ..B
    #[arg(long, value_name = "RANGE", requires = "image")]
    pub(crate) layers: Option<layer::unpack::LayerRange>,

    /// Unpack only what PATTERN matches, and what is below that; repeat for more
    #[arg(long = "path", value_name = "PATTERN")]
    pub(crate) paths: Vec<layer::apply::Pattern>,

    /// Leave out what PATTERN matches, and what is below that; repeat for more
    #[arg(long = "exclude", value_name = "PATTERN")]
    pub(crate) excludes: Vec<layer::apply::Pattern>,

    /// Leave files to the caller, not to the owner that the layer names
    #[arg(long, conflicts_with_all = ["uid_maps", "gid_maps"])]
    pub(crate) no_same_owner: bool,

    /// Leave extended attributes out, capabilities and ACLs with them
    #[arg(long)]
    pub(crate) no_xattrs: bool,

    /// Give files of user C to user H, those of C+1 to H+1, and so on for N users [default N: 1]; repeat for more
    #[arg(long = "uid-map", value_name = "C:H[:N]")]
    pub(crate) uid_maps: Vec<layer::apply::IdRange>,

    /// Map groups in the same way
    #[arg(long = "gid-map", value_name = "C:H[:N]")]
    pub(crate) gid_maps: Vec<layer::apply::IdRange>,

    /// Mark opaque directories in user.overlay.* attributes, for mounts with userxattr
    #[arg(long)]
    pub(crate) userxattr: bool,

    /// Refuse a layer of more than BYTES uncompressed
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_size: Option<u64>,

    /// Say on stderr what becomes of each layer
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Draw no progress bars
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

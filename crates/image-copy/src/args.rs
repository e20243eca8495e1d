//! The command line of `image-copy`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Copy images between archives, OCI layouts and Docker's data root
///
/// Prints one JSON object for each image: its identifiers and tags, and how many layers were copied. Every layer is verified
/// while it is copied; those that DST has are not copied again.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Which image: [TRANSPORT:]PATH[:REF] (`-` is an archive on standard input)
    #[arg(value_name = "SRC")]
    pub(crate) source: OsString,

    /// Where to: [TRANSPORT:]PATH[:NAME] (`-` writes an archive to standard output)
    #[arg(value_name = "DST")]
    pub(crate) target: OsString,

    /// Copy all the images of SRC
    #[arg(long)]
    pub(crate) all: bool,

    /// Name the image so, and not as SRC does; repeat for more names
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", conflicts_with = "all")]
    pub(crate) tags: Vec<layer::image::Name>,

    /// Take the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Store layers as `none`, `gzip[:1-9]` or `zstd[:1-22]`, and not as SRC does
    #[arg(long, value_name = "HOW")]
    pub(crate) compress: Option<layer::stream::Encoding>,

    /// Leave out of the archive the layers whose ChainIDs or DiffIDs are in FILE, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) have: Option<PathBuf>,

    /// Make a new data root for this storage driver
    #[arg(long, value_name = "DRIVER", value_enum)]
    pub(crate) driver: Option<Driver>,

    /// Refuse a layer, or an archive that must be unpacked, of more than BYTES uncompressed
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_size: Option<u64>,

    /// Write the result to FILE, not to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Say which layers are skipped
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// A storage driver of Docker that can be written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    /// overlayfs
    Overlay2,
    /// Whole copies, where overlayfs does not work
    Vfs,
}

//! The command line of `image-inspect`.

use std::ffi::OsString;

use clap::Parser;

/// Show what an image consists of
///
/// Prints one JSON object about the image, or with an option its layers, its history, its documents as stored, or all the
/// images beside it. Layers are not read.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Which image: [TRANSPORT:]PATH[:REF] (`-` is an archive on standard input)
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,

    #[command(flatten)]
    pub(crate) what: What,

    /// Print aligned columns for people instead of JSON
    #[arg(short, long, conflicts_with_all = ["config", "manifest", "index"])]
    pub(crate) table: bool,

    /// Take the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Refuse a compressed archive, or one from a pipe, that is larger than this uncompressed
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_size: Option<u64>,
}

/// What to print; without any, one JSON object.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct What {
    /// Print a layer record a line, base layer first
    #[arg(long)]
    pub(crate) layers: bool,

    /// Print a history entry a line, oldest first, with the layer that it made
    #[arg(long)]
    pub(crate) history: bool,

    /// Print the configuration as stored
    #[arg(long)]
    pub(crate) config: bool,

    /// Print the manifest as stored
    #[arg(long)]
    pub(crate) manifest: bool,

    /// Print the index of the archive or layout as stored
    #[arg(long)]
    pub(crate) index: bool,

    /// Print a line for each image of the archive or layout
    #[arg(long)]
    pub(crate) list: bool,

    /// Print a line for each container of a docker-root, with its size
    #[arg(long)]
    pub(crate) containers: bool,

    /// Print what the images and containers of a docker-root take, and what they share
    #[arg(long)]
    pub(crate) sizes: bool,
}

//! The command line of `image-files`.

use std::ffi::OsString;

use clap::Parser;

/// See the files of an image: which there are, which layer gave them, what is wasted
///
/// Prints one JSON line for each path of the merged root, as a container sees it, or answers another question about the
/// files of the IMAGE. Nothing is unpacked and nothing is written.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Which image: [TRANSPORT:]PATH[:REF] (`-` is an archive on standard input)
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,

    /// Take only these paths and what is below them; `*`, `?`, `[a-z]` and `**` match as in a shell
    #[arg(value_name = "PATH", conflicts_with_all = ["whence", "cat", "html"])]
    pub(crate) paths: Vec<String>,

    #[command(flatten)]
    pub(crate) what: What,

    /// Print aligned columns for people instead of JSON
    #[arg(short, long, conflicts_with_all = ["cat", "tar", "html"])]
    pub(crate) table: bool,

    /// Read contents too: add their SHA-256 to each line, or compare them
    #[arg(long, conflicts_with_all = ["layers", "cat", "tar", "waste", "lint", "html"])]
    pub(crate) digest: bool,

    /// Fail if more than this is wasted: bytes, or a percentage of those stored
    #[arg(long, value_name = "BYTES|PCT", requires = "waste")]
    pub(crate) max_waste: Option<layer::files::waste::MaxWaste>,

    /// Read all layers whole, and hold them against their digests first
    #[arg(long, conflicts_with = "lint")]
    pub(crate) verify: bool,

    /// Take the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<layer::image::Platform>,

    /// Refuse a layer, or an archive that has to be written out, that is larger than this uncompressed
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_size: Option<u64>,
}

/// What to print; without any, the list.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct What {
    /// Print the files of the merged root, one a line (default)
    #[arg(long)]
    pub(crate) list: bool,

    /// Print a line for each layer with what it added, modified, removed and made opaque
    #[arg(long)]
    pub(crate) layers: bool,

    /// Print the story of PATH, a line for each layer that had a hand in it
    #[arg(long, value_name = "PATH")]
    pub(crate) whence: Option<OsString>,

    /// Print the content of the file at PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) cat: Option<OsString>,

    /// Write the merged root as one tar
    #[arg(long)]
    pub(crate) tar: bool,

    /// Print what is stored more than once, or stored and later removed
    #[arg(long)]
    pub(crate) waste: bool,

    /// Print the entries on which container tools disagree
    #[arg(long)]
    pub(crate) lint: bool,

    /// Write a page for a web browser that shows all of this
    #[arg(long)]
    pub(crate) html: bool,
}

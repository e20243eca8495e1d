//! The command line of `layer-hash`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Identify layers: digest, DiffID and sizes in one pass
///
/// Reads each BLOB, plain or compressed with gzip or zstd, and prints a layer record: media type, digest and size as
/// stored, DiffID and size uncompressed, number of entries.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// What to read (`-` is standard input, the default); with --check, files of layer records
    #[arg(value_name = "BLOB", default_value = "-")]
    pub(crate) blobs: Vec<PathBuf>,

    /// Fail unless the blob has this digest or DiffID
    #[arg(long, value_name = "DIGEST", conflicts_with = "check")]
    pub(crate) expect: Option<layer::digest::Digest>,

    /// Read layer records and verify each blob where its `image` says it is
    #[arg(long, conflicts_with = "tee")]
    pub(crate) check: bool,

    /// Copy to standard output what is read, as stored or uncompressed
    #[arg(long, value_name = "FORM", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "blob")]
    pub(crate) tee: Option<Tee>,

    /// Write records to FILE, not to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Refuse a layer of more than BYTES uncompressed
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_size: Option<u64>,

    /// Draw no progress bars
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What `--tee` copies.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tee {
    /// The blob as stored
    Blob,
    /// The uncompressed tar
    Tar,
}

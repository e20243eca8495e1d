//! Container image layers: the common crate of layer-tools.
//!
//! An image is a stack of layers and a configuration. A layer is stored as a blob (a tar, mostly compressed), means a set
//! of changes, and becomes a directory. Each module knows one of these:
//!
//! ```text
//! blob --stream::LayerReader--> archive (tar) --+              +--> apply: a plain tree, or one overlayfs lowerdir
//!                                               +-- change ----+
//! upperdir, or two trees ----> diff ------------+   (Sink)     +--> archive (tar) --stream::LayerWriter--> blob
//! stack of layers ----------------------------------------> tree: what is in the merged root, and which layer gave it
//! image (a medium) --> record (one line a layer) --> digest::ChainId ... --> mount
//! ```
//!
//! A change is decoded once at the edge and encoded once at the other; `whiteout` and `overlay` are the only places that know
//! the two encodings of removals. Dependencies point down only, and nothing but the tools' `main` uses `cli`'s printing.

pub mod apply;
pub mod archive;
pub mod bolt;
pub mod change;
pub mod check;
pub mod cli;
pub mod commit;
pub mod config;
pub mod confine;
pub mod containerd;
pub mod copy;
pub mod diff;
pub mod digest;
pub mod docker_root;
pub mod files;
pub mod image;
pub mod limits;
pub mod mount;
pub mod overlay;
pub mod record;
pub mod root;
pub mod store;
pub mod stream;
pub mod tar_split;
pub mod tree;
pub mod unpack;
pub mod whiteout;

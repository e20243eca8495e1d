//! How much of a stranger's input is taken: every bound in one place.
//!
//! Each is far above what real images hold, and low enough that no input makes memory grow beyond a known size.

/// Bytes of metadata that one tar entry may bring along: PAX records, GNU long names, sparse maps (Go's archive/tar
/// allows 1 MiB for each of its extension headers).
pub const ENTRY_METADATA: u64 = 1 << 20;

/// Bytes of one line of layer records.
pub const RECORD_LINE: u64 = 1 << 20;

/// Bytes of one JSON document of an image: a configuration, a manifest, an index (registries and containerd refuse
/// manifests over 4 MiB; configurations with long histories are larger).
pub const JSON_DOCUMENT: u64 = 32 << 20;

/// Elements of a list in such a document: layers, history entries, tags, images of an archive. An empty one takes two bytes
/// there and fifty in memory.
pub const LIST: usize = 1 << 16;

/// Components of a path within a layer.
pub const PATH_DEPTH: usize = 1024;

/// Bytes of a path within a layer, and of a link's target: the kernel's PATH_MAX with its NUL.
pub const PATH_BYTES: usize = 4095;

/// log2 of the largest window that a zstd frame may ask for: 128 MiB, what the zstd tool takes by default.
pub const ZSTD_WINDOW_LOG: u32 = 27;

/// Redirects that the search for one directory or file in a stack of overlayfs layers may follow.
pub const REDIRECTS: usize = 1024;

/// Bytes of one JSON entry of a tar-split file: Docker writes segments of up to 1 MiB, before base64.
pub const TAR_SPLIT_ENTRY: u64 = 16 << 20;

/// Descriptors that an image layout's index may lead to, with those of nested indexes, however often they are met.
pub const DESCRIPTORS: usize = 1 << 16;

/// How deep indexes may be nested in one another.
pub const INDEX_DEPTH: usize = 16;

/// Bytes of names and link targets of an image archive's members, all together; 64 are counted for each besides.
pub const ARCHIVE_NAMES: usize = 16 << 20;

/// Bytes of pages that are read from one bolt database, those that are read twice counted twice: what images and snapshots
/// take of one is a few MiB.
pub const BOLT_READ: u64 = 256 << 20;

/// KiB of memory that decoding an xz stream may take: what `xz -9` needs, and a little more.
pub const XZ_MEMORY_KIB: u32 = 80 << 10;

/// Bytes of a file of Docker's data root that holds identifiers alone: the longest, overlay2's `lower`, has 29 a layer; paths
/// may stand there in place of them.
pub const STORE_LINE: u64 = 1 << 20;

/// Names in one directory of Docker's data root.
pub const STORE_NAMES: usize = 1 << 20;

/// Layers that may stand on one another in Docker's data root, whose daemon makes no more than 125.
pub const STORE_DEPTH: usize = 1 << 10;

/// Characters of an identifier out of Docker's data root that a message shows.
pub const STORE_ID_SHOWN: usize = 80;

/// Entries that the layers of one stack may have together, and paths that they may speak of: 16 million.
pub const TREE_ENTRIES: usize = 1 << 24;

/// Bytes of distinct names, link targets and sets of xattrs of all layers of a stack.
pub const TREE_BYTES: usize = 1 << 30;

//! What is looked for, and what each tool does with it.
//!
//! Tried with docker 20.10 and podman 4.3 on overlayfs, containerd 1.6 with its overlayfs snapshotter, and GNU tar 1.34, which
//! stands for unpackers that know nothing of layers.

/// A kind of entry on which tools disagree.
#[derive(Debug)]
pub struct Rule {
    /// Its name, for scripts.
    pub name: &'static str,
    /// What is the matter.
    pub what: &'static str,
    /// What docker, podman, containerd and a plain `tar -x` do.
    pub tools: [&'static str; 4],
}

macro_rules! rules {
    ($($(#[$doc:meta])* $constant:ident $name:literal $what:literal [$docker:literal, $podman:literal, $containerd:literal, $tar:literal])*) => {
        $($(#[$doc])* pub(super) const $constant: Rule =
            Rule { name: $name, what: $what, tools: [$docker, $podman, $containerd, $tar] };)*
    };
}

rules! {
    /// `.wh.x` and `x`.
    WHITEOUT_AND_ENTRY "whiteout-and-entry" "the layer removes a path and puts it too" [
        "refuses the layer where the whiteout comes behind; else a directory shows again what lower layers have in it",
        "refuses the layer where the whiteout comes behind; else a directory shows again what lower layers have in it",
        "refuses the layer where the whiteout comes behind; else a directory shows again what lower layers have in it",
        "unpacks both, the whiteout as an empty file"
    ]
    /// `.wh.`.
    BARE_WHITEOUT "bare-whiteout" "a whiteout of no name" [
        "refuses the layer on overlayfs",
        "refuses the layer",
        "refuses the layer",
        "unpacks an empty file"
    ]
    /// A name that leads out, or that no path can be.
    NAME "name" "a name that no entry of a layer can have" [
        "takes `..` at the root for the root",
        "takes `..` at the root for the root",
        "takes `..` at the root for the root",
        "refuses names with `..`"
    ]
    /// `.wh..wh.plnk`.
    AUFS "aufs" "bookkeeping of AUFS, which is no part of the tree" [
        "unpacks it as files on overlayfs, and leaves it out on others",
        "unpacks it as files",
        "unpacks it as files",
        "unpacks it as files"
    ]
    /// A whiteout that nothing is below.
    WHITEOUT_OF_NOTHING "whiteout-of-nothing" "a whiteout of what no lower layer has" [
        "keeps a whiteout, which a directory of that layer alone lists as an entry that cannot be read",
        "keeps a whiteout, which a directory of that layer alone lists as an entry that cannot be read",
        "keeps a whiteout, which a directory of that layer alone lists as an entry that cannot be read",
        "unpacks an empty file"
    ]
    /// A device 0:0.
    WHITEOUT_DEVICE "whiteout-device" "a character device 0:0, which is a whiteout on overlayfs" [
        "makes the device: on overlayfs it hides what is below",
        "makes the device: on overlayfs it hides what is below",
        "makes the device: on overlayfs it hides what is below",
        "makes a device, as root"
    ]
    /// `trusted.overlay.opaque`.
    OVERLAY_XATTR "overlay-xattr" "an xattr of overlayfs's own bookkeeping" [
        "sets it: an opaque directory hides what lower layers have in it",
        "sets it: an opaque directory hides what lower layers have in it",
        "sets it: an opaque directory hides what lower layers have in it",
        "leaves it out, unless --xattrs-include names it"
    ]
    /// A link to another layer's file.
    HARDLINK_LOWER "hardlink-lower" "a hard link to a file of a lower layer" [
        "refuses the layer on overlayfs",
        "refuses the layer",
        "refuses the layer",
        "links to it where the lower layers were unpacked to the same place"
    ]
    /// A link before its target.
    HARDLINK_FORWARD "hardlink-forward" "a hard link before the entry that it names" [
        "refuses the layer",
        "refuses the layer",
        "refuses the layer",
        "fails, and goes on with the next entry"
    ]
    /// A link to nothing.
    HARDLINK_MISSING "hardlink-missing" "a hard link to what is nowhere" [
        "refuses the layer",
        "refuses the layer",
        "refuses the layer",
        "fails, and goes on with the next entry"
    ]
    /// `lib/x` where `lib` is a symlink below.
    SYMLINKED_PARENT "symlinked-parent" "an entry below a directory that is a symlink in a lower layer" [
        "makes a directory in the place of the symlink: what it led to is no longer there by that name",
        "makes a directory in the place of the symlink: what it led to is no longer there by that name",
        "makes a directory in the place of the symlink: what it led to is no longer there by that name",
        "follows the symlink where the lower layers were unpacked to the same place"
    ]
    /// `a` twice.
    DUPLICATE "duplicate" "a second entry of the same name" [
        "refuses the layer",
        "refuses the layer",
        "takes the last one",
        "takes the last one"
    ]
    /// `a/b` where `a` is a file.
    BELOW_FILE "below-file" "an entry below what is no directory" [
        "refuses the layer",
        "refuses the layer",
        "refuses the layer",
        "fails, and goes on with the next entry"
    ]
    /// A parent that only lower layers describe.
    PARENT_NOT_IN_LAYER "parent-not-in-layer" "a directory that the layer needs and only lower layers describe" [
        "makes it with mode 0755, owner 0:0, which hides what the lower layer says of it",
        "makes it with mode 0755, owner 0:0, which hides what the lower layer says of it",
        "makes it with the metadata that it has in the lower layer",
        "leaves it as it is where the lower layers were unpacked to the same place"
    ]
    /// A parent that nobody describes.
    PARENT_MISSING "parent-missing" "a directory that no layer describes" [
        "makes it with mode 0755, owner 0:0",
        "makes it with mode 0755, owner 0:0",
        "makes it with mode 0755, owner 0:0",
        "makes it with the mode that the umask leaves, and the user's owner"
    ]
    /// `./` with a mode of its own.
    ROOT_ENTRY "root-entry" "metadata for the root directory" [
        "passes over it: the root is 0755, owner 0:0",
        "passes over it: the root is 0555, owner 0:0",
        "passes over it: the root is 0755, owner 0:0",
        "gives it to the directory that it unpacks to"
    ]
    /// An unknown type flag.
    TYPE "type" "an entry of a type that layers do not have" [
        "refuses the layer",
        "refuses the layer",
        "refuses the layer",
        "unpacks a file, with a warning"
    ]
    /// Whatever else this project refuses.
    REFUSED "refused" "an entry that layer-unpack refuses" [
        "may unpack it",
        "may unpack it",
        "may unpack it",
        "may unpack it"
    ]
}

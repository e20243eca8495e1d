//! overlayfs's encoding of removals, and the only place that knows it: a whiteout is a 0:0 character device or an empty
//! file that an xattr marks, an opaque directory has an xattr, and all other bookkeeping is xattrs as well.
//!
//! The xattrs are `trusted.overlay.*`, or `user.overlay.*` where the mount has the option `userxattr`.

mod decode;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::change::Device;

pub use decode::{Marks, Redirect, Xattrs, decode};

/// Which names overlayfs gives its extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.`, what mounts use unless told otherwise.
    #[default]
    Trusted,
    /// `user.overlay.`, what mounts with `userxattr` use.
    User,
}

impl Namespace {
    /// Returns the name of the attribute that makes a directory opaque.
    pub fn opaque(self) -> &'static str {
        match self {
            Namespace::Trusted => "trusted.overlay.opaque",
            Namespace::User => "user.overlay.opaque",
        }
    }
}

/// The value of [`Namespace::opaque`] in an opaque directory. Any other value means something else (`x` marks a directory
/// that holds whiteouts as attributes, Linux 6.7).
pub const OPAQUE_VALUE: &[u8] = b"y";

/// Says whether a character device of this number is a whiteout.
pub fn is_whiteout(device: Device) -> bool {
    device == Device::WHITEOUT
}

/// Says whether an extended attribute is overlayfs's own, in either namespace, so that it belongs to no layer.
pub fn is_bookkeeping(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_overlayfs_attributes_are_bookkeeping() {
        for (name, want) in [
            ("trusted.overlay.opaque", true),
            ("user.overlay.redirect", true),
            ("user.overlay", false),
            ("user.overlayx.y", false),
            ("security.capability", false),
        ] {
            assert_eq!(is_bookkeeping(OsStr::new(name)), want, "{name}");
        }
        assert!(is_bookkeeping(OsStr::new(Namespace::Trusted.opaque())));
        assert!(is_bookkeeping(OsStr::new(Namespace::User.opaque())));
    }

    #[test]
    fn only_0_0_is_a_whiteout() {
        assert!(is_whiteout(Device { major: 0, minor: 0 }));
        assert!(!is_whiteout(Device { major: 0, minor: 1 }));
        assert!(!is_whiteout(Device { major: 1, minor: 0 }));
    }
}

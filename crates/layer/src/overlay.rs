//! overlayfs's encoding of removals, and the only place that knows it: a whiteout is a 0:0 character device or an empty
//! file that an xattr marks, an opaque directory has an xattr, and all other bookkeeping is xattrs as well.
//!
//! The xattrs are `trusted.overlay.*`, or `user.overlay.*` where the mount has the option `userxattr`.

mod decode;

pub use decode::{Marks, Redirect, Xattrs, decode};

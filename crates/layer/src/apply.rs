//! Changes become files: a tree that holds all layers (plain form), or one overlayfs lowerdir a layer (overlay form).
//!
//! Both forms are written by [`TreeSink`], for what they differ in is small: where the layers below are, and what takes
//! their files away. The law that holds them together: the overlay forms of n layers, merged by the kernel, show what the
//! plain form of the same n holds.
//!
//! The order of a layer's entries does not matter. So the sink remembers what the layer put ([`own`]), whiteouts leave
//! that alone, and whatever a removal changes about a directory that was there is changed the same when it comes late.
//! Paths are resolved here, component by component and never by the kernel ([`walk`]): symlinks lead through the tree as the
//! container will see it, and not out of it.

mod create;
mod destination;
mod lowers;
mod options;
mod own;
mod removal;
mod select;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

pub use destination::Destination;
pub use lowers::Lowers;
pub use options::{IdMap, IdRange, Options, Owner};
pub use select::{Pattern, Select, Selected};
pub use tree::TreeSink;

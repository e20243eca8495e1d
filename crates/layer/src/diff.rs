//! Changes read from disk: from the upperdir of an overlay mount, or by comparing two trees.
//!
//! Both walks are depth first, by the bytes of the names, so the same files give the same layer whatever order the
//! directories list them in. They hold one directory's names a level and one open descriptor a tree, whatever the depth.

mod body;
mod compare;
mod names;
mod stack;
mod tree;
mod upper;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use compare::compare;
pub use upper::walk_upper;

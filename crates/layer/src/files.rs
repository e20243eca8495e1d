//! The files of an image: what `image-files` shows of a [`Tree`](crate::tree::Tree).
//!
//! [`Files`] is the image with its tree. Each other module answers one question about it: which files there are
//! ([`list`]), what each layer did ([`story`]), what the merged root is as a tar ([`flatten`]), what is stored for nothing
//! ([`waste`]), on what other tools disagree ([`lint`]), and all of it as a page to look at ([`report`]).

pub mod flatten;
pub mod lint;
pub mod list;
mod open;
pub mod report;
pub mod story;
#[cfg(test)]
mod tests;
pub mod waste;

pub use open::{Files, Layer, Verify, patterns};

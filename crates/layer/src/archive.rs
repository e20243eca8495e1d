//! Tar archives as changes, and changes as tar archives.
//!
//! [`Members`] reads any dialect of tar and resolves what the formats spread over several headers; [`read_tar`] gives what
//! a layer's members mean to a [`Sink`](crate::change::Sink). [`TarSink`] is the way back.
//!
//! A layer is read by many programs, and what is safe for one must be what the next one sees. So whatever parsers are
//! known to disagree on is refused by name, not guessed: data behind members that have none, a PAX path and a GNU long
//! name that differ, a global size. Where all container runtimes agree, they are followed: global PAX records are passed
//! over (Go's archive/tar hands them out as entries and applies none).

mod content;
mod header;
mod input;
mod members;
mod number;
mod pax;
mod read;
mod sparse;
mod write;

#[cfg(test)]
mod interop;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use content::Content;
pub use input::{ArchiveFile, Input, Stream};
pub use members::{Kind, Member, Members};
pub(crate) use read::decode;
pub use read::{Stats, read_archive, read_tar, read_watched};
pub use write::TarSink;

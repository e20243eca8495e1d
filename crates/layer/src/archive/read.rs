//! What the members of a layer's tar mean.

use std::ffi::OsString;
use std::io::BufRead;
use std::mem;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, bail, ensure};

use super::input::{Input, Stream};
use super::members::{Kind, Member, Members};
use crate::change::{Body, Device, Entry, Escaped, LayerPath, Meta, NoBody, Node, Sink};
use crate::whiteout::{self, Name};

/// What one pass over a layer's tar counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members: additions, removals and whatever was skipped, extension headers not counted.
    pub entries: u64,
}

/// Reads a layer's tar and gives its changes to `sink`, in their order.
///
/// It stops at the archive's end marker; what follows belongs to the DiffID and is left in `input`. No bytes at all are a
/// layer without changes.
///
/// # Errors
/// What reading and the sink give, what [`Members`] refuses, and members that no layer has. Each names the entry.
pub fn read_tar(input: impl BufRead, sink: &mut dyn Sink) -> Result<Stats> {
    read_archive(Stream(input), sink)
}

/// Reads a layer's tar as [`read_tar`] does, and leaps over what the sink does not read where the input can.
///
/// # Errors
/// What [`read_tar`] gives.
pub fn read_archive(input: impl Input, sink: &mut dyn Sink) -> Result<Stats> {
    read_watched(input, sink, &mut |_| Ok(()))
}

/// Reads as [`read_archive`] does, and calls `watch` with each member before `sink` gets what it means: of `input`, all that
/// stands before the member's content has been consumed then, and nothing of that.
///
/// # Errors
/// What [`read_archive`] and `watch` give.
pub fn read_watched(
    input: impl Input,
    sink: &mut dyn Sink,
    watch: &mut dyn FnMut(&Member) -> Result<()>,
) -> Result<Stats> {
    let mut members = Members::new(input);
    let mut stats = Stats::default();
    while let Some((member, mut content)) = members.next_member()? {
        stats.entries += 1;
        watch(member)?;
        decode(member, &mut content, sink).with_context(|| format!("entry `{}`", Escaped(&member.name)))?;
    }
    Ok(stats)
}

/// Gives one member to `sink`.
pub(crate) fn decode(member: &mut Member, content: &mut dyn Body, sink: &mut dyn Sink) -> Result<()> {
    let path = match whiteout::decode(&member.name)? {
        Name::Entry(path) => path,
        Name::Whiteout(path) => return sink.whiteout(&path),
        Name::Opaque(path) => return sink.opaque(&path),
        Name::Aufs => return Ok(()),
    };
    let node = node(member)?;
    ensure!(!path.is_root() || node == Node::Dir, "the root is a directory, and nothing can take its place");
    if node == Node::Char(Device::WHITEOUT) {
        return sink.whiteout(&path);
    }
    let mut xattrs = mem::take(&mut member.xattrs);
    xattrs.retain(|(name, _)| !is_overlay(name));
    let Member { mode, uid, gid, mtime, .. } = *member;
    let entry = Entry { path, node, meta: Meta { mode, uid, gid, mtime, xattrs } };
    match entry.node {
        Node::File(_) => sink.put(&entry, content),
        _ => sink.put(&entry, &mut NoBody),
    }
}

fn node(member: &Member) -> Result<Node> {
    Ok(match member.kind {
        Kind::File => Node::File(member.size),
        Kind::Dir => Node::Dir,
        Kind::Symlink => Node::Symlink(OsString::from_vec(member.link.clone())),
        Kind::Hardlink => {
            let target = LayerPath::parse(&member.link).context("hard link")?;
            // AUFS kept files with several names there; Docker alone ever read them back.
            ensure!(!whiteout::is_reserved(&target), "hard link to `{target}`, which is no entry of a layer");
            Node::Hardlink(target)
        }
        Kind::Fifo => Node::Fifo,
        Kind::Char => Node::Char(member.device),
        Kind::Block => Node::Block(member.device),
        Kind::Other(typeflag) => bail!("type `{}` is not one that layers have", Escaped(&[typeflag])),
    })
}

/// Says whether an xattr is bookkeeping of overlayfs, which only the one that writes a lowerdir may set.
fn is_overlay(name: &OsString) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

//! The members of an archive, one after the other, with all that their headers say resolved.

use std::ffi::OsString;

use anyhow::{Context, Result, bail, ensure};

use super::content::{Content, Progress};
use super::header::{self, Header};
use super::input::{Input, Source};
use super::number::{until_nul, whole_seconds};
use super::pax::{self, Map, Pax, Sparse};
use super::sparse::{self, Extent, MapParser};
use crate::change::{Device, Escaped, Place, Time};
use crate::limits;

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the only kind that has content.
    #[default]
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Another name of a member before it.
    Hardlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// Something else, by its type flag. Its data, if any, is that of a file.
    Other(u8),
}

/// One member: the header and the extension headers before it, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name as stored, with leading and trailing slashes and all.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Target of a link, never empty; empty for all else.
    pub link: Vec<u8>,
    /// Bytes of content, holes counted.
    pub size: u64,
    /// Permission bits: 12, no file type.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Number of a device.
    pub device: Device,
    /// Extended attributes, sorted by name, each name once.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// Offset in the archive of the member's own header, behind its extension headers.
    pub header_offset: u64,
    /// Offset in the archive of the first byte of content.
    pub content_offset: u64,
    /// Bytes of content in the archive: less than `size` where the file has holes, and then not all of it in one run.
    pub stored: u64,
}

/// What extension headers said of the member that follows.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Offset of the first of them.
    first: Option<u64>,
    /// Bytes that they take, headers counted.
    spent: u64,
}

impl Extensions {
    /// Counts `bytes` more of extension data.
    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.spent = self.spent.saturating_add(bytes);
        ensure!(
            self.spent <= limits::ENTRY_METADATA,
            "extension headers of one entry take more than {} bytes",
            limits::ENTRY_METADATA
        );
        Ok(())
    }
}

/// Reads an archive member by member.
///
/// Two zero blocks end it, or one at the end of the input, or the end of the input where a header would be. What comes
/// behind the zero blocks is not read.
pub struct Members<I> {
    source: Source<I>,
    header: Header,
    data: Vec<u8>,
    extensions: Extensions,
    member: Member,
    extents: Vec<Extent>,
    progress: Progress,
    /// Bytes of content whose padding is still ahead.
    padded: u64,
    ended: bool,
}

impl<I: Input> Members<I> {
    /// Reads an archive from `input`.
    pub fn new(input: I) -> Self {
        Self {
            source: Source::new(input),
            header: Header([0; 512]),
            data: Vec::new(),
            extensions: Extensions::default(),
            member: Member::default(),
            extents: Vec::new(),
            progress: Progress::default(),
            padded: 0,
            ended: false,
        }
    }

    /// Returns the next member and its content, or `None` at the end. The member may be taken apart; what is left of the
    /// content is skipped by the next call.
    ///
    /// # Errors
    /// What reading gives, and whatever is malformed or would be read differently by another parser. The message names
    /// the member, or the header's offset. After an error nothing more can be read.
    pub fn next_member(&mut self) -> Result<Option<(&mut Member, Content<'_, I>)>> {
        self.finish_member()?;
        if self.ended || !self.advance()? {
            self.ended = true;
            return Ok(None);
        }
        let Self { source, member, extents, progress, .. } = self;
        let Member { header_offset: header, content_offset: content, size, stored, .. } = *member;
        let place = Place { header, content, whole: size == stored };
        Ok(Some((member, Content { source, progress, extents, place })))
    }

    /// Passes over what is left of the current member.
    fn finish_member(&mut self) -> Result<()> {
        let Self { source, member, progress, padded, .. } = self;
        let finished = progress.skip_rest(source).and_then(|()| source.padding(std::mem::take(padded)));
        finished.with_context(|| format!("entry `{}`", Escaped(&member.name)))
    }

    /// Reads headers up to and with the next member's own; false at the end.
    fn advance(&mut self) -> Result<bool> {
        self.extensions = Extensions::default();
        loop {
            let at = self.source.offset();
            if !self.next_header(at)? {
                if let Some(first) = self.extensions.first {
                    bail!(
                        "extension header at offset {first} is followed by the end of the archive, expected its entry"
                    );
                }
                return Ok(false);
            }
            let typeflag = self.header.typeflag();
            if !matches!(typeflag, b'x' | b'g' | b'L' | b'K') {
                self.member.name.clear();
                return match self.resolve(typeflag, at) {
                    Ok(()) => Ok(true),
                    Err(err) => {
                        Err(err.context(format!("entry `{}` (header at offset {at})", Escaped(&self.member.name))))
                    }
                };
            }
            self.extension(typeflag, at).with_context(|| format!("extension header at offset {at}"))?;
        }
    }

    /// Reads the next header; false where the archive ends.
    fn next_header(&mut self, at: u64) -> Result<bool> {
        let filled = self.source.block(&mut self.header.0)?;
        match filled {
            0 => return Ok(false),
            512 => {}
            _ if at == 0 => bail!("not a tar archive: {filled} bytes, expected blocks of 512"),
            _ => bail!("header at offset {at} is cut short: {filled} bytes of 512"),
        }
        if !self.header.is_zero() {
            let what = if at == 0 { "not a tar archive".to_owned() } else { format!("header at offset {at}") };
            return self.header.check().context(what).map(|()| true);
        }
        // Only zeros behind a lone zero block are the end for all: bsdtar reads on, GNU tar warns, Go refuses.
        self.source.block(&mut self.header.0)?;
        ensure!(
            self.header.is_zero(),
            "zero block at offset {at} is followed by data, expected a second one or the end"
        );
        Ok(false)
    }

    /// Reads an extension header's data.
    fn extension(&mut self, typeflag: u8, at: u64) -> Result<()> {
        let size = self.header.size()?;
        let Self { source, extensions, data, .. } = self;
        extensions.spend(size.saturating_add(512))?;
        data.clear();
        source.data(size, data).and_then(|()| source.padding(size))?;
        if typeflag == b'g' {
            return pax::check_global(data);
        }
        extensions.first.get_or_insert(at);
        // Both names end at the first NUL, for all parsers; without a byte before it they say nothing.
        let name = || Some(until_nul(data).to_vec()).filter(|name| !name.is_empty());
        match typeflag {
            b'L' => extensions.long_name = name(),
            b'K' => extensions.long_link = name(),
            _ => {
                // The last one replaces those before it for Go, GNU tar and bsdtar.
                extensions.pax = Pax::default();
                extensions.pax.read(data)?;
            }
        }
        Ok(())
    }

    /// Makes the member of its own header and the extension headers before it.
    fn resolve(&mut self, typeflag: u8, at: u64) -> Result<()> {
        let Self { header, extensions, member, .. } = self;
        let Extensions { pax, long_name, long_link, .. } = extensions;
        match one_of(pax.path.take(), long_name.take(), "name")? {
            Some(name) => member.name = name,
            None => header.name(&mut member.name),
        }
        let sparse = pax.sparse.take();
        if let Some(name) = sparse.as_ref().and_then(|sparse| sparse.name.as_ref()) {
            member.name.clone_from(name);
        }
        member.kind = match typeflag {
            // V7 had no type for directories.
            0 if member.name.ends_with(b"/") => Kind::Dir,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        };
        member.mode = header.mode()?;
        member.uid = owner("uid", pax.uid.map_or_else(|| header.uid(), |uid| Ok(uid.into()))?)?;
        member.gid = owner("gid", pax.gid.map_or_else(|| header.gid(), |gid| Ok(gid.into()))?)?;
        member.mtime = pax.mtime.map_or_else(|| header.mtime().map(whole_seconds), Ok)?;
        member.xattrs = pax.take_xattrs();
        member.link.clear();
        if matches!(member.kind, Kind::Hardlink | Kind::Symlink) {
            match one_of(pax.linkpath.take(), long_link.take(), "link target")? {
                Some(link) => member.link = link,
                None => member.link.extend_from_slice(header.linkname()),
            }
            let len = member.link.len();
            ensure!(len > 0, "a link without a target");
            ensure!(len <= limits::PATH_BYTES, "link target of {len} bytes, expected at most {}", limits::PATH_BYTES);
        }
        member.device = match member.kind {
            Kind::Char | Kind::Block => device(header, pax)?,
            _ => Device::default(),
        };
        let size = pax.size.map_or_else(|| header.size(), |size| header::size("size", size.into()))?;
        // Go, GNU tar and Python see no data behind these whatever the size says, POSIX allows it behind hard links, and
        // bsdtar guesses: what would be content to one is headers to another.
        if !matches!(member.kind, Kind::File | Kind::Other(_)) {
            ensure!(size == 0, "{} has a size of {size} bytes, expected none", describe(member.kind));
        }
        (member.size, member.stored, member.header_offset) = (size, size, at);
        self.resolve_content(typeflag, sparse)
    }

    /// Reads the sparse map, if there is one, and begins the content.
    fn resolve_content(&mut self, typeflag: u8, sparse: Option<Sparse>) -> Result<()> {
        let whole = self.member.stored;
        self.extents.clear();
        let size = match sparse {
            None if typeflag == b'S' => Some(self.old_gnu_map()?),
            None => None,
            Some(sparse) => {
                ensure!(
                    self.member.kind == Kind::File && typeflag != b'S',
                    "GNU.sparse records on what is no regular file"
                );
                let (size, map) = sparse.resolve()?;
                match map {
                    Map::Records(extents) => self.extents = extents,
                    Map::Content => self.content_map()?,
                }
                Some(size)
            }
        };
        let Self { source, extents, member, progress, padded, .. } = self;
        match size {
            Some(size) => {
                sparse::check(extents, size, member.stored)?;
                member.size = size;
            }
            None if whole > 0 => extents.push(Extent { offset: 0, len: whole }),
            None => {}
        }
        member.content_offset = source.offset();
        *progress = Progress::of(member.stored);
        *padded = whole;
        Ok(())
    }

    /// Reads the map of an old GNU sparse header and its extension blocks; returns the file's size.
    fn old_gnu_map(&mut self) -> Result<u64> {
        let Self { source, header, extensions, extents, .. } = self;
        let (pairs, mut more) = header.sparse()?;
        sparse::parse_old_gnu(pairs, extents)?;
        let size = header.real_size()?;
        let mut block = [0; 512];
        while more {
            extensions.spend(512)?;
            ensure!(source.block(&mut block)? == 512, "sparse map is cut short");
            sparse::parse_old_gnu(&block[..504], extents)?;
            more = block[504] != 0;
        }
        Ok(size)
    }

    /// Reads the map of PAX 1.0 that stands before the content.
    fn content_map(&mut self) -> Result<()> {
        let Self { source, extensions, extents, member, .. } = self;
        let mut parser = MapParser::default();
        let mut block = [0; 512];
        loop {
            extensions.spend(512)?;
            member.stored = member.stored.checked_sub(512).context("sparse map leads out of the content")?;
            ensure!(source.block(&mut block)? == 512, "sparse map is cut short");
            if let Some(numbers) = parser.block(&block)? {
                return sparse::from_pairs(&numbers, extents);
            }
        }
    }
}

/// Returns what PAX or GNU said. POSIX has no GNU names, and parsers differ on which counts where both are there.
fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, what: &str) -> Result<Option<Vec<u8>>> {
    if let (Some(pax), Some(gnu)) = (&pax, &gnu) {
        ensure!(pax == gnu, "{what} is `{}` by PAX and `{}` by GNU headers", Escaped(pax), Escaped(gnu));
    }
    Ok(pax.or(gnu))
}

/// Bounds a numeric owner: 2^32-1 means "leave alone" to chown(2), and what is above would wrap around.
fn owner(what: &str, value: i128) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .with_context(|| format!("{what} is {value}, expected 0 to 2^32-2"))
}

/// Bounds a device's number, which the kernel would cut.
fn device(header: &Header, pax: &Pax) -> Result<Device> {
    let (major, minor) = header.device()?;
    let number = |what: &str, field: i128, pax: Option<u64>, bits: u32| {
        let value = pax.map_or(field, i128::from);
        let number = u32::try_from(value).ok().filter(|number| number >> bits == 0);
        number.with_context(|| format!("device {what} is {value}, expected 0 to 2^{bits}-1"))
    };
    Ok(Device { major: number("major", major, pax.devmajor, 12)?, minor: number("minor", minor, pax.devminor, 20)? })
}

fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Dir => "a directory",
        Kind::Symlink => "a symbolic link",
        Kind::Hardlink => "a hard link",
        Kind::Fifo => "a fifo",
        Kind::Char | Kind::Block => "a device",
        Kind::Other(_) => "an entry of unknown type",
    }
}

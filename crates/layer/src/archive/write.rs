//! Changes as a tar: the same changes give the same bytes.
//!
//! Headers are POSIX ustar. What does not fit goes into a PAX header before, and into nothing else: GNU's extensions say
//! less, and two ways to say the same are one too many for parsers to agree on.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tar::{EntryType, Header};

use crate::change::{Body, Device, Entry, Escaped, LayerPath, Meta, Node, Sink};
use crate::{limits, whiteout};

/// Name of every PAX header's own entry. Extractors that know none leave a file of that name.
const PAX_NAME: &[u8] = b"PaxHeaders.0/x";

/// Where ustar keeps the part of a long name that goes before the last 100 bytes.
const PREFIX: std::ops::Range<usize> = 345..500;

/// The largest numbers that fit in octal fields of 8 and 12 bytes.
const OCTAL_8: u64 = 0o7_777_777;
const OCTAL_12: u64 = 0o77_777_777_777;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes changes as a layer's tar, in the order in which they come: for the same bytes each time, the caller sorts.
///
/// Times are cut to whole seconds, as Docker writes them; owners have numbers and no names; a directory's name ends in a
/// slash; holes are written as zeros. Removals are empty files of the image-spec's names with mode, owner and time 0, as
/// Docker and containerd write them.
///
/// After an error the tar is unfinished and of no use.
pub struct TarSink<W> {
    out: W,
    entries: u64,
}

/// What a ustar header says, before it is seen whether it fits.
struct Fields<'a> {
    name: Vec<u8>,
    kind: EntryType,
    link: &'a [u8],
    size: u64,
    device: Device,
    meta: &'a Meta,
}

impl<W: Write> TarSink<W> {
    /// Writes to `out`, a block or a run of content at a time.
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// Returns how many entries were written, PAX headers not counted.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Writes the two zero blocks that end an archive and returns the writer, not flushed.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(&ZEROS[..1024])?;
        Ok(self.out)
    }

    /// Writes an entry's header, with a PAX header before it where needed.
    fn header(&mut self, fields: &Fields) -> Result<()> {
        let mut records = Vec::new();
        let header = encode(fields, &mut records)?;
        if !records.is_empty() {
            let records = join(records);
            let len = records.len() as u64;
            // What readers refuse, this one among them, must not be written.
            ensure!(len + 1024 <= limits::ENTRY_METADATA, "names and xattrs of {len} bytes are too much for one entry");
            let meta = Meta::default();
            let kind = EntryType::XHeader;
            let fields =
                Fields { name: PAX_NAME.to_vec(), kind, link: b"", size: len, device: Device::default(), meta: &meta };
            self.out.write_all(encode(&fields, &mut Vec::new())?.as_bytes())?;
            self.out.write_all(&records)?;
            self.pad(len)?;
        }
        self.out.write_all(header.as_bytes())?;
        self.entries += 1;
        Ok(())
    }

    fn content(&mut self, size: u64, body: &mut dyn Body) -> Result<()> {
        let mut at = 0;
        while let Some((offset, run)) = body.next_run()? {
            let end = offset.checked_add(run.len() as u64).filter(|&end| end <= size);
            let Some(end) = end else { bail!("has more than the {size} bytes that it had (was it written to?)") };
            ensure!(offset >= at, "content at {offset} comes after that up to {at}");
            self.zeros(offset - at)?;
            self.out.write_all(run)?;
            at = end;
        }
        self.zeros(size - at)?;
        self.pad(size)
    }

    fn zeros(&mut self, mut n: u64) -> Result<()> {
        while n > 0 {
            let amount = n.min(ZEROS.len() as u64);
            self.out.write_all(&ZEROS[..amount as usize])?;
            n -= amount;
        }
        Ok(())
    }

    fn pad(&mut self, n: u64) -> Result<()> {
        self.zeros(n.wrapping_neg() % 512)
    }

    fn removal(&mut self, name: &[u8], path: &LayerPath) -> Result<()> {
        not_reserved(path)?;
        let (kind, device, meta) = (EntryType::Regular, Device::default(), &Meta::default());
        self.header(&Fields { name: name.to_vec(), kind, link: b"", size: 0, device, meta })
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        not_reserved(&entry.path)?;
        let mut name = entry.path.as_bytes().to_vec();
        let none = Device::default();
        let (kind, link, size, device) = match &entry.node {
            Node::File(size) => (EntryType::Regular, &b""[..], *size, none),
            Node::Dir => {
                name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
                (EntryType::Directory, &b""[..], 0, none)
            }
            Node::Symlink(target) => (EntryType::Symlink, target.as_bytes(), 0, none),
            Node::Hardlink(target) => {
                not_reserved(target)?;
                (EntryType::Link, target.as_bytes(), 0, none)
            }
            Node::Fifo => (EntryType::Fifo, &b""[..], 0, none),
            Node::Char(device) => (EntryType::Char, &b""[..], 0, *device),
            Node::Block(device) => (EntryType::Block, &b""[..], 0, *device),
        };
        self.header(&Fields { name, kind, link, size, device, meta: &entry.meta })?;
        self.content(size, body)
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        self.removal(whiteout::encode(path).as_bytes(), path)
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        self.removal(whiteout::encode_opaque(path).as_bytes(), path)
    }
}

/// Refuses what would be read back as a removal, or as nothing.
fn not_reserved(path: &LayerPath) -> Result<()> {
    ensure!(!whiteout::is_reserved(path), "`{path}` has the name of a whiteout, which no layer can hold");
    Ok(())
}

/// Makes the ustar header and adds to `records` what does not fit in it.
fn encode(fields: &Fields, records: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Result<Header> {
    let Fields { name, kind, link, size, device, meta } = fields;
    let mut header = Header::new_ustar();
    let mut record = |key: &str, value: &[u8]| records.push((key.into(), value.into()));
    // A reader that knows no PAX gets 0.
    let mut number = |key, value: u64, max| {
        if value <= max {
            return value;
        }
        record(key, value.to_string().as_bytes());
        0
    };
    header.set_entry_type(*kind);
    header.set_mode(meta.mode & 0o7777);
    header.set_uid(number("uid", meta.uid.into(), OCTAL_8));
    header.set_gid(number("gid", meta.gid.into(), OCTAL_8));
    header.set_size(number("size", *size, OCTAL_12));
    header.set_device_major(device.major)?;
    header.set_device_minor(device.minor)?;
    match u64::try_from(meta.mtime.secs) {
        Ok(secs) if secs <= OCTAL_12 => header.set_mtime(secs),
        _ => record("mtime", meta.mtime.secs.to_string().as_bytes()),
    }
    if let Some((prefix, rest)) = split_name(name) {
        header.as_mut_bytes()[PREFIX][..prefix.len()].copy_from_slice(prefix);
        header.as_old_mut().name[..rest.len()].copy_from_slice(rest);
    } else {
        header.as_old_mut().name.copy_from_slice(&name[..100]);
        record("path", name);
    }
    let fits = link.len().min(100);
    header.as_old_mut().linkname[..fits].copy_from_slice(&link[..fits]);
    if fits < link.len() {
        record("linkpath", link);
    }
    for (name, value) in &meta.xattrs {
        records.push(xattr(name.as_bytes(), value)?);
    }
    header.set_cksum();
    Ok(header)
}

/// Splits a name at a slash so that the parts fit into ustar's fields of 155 and 100 bytes.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The last slash that leaves a prefix short enough; that of a directory's end leaves nothing behind it.
    let head = &name[..name.len().min(156).min(name.len() - 1)];
    let slash = head.iter().rposition(|&b| b == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

/// Returns the record of an xattr: star's, which all readers know, or libarchive's where the name has a `=`, which would
/// end star's key.
fn xattr(name: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    ensure!(!name.is_empty() && !name.contains(&0), "`{}` is not the name of an xattr", Escaped(name));
    if !name.contains(&b'=') {
        return Ok(([b"SCHILY.xattr.", name].concat(), value.to_vec()));
    }
    let mut key = b"LIBARCHIVE.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'=' | b'%' | ..=b' ' | 0x7f.. => write!(key, "%{byte:02X}")?,
            _ => key.push(byte),
        }
    }
    Ok((key, STANDARD_NO_PAD.encode(value).into_bytes()))
}

/// Returns the data of a PAX header: the records sorted by key.
fn join(mut records: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    records.sort();
    let mut out = Vec::new();
    for (key, value) in records {
        // The length counts its own digits, a blank, `=` and a newline.
        let rest = key.len() + value.len() + 3;
        let with_digits = |len: usize| rest + len.to_string().len();
        let len = with_digits(with_digits(rest));
        out.extend_from_slice(format!("{len} ").as_bytes());
        out.extend_from_slice(&key);
        out.push(b'=');
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::{Change, changes};
    use crate::change::{BytesBody, NoBody, Time};

    fn path(name: impl AsRef<[u8]>) -> LayerPath {
        LayerPath::parse(name.as_ref()).unwrap()
    }

    fn put(name: impl AsRef<[u8]>, node: Node, meta: Meta) -> Change {
        Change::Put(Entry { path: path(name), node, meta }, Vec::new())
    }

    fn write(changes: &[Change]) -> Result<Vec<u8>> {
        let mut sink = TarSink::new(Vec::new());
        for change in changes {
            match change {
                Change::Put(entry, content) => sink.put(entry, &mut BytesBody::new(content))?,
                Change::Whiteout(path) => sink.whiteout(path)?,
                Change::Opaque(path) => sink.opaque(path)?,
            }
        }
        assert_eq!(sink.entries(), changes.len() as u64);
        sink.finish()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let meta = |mode, uid, secs| Meta { mode, uid, gid: uid / 2, mtime: Time { secs, nanos: 0 }, xattrs: vec![] };
        let xattrs =
            [("security.capability", &b"\x01\0\0\x02=\n\xff"[..]), ("user.%a=b\x01", b"\0="), ("user.empty", b"")];
        let xattrs =
            Meta { xattrs: xattrs.map(|(name, value)| (name.into(), value.into())).into(), ..meta(0o600, 1, 1) };
        let mut all = vec![
            put("", Node::Dir, meta(0o755, 0, 0)),
            put("d", Node::Dir, meta(0o1777, 1, i64::MAX)),
            put("d/f", Node::File(0), meta(0o6755, u32::MAX - 1, -1)),
            put("d/g", Node::File(0), meta(0, 0o7_777_777, 0o77_777_777_777)),
            put("d/h", Node::File(0), meta(0, 0o10_000_000, 0o100_000_000_000)),
            put("d/i", Node::File(0), meta(0, 0, i64::MIN + 1)),
            put("d/xattrs", Node::Dir, xattrs.clone()),
            put(b"caf\xe9-\xff\n\x1b=", Node::Symlink("\u{e9}/../=\n".into()), xattrs),
            put("c", Node::Char(Device { major: 4095, minor: (1 << 20) - 1 }), meta(0o666, 0, 0)),
            put("b", Node::Block(Device { major: 0, minor: 0 }), meta(0o660, 0, 0)),
            put("p", Node::Fifo, meta(0o640, 0, 0)),
            put("link", Node::Hardlink(path("d/f")), meta(0o6755, 0, 0)),
            Change::Whiteout(path("d/gone")),
            Change::Whiteout(path("n".repeat(255))),
            Change::Opaque(path("")),
            Change::Opaque(path("d")),
        ];
        for len in [99, 100, 101, 155, 156, 254, 255, 256, 257, 1000, 4095] {
            // Components of many lengths, so that slashes lie everywhere.
            for part in [1, 3, 50, 99, 100, 101, 155, 254] {
                let name: Vec<u8> =
                    (1..=len).map(|at| if at % (part + 1) == 0 && at < len { b'/' } else { b'n' }).collect();
                if name.iter().filter(|&&b| b == b'/').count() >= limits::PATH_DEPTH {
                    continue;
                }
                let target = Node::Symlink(std::ffi::OsStr::from_bytes(&name).into());
                all.extend(
                    [Node::File(0), Node::Dir, target, Node::Hardlink(path(&name))]
                        .map(|node| put(&name, node, meta(0, 0, 0))),
                );
            }
        }
        for size in [1, 511, 512, 513, 70_000] {
            let content: Vec<u8> = (0..size).map(|at| at as u8).collect();
            all.push(Change::Put(Entry { path: path("f"), node: Node::File(size), meta: meta(0o644, 0, 0) }, content));
        }
        let tar = write(&all).unwrap();
        assert!(changes(&tar).unwrap() == all);
        assert_eq!(tar, write(&all).unwrap());
    }

    #[test]
    fn pax_comes_only_where_needed() {
        let plain = |name: &str| write(&[put(name, Node::File(0), Meta::default())]).unwrap().len();
        assert_eq!(plain("a"), 512 + 1024);
        assert_eq!(plain(&format!("{}/{}", "p".repeat(155), "n".repeat(100))), 512 + 1024);
        assert_eq!(plain(&format!("{}/{}", "p".repeat(156), "n".repeat(100))), 3 * 512 + 1024);
        let late = Meta { mtime: Time { secs: -3, nanos: 5 }, uid: 1 << 30, ..Meta::default() };
        let tar = write(&[put("a", Node::Dir, late)]).unwrap();
        assert_eq!(&tar[512..544], b"12 mtime=-3\n18 uid=1073741824\n\0\0");
        assert_eq!(&tar[..15], b"PaxHeaders.0/x\0");
    }

    #[test]
    fn removals_are_empty_files_of_nobody() {
        let tar = write(&[Change::Whiteout(path("d/f"))]).unwrap();
        let zeros = "0000000\x000000000\x000000000\x0000000000000\x0000000000000\0";
        assert_eq!(&tar[..9], b"d/.wh.f\0\0");
        assert_eq!(&tar[100..148], zeros.as_bytes());
        assert_eq!(tar[156], b'0');
    }

    #[test]
    fn names_of_removals_are_refused() {
        let named = |name| write(&[put(name, Node::File(0), Meta::default())]);
        let link = write(&[put("l", Node::Hardlink(path(".wh.x")), Meta::default())]);
        for result in [named("d/.wh.x"), named(".wh.d/x"), write(&[Change::Whiteout(path(".wh.x"))]), link] {
            assert!(result.unwrap_err().to_string().contains("has the name of a whiteout"));
        }
    }

    #[test]
    fn holes_are_zeros_and_runs_stay_within_the_size() {
        struct Runs(Vec<(u64, &'static [u8])>);
        impl Body for Runs {
            fn next_run(&mut self) -> std::io::Result<Option<(u64, &[u8])>> {
                Ok(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
            }
        }
        let write = |size, runs: &[(u64, &'static [u8])]| {
            let mut sink = TarSink::new(Vec::new());
            let entry = Entry { path: path("f"), node: Node::File(size), meta: Meta::default() };
            sink.put(&entry, &mut Runs(runs.to_vec())).and_then(|()| sink.finish())
        };
        let tar = write(200_000, &[(3, b"ab"), (5, b"c"), (100_000, b"d")]).unwrap();
        let Some(Change::Put(_, content)) = changes(&tar).unwrap().pop() else { panic!() };
        let ones: Vec<usize> = (0..content.len()).filter(|&at| content[at] != 0).collect();
        assert_eq!((content.len(), ones), (200_000, vec![3, 4, 5, 100_000]));
        for runs in [&[(0, &b"abc"[..])][..], &[(2, b"a")], &[(u64::MAX, b"a")]] {
            assert!(write(2, runs).unwrap_err().to_string().contains("has more than the 2 bytes"));
        }
        assert!(write(5, &[(3, b"a"), (1, b"b")]).is_err());
    }

    #[test]
    fn a_full_disk_and_too_much_metadata_are_errors() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let entry = Entry { path: path("f"), node: Node::Dir, meta: Meta::default() };
        assert!(TarSink::new(full).put(&entry, &mut NoBody).is_err());
        let xattrs = (0..20).map(|i| (format!("user.{i}").into(), vec![0; 60_000])).collect();
        let err = write(&[put("f", Node::Dir, Meta { xattrs, ..Meta::default() })]).unwrap_err();
        assert!(err.to_string().contains("too much for one entry"), "{err}");
    }
}

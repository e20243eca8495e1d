//! tar-split: what Docker keeps of a layer's tar beside the unpacked files, so that the same bytes can be put together again.
//!
//! The file is JSON, one object an entry, gzipped. A *segment* holds bytes of the archive as they were: headers, padding, the
//! end marker and what follows it. A *file* stands for a member's content, which is read from the layer's directory and
//! compared with a CRC-64. (github.com/vbatts/tar-split, tar/storage/entry.go.)
//!
//! Only content that is to come from the directory needs a file entry; a segment may hold content as well, and that is how
//! layers are kept that have two members of one name, or content behind a member that has none on disk.

mod assemble;
mod record;

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::StreamDeserializer;
use serde_json::de::IoRead;

use crate::limits;

pub use assemble::{Assembly, lost_contents};
pub use record::record;

/// The checksum of contents: CRC-64/GO-ISO, as Go's hash/crc64 has it.
#[derive(Clone)]
pub struct Checksum(Crc);

impl Default for Checksum {
    fn default() -> Self {
        Self(Crc::new(CrcAlgorithm::Crc64GoIso))
    }
}

impl Checksum {
    /// Adds `bytes` to those before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all bytes given.
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes of the archive.
    Segment(Vec<u8>),
    /// The content of the member `name`, spelled as in the archive.
    File {
        /// The member's name after PAX and GNU headers, any bytes.
        name: Vec<u8>,
        /// Bytes of its content.
        size: u64,
        /// Checksum of its content.
        crc: u64,
    },
}

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// An entry as it stands in the file; Go writes the members in this order.
#[derive(Serialize, Deserialize)]
struct Line {
    r#type: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    name_raw: Option<String>,
    #[serde(skip_serializing_if = "is_zero", default)]
    size: u64,
    // `null` for a file without content.
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    position: u64,
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

impl Line {
    fn new(entry: &Entry, position: u64) -> Self {
        match entry {
            Entry::Segment(bytes) => {
                let payload = Some(STANDARD.encode(bytes));
                Self { r#type: SEGMENT, name: None, name_raw: None, size: 0, payload, position }
            }
            Entry::File { name, size, crc } => {
                let text = str::from_utf8(name).ok().map(str::to_owned);
                let name_raw = text.is_none().then(|| STANDARD.encode(name));
                let payload = (*size > 0).then(|| STANDARD.encode(crc.to_be_bytes()));
                Self { r#type: FILE, name: text, name_raw, size: *size, payload, position }
            }
        }
    }

    /// Returns what the line means; `None` for a type that is not known, which Docker's reader passes over as well.
    fn entry(self) -> Result<Option<Entry>> {
        let payload = STANDARD.decode(self.payload.unwrap_or_default()).context("payload is not base64")?;
        match self.r#type {
            SEGMENT => Ok(Some(Entry::Segment(payload))),
            FILE => {
                let name = match (self.name, self.name_raw) {
                    (Some(name), None) => name.into_bytes(),
                    (None, Some(raw)) => STANDARD.decode(raw).context("name_raw is not base64")?,
                    // Go leaves an empty name out.
                    (None, None) => Vec::new(),
                    (Some(_), Some(_)) => bail!("has both `name` and `name_raw`, expected one"),
                };
                let crc = match <[u8; 8]>::try_from(payload) {
                    Ok(bytes) => u64::from_be_bytes(bytes),
                    Err(_) if self.size == 0 => 0,
                    Err(bytes) => bail!("checksum has {} bytes, expected 8", bytes.len()),
                };
                Ok(Some(Entry::File { name, size: self.size, crc }))
            }
            _ => Ok(None),
        }
    }
}

/// Writes the file.
pub struct Writer<W: Write> {
    out: GzEncoder<W>,
    position: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out: GzEncoder::new(out, flate2::Compression::new(6)), position: 0 }
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        serde_json::to_writer(&mut self.out, &Line::new(entry, self.position)).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.position += 1;
        Ok(())
    }

    /// Ends the file and returns the underlying writer.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(self) -> Result<W> {
        Ok(self.out.finish()?)
    }
}

/// Reads the entries of a file, each bounded by [`limits::TAR_SPLIT_ENTRY`].
pub struct Entries<R: Read> {
    lines: StreamDeserializer<'static, IoRead<BufReader<Budget<MultiGzDecoder<R>>>>, Line>,
    left: Arc<AtomicU64>,
    index: u64,
}

/// A reader that fails when one entry asks for more than it may have. The count is shared with the entries above, which may
/// be read in another thread than the one that made them.
struct Budget<R> {
    input: R,
    left: Arc<AtomicU64>,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left.load(Ordering::Relaxed) == 0 {
            let message = format!("an entry is longer than {} bytes", limits::TAR_SPLIT_ENTRY);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let read = self.input.read(buf)?;
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(read as u64), Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Read> Entries<R> {
    /// Reads the gzipped file `input`.
    pub fn new(input: R) -> Self {
        let left = Arc::new(AtomicU64::new(limits::TAR_SPLIT_ENTRY));
        let budget = Budget { input: MultiGzDecoder::new(input), left: Arc::clone(&left) };
        Self { lines: StreamDeserializer::new(IoRead::new(BufReader::new(budget))), left, index: 0 }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            self.left.store(limits::TAR_SPLIT_ENTRY, Ordering::Relaxed);
            let Some(line) = self.lines.next() else { return Ok(None) };
            self.index += 1;
            let entry = line.map_err(anyhow::Error::from).and_then(Line::entry);
            if let Some(entry) = entry.with_context(|| format!("tar-split entry {}", self.index - 1))? {
                return Ok(Some(entry));
            }
        }
    }
}

impl<R: Read> Iterator for Entries<R> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.next_entry().transpose()
    }
}

/// Refuses a size that a file entry cannot have.
fn check_size(size: u64) -> Result<()> {
    ensure!(i64::try_from(size).is_ok(), "size is {size}, expected at most {}", i64::MAX);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(bytes: &[u8]) -> u64 {
        let mut checksum = Checksum::default();
        checksum.update(bytes);
        checksum.finish()
    }

    fn gunzip(bytes: &[u8]) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
        text
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn the_checksum_is_the_one_of_gos_crc64() {
        assert_eq!(crc(b"123456789"), 0xb909_56c7_75a4_1001);
        assert_eq!(crc(b"a"), 0x3420_0000_0000_0000);
        assert_eq!(crc(b""), 0);
    }

    #[test]
    fn lines_are_what_docker_writes() {
        let mut writer = Writer::new(Vec::new());
        writer.write(&Entry::Segment(b"head".to_vec())).unwrap();
        writer.write(&Entry::File { name: b"./a".to_vec(), size: 9, crc: crc(b"123456789") }).unwrap();
        writer.write(&Entry::File { name: b"caf\xe9".to_vec(), size: 0, crc: 0 }).unwrap();
        assert_eq!(
            gunzip(&writer.finish().unwrap()),
            "{\"type\":2,\"payload\":\"aGVhZA==\",\"position\":0}\n\
             {\"type\":1,\"name\":\"./a\",\"size\":9,\"payload\":\"uQlWx3WkEAE=\",\"position\":1}\n\
             {\"type\":1,\"name_raw\":\"Y2Fm6Q==\",\"payload\":null,\"position\":2}\n"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let entries = [
            Entry::Segment(vec![0; 3000]),
            Entry::File { name: b"a\nb".to_vec(), size: 1, crc: crc(b"a") },
            Entry::File { name: b"\xff".to_vec(), size: 0, crc: 0 },
            Entry::File { name: Vec::new(), size: 0, crc: 0 },
            Entry::Segment(Vec::new()),
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.write(entry).unwrap();
        }
        let read: Vec<_> = Entries::new(&writer.finish().unwrap()[..]).map(Result::unwrap).collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn unknown_types_are_passed_over_and_lines_need_not_be_lines() {
        let text = "{\"type\":9}{\"type\":2,\"payload\":\"\"}\n\n{\"type\":3,\"name\":\"x\"}";
        let read: Vec<_> = Entries::new(&gzip(text)[..]).map(Result::unwrap).collect();
        assert_eq!(read, [Entry::Segment(Vec::new())]);
    }

    #[test]
    fn damage_is_refused_with_the_entry() {
        let endless = format!("{{\"type\":2,\"payload\":\"{}", "A".repeat(40 << 20));
        for (text, want) in [
            ("{\"type\":2,\"payload\":\"!\"}", "tar-split entry 0: payload is not base64"),
            ("{\"type\":2}{\"type\":1,\"size\":5,\"payload\":\"AAAA\"}", "entry 1: checksum has 3 bytes, expected 8"),
            ("{\"type\":1,\"name\":\"a\",\"name_raw\":\"YQ==\"}", "has both"),
            ("{\"type\":2,\"payl", "EOF"),
            (endless.as_str(), "longer than"),
        ] {
            let err = Entries::new(&gzip(text)[..]).find_map(Result::err).unwrap();
            assert!(format!("{err:#}").contains(want), "{want}: {err:#}");
        }
    }
}

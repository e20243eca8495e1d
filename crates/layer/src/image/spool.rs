//! The archive as a file whose parts can be read in any order, whatever it came as.
//!
//! A plain tar in a regular file is used where it is. A compressed one, or one from a pipe, is written out to an unlinked file
//! in `TMPDIR` first: the manifest stands last in what `docker save` writes, and what it names stands before.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};

use crate::limits;
use crate::stream::{Compression, decoder};

/// Opens the archive at `path`, with its offset at the beginning of the tar.
///
/// # Errors
/// What opening, reading and decoding give, and a tar of more than `max_size` bytes where it has to be written out.
pub(super) fn open(path: &Path, max_size: Option<u64>) -> Result<File> {
    // A FIFO by name is as good as a pipe, so opening may wait.
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).context("cannot open")?);
    ensure!(!file.metadata().context("cannot stat")?.is_dir(), "is a directory, expected a file");
    from_file(file, max_size)
}

/// Takes the archive from stdin.
///
/// # Errors
/// A terminal, and what [`open`] gives.
pub(super) fn stdin(max_size: Option<u64>) -> Result<File> {
    let stdin = io::stdin();
    ensure!(!io::IsTerminal::is_terminal(&stdin), "is a terminal (redirect a file or a pipe to it)");
    let file = File::from(stdin.as_fd().try_clone_to_owned().context("cannot duplicate")?);
    from_file(file, max_size)
}

fn from_file(mut file: File, max_size: Option<u64>) -> Result<File> {
    let regular = file.metadata().context("cannot stat")?.is_file();
    let start = if regular { file.stream_position().context("cannot seek")? } else { 0 };
    let mut head = Vec::new();
    (&file).take(Compression::HEAD as u64).read_to_end(&mut head).context("cannot read")?;
    ensure!(!head.is_empty(), "is empty, expected an image");
    let format = Format::sniff(&head)?;
    // Offsets within the archive are offsets within the file only where both begin together.
    if regular && start == 0 && format == Format::Layer(Compression::None) {
        file.rewind().context("cannot seek")?;
        return Ok(file);
    }
    let input = BufReader::with_capacity(128 << 10, io::Cursor::new(head).chain(file));
    write_out(format.decode(input)?, max_size)
}

fn write_out(mut tar: impl Read, max_size: Option<u64>) -> Result<File> {
    let mut spool = tempfile::tempfile()
        .with_context(|| format!("cannot make a temporary file in {}", std::env::temp_dir().display()))?;
    let max_size = max_size.unwrap_or(u64::MAX);
    let mut buf = vec![0; 128 << 10];
    let mut size = 0u64;
    loop {
        let read = match tar.read(&mut buf) {
            Ok(0) => break,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read.context("cannot read")?,
        };
        size += read as u64;
        ensure!(size <= max_size, "is larger than {max_size} bytes uncompressed (allow more with --max-size)");
        let cannot = || format!("cannot write to a temporary file in {}", std::env::temp_dir().display());
        spool.write_all(&buf[..read]).with_context(cannot)?;
    }
    spool.rewind().context("cannot seek")?;
    Ok(spool)
}

/// How an archive is compressed as a whole. Docker takes more here than in layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// As layers are.
    Layer(Compression),
    Xz,
}

impl Format {
    fn sniff(head: &[u8]) -> Result<Self> {
        if head.starts_with(b"\xfd7zXZ\0") {
            return Ok(Self::Xz);
        }
        Compression::sniff(head).map(Self::Layer)
    }

    fn decode<'a>(self, input: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Layer(compression) => decoder(input, compression)?,
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, limits::XZ_MEMORY_KIB)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(archive: &[u8], max_size: Option<u64>) -> Result<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(archive).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        from_file(file, max_size)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        builder.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_tar_comes_out_whatever_it_was_compressed_with() {
        let tar = tar();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        for archive in [tar.clone(), gzip.finish().unwrap(), zstd::encode_all(&tar[..], 1).unwrap()] {
            assert!(spooled(&archive, None).unwrap() == tar);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        let frame = zstd::encode_all(&tar()[..], 1).unwrap();
        for (archive, max_size, want) in [
            (&b""[..], None, "is empty"),
            (&frame[..frame.len() - 9], None, "cut short"),
            (b"\xfd7zXZ\0\0\x04", None, "cannot read"),
            (b"BZh91AY", None, "bzip2"),
            (&frame, Some(100), "larger than 100 bytes"),
        ] {
            let err = format!("{:#}", spooled(archive, max_size).unwrap_err());
            assert!(err.contains(want), "{want}: {err}");
        }
    }
}

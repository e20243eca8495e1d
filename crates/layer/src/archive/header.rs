//! One header block: where the fields lie in each dialect (POSIX ustar, "ustar Interchange Format"; GNU tar, "Basic Tar
//! Format").

use anyhow::{Context, Result, bail, ensure};

use super::number::{parse_field, until_nul};

/// The unit that archives consist of.
pub(super) type Block = [u8; 512];

/// What the magic says of the fields behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// No magic: these fields do not exist.
    V7,
    /// POSIX, PAX included.
    Ustar,
    /// GNU: times and a sparse map stand where ustar has its prefix.
    Gnu,
}

/// A header block whose fields are parsed when they are asked for: extension headers have only a size.
pub(super) struct Header(pub(super) Block);

impl Header {
    /// Says whether all bytes are 0, as in the blocks that end an archive.
    pub(super) fn is_zero(&self) -> bool {
        self.0 == [0; 512]
    }

    /// Compares the checksum, over unsigned bytes as POSIX has it or over signed ones as old Sun tars had it.
    pub(super) fn check(&self) -> Result<()> {
        let field = &self.0[148..156];
        // Octal always: a binary number there is no header, and would only confuse who reads the message.
        ensure!(field[0] & 0x80 == 0, "checksum field is no number");
        let recorded = parse_field(field).context("checksum")?;
        let sum = |value: fn(u8) -> i32| -> i128 {
            let fields = self.0[..148].iter().chain(&self.0[156..]);
            (fields.map(|&byte| value(byte)).sum::<i32>() + 8 * i32::from(b' ')).into()
        };
        let unsigned = sum(i32::from);
        ensure!(
            recorded == unsigned || recorded == sum(|byte| i32::from(byte as i8)),
            "checksum is {unsigned}, expected {recorded}"
        );
        Ok(())
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    /// Appends the name, with the prefix where the dialect has one.
    pub(super) fn name(&self, to: &mut Vec<u8>) {
        if self.dialect() == Dialect::Ustar {
            // In star's dialect, which ends in its own magic, times follow a shorter prefix.
            let end = if self.0[508..] == *b"tar\0" { 476 } else { 500 };
            let prefix = until_nul(&self.0[345..end]);
            to.extend_from_slice(prefix);
            if !prefix.is_empty() {
                to.push(b'/');
            }
        }
        to.extend_from_slice(until_nul(&self.0[..100]));
    }

    pub(super) fn linkname(&self) -> &[u8] {
        until_nul(&self.0[157..257])
    }

    pub(super) fn mode(&self) -> Result<u32> {
        // The file type that some writers leave in here is not that of the entry.
        Ok((parse_field(&self.0[100..108]).context("mode")? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i128> {
        parse_field(&self.0[108..116]).context("uid")
    }

    pub(super) fn gid(&self) -> Result<i128> {
        parse_field(&self.0[116..124]).context("gid")
    }

    /// Returns the bytes of data that follow, where nothing else says so.
    pub(super) fn size(&self) -> Result<u64> {
        size("size", parse_field(&self.0[124..136]).context("size")?)
    }

    pub(super) fn mtime(&self) -> Result<i128> {
        parse_field(&self.0[136..148]).context("mtime")
    }

    /// Returns major and minor number of a device.
    pub(super) fn device(&self) -> Result<(i128, i128)> {
        ensure!(self.dialect() != Dialect::V7, "a device in a header that has no field for its number");
        Ok((parse_field(&self.0[329..337]).context("devmajor")?, parse_field(&self.0[337..345]).context("devminor")?))
    }

    /// Returns the extents that a GNU sparse header holds and whether extension blocks follow.
    pub(super) fn sparse(&self) -> Result<(&[u8], bool)> {
        if self.dialect() != Dialect::Gnu {
            bail!("a sparse file in a header that is not GNU's");
        }
        Ok((&self.0[386..482], self.0[482] != 0))
    }

    /// Returns the size that a GNU sparse file has with its holes.
    pub(super) fn real_size(&self) -> Result<u64> {
        size("real size", parse_field(&self.0[483..495]).context("real size")?)
    }

    fn dialect(&self) -> Dialect {
        match &self.0[257..263] {
            b"ustar\0" => Dialect::Ustar,
            b"ustar " => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }
}

/// Bounds a size to what offsets in files can express.
pub(super) fn size(what: &str, value: i128) -> Result<u64> {
    match u64::try_from(value) {
        Ok(size) if size <= i64::MAX as u64 => Ok(size),
        _ => bail!("{what} is {value}, expected 0 to 2^63-1"),
    }
}

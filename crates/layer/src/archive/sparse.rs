//! Sparse maps in their four encodings: old GNU, and PAX 0.0, 0.1 and 1.0 (GNU tar, "Storing Sparse Files").

use anyhow::{Result, bail, ensure};

use super::header;
use super::header::Block;
use super::number::{parse_decimal, parse_field};

/// A run of bytes that a file holds; what no extent covers is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// How many bytes it has.
    pub(super) len: u64,
}

/// Checks that `extents` rise without overlapping within `size` and are `stored` bytes together; drops empty ones, which
/// writers put at the end.
pub(super) fn check(extents: &mut Vec<Extent>, size: u64, stored: u64) -> Result<()> {
    let (mut end, mut total) = (0, 0u64);
    for &Extent { offset, len } in &*extents {
        ensure!(offset >= end, "sparse extent at {offset} begins before {end}, where the one before it ends");
        end = match offset.checked_add(len) {
            Some(end) if end <= size => end,
            _ => bail!("sparse extent of {len} bytes at {offset} ends past the file's {size} bytes"),
        };
        total += len;
    }
    ensure!(total == stored, "sparse extents are {total} bytes together, expected the {stored} that are stored");
    extents.retain(|extent| extent.len > 0);
    Ok(())
}

/// Appends the extents of an old GNU header or extension block: pairs of 12-byte numbers up to the first empty one.
pub(super) fn parse_old_gnu(pairs: &[u8], to: &mut Vec<Extent>) -> Result<()> {
    for pair in pairs.chunks_exact(24) {
        let (offset, len) = pair.split_at(12);
        if len[0] == 0 || offset[0] == 0 {
            break;
        }
        let number = |field| header::size("sparse extent", parse_field(field)?);
        to.push(Extent { offset: number(offset)?, len: number(len)? });
    }
    Ok(())
}

/// Makes extents of offsets and lengths in turn.
pub(super) fn from_pairs(numbers: &[u64], to: &mut Vec<Extent>) -> Result<()> {
    ensure!(numbers.len().is_multiple_of(2), "sparse map has {} numbers, expected pairs", numbers.len());
    to.extend(numbers.chunks_exact(2).map(|pair| Extent { offset: pair[0], len: pair[1] }));
    Ok(())
}

/// The map of PAX 1.0, which stands before the content in blocks of its own: decimal numbers, each with a newline: how
/// many extents, then offset and length of each.
#[derive(Default)]
pub(super) struct MapParser {
    digits: Vec<u8>,
    expected: Option<u64>,
    numbers: Vec<u64>,
}

impl MapParser {
    /// Takes the next block; returns the offsets and lengths once they are complete.
    pub(super) fn block(&mut self, block: &Block) -> Result<Option<Vec<u64>>> {
        for &byte in block {
            if byte != b'\n' {
                self.digits.push(byte);
                ensure!(self.digits.len() <= 20, "sparse map has a number of over 20 digits");
                continue;
            }
            let number = parse_decimal(&self.digits)?;
            self.digits.clear();
            match self.expected {
                None => self.expected = Some(number),
                Some(_) => self.numbers.push(number),
            }
            // The rest of the block is padding. The comparison by halves cannot overflow.
            if self.expected.is_some_and(|n| self.numbers.len().is_multiple_of(2) && self.numbers.len() as u64 / 2 == n)
            {
                return Ok(Some(std::mem::take(&mut self.numbers)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs.iter().map(|&(offset, len)| Extent { offset, len }).collect()
    }

    #[test]
    fn extents_rise_and_fit() {
        for (map, size, stored) in
            [(&[][..], 0, 0), (&[(0, 5)][..], 5, 5), (&[(3, 2), (5, 1), (9, 0)], 9, 3), (&[], 1 << 40, 0)]
        {
            let mut map = extents(map);
            check(&mut map, size, stored).unwrap();
            assert!(map.iter().all(|extent| extent.len > 0));
        }
        for (map, want) in [
            (&[(0, 512), (256, 512)][..], "begins before 512"),
            (&[(512, 512), (0, 512)], "begins before 1024"),
            (&[(4096, 1)], "ends past"),
            (&[(u64::MAX, 2)], "ends past"),
            (&[(0, 1)], "are 1 bytes together, expected the 1024"),
        ] {
            let err = check(&mut extents(map), 4096, 1024).unwrap_err().to_string();
            assert!(err.contains(want), "{err}");
        }
    }

    #[test]
    fn maps_of_pax_1_0_may_span_blocks() {
        let block = |text: &[u8]| -> Block {
            let mut block = [0; 512];
            block[..text.len()].copy_from_slice(text);
            block
        };
        assert_eq!(MapParser::default().block(&block(b"0\n")).unwrap(), Some(vec![]));
        assert_eq!(MapParser::default().block(&block(b"1\n0\n512\n")).unwrap(), Some(vec![0, 512]));

        let mut parser = MapParser::default();
        let mut first = [b'0'; 512];
        for at in (1..512).step_by(2) {
            first[at] = b'\n';
        }
        first[..4].copy_from_slice(b"200\n");
        assert_eq!(parser.block(&first).unwrap(), None);
        assert_eq!(parser.block(&first.map(|b| if b == b'2' { b'0' } else { b })).unwrap().unwrap().len(), 400);

        for text in [&b"x\n"[..], b"\n", b"-1\n", b"1\n0\n\x00512\n", b"18446744073709551616\n"] {
            assert!(MapParser::default().block(&block(text)).is_err(), "{text:?}");
        }
        assert!(MapParser::default().block(&[b'1'; 512]).is_err());
    }
}

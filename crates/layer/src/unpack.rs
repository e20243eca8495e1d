//! One blob unpacked: decoded, verified, parsed, written.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::apply::{Select, Selected, TreeSink};
use crate::archive;
use crate::root;
use crate::stream::{Expected, LayerReader, Sums};

/// What unpacking a blob gave.
#[derive(Debug)]
pub struct Unpacked {
    /// What the pass over the blob found.
    pub sums: Sums,
    /// What of the layer could not be kept, as messages.
    pub warnings: Vec<String>,
}

/// Gives the changes of the layer `blob` that `select` wants to `sink`, and checks that the blob is the `expected` one. An
/// uncompressed size over `max_size` bytes is an error.
///
/// # Errors
/// What reading, decoding, parsing and writing give; [`crate::digest::Mismatch`] when all is written: the caller removes it.
pub fn unpack(
    blob: impl Read + Send + 'static,
    expected: &Expected,
    max_size: Option<u64>,
    select: &Select,
    mut sink: TreeSink,
) -> Result<Unpacked> {
    let mut reader = LayerReader::new(blob, max_size)?;
    let read = if select.is_all() {
        archive::read_tar(&mut reader, &mut sink)
    } else {
        archive::read_tar(&mut reader, &mut Selected::new(&mut sink, select))
    };
    match read {
        Ok(_) => {}
        // A full disk is no matter of the blob.
        Err(err) if err.chain().any(|cause| cause.is::<root::Error>()) => return Err(err),
        Err(err) => return Err(reader.explain(err, expected)),
    }
    let sums = reader.finish()?;
    expected.check(&sums)?;
    Ok(Unpacked { sums, warnings: sink.finish()? })
}

/// Layers of an image by number, from 0 for the base: `N`, `A..B` with both ends, `A..` or `..B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerRange {
    first: usize,
    last: Option<usize>,
}

impl LayerRange {
    /// All layers.
    pub const ALL: LayerRange = LayerRange { first: 0, last: None };

    /// Says whether layer `number` is among them.
    pub fn contains(&self, number: usize) -> bool {
        self.first <= number && self.last.is_none_or(|last| number <= last)
    }

    /// Checks that an image with `count` layers has them.
    ///
    /// # Errors
    /// A layer that it does not have.
    pub fn check(&self, count: usize) -> Result<()> {
        let top = self.last.unwrap_or(self.first);
        let absent = || crate::check::Absent(format!("has {count} layers, none of number {top}"));
        ensure!(*self == Self::ALL || top < count, absent());
        Ok(())
    }
}

impl FromStr for LayerRange {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("`{text}` is no range of layers, expected N, A..B, A.. or ..B");
        let number = |text: &str| text.parse::<usize>().ok().with_context(wrong);
        let range = match text.split_once("..") {
            None => Self { first: number(text)?, last: Some(number(text)?) },
            Some(("", "")) => Self::ALL,
            Some((first, "")) => Self { first: number(first)?, last: None },
            Some(("", last)) => Self { first: 0, last: Some(number(last)?) },
            Some((first, last)) => Self { first: number(first)?, last: Some(number(last)?) },
        };
        ensure!(range.last.is_none_or(|last| range.first <= last), "`{text}` has no layers");
        Ok(range)
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.first)?;
        self.last.map_or(Ok(()), |last| write!(f, "{last}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_both_ends() {
        for (text, want) in
            [("2", vec![2]), ("1..2", vec![1, 2]), ("2..", vec![2, 3]), ("..1", vec![0, 1]), ("..", vec![0, 1, 2, 3])]
        {
            let range: LayerRange = text.parse().unwrap();
            let found: Vec<_> = (0..4).filter(|number| range.contains(*number)).collect();
            assert_eq!(found, want, "{text}");
            range.check(4).unwrap();
            assert_eq!(range.to_string().parse::<LayerRange>().unwrap(), range);
        }
        for text in ["", "a", "2..1", "1...2", "-1", "1-2"] {
            assert!(text.parse::<LayerRange>().is_err(), "{text:?}");
        }
        assert!("4".parse::<LayerRange>().unwrap().check(4).unwrap_err().to_string().contains("has 4 layers"));
        LayerRange::ALL.check(0).unwrap();
    }
}

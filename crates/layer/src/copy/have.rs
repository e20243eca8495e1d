//! Layers that somebody else has.

use std::collections::HashSet;
use std::io::{BufRead, Read};

use anyhow::{Context, Result, ensure};

use crate::digest::{ChainId, DiffId, Digest};
use crate::limits;

/// ChainIDs and DiffIDs of layers: which of both, nobody needs to say.
#[derive(Clone, Debug, Default)]
pub struct Have(HashSet<Digest>);

impl Have {
    /// Reads one identifier a line. Empty lines, and those that begin with `#`, mean nothing.
    ///
    /// # Errors
    /// What is no digest, with its line, and what reading gives.
    pub fn read(input: impl BufRead) -> Result<Self> {
        let mut input = input.take(limits::JSON_DOCUMENT + 1);
        let mut text = String::new();
        input.read_to_string(&mut text).context("cannot read")?;
        ensure!(text.len() as u64 <= limits::JSON_DOCUMENT, "is longer than {} bytes", limits::JSON_DOCUMENT);
        let lines = text.lines().map(str::trim).enumerate();
        let meant = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        meant
            .map(|(at, line)| line.parse().with_context(|| format!("line {}", at + 1)))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Says whether a layer is among them.
    pub fn has(&self, chain_id: ChainId, diff_id: DiffId) -> bool {
        self.0.contains(&chain_id.0) || self.0.contains(&diff_id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_stand_one_a_line() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        let have = Have::read(format!("# a comment\n{a}\n\n  {b}").as_bytes()).unwrap();
        assert!(have.has(ChainId(a), DiffId(c)) && have.has(ChainId(c), DiffId(b)) && !have.has(ChainId(c), DiffId(c)));
        let err = format!("{:#}", Have::read(&b"\nsha256:0\n"[..]).unwrap_err());
        assert!(err.starts_with("line 2: `sha256:0` is not a digest"), "{err}");
    }
}

//! One pass over one blob.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::Result;
use layer::archive::{Members, Stream};
use layer::cli::{self, Progress};
use layer::digest::{Digest, Mismatch};
use layer::record::LayerRecord;
use layer::stream::{self, Expected, LayerReader, Sums};

use crate::args::Tee;

/// What holds for all blobs of a run.
pub(crate) struct Hash {
    pub(crate) expect: Option<Digest>,
    pub(crate) tee: Option<Tee>,
    pub(crate) max_size: Option<u64>,
    pub(crate) progress: Progress,
}

impl Hash {
    /// Reads `blob`, checks it against what `record` knows and fills in what it does not. `label` stands before the bar.
    pub(crate) fn fill(&self, record: &mut LayerRecord, blob: impl Read + Send + 'static, label: &str) -> Result<()> {
        let expected = Expected::of(record);
        let blob = self.progress.reader(blob, label, record.size);
        let (sums, entries) = match self.tee {
            None => pass(blob, &expected, self.max_size)?,
            Some(Tee::Blob) => pass(stream::Tee::new(blob, cli::binary_stdout()?), &expected, self.max_size)?,
            Some(Tee::Tar) => pass_tar(blob, self.max_size, cli::binary_stdout()?)?,
        };
        expected.check(&sums)?;
        if record.is_rebuilt() {
            cli::warn(&format!(
                "{label}: DiffID is not checked: the layer has no tar-split, its tar is rebuilt from its files"
            ));
        }
        if let Some(expect) = self.expect
            && expect != sums.digest
            && expect != sums.diff_id.0
        {
            let found = format!("{} and DiffID {}", sums.digest, sums.diff_id);
            return Err(Mismatch { what: "digest", found, expected: expect.to_string() }.into());
        }
        sums.fill(record);
        record.entries = Some(entries);
        Ok(())
    }
}

/// Reads a blob to its end and counts its entries.
fn pass(blob: impl Read + Send + 'static, expected: &Expected, max_size: Option<u64>) -> Result<(Sums, u64)> {
    let mut reader = LayerReader::new(blob, max_size)?;
    match count(&mut reader) {
        Ok(entries) => Ok((reader.finish()?, entries)),
        Err(err) => Err(reader.explain(err, expected)),
    }
}

/// Does the same and copies the tar to `out`.
fn pass_tar(blob: impl Read + Send + 'static, max_size: Option<u64>, out: cli::Stdout) -> Result<(Sums, u64)> {
    let mut reader = LayerReader::new(blob, max_size)?;
    let mut copied = BufReader::new(stream::Tee::new(&mut reader, out));
    let entries = count(&mut copied)?;
    // What lies behind the end of the archive is part of the tar.
    io::copy(&mut copied, &mut io::sink())?;
    Ok((reader.finish()?, entries))
}

/// Counts the members of a tar. What they are called and what they would do is not looked at: a layer that no tool would
/// unpack has a digest all the same.
fn count(tar: impl BufRead) -> Result<u64> {
    let mut members = Members::new(Stream(tar));
    let mut count = 0;
    while members.next_member()?.is_some() {
        count += 1;
    }
    Ok(count)
}

//! layerdb: what is known of each layer, and its place on the others.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::driver::{self, Form};
use super::{Store, digests, required, trimmed_digest};
use crate::digest::{self, ChainId, DiffId};
use crate::limits;
use crate::tar_split::Assembly;

/// A layer, at its place in a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// ChainID of the stack up to this layer: its name in layerdb.
    pub chain_id: ChainId,
    /// ChainID of the stack below.
    pub parent: Option<ChainId>,
    /// DiffID.
    pub diff_id: DiffId,
    /// Name of its directory in the driver's.
    pub cache_id: String,
    /// Bytes of its files, as the daemon counted them when it made the layer. It never looks again, and a negative number is
    /// as good to it as any.
    pub size: i64,
}

impl Store {
    /// Returns the ChainIDs of all layers, sorted. Layers on their way in or out are not among them.
    ///
    /// # Errors
    /// What listing gives.
    pub fn chain_ids(&self) -> Result<Vec<ChainId>> {
        let Some(dir) = self.image.dir("layerdb/sha256")? else { return Ok(Vec::new()) };
        Ok(digests(dir.names()?).map(ChainId).collect())
    }

    /// Reads what layerdb says of one layer; `None` where it does not have it. That the ChainID is the right one for parent
    /// and DiffID, only [`Store::stack`] checks.
    ///
    /// # Errors
    /// A file that is missing, or that the daemon would not take.
    pub fn layer(&self, chain_id: ChainId) -> Result<Option<Layer>> {
        let name = format!("layerdb/sha256/{}", chain_id.hex());
        let Some(dir) = self.image.dir(&name)? else { return Ok(None) };
        let cache_id = required(dir.text("cache-id")?, &dir, "cache-id")?.trim().to_owned();
        driver::check_id(&cache_id).with_context(|| dir.name("cache-id"))?;
        let size = required(dir.text("size")?, &dir, "size")?;
        Ok(Some(Layer {
            chain_id,
            parent: trimmed_digest(&dir, "parent")?.map(ChainId),
            diff_id: DiffId(required(trimmed_digest(&dir, "diff")?, &dir, "diff")?),
            cache_id,
            size: parse_size(&size).with_context(|| dir.name("size"))?,
        }))
    }

    /// Reads the layers of the stack `top`, base first, and checks that each ChainID is that of its parent and DiffID, which
    /// the daemon takes on trust.
    ///
    /// # Errors
    /// What [`Store::layer`] gives; a layer that is not there; parents that lead round; [`digest::Mismatch`] of a ChainID.
    pub fn stack(&self, top: ChainId) -> Result<Vec<Layer>> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(top);
        while let Some(chain_id) = next {
            // Who names it: the layer above.
            let name = |chain_id: ChainId| self.image.name(&format!("layerdb/sha256/{}", chain_id.hex()));
            let named_by = || layers.last().map(|above: &Layer| format!("{}/parent", name(above.chain_id)));
            if !seen.insert(chain_id) {
                bail!("{}: leads round, back to {chain_id}", named_by().unwrap_or_default());
            }
            ensure!(layers.len() < limits::STORE_DEPTH, "{top} has more than {} layers", limits::STORE_DEPTH);
            let layer = self.layer(chain_id)?.with_context(|| match named_by() {
                Some(file) => format!("{file}: names the layer {chain_id}, which is missing"),
                None => format!("{}: is missing", name(chain_id)),
            })?;
            next = layer.parent;
            layers.push(layer);
        }
        layers.reverse();
        for layer in &layers {
            let chain_id = ChainId::extend(layer.parent, layer.diff_id);
            digest::check("ChainID of parent and diff", &chain_id, &layer.chain_id)
                .with_context(|| self.image.name(&format!("layerdb/sha256/{}", layer.chain_id.hex())))?;
        }
        Ok(layers)
    }

    /// Opens the directory with the layer's files; what it holds, [`Driver::form`](super::Driver::form) says.
    ///
    /// # Errors
    /// What opening gives; a directory that is missing.
    pub fn layer_dir(&self, layer: &Layer) -> Result<OwnedFd> {
        self.driver_dir(&self.driver.layer(&layer.cache_id))
    }

    /// Opens a directory that the driver named, from the data root on.
    pub(super) fn driver_dir(&self, name: &str) -> Result<OwnedFd> {
        Ok(required(self.root.dir(name)?, &self.root, name)?.into_fd())
    }

    /// Returns the absolute path of the directory with the layer's files, which may be missing.
    pub fn layer_path(&self, layer: &Layer) -> PathBuf {
        self.path.join(self.driver.layer(&layer.cache_id))
    }

    /// Returns the absolute paths of the directories that the driver mounts below that of `id` (a cache-id, mount-id or
    /// init-id), base first: what its own files say, which layerdb may not bear out. None where the directory is a whole tree.
    ///
    /// # Errors
    /// A file of the driver that is missing, damaged or leads out of its directory.
    pub fn lower_paths(&self, id: &str) -> Result<Vec<PathBuf>> {
        let lowers = self.driver.lowers(&self.root, id)?;
        Ok(lowers.into_iter().map(|lower| self.path.join(lower)).collect())
    }

    /// Says whether the layer's tar can be made anew: its tar-split is there and begins as one does.
    ///
    /// # Errors
    /// What opening gives.
    pub fn has_tar_split(&self, layer: &Layer) -> Result<bool> {
        let Some(file) = self.image.file(&tar_split(layer))? else { return Ok(false) };
        Ok(crate::tar_split::Entries::new(file).next().is_none_or(|entry| entry.is_ok()))
    }

    /// Opens the layer's tar, made anew from its tar-split and its files. Whoever reads it has to check the DiffID; files that
    /// are not what they were end the stream with an error.
    ///
    /// # Errors
    /// A tar-split or a directory that is missing, and what opening them gives.
    pub fn open_layer(&self, layer: &Layer) -> Result<Box<dyn Read + Send>> {
        let name = tar_split(layer);
        let tar_split = required(self.image.file(&name)?, &self.image, &name)?;
        let dir = self.layer_dir(layer)?;
        Ok(match self.driver.form() {
            Form::Tree => Box::new(Assembly::in_tree(tar_split, dir)),
            Form::Overlay | Form::Literal => Box::new(Assembly::new(tar_split, dir)),
        })
    }
}

fn tar_split(layer: &Layer) -> String {
    format!("layerdb/sha256/{}/tar-split.json.gz", layer.chain_id.hex())
}

/// Parses `size` as strictly as the daemon, to which a layer with any other does not exist.
fn parse_size(text: &str) -> Result<i64> {
    let untrimmed = text.trim() != text && text.trim().parse::<i64>().is_ok();
    let hint = if untrimmed { "has white space around the number" } else { "is not a number" };
    let parsed = text.parse().ok();
    parsed.with_context(|| {
        let short: String = text.chars().take(limits::STORE_ID_SHOWN).collect();
        format!("`{}` {hint}, so that dockerd drops the layer", short.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_daemon_reads_them() {
        for (text, want) in [("0", 0), ("5612844", 5_612_844), ("-1", -1), ("+7", 7)] {
            assert_eq!(parse_size(text).unwrap(), want, "{text}");
        }
        for (text, want) in [
            ("7\n", "`7\\n` has white space around the number, so that dockerd drops the layer"),
            (" 7", "white space"),
            ("", "`` is not a number"),
            ("1_000", "is not a number"),
            ("99999999999999999999", "is not a number"),
        ] {
            let err = parse_size(text).unwrap_err().to_string();
            assert!(err.contains(want), "{want}: {err}");
        }
    }
}

//! What killed runs left behind. Nothing of it is in use: whoever runs holds the lock.

use std::ffi::OsStr;
use std::io::Read;

use anyhow::{Context, Result};

use super::Writer;
use crate::docker_root::driver;
use crate::limits;
use crate::root::Dir;

/// How the directories begin in which this program builds what layerdb says of a layer. The daemon's begin `write-set-` too,
/// and go on with digits.
pub(super) const PREFIX: &str = "write-set-layer-tools-";

/// Removes what was being built, and the driver's directories that were for it.
pub(super) fn remove(writer: &Writer) -> Result<()> {
    let tmp = writer.image_dir("layerdb/tmp")?;
    for name in tmp.names()? {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let cleaned = remove_one(writer, &tmp, &name);
        cleaned.with_context(|| format!("layerdb/tmp/{}: cannot remove what a killed run left", name.display()))?;
    }
    Ok(())
}

fn remove_one(writer: &Writer, tmp: &Dir, name: &OsStr) -> Result<()> {
    let set = tmp.dir(name)?;
    // It was written first, so no directory can be there without it.
    if set.stat(OsStr::new("cache-id"))?.is_some() {
        let mut id = String::new();
        set.open(OsStr::new("cache-id"))?.take(limits::STORE_LINE).read_to_string(&mut id)?;
        if driver::check_id(&id).is_ok() && !is_used(writer, &id)? {
            writer.cache.remove(&id)?;
        }
    }
    tmp.remove(name)?;
    Ok(())
}

/// Says whether a layer that is there has the directory `id`. It never is one that was being built, but for a root that
/// somebody put together by hand.
fn is_used(writer: &Writer, id: &str) -> Result<bool> {
    let layers = writer.store.chain_ids()?;
    Ok(layers
        .into_iter()
        .any(|chain_id| matches!(writer.store.layer(chain_id), Ok(Some(layer)) if layer.cache_id == id)))
}

//! Containers: those that containerd knows, and those of Docker, which tells containerd of them only while they run.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{METADATA, Root, Snapshots, layer_of, texts};
use crate::bolt::Bucket;
use crate::change::Time;
use crate::cli::{Table, human_size};
use crate::config::time;
use crate::digest::ChainId;
use crate::docker_root::{Dir, files_size};
use crate::limits;

/// The namespace that Docker uses.
const MOBY: &str = "moby";
/// Seconds from the year 1, from which Go counts, to 1970.
const YEAR_ONE: i64 = 62_135_596_800;

/// A container, with its directories.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Identifier.
    pub id: String,
    /// Its name, which only those of Docker have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The namespace that it is in.
    pub namespace: String,
    /// The name of its image.
    pub image: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// ChainID of its image's layers, as far as they are snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainId>,
    /// The directory of what it has written.
    pub path: PathBuf,
    /// The directories below, base layer first.
    pub lowers: Vec<PathBuf>,
    /// Bytes of what it has written.
    pub size: u64,
}

impl Root {
    /// Reads the containers of the namespace that `namespace` says, or of all, that have a snapshot in overlayfs; what could
    /// not be read comes beside.
    ///
    /// # Errors
    /// A damaged database.
    pub fn containers(&self, namespace: Option<&str>) -> Result<(Vec<Container>, Vec<Error>)> {
        let (mut found, mut troubles) = (Vec::new(), Vec::new());
        for container in self.docker_containers().unwrap_or_else(|err| vec![Err(err)]) {
            container.map_or_else(|err| troubles.push(err), |container| found.push((container, None)));
        }
        let known = self.read(METADATA, |root| {
            let (mut own, mut names) = (Vec::new(), HashMap::new());
            for (space, bucket) in spaces(root)? {
                if let Some(containers) = bucket.bucket("containers")? {
                    for id in texts(&containers) {
                        own.extend(containers.bucket(id)?.map(|container| parse(&space, id, &container)));
                    }
                }
                if let Some(snapshots) = bucket.descend(&["snapshots", "overlayfs"])? {
                    for key in texts(&snapshots) {
                        let name = snapshots.bucket(key)?.and_then(|bucket| text(&bucket, "name"));
                        names.extend(name.map(|name| ((space.clone(), key.to_owned()), name)));
                    }
                }
            }
            Ok((own, names))
        })?;
        let (own, names) = known.unwrap_or_default();
        found.extend(own.into_iter().map(|(container, key)| (container, Some(key))));
        let snapshots = self.snapshots()?;
        let mut seen = HashSet::new();
        let mut containers = Vec::new();
        for (container, key) in found {
            let known = !seen.insert((container.namespace.clone(), container.id.clone()));
            if known || namespace.is_some_and(|only| only != container.namespace) {
                continue;
            }
            let name = format!("container {}", container.id.escape_debug());
            // What another snapshotter has, has none here.
            let key = (container.namespace.clone(), key.unwrap_or_else(|| container.id.clone()));
            let Some(key) = names.get(&key) else { continue };
            match self.locate(container, key, &snapshots).context(name) {
                Ok(container) => containers.push(container),
                Err(err) => troubles.push(err),
            }
        }
        Ok((containers, troubles))
    }

    /// Reads what Docker keeps of its own containers, if this is its store.
    fn docker_containers(&self) -> Result<Vec<Result<Container>>> {
        let Some(dir) = self.docker.as_ref().map(|docker| docker.dir("containers")).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        let read = |id: &String| docker_container(&dir, id).transpose();
        Ok(dir.names()?.iter().filter_map(read).collect())
    }

    /// Finds the directories of a container, whose snapshot is the one at `key`.
    fn locate(&self, container: Container, key: &str, snapshots: &Snapshots) -> Result<Container> {
        let find = |key: &str| {
            let snapshot = snapshots.all.get(key);
            snapshot.with_context(|| format!("there is no snapshot `{}`", key.escape_debug()))
        };
        let snapshot = find(key)?;
        let own =
            self.snapshot_dir(snapshot)?.with_context(|| format!("{}: is missing", super::directory(snapshot)))?;
        let mut below = snapshot;
        let (mut lowers, mut parent) = (Vec::new(), None);
        while let Some(key) = &below.parent {
            below = find(key)?;
            lowers.push(self.snapshot_path(below));
            parent = parent.or_else(|| layer_of(key));
            let limit = limits::STORE_DEPTH;
            ensure!(lowers.len() <= limit, "stands on more than {limit} snapshots");
        }
        lowers.reverse();
        let size = files_size(&own.into_fd())?;
        Ok(Container { parent, path: self.snapshot_path(snapshot), lowers, size, ..container })
    }
}

fn spaces<'a>(root: &Bucket<'a>) -> Result<Vec<(String, Bucket<'a>)>> {
    let Some(version) = root.bucket("v1")? else { return Ok(Vec::new()) };
    let mut spaces = Vec::new();
    for name in texts(&version) {
        spaces.extend(version.bucket(name)?.map(|bucket| (name.to_owned(), bucket)));
    }
    Ok(spaces)
}

/// Returns a container of containerd's and the name of its snapshot.
fn parse(namespace: &str, id: &str, container: &Bucket) -> (Container, String) {
    let parsed = Container {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        image: text(container, "image").unwrap_or_default(),
        created: container.get("createdat").and_then(go_time),
        ..Container::default()
    };
    (parsed, text(container, "snapshotKey").unwrap_or_default())
}

fn text(bucket: &Bucket, key: &str) -> Option<String> {
    String::from_utf8(bucket.get(key)?.to_vec()).ok()
}

fn docker_container(dir: &Dir, id: &str) -> Result<Option<Container>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document {
        name: String,
        created: Option<String>,
        config: RunConfig,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct RunConfig {
        #[serde(default)]
        image: String,
    }
    let name = format!("{id}/config.v2.json");
    let Some(bytes) = dir.read(&name, limits::JSON_DOCUMENT)? else { return Ok(None) };
    let document: Document = serde_json::from_slice(&bytes).with_context(|| dir.name(&name))?;
    Ok(Some(Container {
        id: id.to_owned(),
        name: Some(document.name.strip_prefix('/').unwrap_or(&document.name).to_owned()),
        namespace: MOBY.to_owned(),
        image: document.config.image,
        created: document.created,
        ..Container::default()
    }))
}

/// Reads a time as Go's `Time.MarshalBinary` writes it: version 1, seconds since the year 1, nanoseconds, and a zone, which
/// makes no difference to when it was.
fn go_time(bytes: &[u8]) -> Option<String> {
    let (&[1], rest) = bytes.split_first_chunk()? else { return None };
    let (secs, rest) = rest.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    let secs = i64::from_be_bytes(*secs).checked_sub(YEAR_ONE)?;
    let nanos = u32::from_be_bytes(*nanos);
    time::to_rfc3339(Time { secs, nanos }).ok().filter(|_| nanos < 1_000_000_000)
}

/// Returns a table of containers.
pub fn containers_table(containers: &[Container]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "NAMESPACE", "IMAGE", "CREATED", ">SIZE"]);
    for container in containers {
        let Container { id, name, namespace, image, created, size, .. } = container;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let id = id.chars().take(12).collect();
        table.row([id, text(name), namespace.clone(), image.clone(), text(created), human_size(*size)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let bytes = b"\x01\x00\x00\x00\x0e\xe2\x94v\x02\x0e\xb1UT\xff\xff";
        assert_eq!(go_time(bytes).unwrap(), "2026-11-22T05:34:58.24650274Z");
        assert_eq!(go_time(&bytes[..12]), None);
        assert_eq!(go_time(b""), None);
        assert_eq!(go_time(&[2; 15]), None);
        assert_eq!(go_time(&[1; 15]), None);
    }
}

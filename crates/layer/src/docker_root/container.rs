//! Containers: `containers/ID/` says what each is, layerdb's `mounts/ID/` where its files are.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::driver;
use super::{Store, required, trimmed_digest};
use crate::check::Absent;
use crate::digest::{ChainId, ImageId};
use crate::limits;

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without the slash in front that the daemon keeps.
    pub name: String,
    /// The name by which its image was asked for.
    pub image: String,
    /// Its image; `None` where it was made without one.
    pub image_id: Option<ImageId>,
    /// When it was made, as it is written there.
    pub created: String,
    /// The storage driver that it was made with: the daemon passes over containers of another.
    pub driver: String,
    /// Whether it ran when its state was last written. After a crash it still says so.
    pub running: bool,
    /// Where its files are.
    pub mount: Mount,
    /// `config.v2.json` as stored.
    pub config: Vec<u8>,
}

/// Where the files of a container are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Name of the directory of the container's own files in the driver's.
    pub mount_id: String,
    /// Name of the directory between it and the image, with what the daemon puts into each container.
    pub init_id: Option<String>,
    /// ChainID of its image's layers; `None` for one without any.
    pub parent: Option<ChainId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    driver: String,
    config: Option<RunConfig>,
    state: Option<State>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    running: bool,
}

impl Store {
    /// Returns the identifiers of all containers, sorted: the directories that hold a `config.v2.json`.
    ///
    /// # Errors
    /// What listing gives.
    pub fn container_ids(&self) -> Result<Vec<String>> {
        let Some(dir) = self.root.dir("containers")? else { return Ok(Vec::new()) };
        let is_container = |name: &String| !matches!(dir.file(&format!("{name}/config.v2.json")), Ok(None));
        Ok(dir.names()?.into_iter().filter(is_container).collect())
    }

    /// Reads the container with the identifier `id`.
    ///
    /// # Errors
    /// A file that is missing, damaged or not this container's.
    pub fn container(&self, id: &str) -> Result<Container> {
        driver::check_id(id)?;
        let file = format!("containers/{id}/config.v2.json");
        let bytes = required(self.root.read(&file, limits::JSON_DOCUMENT)?, &self.root, &file)?;
        let parse = || {
            let document: Document = serde_json::from_slice(&bytes).context("not the configuration of a container")?;
            ensure!(document.id == id, "is of the container `{}`", document.id.escape_debug());
            let image_id = Some(document.image.as_str()).filter(|image| !image.is_empty());
            anyhow::Ok((image_id.map(str::parse).transpose()?, document))
        };
        let (image_id, document) = parse().context(file)?;
        Ok(Container {
            id: id.to_owned(),
            name: document.name.strip_prefix('/').unwrap_or(&document.name).to_owned(),
            image: document.config.map(|config| config.image).unwrap_or_default(),
            image_id,
            created: document.created,
            driver: document.driver,
            running: document.state.is_some_and(|state| state.running),
            mount: self.mount(id)?,
            config: bytes,
        })
    }

    /// Finds the one container that has the name or identifier `asked`, or whose identifier begins so.
    ///
    /// # Errors
    /// [`Absent`]; several of them; what [`Store::container`] gives for the one.
    pub fn find_container(&self, asked: &str) -> Result<Container> {
        let ids = self.container_ids()?;
        if ids.iter().any(|id| id == asked) {
            return self.container(asked);
        }
        let name = asked.strip_prefix('/').unwrap_or(asked);
        // A damaged one stands in the way of no other.
        let named = ids.iter().filter_map(|id| self.container(id).ok()).find(|container| container.name == name);
        if let Some(container) = named {
            return Ok(container);
        }
        let begin = ids.iter().filter(|id| !asked.is_empty() && id.starts_with(asked)).collect::<Vec<_>>();
        match begin[..] {
            [] => bail!(Absent(format!("has no container `{}`", asked.escape_debug()))),
            [one] => self.container(one),
            _ => bail!("has {} containers whose identifiers begin with `{asked}`", begin.len()),
        }
    }

    /// Reads where the files of the container `id` are.
    ///
    /// # Errors
    /// A file that is missing, or that the daemon would not take.
    pub fn mount(&self, id: &str) -> Result<Mount> {
        driver::check_id(id)?;
        let name = format!("layerdb/mounts/{id}");
        let dir = required(self.image.dir(&name)?, &self.image, &name)?;
        let mount_id = required(dir.text("mount-id")?, &dir, "mount-id")?;
        let init_id = dir.text("init-id")?;
        for (file, id) in [("mount-id", Some(&mount_id)), ("init-id", init_id.as_ref())] {
            id.map_or(Ok(()), |id| check_mount_id(id.trim())).with_context(|| dir.name(file))?;
        }
        Ok(Mount {
            mount_id: mount_id.trim().to_owned(),
            init_id: init_id.map(|id| id.trim().to_owned()),
            parent: trimmed_digest(&dir, "parent")?.map(ChainId),
        })
    }
}

/// Refuses what the daemon does: a mount-id is 64 hexadecimal digits, and an init-id may have `-init` behind them.
fn check_mount_id(id: &str) -> Result<()> {
    let digits = id.strip_suffix("-init").unwrap_or(id);
    let hex = digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let short: String = id.chars().take(limits::STORE_ID_SHOWN).collect();
    ensure!(
        hex,
        "`{}` is not 64 hexadecimal digits, with `-init` or without, so that dockerd drops the container",
        short.escape_debug()
    );
    Ok(())
}

//! What takes how much room: images, what they share, and containers.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Error, Result};
use serde::{Serialize, Serializer};

use super::size::{Count, files_size};
use super::{Container, Form, Layer, Store};
use crate::cli::{Table, human_size};
use crate::diff;
use crate::digest::{ChainId, ImageId};
use crate::image::Config;

/// The room that all of a data root takes, with each layer counted once.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The storage driver.
    #[serde(serialize_with = "as_text")]
    pub driver: super::Driver,
    /// Number of layers, those of no image counted.
    pub layer_count: usize,
    /// Bytes of all layers.
    pub layers_size: i64,
    /// Bytes of what all containers have written.
    pub containers_size: u64,
    /// The images.
    pub images: Vec<ImageUsage>,
    /// The containers.
    pub containers: Vec<ContainerUsage>,
    /// What could not be read, and is not counted.
    #[serde(skip)]
    pub troubles: Vec<Error>,
}

/// The room that an image takes.
#[derive(Clone, Debug, Serialize)]
pub struct ImageUsage {
    /// ImageID.
    pub id: ImageId,
    /// Its names.
    pub tags: Vec<String>,
    /// Bytes of its layers, what `docker images` shows.
    pub size: i64,
    /// Bytes of those layers that other images have as well.
    pub shared: i64,
    /// Bytes of those that it has alone: what removing it would free.
    pub unique: i64,
}

/// A container, with the room that it takes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUsage {
    /// Identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name by which its image was asked for.
    pub image: String,
    /// ImageID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<ImageId>,
    /// When it was made.
    pub created: String,
    /// Whether it ran when its state was last written.
    pub running: bool,
    /// The directory of its own files.
    pub mount_id: String,
    /// The directory below, with what the daemon puts into each container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_id: Option<String>,
    /// ChainID of its image's layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainId>,
    /// Bytes of what it has written.
    pub size: u64,
    /// Those and the image's.
    pub r#virtual: i64,
}

fn as_text<S: Serializer>(driver: &super::Driver, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(driver)
}

impl Store {
    /// Reads all containers with the room that each takes; what could not be read comes beside.
    ///
    /// # Errors
    /// What listing them gives.
    pub fn container_usage(&self) -> Result<(Vec<ContainerUsage>, Vec<Error>)> {
        let mut troubles = Vec::new();
        let mut containers = Vec::new();
        for id in self.container_ids()? {
            match self.container(&id).and_then(|container| self.usage_of(container)) {
                Ok(usage) => containers.push(usage),
                Err(err) => troubles.push(err),
            }
        }
        Ok((containers, troubles))
    }

    /// Reads what takes how much room.
    ///
    /// # Errors
    /// What listing gives; what is wrong with one image or container is among the troubles.
    pub fn usage(&self) -> Result<Usage> {
        let (containers, mut troubles) = self.container_usage()?;
        let mut stacks = Vec::new();
        for id in self.listed_images()? {
            match self.image_stack(id).with_context(|| id.to_string()) {
                Ok(stack) => stacks.push((id, stack)),
                Err(err) => troubles.push(err),
            }
        }
        let mut layers = Vec::new();
        for chain_id in self.chain_ids()? {
            match self.layer(chain_id) {
                Ok(layer) => layers.extend(layer),
                Err(err) => troubles.push(err),
            }
        }
        let names = self.repositories()?;
        let mut users: HashMap<ChainId, usize> = HashMap::new();
        for layer in stacks.iter().flat_map(|(_, stack)| stack) {
            *users.entry(layer.chain_id).or_default() += 1;
        }
        let image = |(id, stack): (ImageId, Vec<Layer>)| {
            let shared = sum(stack.iter().filter(|layer| users[&layer.chain_id] > 1));
            let size = sum(&stack);
            ImageUsage { id, tags: names.tags(id), size, shared, unique: size.saturating_sub(shared) }
        };
        Ok(Usage {
            driver: self.driver(),
            layer_count: layers.len(),
            layers_size: sum(&layers),
            containers_size: containers.iter().fold(0, |sum, container| sum.saturating_add(container.size)),
            images: stacks.into_iter().map(image).collect(),
            containers,
            troubles,
        })
    }

    /// Returns the images that `docker images` lists: not those without a name from which another was made.
    ///
    /// # Errors
    /// What listing gives, and names that cannot be read.
    pub fn listed_images(&self) -> Result<Vec<ImageId>> {
        let names = self.repositories()?;
        let mut ids = self.image_ids()?;
        // A parent that cannot be read is none.
        let parents: HashSet<ImageId> = ids.iter().filter_map(|id| self.parent_image(*id).ok().flatten()).collect();
        ids.retain(|id| !parents.contains(id) || names.is_named(*id));
        Ok(ids)
    }

    /// Reads the layers of an image, base first.
    ///
    /// # Errors
    /// What [`Store::config`] and [`Store::stack`] give.
    pub fn image_stack(&self, id: ImageId) -> Result<Vec<Layer>> {
        let config = Config::parse(&self.config(id)?)?;
        let top = ChainId::chain(config.diff_ids).pop();
        top.map_or(Ok(Vec::new()), |top| self.stack(top))
    }

    /// Returns the bytes of what a container has written, as `docker ps -s` shows them.
    ///
    /// # Errors
    /// A directory that is missing, and what reading gives.
    pub fn container_size(&self, container: &Container) -> Result<u64> {
        let name = self.driver.writable(&container.mount.mount_id);
        let own = self.driver_dir(&name)?;
        let size = match (self.driver.writable_form(), self.tree_below(container)?) {
            (Form::Tree, Some(below)) => {
                let mut count = Count::default();
                diff::compare(below, own, &mut count).map(|_| count.size)
            }
            _ => files_size(&own),
        };
        size.context(name)
    }

    /// Opens the tree that a container started from: its init layer's, or its image's.
    fn tree_below(&self, container: &Container) -> Result<Option<std::os::fd::OwnedFd>> {
        if self.driver.writable_form() != Form::Tree {
            return Ok(None);
        }
        if let Some(init) = &container.mount.init_id {
            return self.driver_dir(&self.driver.writable(init)).map(Some);
        }
        let layer = container.mount.parent.map(|top| self.layer(top)).transpose()?.flatten();
        layer.map(|layer| self.layer_dir(&layer)).transpose()
    }

    fn usage_of(&self, container: Container) -> Result<ContainerUsage> {
        let measure = || {
            let size = self.container_size(&container)?;
            let stack = container.mount.parent.map_or(Ok(Vec::new()), |top| self.stack(top))?;
            anyhow::Ok((size, sum(&stack).saturating_add_unsigned(size)))
        };
        let (size, r#virtual) = measure().with_context(|| format!("container {}", container.id))?;
        let Container { id, name, image, image_id, created, running, mount, .. } = container;
        let super::Mount { mount_id, init_id, parent } = mount;
        Ok(ContainerUsage { id, name, image, image_id, created, running, mount_id, init_id, parent, size, r#virtual })
    }
}

fn sum<'a>(layers: impl IntoIterator<Item = &'a Layer>) -> i64 {
    layers.into_iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
}

fn human(size: i64) -> String {
    // Nothing has fewer bytes than none, whatever `size` says.
    human_size(u64::try_from(size).unwrap_or_default())
}

/// Returns a table of containers.
pub fn containers_table(containers: &[ContainerUsage]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "IMAGE", "CREATED", "MOUNT", ">SIZE", ">VIRTUAL"]);
    for container in containers {
        let short = |id: &str| id.chars().take(12).collect::<String>();
        table.row([
            short(&container.id),
            container.name.clone(),
            container.image.clone(),
            container.created.clone(),
            short(&container.mount_id),
            human_size(container.size),
            human(container.r#virtual),
        ]);
    }
    table
}

/// Returns a table of images and containers, with the sum of all layers and containers at the end.
pub fn sizes_table(usage: &Usage) -> Table {
    let mut table = Table::new(&["KIND", "NAME", "ID", ">SIZE", ">SHARED", ">UNIQUE"]);
    let text = |text: &str| text.to_owned();
    for image in &usage.images {
        let name = if image.tags.is_empty() { text("<none>") } else { image.tags.join(" ") };
        let id = image.id.hex()[..12].to_owned();
        table.row([text("image"), name, id, human(image.size), human(image.shared), human(image.unique)]);
    }
    for container in &usage.containers {
        let id: String = container.id.chars().take(12).collect();
        let shared = human(container.r#virtual.saturating_sub_unsigned(container.size));
        let size = human_size(container.size);
        table.row([text("container"), container.name.clone(), id, human(container.r#virtual), shared, size]);
    }
    let all = usage.layers_size.saturating_add_unsigned(usage.containers_size);
    table.row([text("total"), usage.driver.to_string(), text(""), human(all), text(""), text("")]);
    table
}

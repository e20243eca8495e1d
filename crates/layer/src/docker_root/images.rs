//! imagedb and repositories.json: the images and their names.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Store, digests, required};
use crate::digest::{self, Digest, ImageId};
use crate::limits;

/// The names of images, by repository: `repositories.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repositories {
    /// Repositories by their familiar names.
    #[serde(rename = "Repositories", default)]
    pub repositories: BTreeMap<String, Repository>,
}

/// One repository: images by `name:tag` and `name@sha256:DIGITS`.
pub type Repository = BTreeMap<String, ImageId>;

impl Repositories {
    /// Returns the `name:tag` of an image, sorted.
    pub fn tags(&self, id: ImageId) -> Vec<String> {
        self.of(id).filter(|name| !name.contains('@')).cloned().collect()
    }

    /// Returns the `name@sha256:DIGITS` of an image, sorted: where it was pulled from, with the digest of the manifest.
    pub fn digests(&self, id: ImageId) -> Vec<String> {
        self.of(id).filter(|name| name.contains('@')).cloned().collect()
    }

    /// Says whether an image has a name.
    pub fn is_named(&self, id: ImageId) -> bool {
        self.of(id).next().is_some()
    }

    fn of(&self, id: ImageId) -> impl Iterator<Item = &String> {
        let all = self.repositories.values().flatten();
        all.filter(move |(_, of)| **of == id).map(|(name, _)| name)
    }
}

impl Store {
    /// Returns `repositories.json` as stored; `None` where there is none, so that no image has a name.
    ///
    /// # Errors
    /// What reading gives.
    pub fn repositories_file(&self) -> Result<Option<Vec<u8>>> {
        self.image.read("repositories.json", limits::JSON_DOCUMENT)
    }

    /// Reads the names of images.
    ///
    /// # Errors
    /// What is no such document: the daemon does not start with it either.
    pub fn repositories(&self) -> Result<Repositories> {
        let Some(bytes) = self.repositories_file()? else { return Ok(Repositories::default()) };
        serde_json::from_slice(&bytes).with_context(|| self.image.name("repositories.json"))
    }

    /// Returns the ImageIDs of all configurations, sorted.
    ///
    /// # Errors
    /// What listing gives.
    pub fn image_ids(&self) -> Result<Vec<ImageId>> {
        let Some(dir) = self.image.dir("imagedb/content/sha256")? else { return Ok(Vec::new()) };
        Ok(digests(dir.names()?).map(ImageId).collect())
    }

    /// Reads an image's configuration and checks it against its name.
    ///
    /// # Errors
    /// A configuration that is missing, and [`digest::Mismatch`]: the daemon passes over an image with either.
    pub fn config(&self, id: ImageId) -> Result<Vec<u8>> {
        let name = format!("imagedb/content/sha256/{}", id.hex());
        let bytes = required(self.image.read(&name, limits::JSON_DOCUMENT)?, &self.image, &name)?;
        digest::check("digest", &Digest::of(&bytes), &id.0).with_context(|| self.image.name(&name))?;
        Ok(bytes)
    }

    /// Returns the image that this one was committed or built from here, which may be gone; `None` for one that was loaded,
    /// pulled or imported.
    ///
    /// # Errors
    /// What is no ImageID. The daemon trims nothing here.
    pub fn parent_image(&self, id: ImageId) -> Result<Option<ImageId>> {
        let name = format!("imagedb/metadata/sha256/{}/parent", id.hex());
        let Some(text) = self.image.text(&name)? else { return Ok(None) };
        text.parse().map(Some).with_context(|| self.image.name(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tags_or_digests() {
        let [a, b] = ["a", "b"].map(|text| ImageId(Digest::of(text.as_bytes())));
        let text = format!(
            r#"{{"Repositories":{{"x":{{"x:2":"{a}","x:1":"{a}","x@{b}":"{a}"}},"h:5000/x":{{"h:5000/x:1":"{a}","h:5000/x:2":"{b}"}}}}}}"#
        );
        let names: Repositories = serde_json::from_str(&text).unwrap();
        assert_eq!(names.tags(a), ["h:5000/x:1", "x:1", "x:2"]);
        assert_eq!(names.digests(a), [format!("x@{b}")]);
        assert_eq!(names.tags(b), ["h:5000/x:2"]);
        assert_eq!(serde_json::from_str::<Repositories>("{}").unwrap(), Repositories::default());
        assert!(serde_json::from_str::<Repositories>("").is_err());
    }
}

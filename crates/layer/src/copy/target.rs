//! Where images go: `TRANSPORT:PATH[:NAME]`, or a path alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::docker_root::Store;
use crate::image::{Name, Reference, Selector, Transport};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// One archive that is a docker-archive and an oci-archive, on stdout or in a file.
    Archive,
    /// An OCI image layout in a directory.
    Layout,
    /// Docker's data root.
    DockerRoot,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What is written.
    pub medium: Medium,
    /// Where; `-` is stdout.
    pub path: PathBuf,
    /// The name that the image gets.
    pub name: Option<Name>,
}

impl Target {
    /// Parses a destination. Without a transport, a directory is what it is, an OCI image layout if it is empty or if the path
    /// ends in a slash; all else is an archive.
    ///
    /// # Errors
    /// What [`Reference::parse`] refuses, a name that is none, and a directory that is neither.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let reference = Reference::parse(text)?;
        let name = match reference.selector {
            None => None,
            Some(Selector::Name(name)) => Some(name.parse()?),
            Some(selector) => bail!("`{selector}` is no name for an image"),
        };
        let path = reference.path;
        let medium = match reference.transport {
            Some(Transport::DockerArchive | Transport::OciArchive) => Medium::Archive,
            Some(Transport::Oci) => Medium::Layout,
            Some(Transport::DockerRoot) => Medium::DockerRoot,
            None if path.is_dir() && Store::is_at(&path) => Medium::DockerRoot,
            None if path.is_dir() => directory(&path)?,
            None if path.as_os_str().as_bytes().ends_with(b"/") => Medium::Layout,
            None => Medium::Archive,
        };
        Ok(Self { medium, path, name })
    }
}

fn directory(path: &std::path::Path) -> Result<Medium> {
    let mut entries = path.read_dir().context("cannot list the directory")?;
    if path.join("oci-layout").exists() || entries.next().is_none() {
        return Ok(Medium::Layout);
    }
    bail!("is a directory, and neither an OCI image layout nor a data root of Docker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_or_the_shape_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir_all(at("empty")).unwrap();
        std::fs::create_dir_all(at("full/x")).unwrap();
        std::fs::create_dir_all(at("root/image/overlay2/layerdb")).unwrap();
        for (text, medium, path, name) in [
            ("-".into(), Medium::Archive, "-".into(), None),
            (at("a.tar"), Medium::Archive, at("a.tar"), None),
            (at("new/"), Medium::Layout, at("new/"), None),
            (at("empty"), Medium::Layout, at("empty"), None),
            (at("root"), Medium::DockerRoot, at("root"), None),
            (format!("oci:{}:a:1", at("new")), Medium::Layout, at("new"), Some("a:1")),
            (format!("docker-root:{}", at("new")), Medium::DockerRoot, at("new"), None),
            (format!("oci-archive:{}", at("x")), Medium::Archive, at("x"), None),
        ] {
            let target = Target::parse(OsStr::new(&text)).unwrap();
            let name = name.map(|name| name.parse().unwrap());
            assert_eq!(target, Target { medium, path: path.into(), name }, "{text}");
        }
        assert!(Target::parse(OsStr::new(&at("full"))).is_err());
        assert!(Target::parse(OsStr::new("oci:x:@1")).is_err());
    }
}

//! The images of a containerd root: an OCI layout whose index stands in a database, and whose layers may be unpacked already.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::Image;
use super::medium::Medium;
use super::oci_layout::{Discarded, OciLayout};
use super::platform::Platform;
use super::reference::Reference;
use super::source::{Candidate, ImageSource};
use crate::containerd::{self, Root, Snapshots, Target};
use crate::digest::{ChainId, ImageId};

pub(super) struct Containerd {
    layout: OciLayout,
    root: Root,
    snapshots: Snapshots,
}

impl Containerd {
    /// Reads the names of images, of the namespace that `CONTAINERD_NAMESPACE` says or of all, and which layers are unpacked.
    ///
    /// # Errors
    /// A damaged database, and names for more than can be images.
    pub(super) fn open(root: Root, reference: Reference) -> Result<Self> {
        let index = index(&root.targets(containerd::namespace().as_deref())?)?;
        let snapshots = root.snapshots()?;
        let medium = Arc::new(Medium::Directory(root.content()?.into_fd()));
        let reference = Reference { path: root.path().to_owned(), ..reference };
        let layout = OciLayout::of_index(medium, Some(reference), index, Discarded::Allowed)?;
        Ok(Self { layout, root, snapshots })
    }
}

/// Writes the index that a layout with these images would have, as `ctr image export` does.
fn index(targets: &[Target]) -> Result<Vec<u8>> {
    let descriptor = |target: &Target| {
        let mut descriptor = json!({"mediaType": target.media_type, "digest": target.digest, "size": target.size});
        // What Docker and a kubelet write where an image has no name.
        let name =
            Some(&target.name).filter(|name| !name.starts_with("moby-dangling@") && !name.starts_with("sha256:"));
        if let Some(name) = name {
            descriptor["annotations"] = json!({"io.containerd.image.name": name});
        }
        descriptor
    };
    let manifests: Vec<_> = targets.iter().map(descriptor).collect();
    Ok(serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests}))?)
}

impl ImageSource for Containerd {
    fn index(&self) -> &[u8] {
        self.layout.index()
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.layout.candidates()
    }

    fn id(&self, candidate: usize) -> Result<Option<ImageId>> {
        self.layout.id(candidate)
    }

    fn platform(&self, candidate: usize) -> Result<Option<Platform>> {
        self.layout.platform(candidate)
    }

    fn is_present(&self, candidate: usize) -> bool {
        self.layout.is_present(candidate)
    }

    fn load(&self, candidate: usize) -> Result<Image> {
        let mut image = self.layout.load(candidate)?;
        let chain_ids = ChainId::chain(image.parsed.diff_ids.iter().copied());
        let mut parent = None;
        for (record, chain_id) in image.layers.iter_mut().zip(chain_ids) {
            record.parent = parent.replace(chain_id);
            record.chain_id = Some(chain_id);
            let path = self.root.layer_path(&self.snapshots, chain_id)?;
            record.path = path.map(Into::into);
        }
        Ok(image)
    }
}

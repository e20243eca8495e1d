//! The images that are to be copied.

use anyhow::Result;

use super::Options;
use crate::digest::{ChainId, DiffId};
use crate::image::{Image, Name, OpenOptions, Reference, Selector, Transport};
use crate::record::LayerRecord;

/// An image and what is to be kept of how its medium lists it.
pub struct Source {
    /// The image.
    pub image: Image,
    /// Its names, or those that it gets.
    pub names: Vec<Name>,
    /// Tags without a name, of an OCI image layout.
    pub refs: Vec<String>,
}

/// Which images of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that the reference means.
    One,
    /// All that it allows.
    All,
}

/// Opens the images that `reference` means, with layers that may have been left out.
///
/// # Errors
/// What opening gives.
pub fn open(reference: &Reference, which: Which, opening: &OpenOptions, options: &Options) -> Result<Vec<Source>> {
    let opening = OpenOptions { partial: true, ..opening.clone() };
    let images = match which {
        Which::One => vec![Image::open(reference, &opening)?],
        Which::All => Image::open_all(reference, &opening)?,
    };
    let source = |image: Image| {
        let (mut names, mut refs) = split_tags(image.tags());
        if !options.names.is_empty() {
            (names, refs) = (options.names.clone(), Vec::new());
        }
        Source { image: as_layout(image, reference, &opening), names, refs }
    };
    Ok(images.into_iter().map(source).collect())
}

impl Source {
    /// Returns the layers, base first, each with its ChainID and DiffID.
    pub(super) fn layers(&self) -> impl Iterator<Item = (usize, &LayerRecord, ChainId, DiffId)> {
        let diff_ids = &self.image.parsed().diff_ids;
        let chain = ChainId::chain(diff_ids.iter().copied());
        let records = self.image.layers().iter().enumerate();
        records.zip(chain).zip(diff_ids).map(|(((at, record), chain_id), diff_id)| (at, record, chain_id, *diff_id))
    }

    /// Returns the manifest of an OCI image layout, or of a registry, if the image has one.
    pub(super) fn manifest(&self) -> Option<&[u8]> {
        self.image.digest().and(self.image.manifest())
    }
}

/// Tells names from bare tags. What is neither, such as a digest, is left out.
fn split_tags(tags: &[String]) -> (Vec<Name>, Vec<String>) {
    let (mut names, mut refs): (Vec<Name>, Vec<String>) = Default::default();
    for tag in tags {
        let is_name = tag.contains([':', '/']);
        match tag.parse::<Name>() {
            Ok(name) if is_name && !names.contains(&name) => names.push(name),
            Ok(_) if is_name => {}
            _ if !tag.contains('@') => refs.push(tag.clone()),
            _ => {}
        }
    }
    // The tag of a name that is there says nothing more.
    refs.retain(|tag| !names.iter().any(|name| name.tag() == tag));
    (names, refs)
}

/// Returns an image of a docker-archive as the OCI image layout that the archive is as well has it, with its manifest, if it
/// is the same image of the same blobs.
fn as_layout(image: Image, reference: &Reference, opening: &OpenOptions) -> Image {
    let transport = image.reference().and_then(|text| Reference::parse(text).ok()?.transport);
    if transport != Some(Transport::DockerArchive) {
        return image;
    }
    let selector = Some(Selector::Digest(image.id().hex()));
    let reference = Reference { transport: Some(Transport::OciArchive), selector, path: reference.path.clone() };
    let Ok(layout) = Image::open(&reference, opening) else { return image };
    let same = |(a, b): (&LayerRecord, &LayerRecord)| a.digest.is_some() && a.digest == b.digest;
    let same = image.layers().len() == layout.layers().len() && image.layers().iter().zip(layout.layers()).all(same);
    if layout.id() == image.id() && same { layout } else { image }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_tags() {
        for (tags, names, refs) in [
            (&["alpine:3", "docker.io/library/alpine:3", "3"][..], &["alpine:3"][..], &[][..]),
            (&["latest"], &[], &["latest"]),
            (&["localhost/a:1", "x@sha256:00"], &["localhost/a:1"], &[]),
            (&["Not/A:Name"], &[], &["Not/A:Name"]),
        ] {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            let (found, bare) = split_tags(&tags);
            assert_eq!(found.iter().map(Name::to_string).collect::<Vec<_>>(), names);
            assert_eq!(bare, refs);
        }
    }
}

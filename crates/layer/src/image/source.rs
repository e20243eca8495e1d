//! What a medium knows of the images in it, and the choice of one.

use anyhow::{Result, bail, ensure};

use super::platform::Platform;
use super::reference::Selector;
use super::{Image, OpenOptions, name};
use crate::check::Absent;
use crate::digest::{Digest, ImageId};

/// A medium with images in it. What it holds is known without reading more than its index; all else is read when asked for,
/// so that a damaged image does not stand in the way of its neighbours.
pub(super) trait ImageSource {
    /// Returns the medium's list of images as stored.
    fn index(&self) -> &[u8];

    /// Returns what may be chosen from, in the medium's order. The other functions take a place in this list.
    fn candidates(&self) -> Vec<Candidate>;

    /// Reads the ImageID; `None` where it is something else than an image.
    fn id(&self, candidate: usize) -> Result<Option<ImageId>>;

    /// Reads what it runs on, where that is said anywhere.
    fn platform(&self, candidate: usize) -> Result<Option<Platform>>;

    /// Says whether it is there at all: an index may list platforms that were not copied with it.
    fn is_present(&self, candidate: usize) -> bool;

    /// Reads all but the layers.
    fn load(&self, candidate: usize) -> Result<Image>;
}

/// What may be chosen from.
pub(super) struct Candidate {
    pub(super) tags: Vec<String>,
    pub(super) positions: Vec<usize>,
    /// The manifest's digest, where the medium has manifests.
    pub(super) digest: Option<Digest>,
    /// It is only a step of the way to another image: it is not meant where nothing is said, and not listed.
    pub(super) intermediate: bool,
}

/// Loads the one image that `selector` and `options` mean.
pub(super) fn load_one(source: &dyn ImageSource, selector: Option<&Selector>, options: &OpenOptions) -> Result<Image> {
    let candidates = source.candidates();
    let mut chosen: Vec<usize> = (0..candidates.len()).collect();
    if let Some(selector) = selector {
        chosen = select(source, &candidates, selector);
        if chosen.is_empty() {
            bail!(absent(source, &candidates, &format!("`{selector}`")));
        }
    } else {
        chosen.retain(|&at| !candidates[at].intermediate);
    }
    if chosen.len() > 1 {
        // What cannot be read stays, to be reported by whoever asks for it.
        chosen.retain(|&at| !matches!(source.id(at), Ok(None)));
    }
    if let Some(platform) = &options.platform {
        chosen = of_platform(source, &chosen, platform)?;
        if chosen.is_empty() {
            bail!(absent(source, &candidates, &format!("for {platform}")));
        }
    } else if chosen.len() > 1 {
        chosen = narrow(source, &candidates, chosen);
    }
    match chosen[..] {
        [] => bail!("holds no image"),
        [one] => source.load(one),
        _ => bail!("holds {} images, expected one (choose {})", chosen.len(), list(source, &candidates, &chosen)),
    }
}

/// Loads every image that `selector` and `options` allow. Manifests that an index lists without holding them are passed over,
/// unless there is nothing else.
pub(super) fn load_all(
    source: &dyn ImageSource,
    selector: Option<&Selector>,
    options: &OpenOptions,
) -> Result<Vec<Image>> {
    let candidates = source.candidates();
    let mut chosen: Vec<usize> = (0..candidates.len()).collect();
    match selector {
        Some(selector) => chosen = select(source, &candidates, selector),
        None => chosen.retain(|&at| !candidates[at].intermediate),
    }
    if chosen.iter().any(|&at| source.is_present(at)) {
        chosen.retain(|&at| source.is_present(at));
    }
    if let Some(platform) = &options.platform {
        chosen = of_platform(source, &chosen, platform)?;
    }
    let mut images = Vec::new();
    for at in chosen {
        if source.id(at)?.is_some() {
            images.push(source.load(at)?);
        }
    }
    if images.is_empty() && (selector.is_some() || options.platform.is_some()) {
        bail!(absent(source, &candidates, "of that name or platform"));
    }
    ensure!(!images.is_empty(), "holds no image");
    Ok(images)
}

/// Returns the error that no image is what was asked for; it lists what there is.
fn absent(source: &dyn ImageSource, candidates: &[Candidate], asked: &str) -> Absent {
    let images: Vec<usize> = (0..candidates.len()).filter(|&at| !matches!(source.id(at), Ok(None))).collect();
    Absent(format!("holds no image {asked} (there is {})", list(source, candidates, &images)))
}

fn select(source: &dyn ImageSource, candidates: &[Candidate], selector: &Selector) -> Vec<usize> {
    let all = |hold: &dyn Fn(usize, &Candidate) -> bool| -> Vec<usize> {
        candidates.iter().enumerate().filter(|(at, candidate)| hold(*at, candidate)).map(|(at, _)| at).collect()
    };
    let by_id = |digits: &str| all(&|at, _| matches!(source.id(at), Ok(Some(id)) if id.hex().starts_with(digits)));
    match selector {
        Selector::Position(position) => all(&|_, candidate| candidate.positions.contains(position)),
        Selector::Name(name) => {
            let exact = all(&|_, candidate| candidate.tags.contains(name));
            let or = |found: Vec<usize>, more: &dyn Fn() -> Vec<usize>| if found.is_empty() { more() } else { found };
            let tagged = || all(&|_, candidate| candidate.tags.iter().any(|tag| name::matches(name, tag)));
            // As `docker` has it, an ImageID goes without its algorithm where nothing has that name.
            let is_hex = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            or(or(exact, &tagged), &|| if is_hex { by_id(name) } else { Vec::new() })
        }
        Selector::Digest(digits) => {
            let manifests =
                all(&|_, candidate| candidate.digest.is_some_and(|digest| digest.hex().starts_with(digits)));
            if manifests.is_empty() {
                return by_id(digits);
            }
            manifests
        }
    }
}

fn of_platform(source: &dyn ImageSource, chosen: &[usize], platform: &Platform) -> Result<Vec<usize>> {
    let mut matching = Vec::new();
    for &at in chosen {
        if source.platform(at)?.is_some_and(|has| platform.matches(&has)) {
            matching.push(at);
        }
    }
    Ok(matching)
}

/// Chooses among images that are one image for several platforms: those that are there, and of them the one for this
/// machine.
fn narrow(source: &dyn ImageSource, candidates: &[Candidate], mut chosen: Vec<usize>) -> Vec<usize> {
    let tags = |at: usize| &candidates[at].tags;
    if chosen.iter().any(|&at| tags(at) != tags(chosen[0])) {
        return chosen;
    }
    if chosen.iter().any(|&at| source.is_present(at)) {
        chosen.retain(|&at| source.is_present(at));
    }
    let host = Platform::host();
    let matching: Vec<usize> = chosen
        .iter()
        .copied()
        .filter(|&at| matches!(source.platform(at), Ok(Some(has)) if host.matches(&has)))
        .collect();
    if matching.is_empty() { chosen } else { matching }
}

/// How many images a message lists.
const LISTED: usize = 8;

/// Lists images for a message: what may stand behind the colon of the reference, and the platform.
fn list(source: &dyn ImageSource, candidates: &[Candidate], chosen: &[usize]) -> String {
    let name = |at: usize| {
        let name = match (&candidates[at].tags[..], candidates[at].digest) {
            ([tag, ..], _) => tag.clone(),
            ([], Some(digest)) => format!("sha256:{}", &digest.hex()[..12]),
            ([], None) => match (&candidates[at].positions[..], source.id(at)) {
                ([], Ok(Some(id))) => format!("sha256:{}", &id.hex()[..12]),
                _ => format!("@{at}"),
            },
        };
        let platform = source.platform(at).ok().flatten().map(|platform| format!(" {platform}"));
        name + &platform.unwrap_or_default()
    };
    let names: Vec<String> = chosen.iter().take(LISTED).map(|&at| name(at)).collect();
    match chosen.len() {
        0 => "none".to_owned(),
        all if all > LISTED => format!("{} and {} more", names.join(", "), all - LISTED),
        _ => names.join(", "),
    }
}

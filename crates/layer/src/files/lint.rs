//! Entries on which docker, podman, containerd and plain unpackers disagree, or that they refuse.

mod rules;

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::archive::{self, Kind, Member, Members};
use crate::change::{Body, Device, Entry, Escaped, LayerPath, Meta, NoBody, Node, Sink};
use crate::cli::Table;
use crate::image::Image;
use crate::overlay;
use crate::record::name_member;
use crate::tree::{LayerBuilder, PathId, Tree, What};
use crate::whiteout::{self, Name};

pub use rules::Rule;

/// An entry on which tools disagree.
pub struct Finding {
    /// Its layer, counted from the base.
    pub layer: usize,
    /// Its name as stored.
    pub name: Vec<u8>,
    /// What is the matter.
    pub rule: &'static Rule,
    /// What it is about, where the name does not say it.
    pub detail: String,
}

/// Looks at all entries of an image's layers. What this project itself would refuse is a finding here, and the entry is
/// passed over.
///
/// # Errors
/// What reading gives: a layer that is no tar is beyond this.
pub fn check(image: &Image, max_size: Option<u64>) -> Result<Vec<Finding>> {
    let mut tree = Tree::new();
    let mut findings = Vec::new();
    for layer in 0..image.layers().len() {
        let mut read = || {
            let mut lint = Lint::new(tree.layer()?, layer, &mut findings);
            let mut members = Members::new(image.open_tar(layer, max_size)?);
            while let Some((member, mut content)) = members.next_member()? {
                lint.member(member, &mut content);
            }
            lint.finish()
        };
        read().with_context(|| format!("layer {layer}"))?;
    }
    Ok(findings)
}

/// One layer while it is looked at.
struct Lint<'a> {
    builder: LayerBuilder<'a>,
    layer: usize,
    findings: &'a mut Vec<Finding>,
    /// What whiteouts of this layer name, and the parents that were spoken of already.
    whiteouts: HashSet<PathId>,
    parents: HashSet<PathId>,
    /// Hard links whose target was not there yet.
    pending: Vec<(Vec<u8>, Entry, LayerPath)>,
}

impl<'a> Lint<'a> {
    fn new(builder: LayerBuilder<'a>, layer: usize, findings: &'a mut Vec<Finding>) -> Self {
        let (whiteouts, parents) = (HashSet::new(), HashSet::new());
        Self { builder, layer, findings, whiteouts, parents, pending: Vec::new() }
    }

    fn find(&mut self, name: &[u8], rule: &'static Rule, detail: impl Into<String>) {
        self.findings.push(Finding { layer: self.layer, name: name.to_vec(), rule, detail: detail.into() });
    }

    fn member(&mut self, member: &mut Member, content: &mut dyn Body) {
        let name = member.name.clone();
        let kept = match whiteout::decode(&name) {
            Err(err) => {
                let rule = if is_bare(&name) { &rules::BARE_WHITEOUT } else { &rules::NAME };
                self.find(&name, rule, err.to_string());
                return;
            }
            Ok(Name::Aufs) => {
                self.find(&name, &rules::AUFS, "");
                return;
            }
            Ok(Name::Opaque(path)) => {
                if self.layer == 0 {
                    self.find(&name, &rules::WHITEOUT_OF_NOTHING, "it is in the base layer");
                }
                self.builder.opaque(&path)
            }
            Ok(Name::Whiteout(path)) => {
                self.whiteout(&name, &path);
                self.builder.whiteout(&path)
            }
            Ok(Name::Entry(path)) => match self.entry(member, &path) {
                false => return,
                true => archive::decode(member, content, &mut self.builder),
            },
        };
        if let Err(err) = kept {
            self.find(&name, &rules::REFUSED, format!("{err:#}"));
        }
    }

    fn whiteout(&mut self, name: &[u8], path: &LayerPath) {
        let Ok(Some(place)) = self.builder.place(path) else { return };
        self.whiteouts.insert(place);
        if self.builder.own(place).is_some() {
            self.find(name, &rules::WHITEOUT_AND_ENTRY, "the whiteout stands behind the entry");
        } else if self.builder.tree().visible(place).is_none() {
            let detail = if self.layer == 0 { "it is in the base layer" } else { "no lower layer has it" };
            self.find(name, &rules::WHITEOUT_OF_NOTHING, detail);
        }
    }

    /// Looks at what a member puts; false where it is to be passed over.
    fn entry(&mut self, member: &Member, path: &LayerPath) -> bool {
        let name = &member.name;
        match member.kind {
            Kind::Other(typeflag) => {
                self.find(name, &rules::TYPE, format!("type `{}`", Escaped(&[typeflag])));
                return false;
            }
            Kind::Char if member.device == Device::WHITEOUT => self.find(name, &rules::WHITEOUT_DEVICE, ""),
            _ => {}
        }
        for (xattr, _) in member.xattrs.iter().filter(|(name, _)| overlay::is_bookkeeping(name)) {
            self.find(name, &rules::OVERLAY_XATTR, Escaped(xattr.as_encoded_bytes()).to_string());
        }
        let plain = Meta { mode: 0o755, ..Meta::default() };
        if path.is_root() {
            let Member { mode, uid, gid, .. } = *member;
            if (mode, uid, gid) != (plain.mode, 0, 0) {
                self.find(name, &rules::ROOT_ENTRY, format!("mode {mode:04o}, owner {uid}:{gid}"));
            }
            return true;
        }
        let place = match self.builder.place(path) {
            Ok(Some(place)) => place,
            _ => {
                self.find(name, &rules::BELOW_FILE, "");
                return false;
            }
        };
        if let Some(link) = self.lower_symlink(path) {
            self.find(name, &rules::SYMLINKED_PARENT, format!("`/{link}` is a symlink of a lower layer"));
        } else {
            self.parent(name, place);
        }
        let own = self.builder.own(place);
        if own.is_some_and(|own| !(own == What::Dir && member.kind == Kind::Dir)) {
            self.find(name, &rules::DUPLICATE, "");
        }
        if self.whiteouts.contains(&place) {
            self.find(name, &rules::WHITEOUT_AND_ENTRY, "the whiteout stands before the entry");
        }
        member.kind != Kind::Hardlink || self.hardlink(member, path)
    }

    /// Looks at a hard link; false where its target is not there yet.
    fn hardlink(&mut self, member: &Member, path: &LayerPath) -> bool {
        let Ok(target) = LayerPath::parse(&member.link) else { return true };
        let Ok(place) = self.builder.place(&target) else { return true };
        if place.is_some_and(|place| self.builder.own(place).is_some()) {
            return true;
        }
        if place.is_some_and(|place| self.builder.tree().visible(place).is_some()) {
            self.find(&member.name, &rules::HARDLINK_LOWER, format!("to `/{target}`"));
            return true;
        }
        let entry = Entry { path: path.clone(), node: Node::Hardlink(target.clone()), meta: Meta::default() };
        self.pending.push((member.name.clone(), entry, target));
        false
    }

    /// Returns the symlink of a lower layer that `path` leads through, if it does.
    fn lower_symlink(&self, path: &LayerPath) -> Option<LayerPath> {
        let tree = self.builder.tree();
        let mut at = path.parent();
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            if let Some(place) = tree.find(&dir)
                && self.builder.own(place).is_none()
                && let Some(entry) = tree.visible(place)
                && tree.what(tree.inode(entry)) == What::Symlink
            {
                return Some(dir);
            }
            at = dir.parent();
        }
        None
    }

    /// Looks at the directory that an entry is put into.
    fn parent(&mut self, name: &[u8], place: PathId) {
        let tree = self.builder.tree();
        let parent = tree.parent(place);
        if parent == Tree::ROOT || self.builder.own(parent).is_some() || !self.parents.insert(parent) {
            return;
        }
        let path = self.builder.tree().path(parent);
        let tree = self.builder.tree();
        match tree.visible(parent).filter(|&entry| tree.what(entry).is_dir()) {
            None => self.find(name, &rules::PARENT_MISSING, format!("`/{path}` is in no layer")),
            Some(lower) => {
                let Meta { mode, uid, gid, xattrs, .. } = tree.meta(lower);
                if (mode, uid, gid) != (0o755, 0, 0) || !xattrs.is_empty() {
                    let detail = format!("`/{path}` has mode {mode:04o}, owner {uid}:{gid} in a lower layer");
                    self.find(name, &rules::PARENT_NOT_IN_LAYER, detail);
                }
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        for (name, entry, target) in std::mem::take(&mut self.pending) {
            let place = self.builder.place(&target).ok().flatten();
            let forward = place.is_some_and(|place| self.builder.own(place).is_some());
            let rule = if forward { &rules::HARDLINK_FORWARD } else { &rules::HARDLINK_MISSING };
            self.find(&name, rule, format!("to `/{target}`"));
            if forward && let Err(err) = self.builder.put(&entry, &mut NoBody) {
                self.find(&name, &rules::REFUSED, format!("{err:#}"));
            }
        }
        self.builder.apply()
    }
}

/// Says whether the last component is the mark of a whiteout without a name.
fn is_bare(name: &[u8]) -> bool {
    let end = name.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    let last = name[..end].rsplit(|&b| b == b'/').next();
    matches!(last, Some(b".wh." | b".wh.." | b".wh..."))
}

/// A finding as a line of JSON.
pub struct FindingLine<'a>(pub &'a Finding);

impl Serialize for FindingLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Finding { layer, name, rule, detail } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("layer", layer)?;
        name_member(&mut map, "name", &Some(os(name)))?;
        map.serialize_entry("rule", rule.name)?;
        map.serialize_entry("what", rule.what)?;
        if !detail.is_empty() {
            map.serialize_entry("detail", detail)?;
        }
        let [docker, podman, containerd, plain] = rule.tools;
        for (tool, does) in [("docker", docker), ("podman", podman), ("containerd", containerd), ("tar", plain)] {
            map.serialize_entry(tool, does)?;
        }
        map.end()
    }
}

fn os(name: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(name.to_vec())
}

/// Returns the findings for people, and behind them what each tool does, once a rule.
pub fn tables(findings: &[Finding]) -> [Table; 2] {
    let mut table = Table::new(&[">LAYER", "RULE", "NAME", "DETAIL"]);
    let mut tools = Table::new(&["RULE", "TOOL", "WHAT IT DOES"]);
    let mut seen = HashSet::new();
    for Finding { layer, name, rule, detail } in findings {
        table.row([layer.to_string(), rule.name.to_owned(), Escaped(name).to_string(), detail.clone()]);
        if seen.insert(rule.name) {
            for (tool, does) in ["docker", "podman", "containerd", "tar"].iter().zip(rule.tools) {
                tools.row([rule.name.to_owned(), (*tool).to_owned(), does.to_owned()]);
            }
        }
    }
    [table, tools]
}

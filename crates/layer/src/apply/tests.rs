//! The laws of both forms, on changes made by hand. What the kernel shows of the overlay form is compared in the tool's
//! tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::*;
use crate::change::{BytesBody, Entry, LayerPath, Meta, Node, Sink, Time};
use crate::overlay::Namespace;
use crate::root::Root;
use anyhow::Result;

/// One change, as text: `d DIR MODE`, `f FILE CONTENT`, `s LINK TARGET`, `h LINK TARGET`, `w PATH`, `o DIR`.
fn change(text: &str, sink: &mut dyn Sink) -> Result<()> {
    let mut words = text.split(' ');
    let (kind, path, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
    let path = LayerPath::parse(path.as_bytes()).unwrap();
    let (node, mode) = match kind {
        "w" => return sink.whiteout(&path),
        "o" => return sink.opaque(&path),
        "d" => (Node::Dir, u32::from_str_radix(rest, 8).unwrap()),
        "f" => (Node::File(rest.len() as u64), 0o644),
        "s" => (Node::Symlink(rest.into()), 0o777),
        "h" => (Node::Hardlink(LayerPath::parse(rest.as_bytes()).unwrap()), 0o644),
        _ => panic!("{text}"),
    };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let meta = Meta { mode, uid, gid, mtime: Time { secs: 1000, nanos: 5 }, xattrs: Vec::new() };
    sink.put(&Entry { path, node, meta }, &mut BytesBody::new(rest.as_bytes()))
}

fn options() -> Options {
    Options { owner: Owner::Caller, namespace: Namespace::User, ..Options::default() }
}

fn write(mut sink: TreeSink, changes: &[&str]) -> Result<()> {
    for text in changes {
        change(text, &mut sink).map_err(|err| err.context(text.to_string()))?;
    }
    sink.finish().map(drop)
}

fn plain(dir: &Path, changes: &[&str]) -> Result<()> {
    write(TreeSink::plain(Root::open(dir).unwrap(), options()), changes)
}

fn overlay(dir: &Path, lowers: Option<&[&Path]>, changes: &[&str]) -> Result<()> {
    let lowers = lowers.map(|lowers| Lowers::open(lowers, Namespace::User).unwrap());
    write(TreeSink::overlay(Root::open(dir).unwrap(), lowers, options()).unwrap(), changes)
}

/// Lists a tree: path to type, mode, time, and content, target or opaqueness.
fn list(dir: &Path) -> BTreeMap<OsString, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let kind = stat.file_type();
            let says = if kind.is_dir() {
                todo.push(path.clone());
                let opaque = rustix::fs::lgetxattr(&path, "user.overlay.opaque", &mut [0; 8]).is_ok();
                format!("dir {:o} {}{}", stat.mode() & 0o7777, stat.mtime(), if opaque { " opaque" } else { "" })
            } else if kind.is_symlink() {
                format!("link {}", std::fs::read_link(&path).unwrap().display())
            } else if kind.is_char_device() {
                "whiteout".to_owned()
            } else {
                format!("file {} {}", stat.mtime(), std::fs::read_to_string(&path).unwrap())
            };
            found.insert(path.strip_prefix(dir).unwrap().into(), says);
        }
    }
    found
}

/// All orders of up to 5 changes.
fn orders<'a>(changes: &[&'a str]) -> Vec<Vec<&'a str>> {
    if changes.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, first) in changes.iter().enumerate() {
        let rest: Vec<_> = changes.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, text)| *text).collect();
        for mut order in orders(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

const LOWER: &[&str] = &["d d 700", "f d/old 1", "d d/e 750", "f d/e/old 2", "f f 3", "s l d", "f k 4", "h k2 k"];

/// Paths, each with what [`list`] says of it.
type Listing = &'static [(&'static str, &'static str)];

/// A layer, what the tree holds once it lies above [`LOWER`], and what its overlay form is.
const LAYERS: &[(&[&str], Listing, Listing)] = &[
    (&["w d", "w f", "w none", "w none/x"], &[], &[("d", "whiteout"), ("f", "whiteout")]),
    (
        &["w d", "d d 755", "f d/new n"],
        &[("d", "dir 755 1000"), ("d/new", "file 1000 n"), ("f", "file 1000 3")],
        &[("d", "dir 755 1000 opaque"), ("d/new", "file 1000 n")],
    ),
    (
        // Implied and removed: nothing of the lower directory is left, its mode neither.
        &["w d", "f d/new n", "w f"],
        &[("d", "dir 755 0"), ("d/new", "file 1000 n")],
        &[("d", "dir 755 0 opaque"), ("d/new", "file 1000 n"), ("f", "whiteout")],
    ),
    (
        &["o d", "f d/new n", "f d/e/new m", "w d/old", "w f"],
        &[("d", "dir 700 1000"), ("d/e", "dir 755 0"), ("d/e/new", "file 1000 m"), ("d/new", "file 1000 n")],
        &[
            ("d", "dir 700 1000 opaque"),
            ("d/e", "dir 755 0"),
            ("d/e/new", "file 1000 m"),
            ("d/new", "file 1000 n"),
            ("f", "whiteout"),
        ],
    ),
    (
        // Directories that are only passed keep mode and time.
        &["f d/e/new n", "w d/old", "w f"],
        &[("d", "dir 700 1000"), ("d/e", "dir 750 1000"), ("d/e/new", "file 1000 n"), ("d/e/old", "file 1000 2")],
        &[
            ("d", "dir 700 1000"),
            ("d/e", "dir 750 1000"),
            ("d/e/new", "file 1000 n"),
            ("d/old", "whiteout"),
            ("f", "whiteout"),
        ],
    ),
    (
        // Through a symlink of the layers below.
        &["f l/new n", "w l/old", "w f", "w l/e"],
        &[("d", "dir 700 1000"), ("d/new", "file 1000 n")],
        &[
            ("d", "dir 700 1000"),
            ("d/e", "whiteout"),
            ("d/new", "file 1000 n"),
            ("d/old", "whiteout"),
            ("f", "whiteout"),
        ],
    ),
    (
        &["o /", "f d/new n", "d d/e 711"],
        &[("d", "dir 755 0"), ("d/e", "dir 711 1000"), ("d/new", "file 1000 n")],
        &[
            ("d", "dir 755 0 opaque"),
            ("d/e", "dir 711 1000"),
            ("d/new", "file 1000 n"),
            ("f", "whiteout"),
            ("k", "whiteout"),
            ("k2", "whiteout"),
            ("l", "whiteout"),
        ],
    ),
    (
        // A file of the layers below where a directory is needed; an opaque directory that nobody had.
        &["f f/x n", "o new", "w d"],
        &[("f", "dir 755 0"), ("f/x", "file 1000 n"), ("new", "dir 755 0")],
        &[("d", "whiteout"), ("f", "dir 755 0"), ("f/x", "file 1000 n"), ("new", "dir 755 0")],
    ),
    (
        // The marker is not for the directory that the symlink names.
        &["d l 755", "o l", "w f", "w d"],
        &[("l", "dir 755 1000")],
        &[("d", "whiteout"), ("f", "whiteout"), ("l", "dir 755 1000")],
    ),
];

fn listing(entries: Listing) -> BTreeMap<OsString, String> {
    entries.iter().map(|(path, says)| (OsString::from(path), says.to_string())).collect()
}

#[test]
fn no_order_of_the_changes_makes_a_difference_in_either_form() {
    for (changes, in_plain, in_overlay) in LAYERS {
        for order in orders(changes) {
            let [tree, lower, layer] = [(); 3].map(|()| tempfile::tempdir().unwrap());
            plain(tree.path(), LOWER).unwrap();
            plain(tree.path(), &order).unwrap();
            let mut found = list(tree.path());
            let untouched = ["k", "k2", "l"].map(OsString::from);
            found.retain(|path, _| listing(in_plain).contains_key(path) || !untouched.contains(path));
            if !changes.contains(&"w f") && !changes.contains(&"o /") && !in_plain.iter().any(|(path, _)| *path == "f")
            {
                found.remove(&OsString::from("f"));
            }
            assert_eq!(found, listing(in_plain), "{order:?}");

            overlay(lower.path(), Some(&[]), LOWER).unwrap();
            overlay(layer.path(), Some(&[lower.path()]), &order).unwrap();
            assert_eq!(list(layer.path()), listing(in_overlay), "{order:?}");
        }
    }
}

#[test]
fn without_lowers_all_that_may_be_there_is_hidden() {
    for order in orders(&["w a", "o d", "f d/new n", "w x/y", "w d/z"]) {
        let layer = tempfile::tempdir().unwrap();
        overlay(layer.path(), None, &order).unwrap();
        let want = listing(&[
            ("a", "whiteout"),
            ("d", "dir 755 0 opaque"),
            ("d/new", "file 1000 n"),
            ("x", "dir 755 0"),
            ("x/y", "whiteout"),
        ]);
        assert_eq!(list(layer.path()), want, "{order:?}");
    }
    let layer = tempfile::tempdir().unwrap();
    let err = overlay(layer.path(), None, &["o /"]).unwrap_err();
    assert!(format!("{err:#}").contains("`--lower`"), "{err:#}");
}

#[test]
fn links_to_lower_files_bring_all_their_names() {
    let [tree, lower, layer] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let names = ["k", "k2", "new/k3"];
    let same = |dir: &Path| {
        let inodes = names.map(|name| dir.join(name).symlink_metadata().unwrap().ino());
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
    };
    plain(tree.path(), LOWER).unwrap();
    plain(tree.path(), &["h new/k3 k"]).unwrap();
    same(tree.path());
    overlay(lower.path(), Some(&[]), LOWER).unwrap();
    overlay(layer.path(), Some(&[lower.path()]), &["h new/k3 k"]).unwrap();
    same(layer.path());
    assert_eq!(list(layer.path()).len(), 4);
    let err = overlay(layer.path(), None, &["h other gone"]).unwrap_err();
    assert!(format!("{err:#}").contains("`gone`, which is not there"), "{err:#}");
}

#[test]
fn what_leads_out_or_nowhere_is_refused() {
    for (changes, want) in [
        (&["s s /etc", "h h s/passwd"][..], "`s/passwd`, which is not there"),
        (&["h h none"], "`none`, which is not there"),
        (&["d d 755", "h h d"], "which is a directory"),
        (&["h h /"], "which is a directory"),
        (&["d d 755", "f d/x 1", "h d d/x"], "which it would replace"),
        (&["s a b", "s b a", "f a/x 1"], "more than 40 symlinks"),
        (&["f a 1", "f a/b 2"], "`a` is not a directory"),
        (&["f a 1", "s s a", "f s/b 2"], "`s` is not a directory"),
    ] {
        for known in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let made = if known { overlay(dir.path(), Some(&[]), changes) } else { plain(dir.path(), changes) };
            let err = format!("{:#}", made.unwrap_err());
            assert!(err.contains(want), "{changes:?}: {err}");
        }
    }
}

#[test]
fn the_last_of_several_entries_of_a_name_stays() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("keep"), "").unwrap();
    let out = outside.path().as_os_str().as_bytes().to_vec();
    let link = format!("s a {}", String::from_utf8(out).unwrap());
    let dir = tempfile::tempdir().unwrap();
    plain(dir.path(), &["f a 1", "d a2 755", "f a2/x 1", &link, "f a end", "h a a", "d a3 0", "f a3/x 2"]).unwrap();
    let found = list(dir.path());
    assert_eq!(found[&OsString::from("a")], "file 1000 end");
    assert_eq!(found[&OsString::from("a3")], "dir 0 1000");
    assert!(outside.path().join("keep").exists());
}

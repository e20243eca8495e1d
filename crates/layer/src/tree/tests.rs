use super::*;
use crate::archive::{Stream, TarSink};
use crate::change::{Entry, LayerPath, Meta, NoBody, Node, Sink};

use super::testing::{changes, tree};

/// The merged root: `path@layer`, directories with a slash, implied ones with a question mark.
fn merged(tree: &Tree) -> String {
    let mut lines = Vec::new();
    for path in tree.walk(Tree::ROOT).skip(1) {
        let entry = tree.visible(path).unwrap();
        let mark = match tree.what(entry) {
            What::Implied => "?",
            What::Dir => "/",
            What::Symlink => ">",
            What::Hardlink => "~",
            _ => "",
        };
        lines.push(format!("{}{mark}@{}", tree.path(path), tree.layer_of(entry)));
    }
    lines.join(" ")
}

#[test]
fn layers_merge_as_overlayfs_shows_them() {
    for (layers, want) in [
        (&["a/ a/x=1 b=2"][..], "a/@0 a/x@0 b@0"),
        (&["a/ a/x=1", "a/x=2"], "a/@0 a/x@1"),
        (&["a/ a/x=1 b=1", "-a -b"], ""),
        (&["a/ a/x=1", "-a/x"], "a/@0"),
        // Nothing that a layer puts is removed by it, wherever the marker stands.
        (&["a/ a/x=1", "a/y=1 !a"], "a/@0 a/y@1"),
        (&["a/ a/x=1", "!a a/y=1"], "a/@0 a/y@1"),
        (&["a=1", "a=2 -a"], "a@1"),
        (&["a/ a/x=1", "a/ -a a/y=1"], "a/@1 a/y@1"),
        (&["a/ a/x=1", "!"], ""),
        // What replaces a directory takes away what was in it, and the other way round.
        (&["a/ a/x=1", "a=1"], "a@1"),
        (&["a=1", "a/ a/x=1"], "a/@1 a/x@1"),
        (&["a/ a/x=1", "a=1", "a/"], "a/@2"),
        // Missing parents.
        (&["a/b/c=1"], "a?@0 a/b?@0 a/b/c@0"),
        (&["a/", "a/b=1"], "a/@0 a/b@1"),
        (&["a=1", "a/b=1"], "a?@1 a/b@1"),
        // Whiteouts of nothing do nothing.
        (&["-a/b/c", "x=1 -y"], "x@1"),
        // A later member of the same name replaces the earlier.
        (&["a=1 a=2 a/ a/x=1"], "a/@0 a/x@0"),
    ] {
        assert_eq!(merged(&tree(layers).unwrap()), want, "{layers:?}");
    }
}

#[test]
fn symlinks_in_the_path_of_an_entry_are_followed() {
    for (layers, want) in [
        (&["d/ l->d l/x=1"][..], "d/@0 d/x@0 l>@0"),
        (&["l->/d/e l/x=1"], "d?@0 d/e?@0 d/e/x@0 l>@0"),
        (&["a/ a/l->../b a/l/x=1"], "a/@0 a/l>@0 b?@0 b/x@0"),
        (&["l->../../b l/x=1"], "b?@0 b/x@0 l>@0"),
        (&["d/ l->d", "l/x=1"], "d/@0 d/x@1 l>@0"),
        (&["d/ d/x=1 l->d", "-l/x"], "d/@0 l>@0"),
        (&["l->d", "l/x=1"], "d?@1 d/x@1 l>@0"),
        // Not where the layer itself takes the symlink away.
        (&["d/ l->d", "-l l/x=1"], "d/@0 l?@1 l/x@1"),
        (&["d/ l->d", "l/ l/x=1"], "d/@0 l/@1 l/x@1"),
        // A file gives way to a directory, but not where a symlink leads.
        (&["d/ d/x=1 l->d", "!l"], "d/@0 d/x@0 l>@0"),
        (&["a/ a/b=1", "!a/c"], "a/@0 a/b@0 a/c?@1"),
        (&["f=1", "f/.x=1 -g/h"], "f?@1 f/.x@1"),
    ] {
        assert_eq!(merged(&tree(layers).unwrap()), want, "{layers:?}");
    }
    for (layer, want) in [
        ("l->l l/x=1", "more than 40 symlinks"),
        ("a=1 a/x=1", "below what is no directory"),
        ("a=1 l->a l/x=1", "below what is no directory"),
        ("a~b", "hard link to `b`, which is not there"),
        ("b/ a~b", "which is a directory"),
    ] {
        let err = format!("{:#}", tree(&[layer]).err().unwrap());
        assert!(err.contains(want), "{layer}: {err}");
    }
}

#[test]
fn hard_links_keep_the_file_whose_name_went() {
    let tree = tree(&["a=one b~a c~b", "a=two", "-b"]).unwrap();
    assert_eq!(merged(&tree), "a@1 c~@0");
    let find = |name: &str| tree.visible(tree.find(&LayerPath::parse(name.as_bytes()).unwrap()).unwrap()).unwrap();
    assert_eq!(tree.layer_of(tree.inode(find("c"))), 0);
    assert_eq!((tree.size(find("c")), tree.stored(find("c"))), (3, 0));
    assert_ne!(tree.inode(find("c")), find("a"));
}

#[test]
fn what_a_layer_took_away_is_known() {
    let tree = tree(&["d/ d/a=12345 d/b=123 e=1", "-d e=22"]).unwrap();
    let whiteout = tree.entries_of(1).next().unwrap();
    assert_eq!((tree.what(whiteout), tree.removed(whiteout)), (What::Whiteout, 8));
    let gone: Vec<_> = tree.entries_of(0).map(|entry| tree.gone(entry)).collect();
    assert_eq!(gone, vec![Some(1); 4]);
    let e = tree.find(&LayerPath::parse(b"e").unwrap()).unwrap();
    assert_eq!(tree.entries_at(e).len(), 2);
}

#[test]
fn paths_resolve_as_in_the_container() {
    let tree = tree(&["d/ d/f=1 l->d m->/l/../d/ loop->loop gone=1", "-gone"]).unwrap();
    for (path, want) in [("d/f", "d/f"), ("/l/f", "d/f"), ("m/f", "d/f"), ("../../l/./f", "d/f"), ("m", "d"), ("", "")]
    {
        let (found, _) = tree.resolve(path.as_bytes()).unwrap();
        assert_eq!(tree.path(found).as_bytes(), want.as_bytes(), "{path}");
    }
    for (path, want) in [
        ("gone", "`gone` is not in the image"),
        ("no/where", "`no/where` is not in the image"),
        ("d/f/x", "`d/f` is no directory"),
        ("loop", "more than 40 symlinks"),
    ] {
        let err = tree.resolve(path.as_bytes()).unwrap_err().to_string();
        assert!(err.contains(want), "{path}: {err}");
    }
}

#[test]
fn contents_are_read_in_any_order_with_and_without_leaps() {
    let layers = ["a=one b=two h~a", "c=three b=four"].map(|lines| {
        let mut sink = TarSink::new(Vec::new());
        changes(lines, &mut sink).unwrap();
        sink.finish().unwrap()
    });
    let mut tree = Tree::new();
    for tar in &layers {
        let mut layer = tree.layer().unwrap();
        crate::archive::read_tar(&tar[..], &mut layer).unwrap();
        layer.apply().unwrap();
    }
    let mut contents = Contents::new(&tree, |layer| Ok(Stream(&layers[layer][..])));
    for (name, want) in [("a", "one"), ("h", "one"), ("b", "four"), ("c", "three"), ("a", "one"), ("b", "four")] {
        let entry = tree.visible(tree.find(&LayerPath::parse(name.as_bytes()).unwrap()).unwrap()).unwrap();
        let mut text = Vec::new();
        let mut add = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            Ok(())
        };
        contents.read(entry, |body| copy(body, tree.size(entry), &mut add)).unwrap();
        assert_eq!(text, want.as_bytes(), "{name}");
    }
}

#[test]
fn metadata_comes_back_as_it_was() {
    let meta = Meta {
        mode: 0o4755,
        uid: 1000,
        gid: 4_000_000_000,
        mtime: Time { secs: -5, nanos: 7 },
        xattrs: vec![("user.a".into(), vec![0, 255]), ("user.b".into(), Vec::new())],
    };
    let mut tree = Tree::new();
    let mut layer = tree.layer().unwrap();
    let nodes = [Node::Char(Device { major: 10, minor: 200 }), Node::Fifo, Node::Symlink("a b".into())];
    for (name, node) in ["x", "y", "z"].iter().zip(&nodes) {
        let path = LayerPath::parse(name.as_bytes()).unwrap();
        layer.put(&Entry { path, node: node.clone(), meta: meta.clone() }, &mut NoBody).unwrap();
    }
    layer.apply().unwrap();
    for (entry, node) in tree.entries_of(0).zip(nodes) {
        assert_eq!((tree.node(entry), tree.meta(entry)), (node, meta.clone()));
    }
}

use std::ffi::OsStr;

use super::story::{Act, acts, changes};
use super::waste::MaxWaste;
use crate::change::LayerPath;
use crate::tree::{PathId, Tree, testing};

fn tree(layers: &[&str]) -> Tree {
    testing::tree(layers).unwrap()
}

fn path(tree: &Tree, name: &str) -> PathId {
    tree.find(&LayerPath::parse(name.as_bytes()).unwrap()).unwrap()
}

fn told(tree: &Tree, name: &str) -> String {
    let letter = |act: &Act| match act {
        Act::Added(_) => 'A',
        Act::Modified { .. } => 'M',
        Act::Removed(_) => 'D',
    };
    let steps = acts(tree, path(tree, name));
    steps.iter().map(|(layer, act)| format!("{}{layer}", letter(act))).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_story_of_a_path_has_each_layer_that_had_a_hand_in_it() {
    let tree = tree(&["d/ d/x=1 f=1 g=1 k/ k/y=1", "d/x=2 -f g=1 -g", "-d f=3 k=1", "d/ d/x=4", "!d"]);
    for (name, want) in [
        ("d/x", "A0 M1 D2 A3 D4"),
        ("d", "A0 D2 A3"),
        ("f", "A0 D1 A2"),
        ("g", "A0 M1"),
        ("k", "A0 M2"),
        ("k/y", "A0 D2"),
    ] {
        assert_eq!(told(&tree, name), want, "{name}");
    }
}

#[test]
fn a_layer_lists_what_it_did_and_of_what_went_the_top_only() {
    let tree = tree(&["d/ d/e/ d/e/x=1 d/y=1 f=1", "-d f=2 n/m=1", "f/ f/z=1", "!f"]);
    let paths: Vec<PathId> = tree.walk_all(Tree::ROOT).collect();
    let names = |paths: &[PathId]| paths.iter().map(|&path| tree.path(path).to_string()).collect::<Vec<_>>().join(" ");
    let found: Vec<String> = changes(&tree, &paths)
        .iter()
        .map(|all| [&all.added, &all.modified, &all.removed, &all.opaque].map(|list| names(list)).join("|"))
        .collect();
    assert_eq!(found, ["d d/e d/e/x d/y f|||", "n/m|f|d|", "f/z|f||", "||f/z|f"]);
}

#[test]
fn a_limit_is_bytes_or_a_percentage() {
    assert_eq!("10".parse::<MaxWaste>().unwrap(), MaxWaste::Bytes(10));
    assert_eq!("2.5%".parse::<MaxWaste>().unwrap(), MaxWaste::Percent(2.5));
    for text in ["", "%", "-1", "101%", "NaN%", "1MB"] {
        assert!(text.parse::<MaxWaste>().is_err(), "{text}");
    }
}

#[test]
fn the_root_means_all() {
    let count = |operands: &[&str]| {
        super::patterns(&operands.iter().map(|&operand| operand.to_owned()).collect::<Vec<_>>())
            .map(|found| found.len())
    };
    assert_eq!(count(&["/"]).unwrap(), 0);
    assert_eq!(count(&["./", "a"]).unwrap(), 0);
    assert_eq!(count(&["etc", "*.txt"]).unwrap(), 2);
    assert!(count(&[""]).is_err());
    assert_eq!(super::list::absolute(&LayerPath::root()), OsStr::new("/"));
}

//! What is read from disk and written to disk again is the same, on many small random trees.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::tests::{Log, diff, open, settle, upper};
use super::{compare, walk_upper};
use crate::apply::{Options, TreeSink};
use crate::overlay::Namespace;
use crate::root::Root;

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Fills `dir` with a few names of few kinds, so that two trees often have the same name for different things.
    fn fill(&mut self, dir: &Path, depth: u32, files: &mut Vec<std::path::PathBuf>) {
        for name in ["a", "b", "c", "d"] {
            let path = dir.join(name);
            match self.below(8) {
                0..=2 => {
                    fs::write(&path, [b'0' + self.below(3) as u8]).unwrap();
                    files.push(path);
                }
                3 => symlink(if self.below(2) == 0 { "a" } else { "../b" }, path).unwrap(),
                4 if !files.is_empty() => {
                    let at = self.below(files.len() as u64) as usize;
                    fs::hard_link(&files[at], path).unwrap();
                }
                5 | 6 if depth > 0 => {
                    fs::create_dir(&path).unwrap();
                    self.fill(&path, depth - 1, files);
                }
                _ => {}
            }
        }
    }

    fn tree(&mut self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.fill(dir.path(), 3, &mut Vec::new());
        settle(dir.path());
        dir
    }
}

fn options() -> Options {
    Options { namespace: Namespace::User, ..Options::default() }
}

/// Applies to `dir` what makes `old` into `new`.
fn apply(dir: &Path, old: &Path, new: &Path) {
    let mut sink = TreeSink::plain(Root::open(dir).unwrap(), options());
    compare(open(old), open(new), &mut sink).unwrap();
    sink.finish().unwrap();
}

#[test]
fn a_comparison_applied_to_the_old_tree_makes_the_new_one() {
    let mut random = Random(1);
    let empty = tempfile::tempdir().unwrap();
    for round in 0..60 {
        let (old, new, result) = (random.tree(), random.tree(), tempfile::tempdir().unwrap());
        apply(result.path(), empty.path(), old.path());
        assert_eq!(diff(old.path(), result.path()).unwrap(), "", "{round}");
        apply(result.path(), old.path(), new.path());
        assert_eq!(diff(new.path(), result.path()).unwrap(), "", "{round}");
    }
}

#[test]
fn a_layer_in_overlay_form_is_read_back_as_it_was() {
    let mut random = Random(2);
    for round in 0..60 {
        let (old, new, layer) = (random.tree(), random.tree(), tempfile::tempdir().unwrap());
        let mut sink = TreeSink::overlay(Root::open(layer.path()).unwrap(), None, options()).unwrap();
        compare(open(old.path()), open(new.path()), &mut sink).unwrap();
        sink.finish().unwrap();
        let mut again = Log::default();
        walk_upper(open(layer.path()), Vec::new(), &mut again).unwrap();
        assert_eq!(again.0, diff(old.path(), new.path()).unwrap(), "{round}");
    }
    // Opaque whiteouts, which no comparison makes.
    let (layer, copy) = (random.tree(), tempfile::tempdir().unwrap());
    fs::create_dir_all(layer.path().join("opaque/d")).unwrap();
    super::tests::mark(&layer.path().join("opaque"), "overlay.opaque", "y");
    let mut sink = TreeSink::overlay(Root::open(copy.path()).unwrap(), None, options()).unwrap();
    walk_upper(open(layer.path()), Vec::new(), &mut sink).unwrap();
    sink.finish().unwrap();
    assert_eq!(upper(copy.path(), &[]).unwrap(), upper(layer.path(), &[]).unwrap());
}

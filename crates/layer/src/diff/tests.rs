//! Both walks on small trees, without privileges: overlayfs's marks in the `user.` dialect, whiteouts as devices.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use tempfile::TempDir;

use super::{compare, walk_upper};
use crate::change::{Body, Entry, LayerPath, Node, Sink};

/// Writes down the changes, one a line.
#[derive(Default)]
pub(super) struct Log(pub(super) String);

impl Sink for Log {
    fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
        let path = &entry.path;
        let kind = match &entry.node {
            Node::File(size) => {
                let mut content = vec![b'.'; usize::try_from(*size)?];
                while let Some((at, run)) = body.next_run()? {
                    let at = usize::try_from(at)?;
                    content[at..at + run.len()].copy_from_slice(run);
                }
                let shown = if content.len() < 20 { String::from_utf8(content)? } else { format!("{size} bytes") };
                format!("file {path} [{shown}]")
            }
            Node::Dir => format!("dir {path}"),
            Node::Symlink(target) => format!("symlink {path} {}", target.display()),
            Node::Hardlink(target) => format!("link {path} {target}"),
            Node::Fifo => format!("fifo {path}"),
            other => format!("{path} {other:?}"),
        };
        self.0.push_str(&kind);
        for (name, value) in &entry.meta.xattrs {
            write!(self.0, " {}={}", name.display(), String::from_utf8_lossy(value))?;
        }
        self.0.push('\n');
        Ok(())
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<()> {
        Ok(writeln!(self.0, "whiteout {path}")?)
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<()> {
        Ok(writeln!(self.0, "opaque {path}")?)
    }
}

pub(super) fn open(dir: &Path) -> OwnedFd {
    File::open(dir).unwrap().into()
}

pub(super) fn upper(dir: &Path, lowers: &[&Path]) -> Result<String> {
    let mut log = Log::default();
    walk_upper(open(dir), lowers.iter().map(|dir| open(dir)).collect(), &mut log)?;
    Ok(log.0)
}

pub(super) fn diff(old: &Path, new: &Path) -> Result<String> {
    let mut log = Log::default();
    compare(open(old), open(new), &mut log)?;
    Ok(log.0)
}

fn node(path: &Path, kind: FileType) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), makedev(0, 0)).unwrap();
}

pub(super) fn mark(path: &Path, name: &str, value: &str) {
    setxattr(path, format!("user.{name}"), value.as_bytes(), XattrFlags::empty()).unwrap();
}

/// Makes a file of each name with its name as content, or a directory where the name ends in a slash.
fn tree(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    settle(dir.path());
    dir
}

/// Sets all times to one, so that trees made at different moments are equal.
pub(super) fn settle(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            settle(&path);
        }
        set_time(&path, 1_000_000);
    }
    set_time(dir, 1_000_000);
}

fn set_time(path: &Path, secs: i64) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: 5 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn an_upperdir_is_walked_depth_first_by_bytes() {
    let dir = tree(&["b", "a/y", "a/x/", "a-b", "B"]);
    symlink("../anywhere", dir.path().join("a/l")).unwrap();
    node(&dir.path().join("f"), FileType::Fifo);
    let want =
        "file B [B]\ndir a\nsymlink a/l ../anywhere\ndir a/x\nfile a/y [a/y]\nfile a-b [a-b]\nfile b [b]\nfifo f\n";
    assert_eq!(upper(dir.path(), &[]).unwrap(), want);
    let empty = tree(&[]);
    assert_eq!(upper(empty.path(), &[]).unwrap(), "");
}

#[test]
fn marks_of_overlayfs_become_changes() {
    let dir = tree(&["opaque/f", "not/f", "x/gone", "x/kept", "plain/kept"]);
    let at = |name: &str| dir.path().join(name);
    mark(&at("opaque"), "overlay.opaque", "y");
    mark(&at("not"), "overlay.opaque", "n");
    mark(&at("not/f"), "overlay.origin", "o");
    mark(&at("not/f"), "kept", "v");
    mark(&at("x"), "overlay.opaque", "x");
    File::create(at("x/gone")).unwrap();
    mark(&at("x/gone"), "overlay.whiteout", "");
    mark(&at("x/kept"), "overlay.whiteout", "");
    File::create(at("plain/kept")).unwrap();
    mark(&at("plain/kept"), "overlay.whiteout", "");
    node(&at("device"), FileType::CharacterDevice);
    fs::hard_link(at("device"), at("device2")).unwrap();
    let want = "whiteout device\nwhiteout device2\n\
        dir not\nfile not/f [not/f] user.kept=v\n\
        dir opaque\nopaque opaque\nfile opaque/f [opaque/f]\n\
        dir plain\nfile plain/kept []\n\
        dir x\nwhiteout x/gone\nfile x/kept [x/kept]\n";
    assert_eq!(upper(dir.path(), &[]).unwrap(), want);
}

#[test]
fn the_first_name_of_a_file_has_its_content() {
    let dir = tree(&["z/a", "b"]);
    fs::hard_link(dir.path().join("z/a"), dir.path().join("a")).unwrap();
    fs::hard_link(dir.path().join("z/a"), dir.path().join("z/b")).unwrap();
    // A name outside of the tree makes no difference.
    let other = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    fs::hard_link(dir.path().join("b"), other.path().join("b")).unwrap();
    let want = "file a [z/a]\nfile b [b]\ndir z\nlink z/a a\nlink z/b a\n";
    assert_eq!(upper(dir.path(), &[]).unwrap(), want);
}

#[test]
fn what_no_layer_can_hold_is_refused_or_reported() {
    for name in [".wh.x", "d/.wh..wh..opq", ".wh."] {
        let dir = tree(&[name]);
        let err = format!("{:#}", upper(dir.path(), &[]).unwrap_err());
        assert_eq!(err, format!("{name}: begins with `.wh.`, which layers keep for whiteouts"));
        assert!(diff(dir.path(), tree(&["d/"]).path()).is_err());
        assert!(diff(tree(&[]).path(), dir.path()).is_err());
    }
    let (dir, lower) = (tree(&["f"]), tree(&["s"]));
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    let mut log = Log::default();
    let sockets = walk_upper(open(dir.path()), Vec::new(), &mut log).unwrap();
    assert_eq!((log.0.as_str(), sockets), ("file f [f]\n", vec![LayerPath::parse(b"s").unwrap()]));
    assert_eq!(upper(dir.path(), &[lower.path()]).unwrap(), "file f [f]\nwhiteout s\n");
    settle(dir.path());
    assert_eq!(diff(lower.path(), dir.path()).unwrap(), "file f [f]\nwhiteout s\n");
    node(&dir.path().join("w"), FileType::CharacterDevice);
    assert!(diff(lower.path(), dir.path()).unwrap_err().to_string().contains('w'));
}

#[test]
fn holes_are_passed_over() {
    let dir = tree(&[]);
    let mut file = File::create(dir.path().join("sparse")).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"data").unwrap();
    file.set_len(4 << 20).unwrap();
    struct Runs(u64, u64);
    impl Sink for Runs {
        fn put(&mut self, entry: &Entry, body: &mut dyn Body) -> Result<()> {
            assert_eq!(entry.node, Node::File(4 << 20));
            while let Some((_, run)) = body.next_run()? {
                self.0 += run.len() as u64;
                self.1 += run.iter().filter(|&&b| b != 0).count() as u64;
            }
            Ok(())
        }
        fn whiteout(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }
        fn opaque(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }
    }
    let mut runs = Runs(0, 0);
    walk_upper(open(dir.path()), Vec::new(), &mut runs).unwrap();
    assert!(runs.0 < 1 << 20 && runs.1 == 4, "{} bytes read", runs.0);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    struct Meddler(File, fn(&File));
    impl Sink for Meddler {
        fn put(&mut self, _: &Entry, body: &mut dyn Body) -> Result<()> {
            body.next_run()?;
            (self.1)(&self.0);
            while body.next_run()?.is_some() {}
            Ok(())
        }
        fn whiteout(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }
        fn opaque(&mut self, _: &LayerPath) -> Result<()> {
            Ok(())
        }
    }
    let changes: [fn(&File); 3] = [
        |file| file.set_len(1 << 19).unwrap(),
        |file| file.set_len(1 << 21).unwrap(),
        |file| file.write_all_at(b"x", 1 << 19).unwrap(),
    ];
    for change in changes {
        let dir = tree(&[]);
        let path = dir.path().join("f");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        set_time(&path, 1);
        let file = File::options().write(true).open(&path).unwrap();
        let err = walk_upper(open(dir.path()), Vec::new(), &mut Meddler(file, change)).unwrap_err();
        assert_eq!(format!("{err:#}"), "f: changed while it was read");
    }
}

#[test]
fn depth_costs_no_descriptors() {
    let dir = tree(&[]);
    let deep = "d/".repeat(1000);
    fs::create_dir_all(dir.path().join(&deep)).unwrap();
    fs::write(dir.path().join(&deep).join("f"), "").unwrap();
    assert_eq!(upper(dir.path(), &[dir.path()]).unwrap().lines().count(), 1001);
    assert_eq!(diff(tree(&[]).path(), dir.path()).unwrap().lines().count(), 1002);
    let deeper = "d/".repeat(1025);
    fs::create_dir_all(dir.path().join(&deeper)).unwrap();
    assert!(format!("{:#}", upper(dir.path(), &[]).unwrap_err()).contains("1025 components"));
}

#[test]
fn equal_trees_differ_in_nothing() {
    let names = ["a", "d/b", "d/e/c", "empty/"];
    let (old, new) = (tree(&names), tree(&names));
    assert_eq!(diff(old.path(), new.path()).unwrap(), "");
}

#[test]
fn each_difference_is_found_and_its_directories_come_along() {
    type Case = (fn(&Path), &'static str);
    let content: fn(&Path) = |path| {
        fs::write(path, "D/E/F").unwrap();
        set_time(path, 1_000_000);
    };
    let cases: [Case; 8] = [
        (content, "dir d\ndir d/e\nfile d/e/f [D/E/F]\n"),
        (|path| set_time(path, 1_000_001), "dir d\ndir d/e\nfile d/e/f [d/e/f]\n"),
        (|path| mark(path, "x", "1"), "dir d\ndir d/e\nfile d/e/f [d/e/f] user.x=1\n"),
        (
            |path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap(),
            "dir d\ndir d/e\nfile d/e/f [d/e/f]\n",
        ),
        (|path| fs::remove_file(path).unwrap(), "dir d\ndir d/e\nwhiteout d/e/f\n"),
        (
            |path| fs::hard_link(path, path.with_file_name("g")).unwrap(),
            "dir d\ndir d/e\nfile d/e/f [d/e/f]\nlink d/e/g d/e/f\n",
        ),
        (
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir_all(path.join("n")).unwrap();
            },
            "dir d\ndir d/e\ndir d/e/f\ndir d/e/f/n\n",
        ),
        (
            |path| {
                fs::remove_dir_all(path.parent().unwrap()).unwrap();
                symlink("f", path.parent().unwrap()).unwrap();
            },
            "dir d\nsymlink d/e f\n",
        ),
    ];
    for (change, want) in cases {
        let (old, new) = (tree(&["a", "d/e/f", "d/k"]), tree(&["a", "d/e/f", "d/k"]));
        change(&new.path().join("d/e/f"));
        for dir in ["d/e", "d", ""] {
            if !new.path().join(dir).is_symlink() {
                set_time(&new.path().join(dir), 1_000_000);
            }
        }
        assert_eq!(diff(old.path(), new.path()).unwrap(), want);
    }
}

#[test]
fn a_file_whose_other_names_change_comes_with_all_of_them() {
    let link = |dir: &TempDir, from: &str, to: &str| {
        fs::hard_link(dir.path().join(from), dir.path().join(to)).unwrap();
        settle(dir.path());
    };
    let (old, new) = (tree(&["a", "c"]), tree(&["a", "c"]));
    link(&old, "a", "b");
    link(&new, "a", "b");
    assert_eq!(diff(old.path(), new.path()).unwrap(), "");
    link(&new, "a", "d");
    assert_eq!(diff(old.path(), new.path()).unwrap(), "file a [a]\nlink b a\nlink d a\n");
    assert_eq!(diff(new.path(), old.path()).unwrap(), "file a [a]\nlink b a\nwhiteout d\n");
    let apart = tree(&["a", "c"]);
    fs::write(apart.path().join("b"), "a").unwrap();
    settle(apart.path());
    assert_eq!(diff(old.path(), apart.path()).unwrap(), "file a [a]\nfile b [a]\n");
}

#[test]
fn the_root_comes_only_if_it_differs() {
    let (old, new) = (tree(&["a"]), tree(&["a"]));
    fs::set_permissions(new.path(), Permissions::from_mode(0o750)).unwrap();
    assert_eq!(diff(old.path(), new.path()).unwrap(), "dir /\n");
}

#[test]
fn names_in_any_bytes_pass() {
    let dir = tree(&[]);
    fs::write(dir.path().join(OsString::from_vec(b"caf\xe9\n".to_vec())), "").unwrap();
    assert_eq!(upper(dir.path(), &[]).unwrap(), "file caf\\xe9\\n []\n");
}

#[test]
fn reading_leaves_access_times_alone() {
    let dir = tree(&["d/f"]);
    let file = dir.path().join("d/f");
    upper(dir.path(), &[]).unwrap();
    assert_eq!(fs::metadata(file).unwrap().atime(), 1_000_000);
}

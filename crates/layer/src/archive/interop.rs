//! What GNU tar writes is read, and what is written here GNU tar reads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::testing::{Change, changes};
use super::*;
use crate::change::{BytesBody, Entry, LayerPath, Meta, NoBody, Node, Sink, Time};

/// Runs a command in `dir` and returns its stdout.
fn run(dir: &Path, command: &str, stdin: &[u8]) -> Vec<u8> {
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]).current_dir(dir).env("TZ", "UTC").env("LC_ALL", "C");
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, bytes) = (child.stdin.take().unwrap(), stdin.to_vec());
    let writer = std::thread::spawn(move || to.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    // A command that does not read has closed its end.
    let _ = writer.join().unwrap();
    assert!(output.status.success(), "{command}");
    output.stdout
}

#[test]
fn archives_of_gnu_tar_are_read_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let long = "l".repeat(90);
    let make = format!(
        "mkdir -p d/{long}; echo one > d/f; ln d/f d/h; ln -s f d/s; mkfifo d/p; echo deep > d/{long}/{long}
        truncate -s 5M d/sparse; echo middle | dd of=d/sparse bs=1 seek=3000000 conv=notrunc status=none
        for i in 1 2 3 4 5 6; do echo $i | dd of=d/sparse bs=64k seek=$((i * 11)) conv=notrunc status=none; done
        find d -exec touch -hd @1234567890.5 {{}} +; chmod 4711 d/f"
    );
    run(dir.path(), &make, b"");
    let content = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    for format in [
        "v7",
        "oldgnu",
        "gnu",
        "ustar",
        "posix",
        "gnu -S",
        "posix -S --sparse-version=0.0",
        "posix -S --sparse-version=0.1",
        "posix -S --sparse-version=1.0",
    ] {
        // V7 has no room for the long name and no fifos.
        let left_out = if format == "v7" { "--exclude=d/p --exclude=llll*" } else { "" };
        let list = format!("tar -c --sort=name --format={format} --owner=:7 --group=:8 {left_out} d");
        let tar = run(dir.path(), &list, b"");
        let mut names = Vec::new();
        for change in changes(&tar).unwrap() {
            let Change::Put(Entry { path, node, meta }, bytes) = change else { panic!() };
            let name = path.to_string();
            let nanos = if format.starts_with("posix") { 500_000_000 } else { 0 };
            assert_eq!((meta.uid, meta.gid, meta.mtime), (7, 8, Time { secs: 1234567890, nanos }), "{format} {name}");
            match (name.as_str(), node) {
                ("d/f", Node::File(4)) => assert_eq!((meta.mode, bytes), (0o4711, b"one\n".to_vec())),
                ("d/h", node) => assert_eq!(node, Node::Hardlink(LayerPath::parse(b"d/f").unwrap())),
                ("d/s", node) => assert_eq!(node, Node::Symlink("f".into())),
                ("d/p", node) => assert_eq!(node, Node::Fifo),
                (name, Node::File(size)) => {
                    assert!(size == bytes.len() as u64 && bytes == content(name), "{format} {name}");
                }
                (_, node) => assert_eq!(node, Node::Dir),
            }
            names.push(name);
        }
        let want = if format == "v7" { 5 } else { 8 };
        assert_eq!(names.len(), want, "{format}: {names:?}");
    }
}

#[test]
fn what_is_written_gnu_tar_lists_and_extracts() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    let path = |name: &str| LayerPath::parse(name.as_bytes()).unwrap();
    let meta = Meta { mode: 0o640, uid: 3_000_000, gid: 5, mtime: Time { secs: 86_400, nanos: 0 }, xattrs: vec![] };
    let mut sink = TarSink::new(Vec::new());
    let mut put = |name: &str, node, content: &[u8]| {
        sink.put(&Entry { path: path(name), node, meta: meta.clone() }, &mut BytesBody::new(content)).unwrap();
    };
    put("a", Node::File(3), b"abc");
    put("b", Node::Hardlink(path("a")), b"");
    put("caf\u{e9}", Node::Dir, b"");
    put(&long, Node::File(1000), &[b'x'; 1000]);
    put("s", Node::Symlink(long.clone().into()), b"");
    sink.whiteout(&path("gone")).unwrap();
    sink.put(&Entry { path: path("p"), node: Node::Fifo, meta: meta.clone() }, &mut NoBody).unwrap();
    let tar = sink.finish().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let list = run(dir.path(), "tar --numeric-owner --quoting-style=literal -tv | sed 's/  */ /g'", &tar);
    let want = format!(
        "-rw-r----- 3000000/5 3 1970-01-02 00:00 a
hrw-r----- 3000000/5 0 1970-01-02 00:00 b link to a
drw-r----- 3000000/5 0 1970-01-02 00:00 caf\u{e9}/
-rw-r----- 3000000/5 1000 1970-01-02 00:00 {long}
lrw-r----- 3000000/5 0 1970-01-02 00:00 s -> {long}
---------- 0/0 0 1970-01-01 00:00 .wh.gone
prw-r----- 3000000/5 0 1970-01-02 00:00 p
"
    );
    assert_eq!(String::from_utf8(list).unwrap(), want);
    run(dir.path(), "tar --no-same-owner -x", &tar);
    let found = run(dir.path(), "cat a b s; stat -c '%h %Y' a", b"");
    assert_eq!(String::from_utf8(found).unwrap(), format!("abcabc{}2 86400\n", "x".repeat(1000)));
}

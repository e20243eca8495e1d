//! What the dialects of tar mean, and what is refused in each.

use std::io::{Seek, Write};

use super::testing::{Change, Changes, END, Raw, changes, long, pax, record};
use super::*;
use crate::change::{Device, LayerPath, Meta, Node, Time};

/// Returns names (as messages show them) and contents, `-` for a whiteout and `!` for an opaque one.
fn listing(tar: &[u8]) -> Vec<String> {
    let show = |change| match change {
        Change::Put(entry, content) => format!("{} {}", entry.path, String::from_utf8_lossy(&content)),
        Change::Whiteout(path) => format!("-{path}"),
        Change::Opaque(path) => format!("!{path}"),
    };
    changes(tar).unwrap().into_iter().map(show).collect()
}

fn refusal(tar: &[u8]) -> String {
    format!("{:#}", changes(tar).unwrap_err())
}

fn only(tar: &[u8]) -> (Node, Meta) {
    match changes(tar).unwrap().pop() {
        Some(Change::Put(entry, _)) => (entry.node, entry.meta),
        other => panic!("{other:?}"),
    }
}

fn file(name: &str, data: &str) -> Vec<u8> {
    Raw::new(b'0', name).with(data.as_bytes())
}

#[test]
fn archives_end_in_three_ways() {
    let a = file("a", "1");
    let zeros = [0; 512];
    for tar in [
        [&a[..], &END].concat(),
        [&a[..], &zeros].concat(),
        a.clone(),
        a[..513].to_vec(),
        [&a[..], &END, &file("after", "x")].concat(),
        [&a[..], &END, b"garbage"].concat(),
    ] {
        assert_eq!(listing(&tar), ["a 1"], "{} bytes", tar.len());
    }
    for tar in [&[][..], &zeros, &END] {
        assert_eq!(listing(tar), [""; 0]);
    }
}

#[test]
fn what_is_cut_short_is_refused_at_every_byte() {
    let tar = [pax(&[("path", "p")]), file("x", &"d".repeat(600)), long(b'L', "l"), file("y", "z")].concat();
    let mut fine = Vec::new();
    for len in 0..tar.len() {
        if changes(&tar[..len]).is_ok() {
            fine.push(len);
        }
    }
    // At the start, where the first member ends, and within the padding behind each member's content.
    let want: Vec<usize> = [0].into_iter().chain(1536 + 600..=2560).chain(tar.len() - 511..tar.len()).collect();
    assert_eq!(fine, want);
}

#[test]
fn what_is_no_tar_says_so() {
    for (bytes, want) in [
        (&b"hello\n"[..], "not a tar archive: 6 bytes, expected blocks of 512"),
        (&[b'x'; 2000], "not a tar archive: checksum: `xxxxxxxx` is not an octal number"),
        (&[b'1'; 2000], "not a tar archive: checksum is 24952, expected 2396745"),
    ] {
        assert_eq!(refusal(bytes), want);
    }
    let after = [&file("a", "1")[..], &[b'x'; 512]].concat();
    assert_eq!(refusal(&after), "header at offset 1024: checksum: `xxxxxxxx` is not an octal number");
    let lone = [&file("a", "1")[..], &[0; 512], &file("b", "2")].concat();
    assert!(refusal(&lone).contains("zero block at offset 1024 is followed by data"));
}

#[test]
fn names_come_from_where_the_dialect_has_them() {
    let n100 = "n".repeat(100);
    let p155 = format!("{}/{}", "p".repeat(100), "q".repeat(54));
    for (tar, want) in [
        (Raw::new(b'0', &n100).with(b""), n100.clone()),
        (Raw::new(b'0', "a\0../../x").with(b""), "a".to_owned()),
        (Raw::new(b'0', &n100).field(345, p155.as_bytes()).with(b""), format!("{p155}/{n100}")),
        (Raw::gnu(b'0', "a").field(345, b"14524607573\x0014524607573\0").with(b""), "a".to_owned()),
        (Raw::new(b'0', "a").field(257, &[0; 8]).field(345, b"x").with(b""), "a".to_owned()),
        (
            Raw::new(b'0', "a")
                .field(345, &[b'p'; 131])
                .field(476, b"12345670123 12345670123 \0\0\0\0\0\0\0\0tar\0")
                .with(b""),
            { format!("{}/a", "p".repeat(131)) },
        ),
        ([long(b'L', &"l".repeat(200)), file("short", "")].concat(), "l".repeat(200)),
        ([long(b'L', "first"), long(b'L', "second"), file("short", "")].concat(), "second".to_owned()),
        ([long(b'L', "cut\0/../x"), file("short", "")].concat(), "cut".to_owned()),
        ([long(b'L', ""), file("short", "")].concat(), "short".to_owned()),
        ([pax(&[("path", "p/x")]), file("short", "")].concat(), "p/x".to_owned()),
        ([pax(&[("path", "")]), file("short", "")].concat(), "short".to_owned()),
        ([pax(&[("path", "same")]), long(b'L', "same"), file("short", "")].concat(), "same".to_owned()),
        ([pax(&[("path", "p")]), pax(&[("mtime", "5")]), file("short", "")].concat(), "short".to_owned()),
        (Raw::new(b'0', "caf\u{e9}").with(b""), "caf\u{e9}".to_owned()),
    ] {
        assert_eq!(listing(&tar), [format!("{want} ")]);
    }
}

#[test]
fn old_headers_are_understood() {
    let v7 = |typeflag, name| Raw::new(typeflag, name).field(257, &[0; 8]);
    let tar = [v7(0, "d/").with(b""), v7(0, "d/f").with(b"1"), Raw::new(b'7', "c").with(b"2")].concat();
    assert_eq!(listing(&tar), ["d ", "d/f 1", "c 2"]);
    assert_eq!(only(&tar[..512]).0, Node::Dir);
    // Sun's tar summed signed bytes.
    let mut signed = Raw::new(b'0', "caf\u{e9}").header();
    let sum: i32 =
        signed.iter().enumerate().map(|(at, &b)| if (148..156).contains(&at) { 32 } else { i32::from(b as i8) }).sum();
    signed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(listing(&signed), ["caf\u{e9} "]);
}

#[test]
fn metadata_comes_from_pax_before_the_header() {
    let raw = || Raw::new(b'0', "f").field(100, b"0104755\0").field(108, b"0000010\0").field(136, b"00000000017\0");
    let time = |secs, nanos| Time { secs, nanos };
    for (tar, uid, mtime) in [
        (raw().with(b""), 8, time(15, 0)),
        (
            [pax(&[("uid", "4294967294"), ("mtime", "-1.5")]), raw().with(b"")].concat(),
            u32::MAX - 1,
            time(-2, 500_000_000),
        ),
        ([pax(&[("mtime", "nan")]), raw().with(b"")].concat(), 8, time(15, 0)),
        (raw().field(108, b"\x80\0\0\0\x80\0\0\0").with(b""), 1 << 31, time(15, 0)),
        (raw().field(108, b"        ").field(136, &[0xff; 12]).with(b""), 0, time(-1, 0)),
    ] {
        let (_, meta) = only(&tar);
        assert_eq!((meta.mode, meta.uid, meta.mtime), (0o4755, uid, mtime));
    }
}

#[test]
fn overlay_bookkeeping_is_dropped_and_other_xattrs_stay() {
    let records = [
        ("SCHILY.xattr.user.z", "1"),
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("LIBARCHIVE.xattr.user.overlay.opaque", "eQ"),
        ("SCHILY.xattr.security.capability", "c"),
    ];
    let (_, meta) = only(&[pax(&records), Raw::new(b'5', "d").with(b"")].concat());
    assert_eq!(meta.xattrs, [("security.capability".into(), b"c".to_vec()), ("user.z".into(), b"1".to_vec())]);
}

#[test]
fn removals_come_in_three_spellings() {
    let null = Raw::new(b'3', "d/c").field(329, b"0000000\0").field(337, b"0000000\0").with(b"");
    let tar = [file("d/.wh.a", "body"), file("d/.wh..wh..opq", ""), file(".wh..wh.plnk/1", "x"), null, file("f", "1")]
        .concat();
    assert_eq!(listing(&tar), ["-d/a", "!d", "-d/c", "f 1"]);
    assert_eq!(read_tar(&tar[..], &mut Changes::default()).unwrap().entries, 5);
}

#[test]
fn devices_links_and_the_root_are_bounded() {
    let device = |major: &[u8], minor: &[u8]| Raw::new(b'3', "c").field(329, major).field(337, minor);
    let ok = device(b"\x80\0\0\0\0\0\x0f\xff", b"3777777 ").with(b"");
    assert_eq!(only(&ok).0, Node::Char(Device { major: 4095, minor: (1 << 20) - 1 }));
    let long_target = |len| [pax(&[("linkpath", &"t".repeat(len))]), Raw::new(b'2', "l").with(b"")].concat();
    assert_eq!(only(&long_target(4095)).0, Node::Symlink("t".repeat(4095).into()));
    assert_eq!(only(&Raw::new(b'1', "l").link("/a/f").with(b"")).0, Node::Hardlink(LayerPath::parse(b"a/f").unwrap()));
    assert!(only(&Raw::new(b'5', "./").with(b"")).0 == Node::Dir);
    for (tar, want) in [
        (device(b"0010001\0", b"0000003\0").with(b""), "device major is 4097, expected 0 to 2^12-1"),
        (device(b"0000001\0", b"4000000\0").with(b""), "device minor is 1048576"),
        (device(b"1", b"1").field(257, &[0; 8]).with(b""), "no field for its number"),
        (long_target(4096), "link target of 4096 bytes"),
        (Raw::new(b'2', "l").with(b""), "entry `l` (header at offset 0): a link without a target"),
        (Raw::new(b'1', "l").link("../x").with(b""), "entry `l`: hard link: `../x` leads out of the layer"),
        (Raw::new(b'1', "l").link(".wh..wh.plnk/1").with(b""), "no entry of a layer"),
        (Raw::new(b'2', "./").link("/x").with(b""), "the root is a directory"),
        (file("", "x"), "the root is a directory"),
        (file("../x", ""), "entry `../x`: `..` leads out"),
    ] {
        let err = refusal(&tar);
        assert!(err.contains(want), "{want}: {err}");
    }
}

#[test]
fn what_parsers_disagree_on_is_refused() {
    let data = file("PWN", "");
    let sized = |typeflag| Raw::new(typeflag, "e").link("t").with(&data);
    for (tar, want) in [
        (sized(b'5'), "a directory has a size of 512 bytes, expected none"),
        (sized(b'2'), "a symbolic link has a size"),
        (sized(b'1'), "a hard link has a size"),
        (sized(b'6'), "a fifo has a size"),
        (sized(b'3'), "a device has a size"),
        (sized(b'Z'), "type `Z` is not one that layers have"),
        (sized(b'M'), "type `M`"),
        (sized(b'X'), "type `X`"),
        ([pax(&[("path", "a")]), long(b'L', "b"), file("c", "")].concat(), "name is `a` by PAX and `b` by GNU headers"),
        ([pax(&[("linkpath", "a")]), long(b'K', "b"), Raw::new(b'1', "c").with(b"")].concat(), "link target is `a`"),
        (Raw::new(b'g', "g").with(&record("size", b"512")), "offset 0: PAX record `size`: `size` in a global header"),
        (pax(&[("path", "a")]), "extension header at offset 0 is followed by the end of the archive"),
        ([&long(b'L', "a")[..], &END].concat(), "extension header at offset 0 is followed by the end"),
    ] {
        let err = refusal(&tar);
        assert!(err.contains(want), "{want}: {err}");
    }
    let git = [Raw::new(b'g', "pax_global_header").with(&record("comment", b"0")), file("a", "1")].concat();
    assert_eq!(listing(&git), ["a 1"]);
    let named = [Raw::new(b'g', "g").with(&record("path", b"x")), file("a", "1"), file("b", "2")].concat();
    assert_eq!(listing(&named), ["a 1", "b 2"]);
}

#[test]
fn sizes_are_believed_where_they_belong() {
    let hidden = file("PWN", "evil");
    let size = hidden.len().to_string();
    let sized =
        |before: Vec<u8>| [before, Raw::new(b'0', "outer").header().to_vec(), hidden.clone(), file("z", "")].concat();
    for tar in [
        sized(pax(&[("size", &size)])),
        sized(pax(&[("size", "0"), ("size", &size)])),
        sized([pax(&[("size", &size)]), long(b'L', "outer")].concat()),
    ] {
        let names: Vec<String> = listing(&tar).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["outer", "z"]);
    }
    let raw = |size: &[u8]| Raw::new(b'0', "f").field(124, size).header().to_vec();
    for (tar, want) in [
        (raw(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\0"), "size is -512, expected 0 to 2^63-1"),
        (raw(b"12x4\0"), "size: `12x4` is not an octal number"),
        (raw(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), "size is 9223372036854775808"),
        (raw(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), "entry `f`: the archive is cut short"),
        (raw(b"77777777777\0"), "entry `f`: the archive is cut short"),
        ([pax(&[("size", "9223372036854775808")]), raw(b"")].concat(), "size is 9223372036854775808"),
        (Raw::new(b'0', "f").field(108, b"rootroot").with(b""), "uid: `rootroot` is not an octal number"),
        (Raw::new(b'0', "f").field(108, b"\x80\0\0\x01\0\0\0\0").with(b""), "uid is 4294967296, expected 0 to 2^32-2"),
        ([pax(&[("uid", "4294967295")]), raw(b"")].concat(), "uid is 4294967295"),
        ([pax(&[("gid", "-1")]), raw(b"")].concat(), "PAX record `gid`: `-1` is not a number"),
    ] {
        let err = refusal(&tar);
        assert!(err.contains(want), "{want}: {err}");
    }
}

#[test]
fn metadata_of_one_entry_is_bounded_and_read_once() {
    let tar = [long(b'L', "n").repeat(200_000), file("ok", "")].concat();
    assert!(refusal(&tar).contains("take more than 1048576 bytes"));
    let many: Vec<u8> = (0..100_000).flat_map(|i| pax(&[(&format!("k{i}"), "v")])).collect();
    assert!(refusal(&many).contains("take more than"));
    assert!(refusal(&Raw::new(b'x', "x").field(124, b"77777777777\0").header()).contains("take more than"));
    // Each entry has its own account.
    let fine = [pax(&[("comment", &"c".repeat(500_000))]), file("a", "")].concat().repeat(4);
    assert_eq!(listing(&fine).len(), 4);
}

#[test]
fn sparse_files_of_four_encodings_have_the_same_content() {
    let want = ["sp ".as_bytes(), &[b'A'; 512], &[0; 3584], &[b'B'; 512], &[0; 100]].concat();
    let data = [[b'A'; 512], [b'B'; 512]].concat();
    let pairs = b"00000000000\x0000000001000\x0000000010000\x0000000001000\x0000000011144\x0000000000000\0";
    let gnu = Raw::gnu(b'S', "sp").field(386, pairs).field(483, b"00000011144\0");
    let block = [&b"00000010000\x0000000001000\0"[..], &[0; 488]].concat();
    let extended = gnu.clone().field(410, &[0; 72]).field(482, b"\x01").size(1024).header();
    let map = b"2\n0\n512\n4096\n512\n";
    let v1_data = [&map[..], &[0; 495], &data].concat();
    let name = ("GNU.sparse.name", "sp");
    let of = |records: &[(&str, &str)], data: &[u8]| [pax(records), Raw::new(b'0', "x").with(data)].concat();
    let v1 = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), name, ("GNU.sparse.realsize", "4708")];
    let v0 = [("GNU.sparse.size", "4708"), name, ("GNU.sparse.numblocks", "2")];
    let pair = |offset| [("GNU.sparse.offset", offset), ("GNU.sparse.numbytes", "512")];
    for (encoding, tar) in [
        ("old", gnu.with(&data)),
        ("old, extended", [&extended[..], &block, &data].concat()),
        ("0.0", of(&[&v0[..], &pair("0"), &pair("4096")].concat(), &data)),
        ("0.1", of(&[&v0[..], &[("GNU.sparse.map", "0,512,4096,512")]].concat(), &data)),
        ("1.0", of(&v1, &v1_data)),
    ] {
        let listing = listing(&[tar, file("ok", "")].concat());
        assert_eq!(listing[1], "ok ", "{encoding}");
        assert!(listing[0].as_bytes() == want, "{encoding}");
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let old = |pairs: &[u8], real: &[u8]| Raw::gnu(b'S', "sp").field(386, pairs).field(483, real).with(&[b'A'; 512]);
    let v1 = |data: &[u8], real| {
        let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", real)];
        [pax(&records), Raw::new(b'0', "sp").with(data)].concat()
    };
    let map = |map: &[u8]| [map, &vec![0; 512 - map.len()], &[b'A'; 512]].concat();
    let unfinished = [&b"1000000000\n"[..], &b"0\n".repeat(250), b"0"].concat();
    let endless = [
        Raw::gnu(b'S', "sp").field(482, b"\x01").field(483, b"777\0").header().to_vec(),
        [&[0; 504][..], &[1; 8]].concat().repeat(5000),
    ]
    .concat();
    let dir = pax(&[("GNU.sparse.numblocks", "0"), ("GNU.sparse.size", "0")]);
    for (tar, want) in [
        (old(b"00000000000\x0000000000400\x0000000000200\x0000000000400\0", b"10000\0"), "begins before"),
        (old(b"00004000000\x0000000001000\0", b"10000\0"), "ends past"),
        (old(b"00000000000\x0000000002000\0", b"10000\0"), "are 1024 bytes together, expected the 512"),
        (old(b"00000000000\x0000000000400\0", b"10000\0"), "are 256 bytes together"),
        (old(&[0xff; 24], b"10000\0"), "sparse extent is -1"),
        (old(b"", b"-1\0"), "real size"),
        (Raw::new(b'S', "sp").with(b""), "not GNU's"),
        (endless, "take more than"),
        (v1(&map(b"1000000000\n0\n512\n"), "4096"), "number of over 20 digits"),
        (v1(&unfinished, "4096"), "leads out of the content"),
        (v1(&map(b"1\n0\n-1\n"), "4096"), "not a number"),
        (v1(&map(b"1\n0\n512\n"), "-1"), "GNU.sparse.realsize"),
        (v1(&map(b"1\n0\n512\n"), "511"), "ends past"),
        ([dir, Raw::new(b'5', "d").with(b"")].concat(), "on what is no regular file"),
    ] {
        let err = refusal(&tar);
        assert!(err.contains(want), "{want}: {err}");
    }
}

#[test]
fn what_is_not_read_of_a_body_is_skipped() {
    struct Lazy(usize, Vec<String>);
    impl crate::change::Sink for Lazy {
        fn put(&mut self, entry: &crate::change::Entry, body: &mut dyn crate::change::Body) -> anyhow::Result<()> {
            for _ in 0..self.0 {
                body.next_run()?;
            }
            self.1.push(entry.path.to_string());
            Ok(())
        }
        fn whiteout(&mut self, _: &LayerPath) -> anyhow::Result<()> {
            Ok(())
        }
        fn opaque(&mut self, _: &LayerPath) -> anyhow::Result<()> {
            Ok(())
        }
    }
    let tar = [file("a", &"x".repeat(1500)), file(".wh.b", &"x".repeat(600)), file("c", "y"), END.to_vec()].concat();
    for capacity in [1, 7, 512, 1000, 100_000] {
        for runs in [0, 1, 2, 3000] {
            let mut sink = Lazy(runs, Vec::new());
            read_tar(std::io::BufReader::with_capacity(capacity, &tar[..]), &mut sink).unwrap();
            assert_eq!(sink.1, ["a", "c"]);
        }
    }
}

#[test]
fn members_of_a_file_are_found_without_reading_their_contents() {
    let tar = [file("a", &"x".repeat(100_000)), Raw::new(b'2', "l").link("a").with(b""), file("b", "end")].concat();
    let mut archive = tempfile::tempfile().unwrap();
    archive.write_all(&tar).unwrap();
    archive.rewind().unwrap();
    let mut members = Members::new(ArchiveFile::new(archive.try_clone().unwrap()).unwrap());
    let mut found = Vec::new();
    while let Some((member, _)) = members.next_member().unwrap() {
        let Member { name, kind, link, size, header_offset, content_offset, .. } = member.clone();
        found.push((String::from_utf8(name).unwrap(), kind, link, size, header_offset, content_offset));
    }
    let link = 512 + 100_352;
    let want = [
        ("a".to_owned(), Kind::File, vec![], 100_000, 0, 512),
        ("l".to_owned(), Kind::Symlink, b"a".to_vec(), 0, link, link + 512),
        ("b".to_owned(), Kind::File, vec![], 3, link + 512, link + 1024),
    ];
    assert_eq!(found, want);

    archive.set_len(50_000).unwrap();
    archive.rewind().unwrap();
    let mut members = Members::new(ArchiveFile::new(archive).unwrap());
    members.next_member().unwrap();
    assert_eq!(format!("{:#}", members.next_member().err().unwrap()), "entry `a`: the archive is cut short");
}

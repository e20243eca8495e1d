"""Layers that no honest tool would write, by class; see hostile.py. Headers are made by hand: tarfile is too polite."""

import gzip
import random
import struct
import zlib

TAKE, REFUSE, EITHER = "take", "refuse", "either"
END = bytes(1024)
BLOCK = 512


def octal(number, width):
    return b"%0*o\0" % (width - 1, number) if isinstance(number, int) else number.ljust(width, b"\0")


def base256(number, width):
    field = bytearray(number.to_bytes(width, "big", signed=True))
    field[0] |= 0x80
    return bytes(field)


def pad(data):
    return data + bytes(-len(data) % BLOCK)


def head(name, kind=b"0", size=0, mode=0o644, uid=0, gid=0, mtime=1, link=b"", magic=b"ustar\x0000", dev=(0, 0), prefix=b"", off=0):
    fields = [name.ljust(100, b"\0")[:100], octal(mode, 8), octal(uid, 8), octal(gid, 8), octal(size, 12), octal(mtime, 12)]
    fields += [b" " * 8, kind, link.ljust(100, b"\0")[:100], magic, bytes(64), octal(dev[0], 8), octal(dev[1], 8), prefix.ljust(155, b"\0"), bytes(12)]
    block = bytearray(b"".join(fields))
    block[148:156] = b"%06o\0 " % (sum(block) + off)
    return bytes(block)


def record(key, value):
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def extension(kind, body, size=None):
    return head(b"PaxHeaders/x", kind, len(body) if size is None else size) + pad(body)


def pax(*records):
    return extension(b"x", b"".join(record(k, v) for k, v in records))


def put(name, data=b"", **fields):
    """A file; one with a long name or link gets it by PAX."""
    link = fields.get("link", b"")
    long = [(k, v) for k, v in ((b"path", name), (b"linkpath", link)) if len(v) > 100]
    return (pax(*long) if long else b"") + head(name, **{"size": len(data), **fields}) + pad(data)


def folder(name, mode=0o755, **fields):
    return put(name, kind=b"5", mode=mode, **fields)


def symlink(name, target):
    return put(name, kind=b"2", link=target, mode=0o777)


def link(name, target, **fields):
    return put(name, kind=b"1", link=target, **fields)


def gone(name):
    at = name.rfind(b"/") + 1
    return put(name[:at] + b".wh." + name[at:])


def tar(*parts):
    return b"".join(parts) + END


GOOD = tar(folder(b"d"), put(b"d/a", b"a"), put(b"ok", b"ok"))
SEEN = {b"ok": b"ok", b"d/a": b"a"}


def names(out):
    """`out` is an absolute path outside, of a directory with the file `secret` and the directory `dir`."""
    up = b"../" * 20
    yield "climbs", REFUSE, [tar(put(b"../out", b"x"))]
    yield "climbs from within", REFUSE, [tar(put(b"a/b/../../../out", b"x"))]
    yield "climbs far", REFUSE, [tar(put(up + out[1:] + b"/new", b"x"))]
    yield "climbs by a directory's mode", REFUSE, [tar(folder(b"..", 0o777))]
    yield "climbs behind a slash", EITHER, [tar(put(b"/../out", b"x"))]
    yield "dots that stay inside", EITHER, [tar(folder(b"a"), put(b"a/../in", b"x"))], {b"in": b"x"}
    yield "absolute", TAKE, [tar(put(b"/a/b", b"x"), put(b"//c", b"x"))], {b"a/b": b"x", b"c": b"x"}
    yield "dots in names", TAKE, [tar(put(b"...", b"x"), put(b"..a", b"x"), put(b"./b//c", b"x"))], {b"...": b"x", b"b/c": b"x"}
    yield "odd bytes", TAKE, [tar(put(b"a\nb\t\x1b[31m\xff\\c", b"x"), put(b"-rf", b""))], {b"a\nb\t\x1b[31m\xff\\c": b"x"}
    yield "empty", EITHER, [tar(put(b"", b"x"))]
    yield "slashes only", EITHER, [tar(put(b"//", b"x"))]
    for kind, target in ((b"2", out), (b"0", b""), (b"1", b"a"), (b"6", b"")):
        yield f"the root as type {kind}", REFUSE, [tar(put(b"a"), put(b"./", kind=kind, link=target), put(b"new"))]
        yield f"the root as type {kind}, later", REFUSE, [GOOD, tar(put(b"/", kind=kind, link=target))]
    yield "the root's own entry", TAKE, [tar(folder(b"./", 0o711), put(b"a"))], {b"a": b""}
    for target in (out, up + out[1:], b"/proc/self/root" + out, b"/proc/self/cwd/../canary"):
        yield "through a link", EITHER, [tar(symlink(b"l", target), put(b"l/new", b"x"), folder(b"l/dir", 0o777))]
        yield "through a link of the layer below", EITHER, [tar(symlink(b"l", target)), tar(put(b"l/new"), folder(b"l/dir", 0))]
        yield "through two links", EITHER, [tar(symlink(b"a", b"b"), symlink(b"b", target), put(b"a/x/y/new"), gone(b"a/secret"))]
    yield "a link in the place of a directory", EITHER, [tar(folder(b"d", 0, uid=7, mtime=9), symlink(b"d", out + b"/dir"))]
    yield "a directory in the place of a link", TAKE, [tar(symlink(b"l", out + b"/dir"), folder(b"l", 0o777))], {b"l": None}
    yield "a directory made, removed, linked", EITHER, [tar(folder(b"d/e"), put(b"d/e/f")), tar(gone(b"d/e"), symlink(b"d/e", out), put(b"d/e/new"))]
    yield "a link within", TAKE, [tar(folder(b"run"), symlink(b"var", b"/run"), put(b"var/x", b"x"))], {b"run/x": b"x"}
    yield "a link loop", EITHER, [tar(symlink(b"a", b"b"), symlink(b"b", b"a"), put(b"a/x"))]
    steps = [symlink(b"s0", b".")] + [symlink(b"s%d" % n, b"s%d/s%d" % (n - 1, n - 1)) for n in range(1, 32)]
    yield "links that double", EITHER, [tar(*steps, put(b"s31/x"))]
    yield "a path over PATH_MAX by links", EITHER, [tar(folder(b"e" * 200), symlink(b"l", b"/".join([b"e" * 200, b".."] * 19)), put(b"l/" * 9 + b"x"))]


def links(out):
    secret = out + b"/secret"
    for target in (secret, b"../canary/secret", b"a/../../canary/secret", b"../t-beside/secret", b"/proc/self/cwd/canary/secret"):
        yield "a hard link that leads out", REFUSE, [tar(link(b"l", target))]
    yield "a hard link out through a symlink", REFUSE, [tar(symlink(b"s", out), link(b"l", b"s/secret"))]
    yield "the same by PAX", REFUSE, [tar(put(b"a"), pax((b"linkpath", secret)), link(b"l", b"a"))]
    yield "the same by a long link", REFUSE, [tar(put(b"a"), extension(b"K", secret + b"\0"), link(b"l", b"a"))]
    yield "to a symlink, then overwritten", EITHER, [tar(symlink(b"s", secret), link(b"l", b"s", mode=0o4777), put(b"l", b"new"), put(b"s", b"x"))], {b"l": b"new", b"s": b"x"}
    yield "a symlink overwritten", TAKE, [tar(symlink(b"s", secret)), tar(put(b"s", b"new"))], {b"s": b"new"}
    yield "a symlink's owner and time", EITHER, [tar(put(b"s", kind=b"2", link=secret, uid=0, mode=0o4777, mtime=5))]
    yield "to itself", EITHER, [tar(put(b"a", b"x"), link(b"a", b"a"))], {b"a": b"x"}
    yield "to a directory", REFUSE, [tar(folder(b"d"), link(b"l", b"d"))]
    yield "to the root", REFUSE, [tar(link(b"l", b"/"))]
    yield "to its own parent", REFUSE, [tar(put(b"a"), link(b"a/b", b"a"))]
    yield "to nothing", REFUSE, [tar(link(b"l", b"a"), put(b"a"))]
    yield "a chain", TAKE, [tar(put(b"a", b"x"), link(b"b", b"a"), link(b"c", b"b"))], {b"c": b"x"}
    yield "rewritten", TAKE, [tar(put(b"a", b"old"), link(b"b", b"a")), tar(put(b"a", b"new"))], {b"a": b"new", b"b": b"old"}
    yield "with data", EITHER, [tar(put(b"a"), link(b"b", b"a", size=BLOCK), put(b"../hidden"))]
    yield "empty symlink", REFUSE, [tar(symlink(b"l", b""))]
    yield "symlink of 4095 bytes", TAKE, [tar(symlink(b"l", b"a" * 4095))]
    yield "symlink of 4096 bytes", REFUSE, [tar(symlink(b"l", b"a" * 4096))]
    yield "symlink with a NUL", REFUSE, [tar(pax((b"linkpath", b"a\0b")), symlink(b"l", b"x"))]


def whiteouts(out):
    below = tar(folder(b"d"), put(b"d/old", b"x"), put(b"f", b"x"), symlink(b"s", out))
    for name in (b".wh.", b".wh..", b".wh...", b"d/.wh.", b"d/.wh..", b"d/.wh...", b"d/.wh../x", b".wh.d/x"):
        yield f"{name} removes no parent", REFUSE if not name.endswith(b"x") else EITHER, [below, tar(put(name))]
    for name in (b"s/secret", b"s/dir", b"../canary/secret", out + b"/secret"):
        yield "a whiteout that leads out", EITHER, [below, tar(gone(name))]
    yield "an opaque marker that leads out", EITHER, [below, tar(put(b"s/.wh..wh..opq"))]
    yield "the same in one layer", EITHER, [tar(symlink(b"l", out), gone(b"l/secret"), put(b"l/.wh..wh..opq"))]
    yield "a NUL in its name", EITHER, [tar(pax((b"path", b".wh.a\0b")), put(b"x"))]
    yield "types that are no file", EITHER, [below, tar(symlink(b".wh.f", out + b"/secret"), put(b"d/.wh.old", kind=b"6"))]
    yield "content is skipped", EITHER, [below, tar(put(b".wh.f", put(b"../hidden", b"x")))]
    yield "a link is removed, not its target", TAKE, [below, tar(gone(b"s"))], {b"s": False}
    yield "opaque above a link", TAKE, [tar(folder(b"d"), symlink(b"d/s", out)), tar(folder(b"d"), put(b"d/.wh..wh..opq"))], {b"d/s": False}
    yield "never its own layer's", TAKE, [tar(put(b"a", b"x"), gone(b"a"), put(b"d/.wh..wh..opq"), put(b"d/b", b"x"))], {b"a": b"x", b"d/b": b"x"}
    yield "of nothing", TAKE, [tar(gone(b"no"), gone(b"no/such/path"))]
    yield "of the longest name", TAKE, [tar(put(b"n" * 255)), tar(gone(b"n" * 255))], {b"n" * 255: False}
    yield "names that only look like one", TAKE, [tar(put(b".wha", b"x"), put(b"a.wh.b", b"x"), put(b".wh", b"x"))], {b"a.wh.b": b"x"}
    yield "AUFS's own names", EITHER, [tar(folder(b".wh..wh.plnk"), put(b".wh..wh.aufs"), link(b"x", b".wh..wh.plnk/1.2"))]


def devices(_):
    for major in (4097, 2**32 + 1, 2**20 + 1):
        yield f"major {major} is not cut", REFUSE, [tar(put(b"n", kind=b"3", dev=(base256(major, 8), 1)))]
        yield f"major {major} by PAX", REFUSE, [tar(pax((b"SCHILY.devmajor", b"%d" % major)), put(b"n", kind=b"3", dev=(1, 3)))]
    yield "a minor that wraps", REFUSE, [tar(put(b"n", kind=b"4", dev=(1, base256(2**32 + 3, 8))))]
    yield "a file in a FIFO's place", EITHER, [tar(put(b"n", kind=b"6"), put(b"n", b"x"))], {b"n": b"x"}
    yield "a file in a device's place", EITHER, [tar(put(b"n", kind=b"3", dev=(1, 3)), put(b"n", b"x"))], {b"n": b"x"}
    yield "below a device", EITHER, [tar(put(b"n", kind=b"6"), put(b"n/x"))]
    yield "a FIFO with data", EITHER, [tar(put(b"n", put(b"../hidden"), kind=b"6"))], {b"n": None}
    yield "an overlayfs whiteout in disguise", EITHER, [tar(put(b"n", kind=b"3"))]
    yield "type bits in the mode", TAKE, [tar(put(b"n", b"x", mode=0o120755))], {b"n": b"x"}


def xattrs(_):
    def with_xattrs(*names, value=b"y", name=b"d"):
        return tar(pax(*((b"SCHILY.xattr." + key, value) for key in names)), folder(name))

    for space in (b"trusted", b"user"):
        for key in (b"opaque", b"redirect", b"metacopy", b"whiteout", b"origin", b"overlay.opaque"):
            yield f"{space}.overlay.{key}", EITHER, [with_xattrs(space + b".overlay." + key)]
    yield "on the root", EITHER, [with_xattrs(b"trusted.overlay.opaque", name=b"./")]
    encoded = tar(pax((b"LIBARCHIVE.xattr.trusted%2eoverlay%2eopaque", b"eQ==")), folder(b"d"))
    yield "in libarchive's spelling", EITHER, [encoded]
    yield "a huge value", REFUSE, [with_xattrs(b"user.x", value=b"x" * 65537)]
    yield "very many", EITHER, [with_xattrs(*(b"user.%d" % n for n in range(5000)))]
    yield "a NUL in the name", EITHER, [with_xattrs(b"user.a\0b")]
    yield "no namespace", EITHER, [with_xattrs(b"x")]
    yield "a capability of a wrong size", EITHER, [tar(pax((b"SCHILY.xattr.security.capability", b"abc")), put(b"f"))]


def headers(_):
    for value in (b"-1", b"18446744073709551616", b"0x200", b"5.12e2", b"512\0", b"9223372036854775808"):
        yield f"a PAX size of {value}", REFUSE, [tar(pax((b"size", value)), put(b"f", b"x" * BLOCK))]
    for body in (b"0 path=x\n", b"99 path=x\n", b"5 path=x\n", b"path=x\n", b"8 pathx\n", b"10\tpath=x\n", b"9 path=x ", b"5 =x\n", b"-9 path=x\n", b"99999999999999999999 path=x\n"):
        yield f"the record {body}", REFUSE, [tar(extension(b"x", body), put(b"f"))]
    yield "PAX before the size", TAKE, [tar(pax((b"size", b"3")), put(b"f", b"abc", size=0), put(b"ok", b"ok"))], {b"f": b"abc", b"ok": b"ok"}
    yield "PAX below the size", TAKE, [tar(pax((b"size", b"3")), head(b"f", size=BLOCK) + pad(b"abc"), put(b"ok", b"ok"))], {b"f": b"abc", b"ok": b"ok"}
    yield "a NUL in a path", REFUSE, [tar(pax((b"path", b"a\0b")), put(b"f"))]
    yield "the last record counts", TAKE, [tar(pax((b"path", b"../no"), (b"path", b"yes")), put(b"f", b"x"))], {b"yes": b"x"}
    for key in (b"uid", b"gid"):
        for value in (b"4294967296", b"4294967295", b"-1", b"abc"):
            yield f"{key} {value}", REFUSE, [tar(pax((key, value)), put(b"f"))]
    yield "a time of letters", EITHER, [tar(pax((b"mtime", b"soon")), put(b"f"))]
    yield "a time far away", EITHER, [tar(pax((b"mtime", b"9" * 30)), put(b"f"))]
    yield "a global path", EITHER, [tar(extension(b"g", record(b"path", b"../all")), put(b"f"))]
    yield "a global size", EITHER, [tar(extension(b"g", record(b"size", b"0")), put(b"f", put(b"../hidden")))]
    yield "a global comment", TAKE, [tar(extension(b"g", record(b"comment", b"x")), put(b"f", b"x"))], {b"f": b"x"}
    yield "8 MiB of PAX", REFUSE, [tar(extension(b"x", record(b"comment", b"x" * (8 << 20))), put(b"f"))]
    yield "8 MiB of a name", REFUSE, [tar(extension(b"L", b"n" * (8 << 20)), put(b"f"))]
    for kind in (b"x", b"L", b"K", b"g"):
        yield f"{kind} of 8 GiB that is not there", REFUSE, [tar(extension(kind, b"", 0o77777777777))]
        yield f"{kind} at the end", REFUSE if kind != b"g" else EITHER, [extension(kind, record(b"path", b"x"))]
        yield f"{kind} again and again", EITHER, [tar(extension(kind, record(b"path", b"x")) * 5000, put(b"f"))]
    yield "a name that climbs, by L", REFUSE, [tar(extension(b"L", b"../" * 40 + b"x\0"), put(b"f"))]
    sparse = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"f"), (b"GNU.sparse.realsize", b"4096"))
    for map_ in (b"1000000000\n0\n512\n", b"2\n0\n512\n256\n512\n", b"1\n8192\n512\n", b"1\n-1\n512\n", b"1\n0\n9999\n", b"x\n", b"1\n0\n"):
        yield f"the sparse map {map_}", REFUSE, [tar(pax(*sparse), put(b"GNUSparseFile.1/f", pad(map_) + bytes(BLOCK)))]
    climbs = (*sparse[:2], (b"GNU.sparse.name", b"../out"), sparse[3])
    yield "a sparse name that climbs", REFUSE, [tar(pax(*climbs), put(b"f", pad(b"1\n0\n512\n") + bytes(BLOCK)))]


def numbers(_):
    for size in (base256(-1, 12), base256(2**63 - 1, 12), base256(-(2**63), 12), b"12x", b"9" * 11, 0o77777777777):
        yield f"a size of {size}", REFUSE, [tar(head(b"f", size=size) + bytes(BLOCK))]
        yield f"a PAX header of {size}", REFUSE, [tar(head(b"x", b"x", size=size) + bytes(BLOCK), put(b"f"))]
    for uid in (base256(2**32, 8), base256(2**32 - 1, 8), base256(-1, 8), b"root"):
        yield f"a uid of {uid}", REFUSE, [tar(head(b"f", uid=uid))]
    yield "blank numbers", EITHER, [tar(head(b"f", uid=b" " * 8, gid=bytes(8), mtime=b" " * 12))]
    yield "the earliest time", EITHER, [tar(head(b"f", mtime=base256(-(2**63), 12)))]
    yield "a wrong checksum", REFUSE, [tar(put(b"a"), head(b"b", off=1))]
    yield "only ones", REFUSE, [b"\xff" * BLOCK + END]
    yield "an unknown type with data", EITHER, [tar(put(b"a", put(b"../hidden"), kind=b"Z"), put(b"ok", b"ok"))]
    yield "a directory with data", EITHER, [tar(put(b"d", put(b"../hidden"), kind=b"5"))]
    yield "V7", TAKE, [tar(head(b"d/", b"\0", magic=bytes(8), mode=0o755), head(b"d/f", b"\0", magic=bytes(8)))], {b"d/f": b""}


def ends(_):
    random_ = random.Random(1).randbytes
    for cut in sorted({*range(1, 1500, 97), 511, 512 * 2, 512 * 2 + 1, 512 * 3 - 1}):
        whole = tar(put(b"a", b"x" * 1500))
        yield f"cut after {cut}", REFUSE if cut != 512 * 5 else EITHER, [whole[:cut]]
    for pack in (gzip.compress, lambda tar_: gzip.compress(tar_, 0)):
        packed = pack(tar(put(b"a", random_(3000))))
        for cut in (5, 11, len(packed) // 2, len(packed) - 8, len(packed) - 1):
            yield f"gzip cut after {cut}", REFUSE, [packed[:cut]]
        yield "a wrong CRC", REFUSE, [packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]]
        yield "a wrong length", REFUSE, [packed[:-1] + bytes([packed[-1] ^ 1])]
        yield "garbage behind", EITHER, [packed + b"garbage"]
        yield "wrong behind the end of the tar", REFUSE, [packed + gzip.compress(bytes(BLOCK))[:-8] + bytes(8)]
    yield "three gzip members", TAKE, [b"".join(gzip.compress(GOOD[at:at + 700]) for at in range(0, len(GOOD), 700))], SEEN
    yield "very many empty members", EITHER, [gzip.compress(b"") * 20000 + gzip.compress(GOOD)], SEEN
    yield "gzip in gzip", REFUSE, [gzip.compress(gzip.compress(GOOD))]
    yield "a gzip name without end", REFUSE, [b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (4 << 20)]
    yield "an unknown method", REFUSE, [b"\x1f\x8b\x07" + bytes(7) + zlib.compress(GOOD)]
    yield "a plain zstd", TAKE, [zstd(GOOD)], SEEN
    yield "zstd frames with others between", TAKE, [SKIP + zstd(GOOD[:600]) + SKIP + zstd(GOOD[600:]) + SKIP], SEEN
    yield "zstd cut", REFUSE, [zstd(GOOD)[:-300]]
    yield "a zstd window of 2 GiB", EITHER, [b"\x28\xb5\x2f\xfd\x00\xa8" + block(GOOD)]
    yield "zstd that claims 2^60 bytes", REFUSE, [b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**60) + block(GOOD)]
    yield "a zstd dictionary", REFUSE, [b"\x28\xb5\x2f\xfd\x21\x07" + b"\x00" + block(GOOD)]
    yield "a reserved zstd block", REFUSE, [b"\x28\xb5\x2f\xfd\x00\x58" + b"\x07\0\0"]
    yield "bzip2", REFUSE, [b"BZh91AY&SY" + bytes(600)]
    yield "nothing", EITHER, [b""]
    yield "only ends", TAKE, [END]
    yield "no end", EITHER, [GOOD[:-1024]], SEEN
    yield "a second archive behind", EITHER, [GOOD + tar(put(b"second"))], {b"second": False}
    yield "noise", REFUSE, [random_(1024)]
    yield "a short line", REFUSE, [b"hello\n"]


SKIP = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


def block(data):
    """One raw block, the last of its frame."""
    return struct.pack("<I", len(data) << 3 | 1)[:3] + data


def zstd(data):
    return b"\x28\xb5\x2f\xfd\x00\x58" + block(data)


def sizes(_):
    yield "a name of 255 bytes", TAKE, [tar(put(b"n" * 255, b"x"))], {b"n" * 255: b"x"}
    yield "a name of 256 bytes", REFUSE, [tar(put(b"n" * 256))]
    yield "20000 components", EITHER, [tar(put(b"d/" * 20000 + b"x"))]
    yield "6000 bytes of path", EITHER, [tar(put((b"d" * 20 + b"/") * 290 + b"x"))]
    yield "5000 files", TAKE, [tar(*(put(b"%d" % n) for n in range(5000)))], {b"4999": b""}
    yield "one file again and again", EITHER, [tar(*(put(b"f", b"%d" % n) for n in range(2000)))], {b"f": b"1999"}
    yield "opaque markers again and again", EITHER, [tar(*(put(b"d/%d" % n) for n in range(500)), put(b"d/.wh..wh..opq") * 500)]
    yield "locked directories", TAKE, [tar(folder(b"d", 0), put(b"d/f", b"x"))]
    yield "a file, a directory, a link, a file", EITHER, [tar(put(b"n"), folder(b"n"), put(b"n/x"), symlink(b"n", b"/"), put(b"n", b"x"))], {b"n": b"x"}
    yield "below a file", EITHER, [tar(put(b"f"), put(b"f/x"))]
    packed = zlib.compressobj(9, wbits=31)
    bomb = packed.compress(head(b"f", size=0o10000000000)) + b"".join(packed.compress(bytes(1 << 20)) for _ in range(64)) + packed.flush()
    yield "64 MiB of zeros, cut", REFUSE, [bomb]
    yield "1 GiB of PAX in little", REFUSE, [gzip.compress(head(b"x", b"x", size=1 << 30) + bytes(32 << 20))]
    yield "zeros behind the end", EITHER, [gzip.compress(GOOD + bytes(64 << 20))], SEEN


CLASSES = {of.__name__: of for of in (names, links, whiteouts, devices, xattrs, headers, numbers, ends, sizes)}

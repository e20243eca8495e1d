#!/usr/bin/python3
"""Writes a tar entry by entry, names and headers as they are given, good or bad.

Usage: entries.py OUT < LINES. A line is `TYPE NAME [ARG] [KEY=VALUE...]`, quoted as in a shell; NAME, ARG and VALUE take
\\n, \\xNN and the like. Types with their ARG:
  file NAME [CONTENT]   dir NAME   link NAME TARGET (a hard link)   symlink NAME TARGET
  char NAME MAJOR:MINOR   block NAME MAJOR:MINOR   fifo NAME   raw NAME TYPEFLAG [CONTENT]
  bytes CONTENT (as it stands, no header)   zeros COUNT
Keys: mode (octal) uid gid uname gname mtime, size (what the header says; CONTENT is what follows),
pax.KEY=VALUE (a PAX record of the entry, pax.SCHILY.xattr.user.x=1).
The end marker is written unless a line says `noend`.
"""

import shlex
import sys
import tarfile

TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "link": tarfile.LNKTYPE,
    "symlink": tarfile.SYMTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def split(line):
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.escape = ""  # Backslashes are for unescape().
    return list(lexer)


def unescape(text):
    """Returns bytes: Latin-1, with the escapes that Python's literals have."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def name_of(text):
    return unescape(text).decode("utf-8", "surrogateescape")


def pad(data):
    return data + bytes(-len(data) % 512)


def pax(records):
    body = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        body += str(length).encode() + rest
    header = tarfile.TarInfo("PaxHeaders/x")
    header.type = tarfile.XHDTYPE
    header.size = len(body)
    return header.tobuf(tarfile.USTAR_FORMAT) + pad(body)


def entry(kind, words):
    plain = [word for word in words if "=" not in word or word is words[0]]
    options = [word.split("=", 1) for word in words if "=" in word and word is not words[0]]
    info = tarfile.TarInfo(name_of(plain[0]))
    info.mode = 0o755 if kind == "dir" else 0o644
    content = b""
    rest = plain[1:]
    if kind == "raw":
        info.type = rest.pop(0).encode()
        content = unescape(rest[0]) if rest else b""
    else:
        info.type = TYPES[kind]
    if kind == "file" and rest:
        content = unescape(rest[0])
    if kind in ("link", "symlink"):
        info.linkname = name_of(rest[0])
    if kind in ("char", "block"):
        info.devmajor, info.devminor = map(int, rest[0].split(":"))
    info.size = len(content)
    records = []
    for key, value in options:
        if key == "content":
            content = unescape(value)
            info.size = len(content)
        elif key.startswith("pax."):
            records.append((key[4:].encode(), unescape(value)))
        elif key == "mode":
            info.mode = int(value, 8)
        elif key == "mtime" and not value.lstrip("-").isdigit():
            records.append((b"mtime", value.encode()))
            info.mtime = int(value.split(".")[0])
        elif key in ("uid", "gid", "size", "mtime"):
            setattr(info, key, int(value))
        else:
            setattr(info, key, value)
    # GNU_FORMAT takes what does not fit into a header: long names, base-256 numbers.
    head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return (pax(records) if records else b"") + head + pad(content)


def main(out):
    end = bytes(1024)
    with open(out, "wb") as tar:
        for line in sys.stdin:
            words = split(line)
            if not words:
                continue
            if words[0] == "noend":
                end = b""
            elif words[0] == "bytes":
                tar.write(unescape(words[1]))
            elif words[0] == "zeros":
                tar.write(bytes(int(words[1])))
            else:
                tar.write(entry(words[0], words[1:]))
        tar.write(end)


main(sys.argv[1])

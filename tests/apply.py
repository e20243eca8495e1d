#!/usr/bin/python3
"""Applies a layer to a plain tree, as image-spec's layer.md says: an oracle that shares no code with the tools.

Usage: apply.py LAYER.tar DIR, with a layer that is not compressed, as root. Times are whole seconds.
"""

import os
import shutil
import stat
import sys
import tarfile

WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def is_dir(path):
    return os.path.isdir(path) and not os.path.islink(path)


def remove(path):
    if is_dir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_hidden(members, top):
    for member in members:
        parent, name = os.path.split(os.path.join(top, raw(member.name)))
        if name == OPAQUE and is_dir(parent):
            for child in os.listdir(parent):
                remove(os.path.join(parent, child))
        elif name.startswith(WHITEOUT) and name != OPAQUE:
            remove(os.path.join(parent, name[len(WHITEOUT):]))


def make(tar, member, path, top):
    if not (member.isdir() and is_dir(path)):
        remove(path)
    if member.isdir():
        if not is_dir(path):
            os.mkdir(path)
    elif member.isreg():
        with open(path, "wb") as file:
            shutil.copyfileobj(tar.extractfile(member), file)
    elif member.issym():
        os.symlink(raw(member.linkname), path)
    elif member.islnk():
        os.link(os.path.join(top, raw(member.linkname)), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    else:
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind, os.makedev(member.devmajor, member.devminor))


def describe(member, path):
    os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, member.mode)
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr."):
            os.setxattr(path, raw(key[len("SCHILY.xattr."):]), raw(value), follow_symlinks=False)


def main(layer, top):
    top = os.fsencode(top)
    with tarfile.open(layer) as tar:
        members = tar.getmembers()
        remove_hidden(members, top)
        times = []
        for member in members:
            path = os.path.join(top, raw(member.name))
            if os.path.basename(path).startswith(WHITEOUT):
                continue
            make(tar, member, path, top)
            if not member.islnk():
                describe(member, path)
                times.append((path, int(member.mtime)))
    for path, time in reversed(times):
        os.utime(path, (time, time), follow_symlinks=False)


main(*sys.argv[1:])

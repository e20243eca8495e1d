#!/usr/bin/python3
"""Lists a tree, one line an entry, sorted by path: an oracle that shares no code with the tools.

Usage: tree.py DIR [EXCLUDE...], where EXCLUDE is one of the columns
mode owner mtime size sha256 target rdev xattrs links.
Names are printed as Python bytes literals without the quotes. overlayfs's own xattrs are never listed.
"""

import hashlib
import os
import stat
import sys


def show(name):
    return repr(name)[2:-1]


def xattrs(path):
    found = []
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue
        value = os.getxattr(path, name, follow_symlinks=False)
        found.append(f"{name}={value.hex()}")
    return ",".join(found)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def walk(top):
    yield b""
    pending = [b""]
    while pending:
        directory = pending.pop()
        with os.scandir(os.path.join(top, directory)) as entries:
            for entry in entries:
                path = os.path.join(directory, entry.name)
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def main(top, *excluded):
    top = os.fsencode(top)
    # By the names that are there: st_nlink counts those too that an overlay hides.
    names = {}
    for path in sorted(walk(top)):
        status = os.lstat(os.path.join(top, path))
        names.setdefault((status.st_dev, status.st_ino), []).append(path)
    for path in sorted(path for group in names.values() for path in group):
        full = os.path.join(top, path) if path else top
        status = os.lstat(full)
        kind = stat.filemode(status.st_mode)[0].replace("-", "f")
        columns = {
            "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            "owner": f"{status.st_uid}:{status.st_gid}",
            "mtime": str(status.st_mtime_ns),
        }
        if kind == "f":
            columns["size"] = str(status.st_size)
            columns["sha256"] = sha256(full)
        if kind == "l":
            columns["target"] = show(os.readlink(full))
        if kind in "bc":
            columns["rdev"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        columns["xattrs"] = xattrs(full)
        group = names[status.st_dev, status.st_ino]
        if kind != "d" and len(group) > 1:
            columns["links"] = show(group[0])
        shown = [f"{name}={value}" for name, value in columns.items() if name not in excluded and value]
        print(show(path) or "/", kind, *shown)


main(*sys.argv[1:])

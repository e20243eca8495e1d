#!/usr/bin/python3
"""Computes what an image's layers store for nothing, and dive's score: an oracle that shares no code with the tools.

Usage: waste.py LAYER.tar..., base first, without symlinks in the path of an entry. Prints stored, wasted, score.
The score is what dive's filetree/efficiency.go computes: each layer is a tree of names of which the leaves count, with the
size of the tar's header; a whiteout counts with what was below the directory that it removes; the score is the sum of
each path's smallest size over the sum of all.
"""

import os
import sys
import tarfile


def read(path):
    with tarfile.open(path) as layer:
        for member in layer:
            yield os.path.normpath(member.name), member


def main(*layers):
    merged, stored, smallest, total = {}, [], {}, {}
    for layer in layers:
        members = list(read(layer))
        names = [name for name, _ in members if name != "." and os.path.basename(name) != ".wh..wh..opq"]
        parents = {os.path.dirname(name) for name in names}
        parents |= {up for name in parents for up in ancestors(name)}
        below = dict(merged)
        # Removals first: they are for what lies below.
        for name, _ in members:
            directory, base = os.path.split(name)
            if base == ".wh..wh..opq":
                remove(merged, directory, inside=True)
            elif base.startswith(".wh."):
                remove(merged, os.path.join(directory, base[4:]))
        for name, member in members:
            directory, base = os.path.split(name)
            if base == ".wh..wh..opq" or name == ".":
                continue
            size = member.size if member.isreg() else 0
            path = name
            if base.startswith(".wh."):
                path = os.path.join(directory, base[4:])
                inside = [below[file] for file in below if file.startswith(path + "/")]
                if path not in below:
                    continue
                size = sum(stored[inode][0] for inode, first in inside if first)
            else:
                if not (member.isdir() and merged.get(path, (None, None))[0] is None):
                    remove(merged, path)
                if member.isdir():
                    merged[path] = (None, False)
                elif member.islnk():
                    merged[path] = (merged[os.path.normpath(member.linkname)][0], False)
                else:
                    stored.append([size])
                    merged[path] = (len(stored) - 1, True)
            if name not in parents:
                smallest[path] = min(smallest.get(path, size), size)
                total[path] = total.get(path, 0) + size
    visible = {inode for inode, _ in merged.values() if inode is not None}
    everything = sum(size for size, in stored)
    wasted = everything - sum(stored[inode][0] for inode in visible)
    score = sum(smallest.values()) / sum(total.values()) if sum(total.values()) else 1.0
    print(everything, wasted, f"{score:.9f}")


def ancestors(name):
    while name:
        name = os.path.dirname(name)
        yield name


def remove(merged, path, inside=False):
    for name in list(merged):
        if name.startswith(path + "/" if path else "") or (name == path and not inside):
            del merged[name]


main(*sys.argv[1:])

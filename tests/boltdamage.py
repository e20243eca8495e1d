#!/usr/bin/env python3
"""Damages a bolt database so that only one thing is wrong with it.

Usage: boltdamage.py FILE checksum|loop|nowhere
  checksum  changes a byte of both meta pages
  loop      turns the root page into a branch that leads to itself, and prints its number
  nowhere   makes both meta pages name page 1000000 as the root, and prints how many there are
"""

import struct
import sys

MASK = (1 << 64) - 1


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def main():
    path, what = sys.argv[1:]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    size = struct.unpack_from("<I", data, 24)[0]
    metas = (16, size + 16)
    latest = max(metas, key=lambda at: struct.unpack_from("<Q", data, at + 48))
    if what == "checksum":
        for at in metas:
            data[at + 50] ^= 1
    elif what == "nowhere":
        for at in metas:
            struct.pack_into("<Q", data, at + 16, 1000000)
            struct.pack_into("<Q", data, at + 56, fnv1a(data[at : at + 56]))
        print(struct.unpack_from("<Q", data, latest + 40)[0])
    elif what == "loop":
        root = struct.unpack_from("<Q", data, latest + 16)[0]
        struct.pack_into("<QHHI", data, root * size, root, 1, 1, 0)
        struct.pack_into("<IIQ", data, root * size + 16, 0, 0, root)
        print(root)
    with open(path, "wb") as file:
        file.write(data)


main()

#!/usr/bin/python3
"""Makes the trees that the benchmarks are run on, the same each time.

Usage: layers.py MIB SMALL LARGE: SMALL gets files of a few KiB, LARGE files of 8 MiB, MIB of them each; about half of their
bytes compress away, as those of real layers do.
"""

import os
import random
import sys


def content(random_bytes, length):
    """Text-like blocks between blocks of noise."""
    data = bytearray()
    while len(data) < length:
        data += random_bytes(512)
        data += b"/usr/lib/python3/dist-packages/%d.py\n" % (len(data) % 977) * 20
    return bytes(data[:length])


def make(top, total, size_of, seed):
    rng = random.Random(seed)
    done = number = 0
    while done < total:
        length = size_of(rng)
        directory = os.path.join(top, f"d{number // 100}", f"e{number % 100 // 10}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"f{number}"), "wb") as file:
            file.write(content(rng.randbytes, length))
        done += length
        number += 1


def main(mib, small, large):
    total = int(mib) << 20
    make(small, total, lambda rng: rng.randrange(200, 16000), 1)
    make(large, total, lambda rng: 8 << 20, 2)


main(*sys.argv[1:])

#!/usr/bin/python3
"""Times commands that do the same job in turns (A B A B ...) and prints medians and ratios.

Usage: compare.py ROUNDS < LINES, where a line is JOB, LABEL, COMMAND with tabs between; the first of a job is what the others
are compared with. A command may make `out`, which is removed after it. RATIO is the median, over the rounds, of the
other's time by the first one's: 2.0 means that the first takes half as long.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time


def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def timed(command):
    wall, used = time.perf_counter(), cpu()
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], stdout=subprocess.DEVNULL)
    wall, used = time.perf_counter() - wall, cpu() - used
    remove("out")
    if done.returncode != 0:
        sys.exit(f"compare.py: `{command}` ended with status {done.returncode}")
    return wall, used


def main(rounds):
    jobs = {}
    for line in sys.stdin:
        job, label, command = line.rstrip("\n").split("\t")
        jobs.setdefault(job, []).append((label, command))
    row = "{:<28} {:<28} {:>8} {:>8} {:>6} {:>6}"
    print(row.format("JOB", "BY", "WALL s", "CPU s", "RATIO", "CPU"))
    for job, ways in jobs.items():
        for _, command in ways:
            timed(command)  # Fills the page cache.
        runs = [[timed(command) for _, command in ways] for _ in range(rounds)]
        for number, (label, _) in enumerate(ways):
            wall, used = (statistics.median(run[number][kind] for run in runs) for kind in (0, 1))
            ratios = (statistics.median(run[number][kind] / run[0][kind] for run in runs) for kind in (0, 1))
            print(row.format(job, label, f"{wall:.3f}", f"{used:.3f}", *(f"{ratio:.2f}" for ratio in ratios)), flush=True)
            job = ""


main(int(sys.argv[1]))

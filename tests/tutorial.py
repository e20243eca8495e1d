#!/usr/bin/env python3
"""Runs what a manual page shows and compares it with what the page says.

Usage: tutorial.py [--show] PAGE

Every display of the page (`.Bd -literal`) that begins with `$ ` is a session: a line that begins with `$ ` is a command,
`> ` goes on with it, and other lines are what it prints, standard output and standard error together. All are run in order,
in one bash, in the current directory. A command has to end with status 0. With --show the sessions are printed as they
went, and nothing is compared.

What differs from run to run is written so:
  ...           anything within a line; alone on its line, any number of lines
  hexadecimal   12 digits or more are a digest, or the beginning of one with `...` behind it: the same one wherever the page
                repeats it, and another one wherever the page has another
  spaces        two or more, as between columns, are any number
"""

import difflib
import re
import subprocess
import sys
import tempfile

DIGEST = r"\b[0-9a-f]{12,}\b(?:\.\.\.)?"
SHORT = 12


def unescape(line):
    """Returns what mandoc prints of a line."""
    if line.startswith((".", "'")):
        sys.exit(f"a macro in a session: {line}")
    line = line.replace(r"\&", "").replace(r"\(dq", '"').replace(r"\-", "-")
    if re.search(r"\\[^e]", line):
        sys.exit(f"an escape that is not known: {line}")
    return line.replace(r"\e", "\\")


def displays(page):
    """Yields the lines of each literal display."""
    lines = None
    for line in page.splitlines():
        if line.startswith(".Bd -literal"):
            lines = []
        elif line == ".Ed":
            if lines:
                yield lines
            lines = None
        elif lines is not None:
            lines.append(unescape(line))


def steps(page):
    """Returns the commands, each with the lines that it prints."""
    found = []
    for lines in displays(page):
        if not lines[0].startswith("$ "):
            continue
        for line in lines:
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line == ">" or line.startswith("> "):
                command, printed = found.pop()
                found.append((command + "\n" + line[2:], printed))
            else:
                found[-1][1].append(line)
    return found


def run(commands):
    """Runs the commands in one shell; yields the status and the output of each."""
    with tempfile.TemporaryDirectory() as dir:
        script = "set -o pipefail\nexec </dev/null\n"
        for number, command in enumerate(commands):
            # In a file each, so that one that cannot be parsed fails alone.
            with open(f"{dir}/{number}.sh", "w") as file:
                file.write(command + "\n")
            script += f". {dir}/{number}.sh >{dir}/{number}.out 2>&1; echo $? >{dir}/{number}.status\n"
        subprocess.run(["bash", "-c", script], check=True)
        for number in range(len(commands)):
            with open(f"{dir}/{number}.status") as status, open(f"{dir}/{number}.out") as out:
                yield int(status.read()), out.read().splitlines()


class Digests:
    """Which digest of the page is which in this run."""

    def __init__(self):
        self.of_page = {}
        self.of_run = {}

    def same(self, shown, got):
        if not shown.endswith("...") and len(shown) != len(got):
            return False
        shown, got = shown[:SHORT], got[:SHORT]
        return self.of_page.setdefault(shown, got) == got and self.of_run.setdefault(got, shown) == shown


def matches(shown, got, digests):
    """Says whether one line is what the page shows."""
    pattern = ""
    names = []
    for part in re.split(rf"({DIGEST}|\.\.\.|  +)", shown.rstrip()):
        if part == "...":
            pattern += ".*?"
        elif part.startswith("  "):
            pattern += " +"
        elif re.fullmatch(DIGEST, part):
            names.append(part)
            pattern += "([0-9a-f]{12,})"
        else:
            pattern += re.escape(part)
    match = re.fullmatch(pattern, got.rstrip())
    return bool(match) and all(map(digests.same, names, match.groups()))


def compare(shown, got, digests):
    """Says whether lines are what the page shows."""
    if not shown:
        return not got
    if shown[0] == "...":
        return any(compare(shown[1:], got[skip:], digests) for skip in range(len(got) + 1))
    return bool(got) and matches(shown[0], got[0], digests) and compare(shown[1:], got[1:], digests)


def main():
    show = "--show" in sys.argv
    with open(sys.argv[-1]) as file:
        found = steps(file.read())
    digests = Digests()
    for (command, shown), (status, got) in zip(found, run([command for command, _ in found])):
        if show:
            print("$ " + command.replace("\n", "\n> "), *got, *([f"[status {status}]"] if status else []), sep="\n")
        elif status != 0 or not compare(shown, got, digests):
            print(f"$ {command}\nended with status {status}, and the page differs from what it prints:")
            print(*difflib.unified_diff(shown, got, "page", "run", lineterm=""), sep="\n")
            sys.exit(1)
    if not show:
        print(f"{len(found)} commands, each as the page says")


main()

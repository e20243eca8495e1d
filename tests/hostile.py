#!/usr/bin/python3
"""Unpacks the layers of hostile_layers.py and says what must not have happened.

Usage: hostile.py CLASS FORM ARENA, with FORM one of
  plain overlay         from stdin, one layer after the other
  docker oci store      from an image of all layers
  user                  plain, as uid 1000
or hostile.py race ROUNDS ARENA. ARENA holds the tool, as ARENA/layer-unpack; the rest is made here. Prints a line for each
promise broken; exit 1 if there are any.

A case is (why, expected, layers[, {path: content, None for anything, False for nothing}]). Whatever is expected: what lies
around the target stays as it is, to the ctime; the tool ends in time, with little memory, by itself; it says on one line
why it refused; it never gives an overlayfs attribute that the layer wrote.
"""

import ctypes
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import threading

import hostile_layers as hostile

SECRET = b"nobody's business"
MEMORY, SECONDS = 192 << 10, 60
PANIC = (b"panicked", b"overflow", b"memory allocation")


def snapshot(arena):
    """All facts of all but the target and the input."""
    seen = []
    for top in (b"canary", b"t-beside"):
        for folder, folders, files in os.walk(os.path.join(arena, top)):
            for name in [b"."] + folders + files:
                path = os.path.join(folder, name)
                found = os.lstat(path)
                # st_atime is what looking changes.
                facts = [found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
                seen.append((path, facts, os.listxattr(path, follow_symlinks=False)))
    return sorted(seen) + sorted(os.listdir(arena))


def make_arena(arena):
    for top in (b"canary", b"t-beside"):
        os.makedirs(os.path.join(arena, top, b"dir/sub"))
        for name in (b"secret", b"dir/sub/secret"):
            with open(os.path.join(arena, top, name), "wb") as file:
                file.write(SECRET)
            os.chmod(file.name, 0o600)
    os.mkdir(os.path.join(arena, b"in"))
    os.mkdir(os.path.join(arena, b"t"))


def emptied(arena, name=b"t"):
    path = os.path.join(arena, name)
    subprocess.run(["rm", "-rf", path], check=True)
    os.mkdir(path)
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def uncompressed(blob):
    """The tar in a blob, as far as it can be had: an image around a damaged one needs some DiffID."""
    command = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"\x50\x2a": "zstd"}.get(blob[:2])
    if not command:
        return blob
    return subprocess.run([command, "-dc"], input=blob, capture_output=True, check=False).stdout


def image(form, path, layers):
    diff_ids = ["sha256:" + sha256(uncompressed(layer)) for layer in layers]
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    if form == "oci":
        blobs = {}

        def blob(data, kind):
            blobs[sha256(data)] = data
            return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sha256(data), "size": len(data)}

        parts = {"config": blob(config, "config.v1+json"), "layers": [blob(layer, "layer.v1.tar") for layer in layers]}
        manifest = blob(json.dumps({"schemaVersion": 2, **parts}).encode(), "manifest.v1+json")
        files = {"index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()}
        files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
        files.update({"blobs/sha256/" + name: data for name, data in blobs.items()})
        for name, data in files.items():
            file = os.path.join(path, os.fsencode(name))
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as out:
                out.write(data)
        return
    names = [b"%d/layer.tar" % number for number, _ in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": [os.fsdecode(name) for name in names]}]
    members = [(b"manifest.json", json.dumps(manifest).encode()), (b"config.json", config), *zip(names, layers)]
    os.rmdir(path)
    with open(path, "wb") as out:
        out.write(hostile.tar(*(hostile.put(*member) for member in members)))


def run(arena, args, blob=None, user=None):
    """Runs the tool; returns its status and the promises that it broke."""
    stdin = os.path.join(arena, b"in/blob")
    with open(stdin, "wb") as file:
        file.write(blob or b"")
    with open(stdin, "rb") as file, open(os.path.join(arena, b"in/stderr"), "w+b") as stderr:
        ids = {"user": user, "group": user, "extra_groups": []} if user else {}
        tool = subprocess.Popen(
            [os.path.join(arena, b"layer-unpack"), *args], cwd=arena, stdin=file, stdout=subprocess.DEVNULL, stderr=stderr,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)), **ids,
        )
        _, status, used = os.wait4(tool.pid, 0)
        tool.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        said = stderr.read()
    broken = []
    if tool.returncode not in (0, 1, 2) or any(word in said for word in PANIC):
        broken.append(f"status {tool.returncode}: {said!r}")
    if used.ru_maxrss > MEMORY:
        broken.append(f"{used.ru_maxrss} KiB of memory")
    if tool.returncode and (said.count(b"\n") != 1 or not said.startswith(b"layer-unpack: ")):
        broken.append(f"said {said!r}")
    if any(byte < 32 and byte != 10 or byte == 127 for byte in said) or SECRET in said:
        broken.append(f"said {said!r}")
    return tool.returncode, broken


def unpack(form, arena, layers):
    """Unpacks the layers into t; returns the status and the promises broken."""
    target = emptied(arena)
    before = os.lstat(target).st_ino
    broken = []
    status = 0
    if form in ("plain", "user", "overlay"):
        user = 1000 if form == "user" else None
        for number, layer in enumerate(layers):
            args = [b"--no-same-owner"] if user else []
            if form == "overlay":
                below = [b"t/%d" % lower for lower in range(number)]
                args += [b"--overlay", b"t/%d" % number] + [word for lower in below for word in (b"--lower", lower)]
            else:
                args.append(b"t")
            if user:
                os.chown(target, user, user)
            status, more = run(arena, args, layer, user)
            broken += more
            if status:
                break
    else:
        path = emptied(arena, b"in/image")
        image(form, path, layers)
        where = [b"--store", b"t"] if form == "store" else [b"t"]
        status, broken = run(arena, [b"--image", path, *where])
        subprocess.run(["rm", "-rf", path], check=True)
    if os.lstat(target).st_ino != before:
        broken.append("the target was replaced")
    return status, broken


def contents(target, opaque):
    """What the target must not hold; `opaque`: the layers are entitled to opaque directories."""
    for folder, folders, files in os.walk(target):
        for name in folders + files:
            path = os.path.join(folder, name)
            try:
                found = os.lstat(path)
                attributes = os.listxattr(path, follow_symlinks=False)
                values = {key: os.getxattr(path, key, follow_symlinks=False) for key in attributes if ".overlay." in key}
            except OSError:
                # Deeper than PATH_MAX, or kept from uid 1000.
                continue
            for key, value in values.items():
                if not opaque or key != "trusted.overlay.opaque" or value != b"y":
                    yield f"{path!r} has {key}"
            if stat.S_ISREG(found.st_mode) and 0 < found.st_size < 4096:
                with open(path, "rb") as file:
                    if SECRET in file.read():
                        yield f"{path!r} has what it must not"


def check(target, path, want):
    path = os.path.join(target, path)
    if want is False:
        return [f"{path!r} is there"] if os.path.lexists(path) else []
    if not os.path.lexists(path):
        return [f"{path!r} is missing"]
    if want is None:
        return [] if not os.path.islink(path) else [f"{path!r} is a link"]
    with open(path, "rb") as file:
        found = file.read(4096)
    return [] if found == want else [f"{path!r} is {found!r}, not {want!r}"]


def judge(kind, form, arena, expected, layers, after):
    before = snapshot(arena)
    status, broken = unpack(form, arena, layers)
    if snapshot(arena) != before:
        broken.append("something outside the target changed")
    if status and expected == hostile.TAKE or not status and expected == hostile.REFUSE:
        broken.append(f"status {status}, expected to {expected}")
    target = os.path.join(arena, b"t")
    broken += contents(target, opaque=form in ("overlay", "store") and kind != "xattrs")
    if status == 0 and form in ("plain", "user", "docker", "oci"):
        broken += [line for path, want in after.items() for line in check(target, path, want)]
    return broken


def classes(kind, form, arena):
    count = broken = 0
    out = os.path.join(arena, b"canary")
    for why, expected, layers, *after in hostile.CLASSES[kind](out):
        if form == "user" and kind == "devices":
            expected = hostile.EITHER if expected == hostile.TAKE else expected
        count += 1
        for line in judge(kind, form, arena, expected, layers, after[0] if after else {}):
            broken += 1
            print(f"{kind}, {form}: {why}: {line}")
    print(f"{count} layers, {broken} broken promises")
    return broken


def race(rounds, arena):
    """Swaps names for links that lead out, in the target and the target itself, while the tool writes below them."""
    swap = ctypes.CDLL(None, use_errno=True).renameat2
    canary = os.path.join(arena, b"canary/dir")
    files = [part for number in range(300) for part in (hostile.put(b"d/%d" % number), hostile.folder(b"d/sub/%d" % number, 0o777))]
    layer = hostile.tar(hostile.folder(b"d/sub"), *files, *(hostile.gone(b"d/sub/%d" % number) for number in range(50)), hostile.put(b"d/.wh..wh..opq"))
    before = snapshot(arena)
    broken = []
    for number in range(rounds):
        target = emptied(arena)
        os.makedirs(os.path.join(target, b"d/sub"))
        link = os.path.join(arena, b"in/link")
        os.symlink(canary, link)
        name = [target, os.path.join(target, b"d"), os.path.join(target, b"d/sub")][number % 3]
        done = threading.Event()

        def loop(name=name, link=link, done=done):
            while not done.is_set():
                swap(-100, name, -100, link, 2)
            if not os.path.islink(link):
                swap(-100, name, -100, link, 2)

        swapper = threading.Thread(target=loop)
        swapper.start()
        try:
            broken += run(arena, [b"t"], layer)[1]
        finally:
            done.set()
            swapper.join()
        os.unlink(link) if os.path.islink(link) else os.rename(link, link + b".%d" % number)
    if snapshot(arena) != before:
        broken.append("something outside the target changed")
    print("\n".join(broken))
    return len(broken)


def main(what, how, arena):
    arena = os.fsencode(arena)
    make_arena(arena)
    return 1 if (race(int(how), arena) if what == "race" else classes(what, how, arena)) else 0


sys.exit(main(*sys.argv[1:]))

#!/usr/bin/python3
"""Writes an image from layer tars, base first, in a form that other tools read. Same input, same bytes.

Usage: mkimage.py docker-archive|docker-archive-25|oci|oci-archive [OPTION...] OUT LAYER.tar...
  --tag NAME:TAG      one more name; the part after the colon is the layout's ref
  --config JSON       merged into the configuration
  --history JSON      the configuration's history (default: one entry a layer)
  --compress gzip|zstd   how the blobs of an OCI form are stored
  --symlink           docker-archive: a layer that comes twice is a symlink to the first, as `docker save` writes it
  --parent            docker-archive: `repositories`, VERSION and json files too
OUT.config is written beside OUT.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

CREATED = "2026-01-02T03:04:05Z"
OCI = "application/vnd.oci.image."


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def config_of(args, tars):
    config = {
        "architecture": "amd64",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
        "created": CREATED,
        "history": args.history or [{"created": CREATED, "created_by": f"layer {n}"} for n, _ in enumerate(tars)],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(tar) for tar in tars]},
    }
    config.update(args.config)
    return compact(config)


def compress(how, data):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def docker_archive(args, config, tars):
    files, layers, seen = {}, [], {}
    files[sha256(config) + ".json"] = config
    for number, tar in enumerate(tars):
        directory = sha256(f"{number} ".encode() + tar)
        path = directory + "/layer.tar"
        layers.append(path)
        if args.parent:
            files[directory + "/VERSION"] = b"1.0"
            files[directory + "/json"] = compact({"id": directory, "created": CREATED, "os": "linux"})
        files[path] = "../" + seen[tar] if args.symlink and tar in seen else tar
        seen.setdefault(tar, path)
    if args.parent and args.tag and tars:
        names = {}
        for tag in args.tag:
            name, _, ref = tag.rpartition(":")
            names.setdefault(name, {})[ref] = layers[-1].split("/")[0]
        files["repositories"] = compact(names) + b"\n"
    manifest = [{"Config": sha256(config) + ".json", "RepoTags": args.tag or None, "Layers": layers}]
    files["manifest.json"] = compact(manifest) + b"\n"
    return files


def oci(args, config, tars):
    files = {"oci-layout": compact({"imageLayoutVersion": "1.0.0"})}

    def blob(media_type, data):
        files["blobs/sha256/" + sha256(data)] = data
        return {"mediaType": OCI + media_type, "digest": "sha256:" + sha256(data), "size": len(data)}

    suffix = "+" + args.compress if args.compress else ""
    layers = [blob("layer.v1.tar" + suffix, compress(args.compress, tar)) for tar in tars]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": blob("config.v1+json", config),
        "layers": layers,
    }
    descriptor = blob("manifest.v1+json", compact(manifest))
    platform = json.loads(config)
    descriptor["platform"] = {"architecture": platform["architecture"], "os": platform["os"]}
    listed = []
    for tag in args.tag:
        names = {
            "io.containerd.image.name": tag,
            "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
        }
        listed.append({**descriptor, "annotations": names})
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": listed or [descriptor]}
    files["index.json"] = compact(index)
    return files


def docker_archive_25(args, config, tars):
    files = oci(args, config, tars)
    index = json.loads(files["index.json"])
    manifest = json.loads(files["blobs/sha256/" + index["manifests"][0]["digest"].split(":")[1]])
    blobs = ["blobs/sha256/" + layer["digest"].split(":")[1] for layer in manifest["layers"]]
    sources = {diff_id: layer for diff_id, layer in zip(json.loads(config)["rootfs"]["diff_ids"], manifest["layers"])}
    entry = {
        "Config": "blobs/sha256/" + sha256(config),
        "RepoTags": args.tag or None,
        "Layers": blobs,
        "LayerSources": sources,
    }
    files["manifest.json"] = compact([entry])
    return files


def write_dir(out, files):
    for path, data in files.items():
        full = os.path.join(out, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(data)


def write_tar(out, files):
    """Writes the members sorted, directories first, as `docker save` does; a text is a symlink's target."""
    made = set()
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            parent = os.path.dirname(path)
            parts = parent.split("/") if parent else []
            for depth in range(len(parts)):
                directory = "/".join(parts[: depth + 1])
                if directory not in made:
                    made.add(directory)
                    info = tarfile.TarInfo(directory + "/")
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(info)
            info = tarfile.TarInfo(path)
            if isinstance(files[path], str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, files[path], 0o777
                archive.addfile(info)
            else:
                info.size = len(files[path])
                archive.addfile(info, io.BytesIO(files[path]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=["docker-archive", "docker-archive-25", "oci", "oci-archive"])
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--config", type=json.loads, default={})
    parser.add_argument("--history", type=json.loads)
    parser.add_argument("--compress", choices=["gzip", "zstd"])
    parser.add_argument("--symlink", action="store_true")
    parser.add_argument("--parent", action="store_true")
    parser.add_argument("out")
    parser.add_argument("layers", nargs="*")
    args = parser.parse_args()
    tars = []
    for layer in args.layers:
        with open(layer, "rb") as file:
            tars.append(file.read())
    config = config_of(args, tars)
    make = {"docker-archive": docker_archive, "docker-archive-25": docker_archive_25}.get(args.form, oci)
    files = make(args, config, tars)
    if args.form == "oci":
        write_dir(args.out, files)
    else:
        write_tar(args.out, files)
    with open(args.out + ".config", "wb") as file:
        file.write(config)


main()

#!/usr/bin/env bash
# Times each tool beside what people use for the same job and prints a table of ratios. The tools are those in PATH; `make
# bench` builds them first. Peers that are not installed are left out.
#
# SIZE (MiB, 64) of the generated layers and ROUNDS (5) can be set. Commands of a job take turns, so that what else the
# machine does meets all of them. Unpacking is timed on the filesystem of TMPDIR: an ext4 without journal is slow for all.
set -euo pipefail

size=${SIZE:-64} rounds=${ROUNDS:-5}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/layer-tools-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"

have() {
	command -v "$1" >/dev/null
}

# job NAME: what follows is the same job; bench LABEL COMMAND adds one way to do it, ours first.
job() {
	current=$1
}

bench() {
	printf '%s\t%s\t%s\n' "$current" "$1" "$2" >>jobs.tsv
}

# Two layers: many small files, as of a package manager, and few large ones.
python3 "$here/layers.py" "$size" small large
for kind in small large; do
	tar -C "$kind" --sort=name -cf "$kind.tar" .
	gzip -kf "$kind.tar"
	! have zstd || zstd -q -kf "$kind.tar"
done
layer-commit --import -t bench:1 <small.tar >image.tar

for kind in small large; do
	job "digest and DiffID, gzip, $kind"
	bench layer-hash "layer-hash $kind.tar.gz"
	bench 'sha256sum, gzip | sha256sum' "sha256sum $kind.tar.gz && gzip -dc $kind.tar.gz | sha256sum"
	! have pigz || bench 'sha256sum, pigz | sha256sum' "sha256sum $kind.tar.gz && pigz -dc $kind.tar.gz | sha256sum"
	if have zstd; then
		job "digest and DiffID, zstd, $kind"
		bench layer-hash "layer-hash $kind.tar.zst"
		bench 'sha256sum, zstd | sha256sum' "sha256sum $kind.tar.zst && zstd -dc $kind.tar.zst | sha256sum"
	fi

	job "unpack, gzip, $kind"
	bench layer-unpack "mkdir out && layer-unpack out < $kind.tar.gz"
	bench 'tar -xz' "mkdir out && tar -C out -xzpf $kind.tar.gz"
	! have bsdtar || bench bsdtar "mkdir out && bsdtar -C out -xpf $kind.tar.gz"

	job "commit, plain, $kind"
	bench layer-commit "layer-commit $kind > out"
	bench 'tar -c | sha256sum' "tar -C $kind --sort=name -c . | tee out | sha256sum"
	job "commit, gzip, $kind"
	bench layer-commit "layer-commit --compress gzip $kind > out"
	bench 'tar -c | gzip' "tar -C $kind --sort=name -c . | gzip > out"
	! have pigz || bench 'tar -c | pigz' "tar -C $kind --sort=name -c . | pigz > out"
done

job 'inspect an archive'
bench image-inspect 'image-inspect image.tar'
! have skopeo || bench skopeo 'skopeo inspect docker-archive:image.tar'

job 'unpack an image'
bench layer-unpack 'layer-unpack --image image.tar out'
if have skopeo && have umoci; then
	bench 'skopeo copy, umoci unpack' 'skopeo copy -q docker-archive:image.tar oci:out:1 && umoci raw unpack --image out:1 out/root 2>/dev/null'
fi

python3 "$here/compare.py" "$rounds" <jobs.tsv

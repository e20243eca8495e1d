#!/usr/bin/env bats
# containerd's root as a medium, made by containerd itself.

load helpers

CID=$(printf 'c%.0s' {1..64})

setup() {
	requires root containerd ctr
	enter_scratch
	root=$BATS_FILE_TMPDIR/root
}

# One root for all tests; those that damage it copy it.
setup_file() {
	if [ "$(id -u)" -ne 0 ] || ! command -v containerd ctr >/dev/null; then
		return
	fi
	cd "$BATS_FILE_TMPDIR" || return
	make_images
	start_containerd
	ctr_import default one.tar
	ctr_import default two.tar
	ctr_import other two.tar
	ctr --address "$PWD/sock" container create docker.io/library/one:1 box /bin/sh
	# What Docker does: a snapshot for what it puts into each container, and the container's own on top.
	ctr_import moby one.tar
	ctr --address "$PWD/sock" --namespace moby snapshot prepare init "$(chain_ids $(diff_ids a b) | tail -n 1)"
	ctr --address "$PWD/sock" --namespace moby snapshot commit "$CID-init" init
	ctr --address "$PWD/sock" --namespace moby snapshot prepare "$CID" "$CID-init"
	# A daemon that writes meanwhile does not disturb: the databases are locked, but not to those who only look.
	image-inspect --list root >live
	stop_containerd
}

teardown_file() {
	stop_containerd
	unmount_below "$BATS_FILE_TMPDIR"
}

# Three layers: the second removes, replaces and closes directories of the first.
make_images() {
	mkdir -p a/d/e a/o b/d b/o c
	echo one >a/d/e/f
	echo two >a/d/g
	echo old >a/o/h
	echo new >b/o/i
	: >b/d/.wh.g
	: >b/o/.wh..wh..opq
	echo three >c/j
	local layer
	for layer in a b c; do
		layer_tar "$layer.tar" "$layer"
	done
	docker_archive_25 --tag docker.io/library/one:1 --compress gzip one.tar a.tar b.tar
	docker_archive_25 --tag example.org/two:2 two.tar a.tar b.tar c.tar
}

diff_ids() {
	local layer
	for layer; do
		sha256 "$BATS_FILE_TMPDIR/$layer.tar"
	done
}

start_containerd() {
	cat >config.toml <<-END
		version = 2
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
	END
	containerd --config config.toml --root "$PWD/root" --state "$PWD/state" --address "$PWD/sock" >log 2>&1 3>&- &
	echo $! >pid
	local tenth
	for ((tenth = 0; tenth < 300; tenth++)); do
		! ctr --address "$PWD/sock" version >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	echo 'containerd does not answer:'
	tail log
	return 1
}

stop_containerd() {
	local pid tenth
	pid=$(cat "$BATS_FILE_TMPDIR/pid" 2>/dev/null) || return 0
	rm "$BATS_FILE_TMPDIR/pid"
	kill "$pid" 2>/dev/null
	for ((tenth = 0; tenth < 100; tenth++)); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$pid"
}

ctr_import() {
	ctr --address "$PWD/sock" --namespace "$1" image import "$2" >/dev/null
}

# Prints the tags of `--list`, sorted.
tags() {
	jq -r '.tags[]' | sort
}

# copy_root: makes `copy`, to be damaged.
copy_root() {
	cp -a "$root" copy
}

@test "images are listed with their names, from all namespaces or one" {
	is "$(image-inspect --list "$root" | tags)" $'docker.io/library/one:1\nexample.org/two:2'
	is "$(image-inspect --list "docker-root:$root" | tags)" "$(tags <"$BATS_FILE_TMPDIR/live")"
	is "$(CONTAINERD_NAMESPACE=other image-inspect --list "$root" | tags)" example.org/two:2
	try 2 env CONTAINERD_NAMESPACE=none image-inspect "$root"
	says "image-inspect: $root: holds no image"
	try 1 image-inspect "$root:three"
	has "$stderr" 'holds no image `three` (there is '
	try 2 image-inspect "$root"
	has "$stderr" 'holds 2 images, expected one (choose '
}

@test "an image is what was imported" {
	for image in one:1 example.org/two:2; do
		file=$BATS_FILE_TMPDIR/$(basename "${image%:*}").tar
		is "$(image-inspect "$root:$image" | jq -c '[.id, .config]')" \
			"$(image-inspect "$file" | jq -c '[.id, .config]')"
		is "$(image-inspect --config "$root:$image" | sha256)" "$(image-inspect "$file" | jq -r .id)"
		is "$(image-inspect --manifest "$root:$image" | sha256)" "$(image-inspect "$root:$image" | jq -r .digest)"
	done
	is "$(image-inspect "$root:one:1" | jq -r '.layers[].diffId')" "$(diff_ids a b)"
	reference=$(image-inspect "$root:one:1" | jq -r .image)
	is "$reference" "docker-root:$root:$(image-inspect "$root:one:1" | jq -r .digest)"
	is "$(image-inspect --config "$reference")" "$(image-inspect --config "$root:one:1")"
}

@test "layers are read as they were pulled, and checked" {
	image-inspect --layers "$root:one:1" >records
	has "$(jq -r .mediaType records | head -n 1)" gzip
	try layer-hash --check records
	is "$(jq -r .diffId <<<"$output")" "$(diff_ids a b)"
	copy_root
	blob=$(jq -r .digest records | head -n 1)
	# In the time that stands in a gzip header: nothing else notices.
	printf x | dd of="copy/io.containerd.content.v1.content/blobs/sha256/${blob#sha256:}" seek=4 bs=1 conv=notrunc status=none
	image-inspect --layers copy:one:1 >records
	try 1 layer-hash --check records
	has "$stderr" 'digest is '
}

@test "unpacked layers lead to their snapshots, by ChainID" {
	image-inspect --layers "$root:example.org/two:2" >records
	is "$(jq -r .chainId records)" "$(chain_ids $(diff_ids a b c))"
	is "$(jq -r '.parent // empty' records)" "$(chain_ids $(diff_ids a b))"
	mapfile -t paths < <(jq -r .path records)
	is "${#paths[@]}" 3
	is "$(cat "${paths[0]}/d/e/f")" one
	is "$(stat -c '%F %t:%T' "${paths[1]}/d/g")" 'character special file 0:0'
	is "$(getfattr --only-values -n trusted.overlay.opaque "${paths[1]}/o")" y
	is "$(cat "${paths[2]}/j")" three
	# Layers that both images have are unpacked once.
	is "$(image-inspect --layers "$root:one:1" | jq -r .path)" "$(printf '%s\n' "${paths[@]:0:2}")"
}

@test "an image is mounted straight from its snapshots" {
	requires overlayfs
	mkdir mnt
	image-inspect --layers "$root:example.org/two:2" | ovl-mount mnt >/dev/null
	is "$(cd mnt && find . -type f | sort)" $'./d/e/f\n./j\n./o/i'
	ovl-mount -u mnt
}

@test "a layer that was not unpacked has no path, and one whose blob is gone has nothing to read" {
	copy_root
	rm -r copy/io.containerd.snapshotter.v1.overlayfs
	is "$(image-inspect --layers copy:one:1 | jq -c 'has("path")')" $'false\nfalse'
	rm -r copy && copy_root
	blob=$(image-inspect --layers copy:one:1 | jq -r .digest | head -n 1)
	rm "copy/io.containerd.content.v1.content/blobs/sha256/${blob#sha256:}"
	image-inspect --layers copy:one:1 >records
	is "$(jq -c 'has("path")' records)" $'true\ntrue'
	try 2 layer-hash --check records
	has "$stderr" 'layer 0 is not stored with the image'
	rm -r copy/io.containerd.content.v1.content
	try 2 image-inspect copy:one:1
	says 'image-inspect: copy:one:1: io.containerd.content.v1.content: is missing'
}

@test "containers are listed with what they have written, and mounted" {
	try image-inspect --containers "$root"
	is "$(jq -r '[.id, .namespace, .image, .size] | join(" ")' <<<"$output")" 'box default docker.io/library/one:1 0'
	is "$(jq -r .parent <<<"$output")" "$(chain_ids $(diff_ids a b) | tail -n 1)"
	is "$(jq -r '.lowers[]' <<<"$output")" "$(image-inspect --layers "$root:one:1" | jq -r .path)"
	is "$(jq -r .created <<<"$output" | cut -c -10)" "$(date -u -r "$BATS_FILE_TMPDIR/one.tar" +%F)"
	copy_root
	path=$(image-inspect --containers copy | jq -r .path)
	printf 12345 >"$path/new"
	is "$(image-inspect --containers copy | jq .size)" 5
	mapfile -t lowers < <(image-inspect --containers copy | jq -r '.lowers[]')
	requires overlayfs
	ovl-mount "${lowers[@]/#/--lower=}" "--lower=$path" mnt >/dev/null
	is "$(cat mnt/new mnt/d/e/f)" 12345one
	ovl-mount -u mnt
	rm -r "$path"
	try 2 image-inspect --containers copy
	has "$stderr" 'container box: io.containerd.snapshotter.v1.overlayfs/snapshots/'
	has "$stderr" '/fs: is missing'
	try 2 image-inspect --sizes "$root"
	says "image-inspect: $root: is a store of containerd's, whose sizes are not known"
}

@test "Docker's containers are those of its data root" {
	mkdir -p "docker/containers/$CID" docker/containerd
	cp -a "$root" docker/containerd/daemon
	printf '{"ID":"%s","Name":"/box2","Created":"2026-01-02T03:04:05Z","Config":{"Image":"one:1"}}\n' "$CID" \
		>"docker/containers/$CID/config.v2.json"
	CONTAINERD_NAMESPACE=moby try image-inspect --containers docker
	is "$(jq -r '[.id, .name, .image, .created] | join(" ")' <<<"$output")" "$CID box2 one:1 2026-01-02T03:04:05Z"
	is "$(jq -r '.lowers | length' <<<"$output")" 3
	is "$(jq -r .parent <<<"$output")" "$(chain_ids $(diff_ids a b) | tail -n 1)"
	is "$(image-inspect --containers docker | jq -r .id)" "$CID"$'\n'box
	try image-inspect --containers -t docker
	is "${#lines[@]}" 3
	echo '{' >"docker/containers/$CID/config.v2.json"
	try 2 image-inspect --containers docker
	is "$(jq -r .id <<<"$output")" box
	has "$stderr" "containers/$CID/config.v2.json: "
}

@test "in Docker's data root the other store goes first, as it does for the daemon" {
	mkdir -p docker/containerd
	cp -a "$root" docker/containerd/daemon
	is "$(image-inspect docker:one:1 | jq -r .image)" \
		"docker-root:$PWD/docker/containerd/daemon:$(image-inspect "$root:one:1" | jq -r .digest)"
	mkdir -p docker/image/overlay2/layerdb/sha256 docker/image/overlay2/imagedb/content/sha256 docker/overlay2/l
	try 1 image-inspect docker:one:1
	has "$stderr" 'holds no image `one:1`'
	try image-inspect docker/containerd/daemon:one:1
}

@test "damaged databases are refused in one line" {
	copy_root
	for name in io.containerd.metadata.v1.bolt/meta.db io.containerd.snapshotter.v1.overlayfs/metadata.db; do
		file=copy/$name
		refused() {
			try 2 image-inspect copy:one:1
			is "$stderr" "image-inspect: copy:one:1: $name: $1"
			cp "$root/$name" "$file"
		}
		: >"$file"
		refused 'not a bolt database: its meta page is cut short'
		seq 3000 >"$file"
		refused 'not a bolt database: has no meta page'
		truncate -s 8192 "$file"
		try 2 image-inspect copy:one:1
		has "$stderr" "$name: is cut short: 8192 bytes, expected "
		cp "$root/$name" "$file"
		"$PYTHON" "$TESTS/boltdamage.py" "$file" checksum
		refused 'not a bolt database: its meta page does not match its checksum'
		"$PYTHON" "$TESTS/boltdamage.py" "$file" loop >page
		refused "page $(cat page): is reached twice"
		"$PYTHON" "$TESTS/boltdamage.py" "$file" nowhere >page
		refused "page 1000000: is not in the database, of $(cat page) pages"
	done
}

@test "symlinks in the root are not followed" {
	copy_root
	mv copy/io.containerd.metadata.v1.bolt/meta.db copy/meta.db
	ln -s ../meta.db copy/io.containerd.metadata.v1.bolt/meta.db
	try 2 image-inspect copy
	has "$stderr" 'io.containerd.metadata.v1.bolt/meta.db: leads through a symlink'
	rm -r copy && copy_root
	snapshots=copy/io.containerd.snapshotter.v1.overlayfs/snapshots
	mv "$snapshots" copy/real
	ln -s "$PWD/copy/real" "$snapshots"
	try 2 image-inspect copy:one:1
	has "$stderr" 'leads through a symlink'
}

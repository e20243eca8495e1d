#!/usr/bin/env bats
# Docker's data root, read without a daemon. The oracle is the daemon that wrote it: what it listed while it ran.

load helpers

# Two roots, of overlay2 and of vfs, each written by a daemon that has stopped since: $ROOTS/DRIVER/root, and beside it
# what the daemon said.
setup_file() {
	ROOTS=$(mktemp -d /tmp/dr.XXXXXX)
	export ROOTS
	command -v dockerd docker busybox >/dev/null && [ "$(id -u)" -eq 0 ] || return 0
	(
		cd "$ROOTS" || exit
		mkdir -p base/bin base/etc/deep base/tmp top/etc/deep top/new context
		cp "$(command -v busybox)" base/bin/busybox
		ln -s busybox base/bin/sh
		echo old >base/etc/old
		echo gone >base/etc/gone
		echo below >base/etc/deep/below
		ln base/etc/old base/etc/again
		mknod base/etc/device c 1 3
		truncate -s 1M base/etc/sparse
		: >top/etc/.wh.gone
		: >top/etc/deep/.wh..wh..opq
		echo here >top/etc/deep/here
		head -c 100000 /dev/urandom >top/new/random
		ln -s ../etc/old top/new/link
		ln -s "$(printf '%0150d' 7)" top/new/long-link
		: >"top/new/$(printf '%0120d' 8)"
		layer_tar base.tar base
		layer_tar top.tar top
		docker_archive --tag img:1 --config '{"config":{"Cmd":["/bin/sh"]}}' img.tar base.tar top.tar
		docker_archive --tag base:1 base-img.tar base.tar
		printf 'FROM img:1\nRUN ["/bin/sh","-c","echo built >/built"]\nENV a=b\n' >context/Dockerfile
		for driver in overlay2 vfs; do write_root "$ROOTS/$driver" "$driver" || exit; done
	) >"$ROOTS/log" 2>&1 || {
		cat "$ROOTS/log" "$ROOTS"/*/log
		return 1
	}
}

teardown_file() {
	unmount_below "$ROOTS"
	rm -rf "$ROOTS"
}

# Has a daemon write a root, and notes what it says of it.
write_root() {
	local dir=$1 id
	start_dockerd "$dir" "$2" || return
	{
		docker load -i "$ROOTS/img.tar" && docker load -i "$ROOTS/base-img.tar" &&
			docker run --name changed --network none img:1 /bin/busybox sh -c \
				'echo new >/etc/new; echo more >>/etc/old; /bin/busybox rm /etc/deep/here; /bin/busybox ln -s x /etc/l' &&
			docker commit -m changed changed changed:1 &&
			docker create --name idle img:1 /bin/sh &&
			docker import "$ROOTS/top.tar" imported:1 &&
			DOCKER_BUILDKIT=0 docker build --network none -t built:1 "$ROOTS/context" &&
			docker tag img:1 localhost:5000/me/img:x &&
			docker tag base:1 other:1 && docker rmi other:1 && docker commit idle
	} || return
	docker images --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}} {{.Size}}' | sort >"$dir/images"
	docker ps -a -s --no-trunc --format '{{.ID}} {{.Names}} {{.Size}}' | sort >"$dir/ps"
	for id in $(docker images -q --no-trunc | sort -u); do
		docker inspect -f '{{.Id}} {{.Size}}' "$id"
		docker history --no-trunc --human=false --format '{{.Size}}' "$id" | tac >"$dir/history-${id#*:}"
		docker save "$id" -o "$dir/save-${id#*:}"
	done >"$dir/sizes"
	docker ps -aq --no-trunc | xargs docker inspect --size |
		jq -r '.[] | "\(.Id) \(.Name[1:]) \(.SizeRw) \(.SizeRootFs) \(.Image)"' | sort >"$dir/containers"
	stop_dockerd "$dir"
}

setup() {
	requires root dockerd docker busybox
	enter_scratch
}

# both TEST...: runs a check on each root, with $dir and $root set.
both() {
	local driver
	for driver in overlay2 vfs; do
		dir=$ROOTS/$driver root=docker-root:$ROOTS/$driver/root
		echo "$driver"
		# Not in a condition: there a check that fails would end nothing.
		"$@"
	done
}

# copy: a copy of the overlay2 root to damage, as $copy; $layerdb and $top, the ChainID of img:1's top layer, are in it.
copy() {
	copy=$PWD/copy
	cp -a "$ROOTS/overlay2/root" "$copy"
	layerdb=$copy/image/overlay2/layerdb/sha256
	top=$(image-inspect --layers "docker-root:$copy:img:1" | jq -r .chainId | tail -n 1)
	top=${top#sha256:}
}

same_list() {
	try image-inspect --list "$root"
	is "$(jq -r '.id as $id | if .tags == [] then ["<none>:<none>"] else .tags end | .[] | "\($id) \(.)"' <<<"$output" | sort)" \
		"$(cut -d ' ' -f 1,2 "$dir/images")"
}

@test 'images and tags are those that docker images lists, dangling ones too' {
	both same_list
	has "$output" '"tags":[]'
}

reassembles() {
	local id
	for id in $(cut -d ' ' -f 1 "$dir/images" | sort -u); do
		try image-inspect --layers "$root:$id"
		image-inspect --layers "$root:$id" >records
		try layer-hash --check <records
		# The saved archive has the same layers.
		tar -xOf "$dir/save-${id#*:}" manifest.json >manifest.json
		is "$(jq -r '.[0].Layers[]' manifest.json | while read -r layer; do
			mkdir -p saved && tar -xf "$dir/save-${id#*:}" -C saved && sha256 "saved/$layer"
		done)" "$(jq -r .diffId records)"
		rm -rf saved
		is "$(image-inspect --config "$root:$id" | sha256 -)" "$id"
	done
}

@test 'every layer is put together to its DiffID, and configurations are those saved' {
	both reassembles
}

same_sizes() {
	try image-inspect --sizes "$root"
	is "$(jq -r '.images[] | "\(.id) \(.size)"' <<<"$output" | sort)" "$(sort "$dir/sizes")"
	is "$(jq '.images[] | .shared + .unique - .size' <<<"$output" | sort -u)" 0
	try image-inspect --containers "$root"
	is "$(jq -r '"\(.id) \(.name) \(.size) \(.virtual) \(.imageId)"' <<<"$output" | sort)" "$(cat "$dir/containers")"
}

@test 'sizes of images and containers are those of docker images and docker ps -s' {
	both same_sizes
}

same_history() {
	local id
	for id in $(cut -d ' ' -f 1 "$dir/images" | sort -u); do
		try image-inspect --history "$root:$id"
		is "$(jq '.layerSize // 0' <<<"$output")" "$(cat "$dir/history-${id#*:}")"
	done
}

@test 'sizes of layers are those of docker history' {
	both same_history
}

@test 'an image is found by name, by full name, by ID and by the beginning of one' {
	root=docker-root:$ROOTS/overlay2/root
	id=$(awk '$2 == "img:1" { print $1 }' "$ROOTS/overlay2/images")
	hex=${id#sha256:}
	for name in img:1 docker.io/library/img:1 localhost:5000/me/img:x "$id" "sha256:${hex:0:12}" "${hex:0:12}"; do
		try image-inspect "$root:$name"
		is "$(jq -r .id <<<"$output")" "$id"
	done
	# A directory is told by what is in it.
	try image-inspect "$ROOTS/overlay2/root:img:1"
	is "$(jq -r .image <<<"$output")" "$root:$id"
	try 1 image-inspect "$root:nothing:1"
	has "$stderr" 'holds no image `nothing:1`'
}

@test 'records have the directory and the size of each layer' {
	image-inspect --layers "docker-root:$ROOTS/overlay2/root:img:1" >records
	is "$(jq -r .path records | tac | paste -sd:)" \
		"$(for layer in $(jq -r .cacheId records | tac); do echo "$ROOTS/overlay2/root/overlay2/$layer/diff"; done | paste -sd:)"
	is "$(jq -s 'map(.layerSize) | add' records)" \
		"$(awk -v id="$(image-inspect "docker-root:$ROOTS/overlay2/root:img:1" | jq -r .id)" '$1 == id { print $2 }' "$ROOTS/overlay2/sizes")"
}

@test 'newlines are trimmed where the daemon trims, and refused where it refuses' {
	copy
	for file in diff parent cache-id; do echo >>"$layerdb/$top/$file"; done
	try image-inspect "docker-root:$copy:img:1"
	echo >>"$layerdb/$top/size"
	try 2 image-inspect "docker-root:$copy:img:1"
	has "$stderr" "image/overlay2/layerdb/sha256/$top/size: \`"
	has "$stderr" 'has white space around the number, so that dockerd drops the layer'
	# The others are none the worse.
	try image-inspect "docker-root:$copy:base:1"
}

@test 'what is missing is named by its file' {
	for file in diff size cache-id; do
		copy
		rm "$layerdb/$top/$file"
		try 2 image-inspect "docker-root:$copy:img:1"
		has "$stderr" "layerdb/sha256/$top/$file: is missing"
		rm -r "$copy"
	done
	copy
	rm -r "$layerdb/$(cut -d : -f 2 "$layerdb/$top/parent")"
	try 2 image-inspect "docker-root:$copy:img:1"
	has "$stderr" "layerdb/sha256/$top/parent: names the layer $(cat "$layerdb/$top/parent"), which is missing"
	rm -r "$copy"
	copy
	rm -r "$copy/overlay2/$(cat "$layerdb/$top/cache-id")"
	try image-inspect --layers "docker-root:$copy:img:1"
	try 2 layer-hash --check <<<"$output"
	has "$stderr" "/diff: is missing"
}

@test 'parents that lead round and ChainIDs that are wrong are refused' {
	copy
	printf 'sha256:%s' "$top" >"$layerdb/$top/parent"
	try 2 image-inspect "docker-root:$copy:img:1"
	has "$stderr" "layerdb/sha256/$top/parent: leads round"
	rm "$layerdb/$top/parent"
	try 1 image-inspect "docker-root:$copy:img:1"
	has "$stderr" 'ChainID of parent and diff is '
}

@test 'a changed file, a changed configuration and a broken repositories.json are refused' {
	copy
	echo x >"$copy/overlay2/$(cat "$layerdb/$top/cache-id")/diff/etc/deep/here"
	try 1 layer-hash --check < <(image-inspect --layers "docker-root:$copy:img:1")
	has "$stderr" 'entry `./etc/deep/here`: size is 2, expected 5'
	id=$(image-inspect "docker-root:$copy:img:1" | jq -r .id)
	echo >>"$copy/image/overlay2/imagedb/content/sha256/${id#sha256:}"
	try 1 image-inspect "docker-root:$copy:img:1"
	has "$stderr" "imagedb/content/sha256/${id#sha256:}: digest is "
	: >"$copy/image/overlay2/repositories.json"
	try 2 image-inspect --list "docker-root:$copy"
	has "$stderr" 'image/overlay2/repositories.json: EOF'
}

@test 'nothing is read through symlinks' {
	copy
	diff=$copy/overlay2/$(cat "$layerdb/$top/cache-id")/diff
	mkdir outside && echo here >outside/here
	rm -r "$diff/etc/deep" && ln -s "$PWD/outside" "$diff/etc/deep"
	try 2 layer-hash --check < <(image-inspect --layers "docker-root:$copy:img:1")
	has "$stderr" 'Too many levels of symbolic links'
	mv "$layerdb/$top/diff" outside/diff && ln -s "$PWD/outside/diff" "$layerdb/$top/diff"
	try 2 image-inspect "docker-root:$copy:img:1"
	has "$stderr" "$top/diff: leads through a symlink, expected none"
}

@test 'a layer without its tar-split is written anew from its files, and says so' {
	copy
	rm "$layerdb/$top/tar-split.json.gz"
	try image-inspect --layers "docker-root:$copy:img:1"
	is "$(jq -c .rebuilt <<<"$output" | paste -sd ' ')" 'null true'
	record=$(tail -n 1 <<<"$output")
	try layer-hash --check <<<"$record"
	is "$(jq -c '[.entries, .diffId]' <<<"$output")" "$(jq -c '[10, .diffId]' <<<"$record")"
	has "$stderr" 'DiffID is not checked: the layer has no tar-split, its tar is rebuilt from its files'
	try 2 layer-commit --onto "docker-root:$copy:img:1" "$(jq -r .path <<<"$record")"
	has "$stderr" 'layer 1 has no tar-split'
}

@test 'several drivers need one to be chosen, and some cannot be read' {
	copy
	mkdir -p "$copy/aufs/diff"
	try 2 image-inspect --list "docker-root:$copy"
	says "image-inspect: docker-root:$copy: has several storage drivers: overlay2, aufs (choose with DOCKER_DRIVER=NAME)"
	DOCKER_DRIVER=overlay2 try image-inspect --list "docker-root:$copy"
	rm -r "$copy/aufs" "$copy/overlay2"
	mkdir -p "$copy/devicemapper/mnt"
	try 2 image-inspect --list "docker-root:$copy"
	has "$stderr" 'the storage driver is devicemapper, whose layers are no directories'
}

@test 'the root of a user namespace is found below' {
	mkdir -p remapped
	cp -a "$ROOTS/overlay2/root" remapped/1000.1000
	try image-inspect "docker-root:$PWD/remapped:img:1"
	has "$(jq -r .image <<<"$output")" "docker-root:$PWD/remapped/1000.1000:sha256:"
	mkdir remapped/2000.2000
	try 2 image-inspect --list "docker-root:$PWD/remapped"
	has "$stderr" 'several user namespaces: 1000.1000, 2000.2000 (name one)'
}

# holds ROOT: every layer of img:1 and built:1 is put together to its DiffID.
holds() {
	local name
	for name in img:1 built:1; do
		image-inspect --layers "docker-root:$1:$name" >records
		try layer-hash --check <records
	done
	# Only overlay2 keeps layers in overlayfs's form.
	is "$(jq 'has("path") or (has("driverPath") | not)' records | sort -u)" false
}

@test 'drivers that keep whole trees are read: overlay and btrfs' {
	mkdir -p o/image o/overlay b/image b/btrfs/subvolumes
	cp -a "$ROOTS/vfs/root/image/vfs" o/image/overlay
	cp -a "$ROOTS/vfs/root/image/vfs" b/image/btrfs
	for dir in "$ROOTS"/vfs/root/vfs/dir/*; do
		mkdir "o/overlay/${dir##*/}"
		cp -a "$dir" "o/overlay/${dir##*/}/root"
		cp -a "$dir" "b/btrfs/subvolumes/${dir##*/}"
	done
	holds "$PWD/o"
	holds "$PWD/b"
}

@test 'drivers that keep whiteouts by their names are read: aufs and fuse-overlayfs' {
	mkdir -p a/image a/aufs/diff a/aufs/layers f/image
	cp -a "$ROOTS/overlay2/root/image/overlay2" a/image/aufs
	cp -a "$ROOTS/overlay2/root/image/overlay2" f/image/fuse-overlayfs
	cp -a "$ROOTS/overlay2/root/overlay2" f/fuse-overlayfs
	find f/fuse-overlayfs/*/diff -type c | while read -r file; do
		[ "$(stat -c %t:%T "$file")" = 0:0 ] || continue
		rm "$file" && : >"${file%/*}/.wh.${file##*/}"
	done
	for dir in f/fuse-overlayfs/*/diff; do
		id=${dir%/diff} id=${id##*/}
		cp -a "$dir" "a/aufs/diff/$id"
		: >"a/aufs/layers/$id"
	done
	holds "$PWD/a"
	holds "$PWD/f"
}

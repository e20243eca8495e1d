#!/usr/bin/env bats
# What strangers may write, class by class. hostile.py judges: nothing outside the target changes, and no tool crashes, hangs,
# grows or is silent. As root, all but the arena is read-only meanwhile, in a mount namespace of its own.
# shellcheck disable=SC2154  # bats sets $output, $stderr.

load helpers

export PYTHONDONTWRITEBYTECODE=1

setup() {
	enter_scratch
	# Another user has to come in.
	ARENA=$(mktemp -d)
	chmod 755 "$ARENA"
}

teardown() {
	rm -rf "$ARENA"
	leave_scratch
}

# attack WHAT HOW...: runs hostile.py for each HOW.
attack() {
	local how arena
	for how in "${@:2}"; do
		[ "$how" != user ] || [ "$(id -u)" -eq 0 ] || continue
		arena=$ARENA/$how
		mkdir "$arena"
		cp "$(command -v layer-unpack)" "$arena"
		try shielded "$arena" "$PYTHON" "$TESTS/hostile.py" "$1" "$how" "$arena"
	done
}

# shielded DIR COMMAND...: runs COMMAND where only DIR can be written to.
shielded() {
	if [ "$(id -u)" -ne 0 ]; then
		"${@:2}"
		return
	fi
	unshare -m --propagation private sh -c '
		mount --bind "$0" "$0" && mount -o remount,bind,ro / || echo "not shielded"
		exec "$@"
	' "$@"
}

@test "names that lead out" {
	attack names plain overlay store user
}

@test "links that lead out" {
	attack links plain overlay oci user
}

@test "whiteouts that lead out, or name nothing" {
	attack whiteouts plain overlay store
}

@test "devices and FIFOs" {
	requires root
	attack devices plain overlay
}

@test "attributes that overlayfs would believe" {
	requires root
	attack xattrs plain overlay
}

@test "PAX and GNU headers that lie" {
	attack headers plain docker
}

@test "numbers that overflow" {
	attack numbers plain
}

@test "damaged ends and compressions" {
	attack ends plain docker
}

@test "more than anyone needs" {
	attack sizes plain overlay
}

@test "names swapped for links while they are written to" {
	attack race 12
}

@test "configurations that are none" {
	local json digest
	digest=sha256:$(printf 'a%.0s' {1..64})
	while IFS= read -r json; do
		try 2 chain-id <<<"$json"
		is "${#stderr_lines[@]}" 1
		is "$output" ''
	done <<-END

		null
		{}
		word
		{"rootfs":null}
		{"rootfs":{"type":"layers","diff_ids":"$digest"}}
		{"rootfs":{"type":"layers","diff_ids":[null]}}
		{"rootfs":{"type":"layers","diff_ids":["sha256:../../../../etc/passwd"]}}
		{"rootfs":{"type":"layers","diff_ids":["${digest^^}"]}}
		{"rootfs":{"type":"layers","diff_ids":["md5:d41d8cd98f00b204e9800998ecf8427e"]}}
		{"rootfs":{"type":"layers","diff_ids":["$digest"
		{"rootfs":{"type":"layers","diff_ids":["$digest"]}} {}
		{"rootfs":{"type":"layers","diff_ids":$(printf '[%.0s' {1..5000})}}
	END
}

# archive_with PATH [ENTRY...]: makes bad.tar, a docker archive with its layer at PATH, and the entries.
archive_with() {
	local path=$1 id
	entries layer.tar <<<'file f x'
	id=$(sha256 layer.tar)
	printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}' "$id" >config.json
	printf '[{"Config":"config.json","RepoTags":null,"Layers":["%s"]}]' "$path" >manifest.json
	tar -cf bad.tar config.json manifest.json
	entries more.tar < <(printf '%s\n' "${@:2}")
	tar -Af bad.tar more.tar
}

@test "archives whose layer is elsewhere" {
	local path
	entries "$ARENA/layer.tar" <<<'file f x'
	for path in "$ARENA/layer.tar" "../../../../../../../../$ARENA/layer.tar" /dev/zero . ''; do
		archive_with "$path"
		try 2 image-inspect bad.tar
		try 2 layer-unpack --image bad.tar root
	done
	for path in "symlink l $ARENA/layer.tar" "link l $ARENA/layer.tar" 'symlink l l' 'fifo l' 'dir l'; do
		archive_with l "$path"
		try 2 image-inspect bad.tar
		try 2 layer-unpack --image bad.tar root
	done
	[ ! -e root ]
}

@test "layouts whose blobs are elsewhere" {
	local blob
	entries layer.tar <<<'file f x'
	oci_layout image layer.tar
	blob=image/blobs/sha256/$(jq -r '.layers[0].digest[7:]' "image/blobs/sha256/$(jq -r '.manifests[0].digest[7:]' image/index.json)")
	[ -f "$blob" ]
	cp layer.tar "$ARENA/layer.tar"
	rm "$blob"
	ln -s "$ARENA/layer.tar" "$blob"
	try 2 layer-unpack --image oci:image root
	ln -sfn /dev/zero "$blob"
	try 2 layer-unpack --image oci:image root
	rm "$blob"
	mkfifo "$blob"
	try 2 timeout 20 layer-unpack --image oci:image root
	rm "$blob"
	mkdir "$blob"
	try 2 layer-unpack --image oci:image root
	[ ! -e root ]
	jq '.manifests[0].digest = "sha256:../../../../etc/passwd"' image/index.json >index
	mv index image/index.json
	try 2 image-inspect oci:image
}

@test "a destination that is a symlink is followed only if a slash says so" {
	entries layer.tar <<<'file f x'
	mkdir real
	ln -s real link
	try 2 layer-unpack --no-same-owner link <layer.tar
	says 'layer-unpack: link: is a symbolic link (a slash behind it says to follow it)'
	[ ! -e real/f ]
	try layer-unpack --no-same-owner link/ <layer.tar
	[ -e real/f ]
}

#!/usr/bin/env bats
# Bad input of each kind, a full disk, a reader that has gone: each tool says so in one line, and ends with the status that
# layer-tools(7) promises.

load helpers

setup() {
	enter_scratch
	mkdir -p root/etc
	seq 100000 >root/etc/numbers
	layer_tar layer.tar root
	gzip -kn layer.tar
	docker_archive --tag a:1 image.tar layer.tar
	oci_layout --tag a:1 --compress gzip layout layer.tar
	image-inspect --layers oci:layout | chain-id >records
	blob=layout/blobs/sha256/$(jq -r .digest records | cut -d : -f 2)
}

# refuses STATUS MESSAGE COMMAND...: that status, nothing on stdout, and this line alone on stderr.
refuses() {
	try "$1" "${@:3}"
	says "$2"
}

@test "truncated" {
	head -c 5000 layer.tar.gz >cut.tar.gz
	refuses 2 'layer-hash: cut.tar.gz: gzip stream is cut short' layer-hash cut.tar.gz
	refuses 2 'layer-unpack: <stdin>: gzip stream is cut short' layer-unpack out <cut.tar.gz
	head -c 100000 layer.tar >cut.tar
	refuses 2 'layer-hash: cut.tar: entry `./etc/numbers`: the archive is cut short' layer-hash cut.tar
	head -c 2048 image.tar >cut-image.tar
	try 2 image-inspect cut-image.tar
	has "$stderr" 'image-inspect: cut-image.tar: entry `'
	has "$stderr" '/layer.tar`: the archive is cut short'
	[ ! -e out ]
}

@test "a wrong digest" {
	zero=sha256:$(printf '0%.0s' {1..64})
	refuses 1 "layer-hash: layer.tar.gz: digest is $(sha256 layer.tar.gz) and DiffID $(sha256 layer.tar), expected $zero" \
		layer-hash --expect "$zero" layer.tar.gz
	# Another layer of the right size under the blob's name.
	cp "$blob" right
	printf '\xff' | dd of="$blob" bs=1 seek=9 conv=notrunc status=none
	wrong=$(sha256 "$blob")
	refuses 1 "layer-hash: records: layer 0: digest is $wrong, expected $(sha256 right)" layer-hash --check records
	try 1 layer-unpack --image oci:layout out
	has "$stderr" "digest is $wrong, expected $(sha256 right)"
	[ ! -e out ]
	try 1 layer-unpack --store store <records
	has "$stderr" "digest is $wrong, expected $(sha256 right)"
	is "$(ls store)" ''
}

@test "not an image, not a record, not a layer" {
	refuses 2 'image-inspect: layer.tar: has neither `manifest.json` nor `index.json`: not an image' image-inspect layer.tar
	refuses 2 'image-inspect: root: has no `oci-layout`: not an OCI image layout' image-inspect root
	refuses 2 'image-inspect: none: cannot open: No such file or directory (os error 2)' image-inspect none
	refuses 1 'image-inspect: image.tar:none: holds no image `none` (there is a:1 linux/amd64)' image-inspect image.tar:none
	try 2 layer-commit root --onto layer.tar
	has "$stderr" 'not an image'
	try 2 layer-unpack --image layer.tar out
	has "$stderr" 'layer-unpack: layer.tar: has neither `manifest.json` nor `index.json`: not an image'
	seq 1000 >numbers
	for tool in layer-hash 'layer-unpack out'; do
		try 2 bash -c "$tool <numbers"
		has "$stderr" 'not a tar archive'
	done
	echo '{"diffId": 1}' >bad
	refuses 2 'chain-id: <stdin>: has neither `diffId`, as a layer record, nor `rootfs`, as an image configuration' \
		chain-id <<<'{"size": 1}'
	for tool in 'layer-unpack --store store' 'ovl-mount mnt' 'layer-hash --check'; do
		try 2 bash -c "$tool <bad"
		has "$stderr" 'line 1: not a layer record: invalid type: integer `1`'
	done
}

@test "an unknown compression" {
	requires xz
	xz -k layer.tar
	local what='is compressed with xz, expected a plain, gzip or zstd stream'
	refuses 2 "layer-hash: layer.tar.xz: $what" layer-hash layer.tar.xz
	refuses 2 "layer-unpack: <stdin>: $what" layer-unpack out <layer.tar.xz
	[ ! -e out ]
}

@test "a path that leads out" {
	entries out.tar <<-'LINES'
		file ../escaped content=x
	LINES
	refuses 2 'layer-unpack: <stdin>: entry `../escaped`: `..` leads out of the layer' layer-unpack out <out.tar
	refuses 2 'layer-unpack: <stdin>: entry `../escaped`: `..` leads out of the layer' layer-unpack --overlay out <out.tar
	[ ! -e escaped ] && [ ! -e out ]
	mkdir outside
	entries planted.tar <<-LINES
		symlink etc $PWD/outside
		file etc/passwd content=x
	LINES
	# Followed within the root, as a process in the container would.
	layer-unpack out <planted.tar || true
	is "$(ls outside)" ''
}

@test "a full disk" {
	local full='<stdout>: cannot write: No space left on device (os error 28)'
	printf '%s\n' 'layer-hash layer.tar' 'layer-hash --tee --record r layer.tar' 'chain-id records' 'image-inspect image.tar' \
		'image-inspect --layers image.tar' 'image-inspect -t image.tar' 'image-inspect --config image.tar' \
		'layer-commit --diff outside root' 'layer-unpack --store store <records' >commands
	mkdir outside
	while read -r command; do
		try 2 bash -c "$command >/dev/full"
		is "$stderr" "${command%% *}: $full"
	done <commands
}

@test "a reader that has gone" {
	mkdir outside
	printf '%s\n' 'layer-hash layer.tar' 'layer-hash --tee --record r layer.tar' 'chain-id records' 'image-inspect image.tar' \
		'image-inspect --layers image.tar' 'image-inspect --config image.tar' \
		'layer-commit --diff outside root' 'layer-unpack --store store <records' >commands
	while read -r command; do
		# The reader is gone before the tool begins.
		try bash -c "{ until [ -e gone ]; do sleep 0.01; done; $command; echo \$? >status; } | { exec <&-; touch gone; }; rm gone"
		is "$stderr" ''
		is "$(cat status)" 141
	done <commands
}

@test "a name in an image reaches no terminal" {
	entries escape.tar <<-'LINES'
		file '../\x1b]0;title\x07' content=x
	LINES
	try 2 layer-unpack out <escape.tar
	is "$stderr" 'layer-unpack: <stdin>: entry `../\u{1b}]0;title\u{7}`: `..` leads out of the layer'
}

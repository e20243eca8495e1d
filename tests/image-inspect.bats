#!/usr/bin/env bats
# image-inspect(1). Images are made by mkimage.py and, the odd ones, here; jq, sha256sum and skopeo say what they are.

load helpers

setup() {
	enter_scratch
	mkdir a b
	echo one >a/one
	echo two >b/two
	layer_tar a.tar a
	layer_tar b.tar b
}

# The DiffIDs of the two layers.
diff_ids() {
	sha256 a.tar
	sha256 b.tar
}

# index LAYOUT JQ-FILTER: changes index.json.
index() {
	jq -c "$2" "$1/index.json" >index.new && mv index.new "$1/index.json"
}

# blob LAYOUT < CONTENT: puts a blob into a layout and prints its descriptor without the media type.
blob() {
	cat >blob.new
	local digest
	digest=$(sha256 blob.new)
	jq -nc --arg digest "$digest" --argjson size "$(stat -c %s blob.new)" '{digest: $digest, size: $size}'
	mv blob.new "$1/blobs/sha256/${digest#sha256:}"
}

# manifest_path LAYOUT: the blob of the layout's first manifest.
manifest_path() {
	printf '%s/blobs/sha256/%s' "$1" "$(jq -r '.manifests[0].digest | ltrimstr("sha256:")' "$1/index.json")"
}

# two_platforms: the layout `multi` whose one tag is an index of linux/s390x and linux/riscv64, and a second one deep.
two_platforms() {
	oci_layout --tag m:1 --config '{"architecture":"s390x"}' multi a.tar
	oci_layout --tag m:1 --config '{"architecture":"riscv64"}' other b.tar
	cp -n other/blobs/sha256/* multi/blobs/sha256/
	jq -sc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [.[].manifests[] | del(.annotations)]}' \
		multi/index.json other/index.json | blob multi >nested
	jq -c '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
		manifests: [. + {mediaType: "application/vnd.oci.image.index.v1+json"}]}' nested | blob multi >deeper
	jq -c '{schemaVersion: 2, manifests: [. + {mediaType: "application/vnd.oci.image.index.v1+json",
		annotations: {"org.opencontainers.image.ref.name": "1"}}]}' deeper >multi/index.json
}

@test "every form of one image says the same of it" {
	docker_archive --tag x:1 legacy.tar a.tar b.tar
	docker_archive_25 --tag x:1 new.tar a.tar b.tar
	oci_layout --tag x:1 layout a.tar b.tar
	oci_archive --tag x:1 --compress gzip layout.tar a.tar b.tar
	for image in legacy.tar docker-archive:legacy.tar new.tar docker-archive:new.tar oci-archive:new.tar layout oci:layout \
		layout.tar oci-archive:layout.tar; do
		try image-inspect "$image"
		is "$stderr" ''
		is "$(jq -r .id <<<"$output")" "$(sha256 legacy.tar.config)"
		is "$(jq -r '.layers[].diffId' <<<"$output")" "$(diff_ids)"
		is "$(jq -c '[.platform, .created, .layerCount, .historyCount]' <<<"$output")" \
			"$(jq -c '["linux/amd64", .created, 2, 2]' legacy.tar.config)"
		is "$(jq -cS .config <<<"$output")" "$(jq -cS .config legacy.tar.config)"
		has "$(jq -r '.tags[0]' <<<"$output")" 1
	done
}

@test "documents are printed byte for byte" {
	docker_archive legacy.tar a.tar
	oci_layout layout a.tar
	image-inspect --config legacy.tar | cmp - legacy.tar.config
	image-inspect --index legacy.tar | cmp - <(tar -xOf legacy.tar manifest.json)
	image-inspect --manifest legacy.tar | cmp - <(tar -xOf legacy.tar manifest.json | jq -cj '.[0]')
	image-inspect --config layout | cmp - layout.config
	image-inspect --index layout | cmp - layout/index.json
	image-inspect --manifest layout | cmp - "$(manifest_path layout)"
	is "$(image-inspect layout | jq -r .digest)" "$(sha256 "$(manifest_path layout)")"
}

@test "records have what the manifest says and their history entry" {
	oci_layout --compress zstd --history '[{"created_by":"a"},{"created_by":"env","empty_layer":true},{"created_by":"b","x": 1.50}]' \
		layout a.tar b.tar
	try image-inspect --layers layout
	is "$(jq -c '{mediaType, digest, size}' <<<"$output")" "$(jq -c '.layers[]' "$(manifest_path layout)")"
	is "$(jq -r .diffId <<<"$output")" "$(diff_ids)"
	is "$(jq -r .history.created_by <<<"$output")" $'a\nb'
	is "$(jq -r .image <<<"$output" | uniq)" "oci:$PWD/layout:$(sha256 "$(manifest_path layout)")"
	try image-inspect --history layout
	is "$(jq -c '[.history.created_by, .diffId, .history.empty_layer]' <<<"$output")" \
		"$(diff_ids | jq -Rnc '[inputs] as [$a, $b] | ["a", $a, null], ["env", null, true], ["b", $b, null]')"
	# Another number of entries than layers says nothing of which is whose.
	oci_layout --history '[{"created_by":"a"}]' short a.tar b.tar
	is "$(image-inspect --layers short | jq -c .history)" $'null\nnull'
	is "$(image-inspect --history short | jq -c .diffId)" null
}

@test "a configuration over several lines still gives records of one line" {
	oci_layout layout a.tar
	jq . layout.config | blob layout >config
	jq -c --slurpfile config config '.config += $config[0]' "$(manifest_path layout)" | blob layout >manifest
	index layout ".manifests[0] += $(cat manifest)"
	try image-inspect --layers layout
	is "${#lines[@]}" 1
	is "$(jq -c .history <<<"$output")" "$(jq -c '.history[0]' layout.config)"
}

@test "of a plain layer in an archive digest and sizes are known" {
	docker_archive legacy.tar a.tar
	is "$(image-inspect --layers legacy.tar | jq -c '[.digest, .size, .diffSize, .mediaType]')" \
		"$(jq -nc --arg digest "$(sha256 a.tar)" --argjson size "$(stat -c %s a.tar)" \
			'[$digest, $size, $size, "application/vnd.oci.image.layer.v1.tar"]')"
}

@test "layers that come twice are symlinks in an archive and are found" {
	docker_archive --symlink --parent twice.tar a.tar b.tar a.tar
	tar -tvf twice.tar | grep -q ' -> '
	is "$(image-inspect --layers twice.tar | jq -r .diffId)" "$(diff_ids; sha256 a.tar)"
	is "$(image-inspect --layers twice.tar | jq -r .size | uniq | wc -l)" 1
}

@test "member names of manifest.json count in any case, but once" {
	docker_archive x.tar a.tar
	mkdir x && tar -xf x.tar -C x
	jq -c 'map(with_entries(.key |= ascii_downcase))' x/manifest.json >lower && cp lower x/manifest.json
	tar -cf lower.tar -C x .
	is "$(image-inspect lower.tar | jq -r .id)" "$(sha256 x.tar.config)"
	jq -c '.[0] |= . + {Config: "other.json"}' lower >x/manifest.json
	tar -cf both.tar -C x .
	try 2 image-inspect both.tar
	has "$stderr" 'member `Config` stands twice'
}

@test "compressed archives and pipes are read as plain files are" {
	requires zstd xz
	docker_archive x.tar a.tar b.tar
	gzip -k x.tar
	zstd -q x.tar
	xz -k x.tar
	mkdir tmp
	image-inspect x.tar | jq -c 'del(.image)' >want
	for image in x.tar x.tar.gz x.tar.zst x.tar.xz; do
		TMPDIR=tmp image-inspect "$image" | jq -c 'del(.image)' | cmp - want
		TMPDIR=tmp image-inspect - <"$image" | cmp - want
		TMPDIR=tmp bash -c 'cat "$1" | image-inspect -' - "$image" | cmp - want
	done
	is "$(ls tmp)" ''
	is "$(image-inspect --layers - <x.tar | jq -c .image)" $'null\nnull'
	try 2 image-inspect --max-size 100 x.tar.gz
	says 'image-inspect: x.tar.gz: is larger than 100 bytes uncompressed (allow more with --max-size)'
	try 0 image-inspect --max-size 100 x.tar
	TMPDIR=/nowhere try 2 image-inspect x.tar.gz
	has "$stderr" 'cannot make a temporary file in /nowhere'
}

@test "a plain archive is not read but for its headers" {
	requires strace
	docker_archive x.tar a.tar
	"$PYTHON" - <<-'END'
		import tarfile
		with tarfile.open("x.tar") as small, open("big.tar", "wb") as big:
		    for member in small:
		        content = small.extractfile(member).read() if member.isfile() else b""
		        if member.name.endswith("layer.tar"):
		            member.size = 2 << 30
		        big.write(member.tobuf() + content)
		        big.seek(member.size - len(content) + -member.size % 512, 1)
		    big.write(bytes(1024))
	END
	is "$(image-inspect big.tar | jq .size)" $((2 << 30))
	try strace -f -o trace -e trace=read,pread64,readv,preadv image-inspect big.tar
	read=$(sed -n 's/.* = \([0-9]*\)$/\1/p' trace | awk '{ sum += $1 } END { print sum }')
	[ "$read" -lt 200000 ] || { echo "$read bytes were read"; false; }
}

@test "one of several images is chosen by tag, position, ImageID and their beginnings" {
	docker_archive --tag one:1 one.tar a.tar
	docker_archive --tag example.com/two:2 two.tar b.tar
	mkdir x && tar -xf one.tar -C x && cp x/manifest.json first && tar -xf two.tar -C x
	jq -sc 'add' first x/manifest.json >both && cp both x/manifest.json
	tar -cf both.tar -C x .
	one=$(sha256 one.tar.config) two=$(sha256 two.tar.config)
	is "$(image-inspect --list both.tar | jq -r .id)" "$one"$'\n'"$two"
	is "$(image-inspect --list both.tar | jq -r .image)" "docker-archive:$PWD/both.tar:@0"$'\n'"docker-archive:$PWD/both.tar:@1"
	for ref in one:1 docker.io/library/one:1 1 @0 "$one" "${one:0:20}"; do
		is "$(image-inspect "both.tar:$ref" | jq -r .id)" "$one"
	done
	is "$(image-inspect "both.tar:example.com/two:2" | jq -r .id)" "$two"
	is "$(image-inspect --list both.tar:@1 | jq -r .id)" "$two"
	try 2 image-inspect both.tar
	says 'image-inspect: both.tar: holds 2 images, expected one (choose one:1 linux/amd64, example.com/two:2 linux/amd64)'
	for ref in three:1 @2 sha256:0000000; do
		try 1 image-inspect "both.tar:$ref"
		says "image-inspect: both.tar:$ref: holds no image \`$ref\` (there is one:1 linux/amd64, example.com/two:2 linux/amd64)"
	done
}

@test "nested indexes are followed, and the platform chooses" {
	two_platforms
	is "$(image-inspect --list multi | jq -r .platform)" $'linux/s390x\nlinux/riscv64'
	is "$(image-inspect --list multi | jq -r '.tags[]')" $'1\n1'
	is "$(image-inspect --platform linux/riscv64 oci:multi:1 | jq -r .id)" "$(sha256 other.config)"
	is "$(image-inspect --platform linux/s390x oci:multi | jq -r .id)" "$(sha256 multi.config)"
	try 1 image-inspect --platform linux/mips oci:multi:1
	says 'image-inspect: oci:multi:1: holds no image for linux/mips (there is 1 linux/s390x, 1 linux/riscv64)'
	# Neither is for this machine.
	try 2 image-inspect multi
	has "$stderr" 'holds 2 images, expected one'
	# One that was not copied along does not count.
	digest=$(jq -r '.manifests[0].digest' other/index.json)
	rm "multi/blobs/sha256/${digest#sha256:}"
	is "$(image-inspect oci:multi:1 | jq -r .platform)" linux/s390x
	is "$(image-inspect --list multi | jq -r .platform)" linux/s390x
}

@test "without --platform the machine's own is taken" {
	case $(uname -m) in
	x86_64) own=amd64 ;;
	aarch64) own=arm64 ;;
	*) skip 'needs a machine whose Go name is known here' ;;
	esac
	oci_layout --config '{"architecture":"'"$own"'"}' layout a.tar
	oci_layout --config '{"architecture":"s390x"}' other b.tar
	cp -n other/blobs/sha256/* layout/blobs/sha256/
	jq -sc '.[0].manifests += .[1].manifests | .[0] | .manifests[] |= del(.annotations)' layout/index.json other/index.json >both
	cp both layout/index.json
	is "$(image-inspect layout | jq -r .platform)" "linux/$own"
	is "$(image-inspect --list layout | wc -l)" 2
}

@test "attestations and artifacts are no images" {
	oci_layout --tag x:1 layout a.tar
	manifest=$(jq -c '.manifests[0]' layout/index.json)
	index layout '.manifests += [.manifests[0] | .platform = {os: "unknown", architecture: "unknown"} | .digest = "sha256:'"$(printf %064d 0)"'"]'
	jq -c '.config.mediaType = "application/vnd.cncf.helm.config.v1+json"' "$(manifest_path layout)" | blob layout >helm
	index layout '.manifests += [{mediaType: "application/vnd.oci.image.manifest.v1+json"} + '"$(cat helm)"']'
	is "$(image-inspect layout | jq -r .id)" "$(sha256 layout.config)"
	is "$(image-inspect --list layout | wc -l)" 1
	is "$manifest" "$(jq -c '.manifests[0]' layout/index.json)"
	index layout '.manifests |= .[2:]'
	try 2 image-inspect layout
	says "image-inspect: layout: $(jq -r .digest helm): is the manifest of something else than an image"
}

@test "Docker's own media types are read in a layout" {
	oci_layout --compress gzip layout a.tar
	jq -c '.mediaType = "application/vnd.docker.distribution.manifest.v2+json"
		| .config.mediaType = "application/vnd.docker.container.image.v1+json"
		| .layers[].mediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"' "$(manifest_path layout)" | blob layout >manifest
	index layout '.manifests = [{mediaType: "application/vnd.docker.distribution.manifest.v2+json"} + '"$(cat manifest)"']'
	is "$(image-inspect layout | jq -r '.layers[].mediaType')" application/vnd.docker.image.rootfs.diff.tar.gzip
}

@test "blobs may be symlinks within the layout and nowhere else" {
	oci_layout layout a.tar
	blob=$(manifest_path layout)
	mv "$blob" layout/manifest.json
	ln -s ../../manifest.json "$blob"
	try image-inspect layout
	mv layout/manifest.json .
	ln -sf ../../../manifest.json "$blob"
	try 2 image-inspect layout
	says "image-inspect: layout: sha256:$(basename "$blob"): leads out of the layout"
	rm "$blob" && mkfifo "$blob"
	try 2 timeout 10 image-inspect layout
	says "image-inspect: layout: sha256:$(basename "$blob"): is not a regular file"
}

@test "indexes that lead to each other again and again are read once" {
	oci_layout layout a.tar
	entry=$(jq -c '.manifests[0] | del(.annotations)' layout/index.json)
	for _ in $(seq 12); do
		entry=$(jq -nc --argjson entry "$entry" '{schemaVersion: 2, manifests: [range(8) | $entry]}' | blob layout |
			jq -c '. + {mediaType: "application/vnd.oci.image.index.v1+json"}')
	done
	jq -nc --argjson entry "$entry" '{schemaVersion: 2, manifests: [$entry]}' >layout/index.json
	is "$(timeout 10 image-inspect layout | jq -r .id)" "$(sha256 layout.config)"
	for _ in $(seq 12); do
		entry=$(jq -nc --argjson entry "$entry" '{schemaVersion: 2, manifests: [$entry]}' | blob layout |
			jq -c '. + {mediaType: "application/vnd.oci.image.index.v1+json"}')
	done
	jq -nc --argjson entry "$entry" '{schemaVersion: 2, manifests: [$entry]}' >layout/index.json
	try 2 image-inspect layout
	says 'image-inspect: layout: indexes are nested more than 16 deep'
}

@test "damage is named and ends with status 1" {
	oci_layout layout a.tar
	digest=$(sha256 "$(manifest_path layout)")
	printf ' ' >>"$(manifest_path layout)"
	try 1 image-inspect layout
	has "$stderr" "image-inspect: layout: $digest: size is "
	rm -r layout && oci_layout layout a.tar
	sed -i 's/layers/Layers/' "$(manifest_path layout)"
	try 1 image-inspect layout
	has "$stderr" "image-inspect: layout: $digest: digest is "
	docker_archive x.tar a.tar b.tar
	mkdir x && tar -xf x.tar -C x
	jq -c '.[0].Layers |= .[1:]' x/manifest.json >short && cp short x/manifest.json
	tar -cf short.tar -C x .
	try 1 image-inspect short.tar
	says 'image-inspect: short.tar: number of layers is 1, expected 2'
}

@test "what is missing is named" {
	oci_layout layout a.tar
	layer=$(sha256 a.tar)
	rm "layout/blobs/sha256/${layer#sha256:}"
	try 2 image-inspect layout
	says "image-inspect: layout: $layer: is not in the layout"
	docker_archive x.tar a.tar
	name=$(tar -xOf x.tar manifest.json | jq -r '.[0].Layers[0]')
	tar --delete -f x.tar "$name"
	try 2 image-inspect x.tar
	says "image-inspect: x.tar: layer \`$name\`: is not in the archive"
	rm layout/oci-layout
	try 2 image-inspect layout
	says 'image-inspect: layout: has no `oci-layout`: not an OCI image layout'
}

@test "a manifest that is an index too is refused, and one that is said to be the other" {
	oci_layout layout a.tar
	jq -c '. + {manifests: []}' "$(manifest_path layout)" | blob layout >both
	index layout ".manifests[0] += $(cat both)"
	try 2 image-inspect layout
	says "image-inspect: layout: $(jq -r .digest both): has members of a manifest and of an index"
	rm -r layout && oci_layout layout a.tar
	jq -c '.mediaType = "application/vnd.oci.image.index.v1+json"' "$(manifest_path layout)" | blob layout >index
	index layout ".manifests[0] += $(cat index)"
	try 2 image-inspect layout
	has "$stderr" 'media type is `application/vnd.oci.image.index.v1+json`, expected that of a manifest'
}

@test "what is no image is refused with what it looks like" {
	try 2 image-inspect nothing.tar
	says 'image-inspect: nothing.tar: cannot open: No such file or directory (os error 2)'
	: >empty
	try 2 image-inspect empty
	says 'image-inspect: empty: is empty, expected an image'
	try 2 image-inspect a.tar
	says 'image-inspect: a.tar: has neither `manifest.json` nor `index.json`: not an image'
	try 2 image-inspect docker-archive:a.tar
	says 'image-inspect: docker-archive:a.tar: has no `manifest.json`: not an archive of docker save'
	try 2 image-inspect a
	says 'image-inspect: a: has no `oci-layout`: not an OCI image layout'
	bzip2 -k a.tar 2>/dev/null || printf BZh9 >a.tar.bz2
	try 2 image-inspect a.tar.bz2
	has "$stderr" 'is compressed with bzip2'
	try 2 image-inspect docker://alpine
	has "$stderr" 'no such transport'
	try 2 image-inspect docker-archive:a
	says 'image-inspect: docker-archive:a: is a directory, expected an archive'
	try 2 image-inspect oci:a.tar
	says 'image-inspect: oci:a.tar: is not a directory (an archive is `oci-archive:`)'
	seq 1000 >text
	try 2 image-inspect text
	has "$stderr" 'image-inspect: text: '
}

@test "an archive that is cut short is refused" {
	docker_archive x.tar a.tar b.tar
	for size in 100 700 3000; do
		head -c "$size" x.tar >cut.tar
		try 2 image-inspect cut.tar
		has "$stderr" 'image-inspect: cut.tar: '
	done
	gzip -c x.tar | head -c 500 >cut.tar.gz
	try 2 image-inspect cut.tar.gz
	has "$stderr" 'gzip stream is cut short'
}

@test "paths in any bytes, with colons, and absolute references that name them again" {
	name=$'caf\xe9:x'
	docker_archive x.tar a.tar
	mv x.tar "$name"
	try image-inspect --layers "docker-archive:$name"
	is "$(jq -r .imageRaw <<<"$output" | base64 -d)" "docker-archive:$PWD/$name:@0"
	mv "$name" a:b.tar
	image=$(image-inspect a:b.tar | jq -r .image)
	is "$image" "docker-archive:$PWD/a:b.tar:@0"
	(cd / && image-inspect "$image") | jq -r .id | grep -qxF "$(sha256 x.tar.config)"
}

@test "tables are for people" {
	docker_archive --tag x:1 x.tar a.tar b.tar
	try image-inspect -t x.tar
	has "$output" "$(sha256 x.tar.config)"
	try image-inspect --layers -t x.tar
	is "${#lines[@]}" 3
	try image-inspect --history -t x.tar
	has "${lines[2]}" 'layer 1'
	try image-inspect --list -t x.tar
	has "${lines[1]}" x:1
	try 2 image-inspect --config -t x.tar
	try 2 image-inspect --config --layers x.tar
}

@test "skopeo sees the same image" {
	requires skopeo
	docker_archive --tag x:1 legacy.tar a.tar b.tar
	oci_layout --tag x:1 --compress gzip layout a.tar b.tar
	is "$(image-inspect --config legacy.tar)" "$(skopeo inspect --config --raw docker-archive:legacy.tar)"
	is "$(image-inspect --manifest layout)" "$(skopeo inspect --raw oci:layout)"
	is "$(image-inspect layout | jq -r .digest)" "$(skopeo inspect oci:layout | jq -r .Digest)"
	is "$(image-inspect --layers layout | jq -r .digest)" "$(skopeo inspect oci:layout | jq -r '.Layers[]')"
	# What skopeo writes itself.
	skopeo copy -q docker-archive:legacy.tar oci-archive:skopeo.tar:x:1
	is "$(image-inspect skopeo.tar:x:1 | jq -r '.layers[].diffId')" "$(diff_ids)"
}

@test "a full disk and a reader that has gone" {
	docker_archive x.tar a.tar
	try 2 bash -c 'image-inspect x.tar >/dev/full'
	says 'image-inspect: <stdout>: cannot write: No space left on device (os error 28)'
	try 141 bash -c 'exec 3> >(exec true); sleep 0.5; image-inspect x.tar >&3'
}

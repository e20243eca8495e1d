#!/usr/bin/env bats
# image-copy(1) between archives and layouts. Oracles: sha256sum, jq, GNU tar, skopeo, umoci, docker load and podman load.
# Data roots of Docker are in docker-root-write.bats.

# shellcheck disable=SC2016,SC2154  # Backquotes in messages; what bats and try set.

load helpers

# Three layers: base.tar, middle.tar and top.tar.
layers() {
	mkdir -p base/etc middle/etc top
	echo one >base/etc/one
	head -c 100000 /dev/urandom >base/random
	echo two >middle/etc/two
	: >middle/etc/.wh.one
	echo three >top/three
	local layer
	for layer in base middle top; do
		layer_tar $layer.tar $layer --mtime=@1000000000
	done
}

setup() {
	enter_scratch
	layers
	docker_archive --tag demo:1 --tag me/other:2 demo.tar base.tar middle.tar top.tar
	oci_archive --compress gzip --tag demo:gz gzip.tar base.tar middle.tar top.tar
	id=$(sha256 demo.tar.config)
	mapfile -t diff_ids < <(for layer in base middle top; do sha256 $layer.tar; done)
}

# blob ARCHIVE DIGEST: prints a blob of an archive or layout.
blob() {
	if [ -d "$1" ]; then cat "$1/blobs/sha256/${2#sha256:}"; else tar -xOf "$1" "blobs/sha256/${2#sha256:}"; fi
}

# of ARCHIVE FILE: prints a document of an archive or layout.
of() {
	if [ -d "$1" ]; then cat "$1/$2"; else tar -xOf "$1" "$2"; fi
}

# manifest ARCHIVE: prints the manifest that the index lists first.
manifest() {
	blob "$1" "$(of "$1" index.json | jq -r '.manifests[0].digest')"
}

# whole ARCHIVE: every blob has the digest that it is named by, and the configuration is demo's.
whole() {
	local dir=$1
	if [ ! -d "$dir" ]; then
		rm -rf unpacked && mkdir unpacked && tar -xf "$1" -C unpacked
		dir=unpacked
	fi
	(cd "$dir/blobs/sha256" && for blob in *; do echo "$blob  $blob"; done | sha256sum --quiet -c) || return
	is "$(manifest "$1" | jq -r .config.digest)" "$id"
	blob "$1" "$id" | cmp - demo.tar.config
}

@test 'an archive is copied to an archive, blobs and names unchanged' {
	try image-copy demo.tar copy.tar
	is "$stderr" ''
	is "$(jq -c '[.id, .tags, .layersCopied, .layersSkipped]' <<<"$output")" "[\"$id\",[\"demo:1\",\"me/other:2\"],3,0]"
	is "$(jq .bytes <<<"$output")" $(($(stat -c %s base.tar) + $(stat -c %s middle.tar) + $(stat -c %s top.tar)))
	whole copy.tar
	is "$(jq -r .digest <<<"$output")" "$(manifest copy.tar | sha256)"
	is "$(manifest copy.tar | jq -r '.layers[].digest')" "$(printf '%s\n' "${diff_ids[@]}")"
	is "$(of copy.tar manifest.json | jq -c '.[0].RepoTags')" '["demo:1","me/other:2"]'
	# Same input, same bytes.
	image-copy demo.tar again.tar >/dev/null
	cmp copy.tar again.tar
	is "$(stat -c %a copy.tar)" 644
}

@test 'compressed blobs stay as they are, and the manifest with them' {
	try image-copy gzip.tar copy.tar
	whole copy.tar
	is "$(manifest copy.tar | sha256)" "$(manifest gzip.tar | sha256)"
	# Also by way of the docker-archive that the copy is.
	image-copy copy.tar oci:layout >/dev/null
	whole layout
	is "$(manifest layout | sha256)" "$(manifest gzip.tar | sha256)"
}

@test 'from medium to medium the image keeps its ID and its layers' {
	image-copy demo.tar oci:one >/dev/null
	image-copy one docker-archive:two.tar >/dev/null
	image-copy two.tar - | image-copy - oci-archive:three.tar >/dev/null
	whole three.tar
	is "$(manifest three.tar | jq -r '.layers[].digest')" "$(printf '%s\n' "${diff_ids[@]}")"
	is "$(of three.tar manifest.json | jq -c '.[0].RepoTags')" '["demo:1","me/other:2"]'
}

@test '--compress stores layers otherwise: new digests, same DiffIDs, same configuration' {
	local how
	for how in none gzip gzip:1 zstd zstd:19; do
		try image-copy --compress "$how" gzip.tar "copy.tar"
		whole "copy.tar"
		mapfile -t digests < <(manifest "copy.tar" | jq -r '.layers[].digest')
		for at in 0 1 2; do
			local cat='cat'
			case $how in gzip*) cat='gzip -dc' ;; zstd*) cat='zstd -qdc' ;; esac
			is "$(blob "copy.tar" "${digests[at]}" | $cat | sha256)" "${diff_ids[at]}"
		done
		is "$(manifest "copy.tar" | jq -r '.layers[0].mediaType')" \
			"application/vnd.oci.image.layer.v1.tar$(case $how in gzip*) echo +gzip ;; zstd*) echo +zstd ;; esac)"
	done
	try image-copy --compress gzip demo.tar oci:layout
	whole layout
	try 2 image-copy --compress xz demo.tar x.tar
}

@test 'a layout takes more images, skips the layers it has, and names go over' {
	image-copy demo.tar oci:layout >/dev/null
	try image-copy -v demo.tar oci:layout:new
	is "$(jq -c '[.layersCopied, .layersSkipped, .bytes]' <<<"$output")" '[0,3,0]'
	is "${#stderr_lines[@]}" 3
	has "$stderr" "$id: layer 0: it is there, skipped"
	is "$(jq -c '[.manifests[].annotations["io.containerd.image.name"]]' layout/index.json)" \
		'["docker.io/library/demo:1","docker.io/me/other:2","docker.io/library/new:latest"]'
	docker_archive --tag demo:1 other.tar base.tar top.tar
	image-copy other.tar layout >/dev/null
	is "$(jq -c '[.manifests[].annotations["io.containerd.image.name"]]' layout/index.json)" \
		'["docker.io/me/other:2","docker.io/library/new:latest","docker.io/library/demo:1"]'
	try image-inspect layout:demo:1
	is "$(jq -r .id <<<"$output")" "$(sha256 other.tar.config)"
	# Nothing unfinished stays.
	is "$(ls -A layout)" "$(printf 'blobs\nindex.json\noci-layout')"
}

@test 'skopeo and umoci read the layout' {
	requires skopeo umoci
	image-copy demo.tar oci:layout:demo:1 >/dev/null
	try skopeo inspect oci:layout:1
	is "$(jq -c .Layers <<<"$output")" "$(printf '%s\n' "${diff_ids[@]}" | jq -Rnc '[inputs]')"
	try skopeo copy --insecure-policy oci:layout:1 dir:copied
	try umoci stat --image layout:1
	try umoci raw unpack --image layout:1 --rootless tree
	[ -e tree/etc/two ] && [ ! -e tree/etc/one ]
	# A layout that umoci made and that has only a tag.
	umoci init --layout theirs
	skopeo copy --insecure-policy oci:layout:1 oci:theirs:tagged
	image-copy demo.tar oci:theirs >/dev/null
	image-copy theirs:tagged oci:mine >/dev/null
	is "$(jq -c '[.manifests[].annotations]' mine/index.json)" '[{"org.opencontainers.image.ref.name":"tagged"}]'
	try umoci stat --image mine:tagged
}

@test 'podman loads the archive' {
	requires root podman
	image-copy --compress zstd demo.tar - | own_podman load
	try own_podman image inspect demo:1
	is "$(jq -r '.[0].Id' <<<"$output")" "${id#sha256:}"
}

@test '-t and a name in DST stand for the names that the image has' {
	image-copy -t a -t b:2 demo.tar copy.tar >/dev/null
	is "$(of copy.tar manifest.json | jq -c '.[0].RepoTags')" '["a:latest","b:2"]'
	image-copy copy.tar:b:2 docker-archive:named.tar:host:5000/c:3 >/dev/null
	is "$(of named.tar manifest.json | jq -c '.[0].RepoTags')" '["host:5000/c:3"]'
	try 2 image-copy demo.tar copy.tar -t UPPER
	try 2 image-copy demo.tar docker-archive:copy.tar:@1
	says 'image-copy: docker-archive:copy.tar:@1: `@1` is no name for an image'
}

@test '--all copies several images, and shared layers once' {
	docker_archive --tag other:1 other.tar base.tar top.tar
	image-copy demo.tar oci:layout >/dev/null
	image-copy other.tar oci:layout >/dev/null
	try 2 image-copy layout all.tar
	has "$stderr" 'holds 2 images, expected one'
	[ ! -e all.tar ]
	try image-copy --all layout all.tar
	is "$(jq -c .tags <<<"$output")" $'["demo:1","me/other:2"]\n["other:1"]'
	is "$(jq -sc 'map(.layersCopied)' <<<"$output")" '[3,0]'
	is "$(of all.tar manifest.json | jq length)" 2
	is "$(tar -tf all.tar | sort | uniq -d)" ''
	try 2 image-copy --all layout oci:x:name
	says 'image-copy: oci:x:name: a name is for one image, not for --all'
}

@test '--have leaves layers out, and only who has them takes the rest' {
	docker_archive --tag lower:1 lower.tar base.tar middle.tar
	{ echo '# theirs'; chain_ids "${diff_ids[@]:0:2}"; } >have
	try image-copy --have have demo.tar delta.tar
	is "$(jq -c '[.layersCopied, .layersSkipped]' <<<"$output")" '[1,2]'
	[ "$(stat -c %s delta.tar)" -lt 100000 ]
	is "$(tar -tf delta.tar | grep -c "${diff_ids[0]#sha256:}\|${diff_ids[1]#sha256:}")" 0
	is "$(manifest delta.tar | jq -r '.layers[].digest')" "$(printf '%s\n' "${diff_ids[@]}")"

	try 1 image-copy delta.tar oci:layout
	has "$stderr" "layer 0 (${diff_ids[0]}): was left out of the source, and the destination does not have it"
	image-copy lower.tar oci:layout >/dev/null
	try image-copy delta.tar oci:layout
	is "$(jq -c '[.layersCopied, .layersSkipped]' <<<"$output")" '[1,2]'
	is "$(image-inspect layout:demo:1 | jq -r .id)" "$id"
	image-inspect --layers layout:demo:1 | layer-hash --check >/dev/null

	# Under another compression the receiver has them, too.
	image-copy --compress zstd lower.tar oci:zstd >/dev/null
	try image-copy delta.tar oci:zstd
	image-inspect --layers zstd:demo:1 | layer-hash --check >/dev/null
	is "$(image-inspect zstd:demo:1 | jq -r .id)" "$id"

	try 2 image-inspect --layers delta.tar
	try 2 image-copy --have have demo.tar oci:layout
	says 'image-copy: oci:layout: --have is for an archive'
	echo nonsense >have
	try 2 image-copy --have have demo.tar x.tar
	has "$stderr" 'have: line 1: `nonsense` is not a digest'
}

@test 'a blob that is not what it was said to be ends the copy, and nothing is there' {
	oci_layout --compress gzip --tag bad:1 bad base.tar middle.tar
	digest=$(manifest bad | jq -r '.layers[0].digest')
	printf x | dd of="bad/blobs/sha256/${digest#sha256:}" bs=1 seek=20000 conv=notrunc status=none
	try 1 image-copy bad bad.tar
	has "$stderr" "layer 0 (${diff_ids[0]}): digest is"
	[ ! -e bad.tar ]
	is "$(find . -name '.bad.tar*')" ''
	try 1 image-copy bad oci:copied
	[ ! -e copied/index.json ]
	is "$(ls -A copied/blobs/sha256)" ''
	# A blob that has the right digest, and is another layer.
	"$PYTHON" - "$digest" <<-'EOF'
		import gzip, hashlib, json, os, sys
		data = gzip.compress(open("top.tar", "rb").read(), mtime=0)
		name = hashlib.sha256(data).hexdigest()
		open("bad/blobs/sha256/" + name, "wb").write(data)
		index = json.load(open("bad/index.json"))
		path = "bad/blobs/sha256/" + index["manifests"][0]["digest"][7:]
		manifest = json.load(open(path))
		manifest["layers"][0].update(digest="sha256:" + name, size=len(data))
		text = json.dumps(manifest).encode()
		name = hashlib.sha256(text).hexdigest()
		open("bad/blobs/sha256/" + name, "wb").write(text)
		index["manifests"][0].update(digest="sha256:" + name, size=len(text))
		json.dump(index, open("bad/index.json", "w"))
	EOF
	try 1 image-copy bad bad.tar
	has "$stderr" "layer 0 (${diff_ids[0]}): DiffID is ${diff_ids[2]}, expected ${diff_ids[0]}"
	[ ! -e bad.tar ]
}

@test 'an archive that is there is replaced whole; what is no file is written to' {
	echo old >copy.tar
	ln -s copy.tar link
	try 2 image-copy gone.tar copy.tar
	is "$(cat copy.tar)" old
	image-copy demo.tar link >/dev/null
	whole copy.tar
	[ -L link ]
	image-copy demo.tar /dev/null >/dev/null
	[ -c /dev/null ]
	mkfifo fifo
	image-copy demo.tar fifo >/dev/null &
	cmp fifo copy.tar
	try 2 image-copy demo.tar none/copy.tar
}

@test 'with an archive on stdout the result goes where --record says' {
	image-copy --record result demo.tar - >copy.tar
	whole copy.tar
	is "$(jq -r .id result)" "$id"
	requires script
	try 2 script -qec 'image-copy demo.tar -' /dev/null
	has "$output" '<stdout> is a terminal'
}

@test 'destinations that are something else are left alone' {
	mkdir full && echo x >full/x
	try 2 image-copy demo.tar full
	says 'image-copy: full: is a directory, and neither an OCI image layout nor a data root of Docker'
	try 2 image-copy demo.tar oci:full
	says 'image-copy: oci:full: is no OCI image layout, and holds `x`'
	try 2 image-copy demo.tar docker-root:full
	says 'image-copy: docker-root:full: is neither a data root of Docker nor empty: it holds `x`'
	try 2 image-copy --compress gzip demo.tar docker-root:root
	has "$stderr" '--compress is for archives and layouts'
	[ ! -e root ]
	try 1 image-copy demo.tar:none copy.tar
	has "$stderr" 'holds no image `none`'
}

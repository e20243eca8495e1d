#!/usr/bin/env bats
# image-copy(1) into Docker's data root. The judge is a real dockerd, which is started on the roots that are written.

# shellcheck disable=SC2016,SC2154  # Backquotes in messages; what bats and try set.

load helpers

setup() {
	requires root overlayfs dockerd docker
	enter_scratch
	short=$(mktemp -d /tmp/dr.XXXXXX)
	root=$short/root
}

teardown() {
	cd /
	[ -z "${short:-}" ] || { stop_dockerd "$short"; rm -rf "$short"; }
	leave_scratch
}

# Ends the daemon; that it was gone before it was killed is no failure.
stop() {
	stop_dockerd "$short" || true
}

# count DIR...: prints how many entries each directory has, but for overlay2's `l`.
count() {
	local dir
	for dir; do
		find "$dir" -mindepth 1 -maxdepth 1 ! -name l -printf x | wc -c
	done | paste -sd ' '
}

# Layers that a shell can run in, with all that a layer may hold: base.tar, middle.tar, top.tar.
demo_layers() {
	requires busybox
	local long
	long=$(printf 'n%.0s' {1..120})/$(printf 'm%.0s' {1..120})
	mkdir -p base/{bin,etc,removed,opaque/sub,tmp,many} "base/$long" middle/{etc,opaque} top/{removed,implied}
	cp "$(command -v busybox)" base/bin/busybox
	local command
	for command in sh ls cat stat find touch rm; do ln -s busybox base/bin/$command; done
	echo one >base/etc/one && ln base/etc/one base/etc/linked
	echo gone >base/etc/gone && chown 1000:1001 base/etc/gone
	echo x >base/removed/x
	echo y >base/opaque/y && echo z >base/opaque/sub/z
	echo long >"base/$long/file"
	chmod 1777 base/tmp && chmod 4755 base/bin/busybox
	for ((n = 0; n < 50; n++)); do echo $n >base/many/$n; done
	setfattr -n user.note -v value base/etc/one
	setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 base/etc/linked
	mknod base/etc/char c 1 3 && mknod base/etc/block b 7 9 && mkfifo base/etc/fifo
	: >"$(printf 'base/caf\351')" && ln -s /etc/one base/link
	: >middle/.wh.removed && : >middle/etc/.wh.gone && : >middle/opaque/.wh..wh..opq
	echo new >middle/opaque/new && echo two >middle/etc/one
	echo back >top/removed/back && head -c 200000 /dev/urandom >top/random
	local layer
	for layer in base middle top; do
		layer_tar $layer.tar $layer --mtime=@1000000000
	done
	docker_archive --tag demo:1 --tag me/demo:2 demo.tar base.tar middle.tar top.tar
	id=$(sha256 demo.tar.config)
}

# saves IMAGE CONFIG LAYER...: `docker save` gives back configuration and layers, byte for byte.
saves() {
	rm -rf saved && mkdir saved
	docker save "$1" | tar -x -C saved || return
	cmp "saved/$(jq -r '.[0].Config' saved/manifest.json)" "$2" || return
	local layer at=0
	for layer in "${@:3}"; do
		cmp "saved/$(jq -r ".[0].Layers[$at]" saved/manifest.json)" "$layer" || return
		at=$((at + 1))
	done
	is "$(jq '.[0].Layers | length' saved/manifest.json)" $at
}

# Everything that is in the root for layers and images, and is no directory that is there without any.
residue() {
	find "$root"/overlay2 "$root"/image/overlay2/{layerdb,imagedb} -mindepth 1 \
		! -path '*/overlay2/l' ! -name sha256 ! -path '*/layerdb/tmp' ! -path '*/layerdb/mounts' \
		! -path '*/imagedb/content' ! -path '*/imagedb/metadata' -print
}

@test 'a daemon starts on the root, and all that it does with images works' {
	demo_layers
	try image-copy demo.tar "docker-root:$root"
	is "$stderr" ''
	is "$(jq -c '[.id, .digest, .tags, .layersCopied]' <<<"$output")" "[\"$id\",null,[\"demo:1\",\"me/demo:2\"],3]"

	start_dockerd "$short"
	is "$(docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' | sort)" "demo:1 $id
me/demo:2 $id"
	is "$(docker inspect -f '{{.Id}}' demo:1)" "$id"
	is "$(docker history --format '{{.CreatedBy}}' demo:1 | head -1)" 'layer 2'
	saves demo:1 demo.tar.config base.tar middle.tar top.tar

	try docker run --rm --network none demo:1 /bin/sh -c \
		'cat /etc/one /etc/linked /opaque/new /removed/back; ls /removed /opaque; stat -c %a /tmp /bin/busybox'
	is "$output" "two
one
new
back
/opaque:
new

/removed:
back
1777
4755"
	docker create --name changed --network none demo:1 /bin/sh -c 'rm /etc/one; echo x >/added' >/dev/null
	docker start -a changed
	is "$(docker diff changed | sort)" "A /added
C /etc
D /etc/one"
	is "$(docker ps -as --format '{{.Size}}')" "2B (virtual $(docker inspect -f '{{.VirtualSize}}' demo:1 | awk '{printf "%.3gMB", ($1+2)/1e6}'))"
	docker commit changed committed >/dev/null
	try docker run --rm --network none committed /bin/cat /added
	is "$output" x

	# A daemon holds the root.
	try 2 image-copy demo.tar "docker-root:$root"
	says "image-copy: docker-root:$root: volumes/metadata.db: is locked: a Docker daemon runs on this data root (stop it first)"

	docker rm changed >/dev/null
	docker rmi committed demo:1 me/demo:2 >/dev/null
	is "$(docker images -aq)" ''
	is "$(residue)" ''
}

@test 'the layers are what docker load makes of them' {
	demo_layers
	image-copy demo.tar "docker-root:$root" >/dev/null
	mv "$root" ours
	start_dockerd "$short"
	docker load -qi demo.tar
	stop
	local chain
	for chain in $(chain_ids "$(sha256 base.tar)" "$(sha256 middle.tar)" "$(sha256 top.tar)"); do
		chain=image/overlay2/layerdb/sha256/${chain#sha256:}
		for file in diff size; do cmp {ours,"$root"}/"$chain/$file"; done
		[ ! -e "$root/$chain/parent" ] || cmp {ours,"$root"}/"$chain/parent"
		is "$(stat -c '%a %U' ours/"$chain" ours/"$chain"/*)" "$(stat -c '%a %U' "$root/$chain" "$root/$chain"/*)"
		local mine theirs
		mine=ours/overlay2/$(cat ours/"$chain"/cache-id) theirs=$root/overlay2/$(cat "$root/$chain"/cache-id)
		diff <(tree_listing "$mine/diff" mtime xattrs links) <(tree_listing "$theirs/diff" mtime xattrs links)
		is "$(stat -c '%a %U' "$mine" "$mine"/{diff,link})" "$(stat -c '%a %U' "$theirs" "$theirs"/{diff,link})"
		# As many below.
		[ ! -e "$mine/lower" ] || is "$(tr -cd : <"$mine/lower")" "$(tr -cd : <"$theirs/lower")"
	done
	is "$(cd ours && find image overlay2 -maxdepth 3 -type d ! -path 'overlay2/[0-9a-f][0-9a-f]*' -printf '%p %m %u\n' | sort)" \
		"$(cd "$root" && find image overlay2 -maxdepth 3 -type d ! -path 'overlay2/[0-9a-f][0-9a-f]*' ! -path '*/distribution*' -printf '%p %m %u\n' | sort)"
	is "$(cat ours/image/overlay2/repositories.json)" "$(cat "$root"/image/overlay2/repositories.json)"
}

@test 'a second copy skips all, and another image what they share' {
	demo_layers
	image-copy demo.tar "docker-root:$root" >/dev/null
	find "$root" | sort >before
	try image-copy -v demo.tar "$root"
	is "$(jq -c '[.layersCopied, .layersSkipped, .bytes]' <<<"$output")" '[0,3,0]'
	is "${#stderr_lines[@]}" 3
	find "$root" | sort | diff before -
	docker_archive --tag demo:1 other.tar base.tar middle.tar
	try image-copy other.tar "$root"
	is "$(jq -c '[.layersCopied, .layersSkipped]' <<<"$output")" '[0,2]'
	start_dockerd "$short"
	# The name went over, and the image that had it is still there under its other one.
	is "$(docker inspect -f '{{.Id}}' demo:1)" "$(sha256 other.tar.config)"
	is "$(docker inspect -f '{{.Id}}' me/demo:2)" "$id"
	docker load -qi demo.tar
	is "$(docker inspect -f '{{.Id}}' demo:1)" "$id"
	stop
	# Into a root that the daemon has used, and out of it again.
	docker_archive --tag third:1 third.tar base.tar top.tar
	try image-copy third.tar "$root"
	is "$(jq -c '[.layersCopied, .layersSkipped]' <<<"$output")" '[1,1]'
	try image-copy "docker-root:$root:demo:1" out.tar
	is "$(jq -r .id <<<"$output")" "$id"
	is "$(tar -xOf out.tar manifest.json | jq -c '.[0] | [.RepoTags, (.Layers | length)]')" '[["demo:1","me/demo:2"],3]'
	start_dockerd "$short"
	saves third:1 third.tar.config base.tar top.tar
	docker rmi demo:1 me/demo:2 third:1 >/dev/null
	docker load -qi out.tar
	saves demo:1 demo.tar.config base.tar middle.tar top.tar
}

# What docker load of 20.10 refuses, or loads and can never save. A line is the name of a layer and its entries.
quirks() {
	cat <<-'EOF'
		twice file a one; file ./a two
		twice-same file a same; file a same
		slash file q one; file /q two
		dir-then-file dir d; file d/x below; file d content
		file-then-dir file d content; dir d; file d/x below
		replaced-by-link file a one; symlink a b; file b two
		linked-then-replaced file a one; link h a; file a two; file h three
		link-over-file file a one; file b two; link b a
		through-symlink dir e; symlink d e; file d/x through; file e/y direct
		through-absolute dir e; symlink d /e; file d/x through
		whiteout-content file .wh.x content; file y y
		file-and-whiteout file x content; file .wh.x
		whiteout-and-file file .wh.x; file x content
		aufs file .wh..wh.plnk content; file y y
		empty-names file ././a content
		dotdot file a/../q content
		type-7 raw c 7 content
		opaque-root file .wh..wh..opq; file only content
		trailing file a content; bytes garbage; zeros 3000000
	EOF
}

@test 'layers that docker load refuses or spoils are saved byte for byte' {
	mkdir -p lower && echo lower >lower/lower && echo x >lower/x
	layer_tar lower.tar lower --mtime=@1000000000
	local name rest
	while read -r name rest; do
		entries "$name.tar" <<<"${rest//; /$'\n'}"
		[ "$name" != trailing ] || { entries trailing.tar <<<'file a content'; printf garbage >>trailing.tar; head -c 3000000 /dev/zero >>trailing.tar; }
	done < <(quirks)
	# Sparse files of both kinds, without an end marker, and with half of one.
	truncate -s 1M holes && printf data | dd of=holes bs=1 seek=500000 conv=notrunc status=none
	tar --sparse --format=gnu -cf sparse-gnu.tar holes
	tar --sparse --format=pax -cf sparse-pax.tar holes
	entries noend.tar <<<$'file a content\nnoend'
	entries half.tar <<<$'file a content\nzeros 512\nnoend'
	tar --format=pax --pax-option=globexthdr.name=g,comment=x -cf globals.tar lower
	: >empty.tar
	head -c 512 /dev/zero >zeros.tar
	local quirky=()
	for name in $(quirks | cut -d ' ' -f 1) sparse-gnu sparse-pax noend half globals empty zeros; do
		docker_archive --tag "$name:1" "image-$name.tar" lower.tar "$name.tar"
		try image-copy "image-$name.tar" "docker-root:$root"
		quirky+=("$name")
		is "$(image-copy "docker-root:$root:$name:1" - | tar -xO "blobs/sha256/$(sha256 "$name.tar" | cut -d : -f 2)" | sha256)" "$(sha256 "$name.tar")"
	done
	start_dockerd "$short"
	for name in "${quirky[@]}"; do
		echo "$name"
		saves "$name:1" "image-$name.tar.config" lower.tar "$name.tar"
	done
	# And what they mean is there.
	shows() {
		local cid
		cid=$(docker create --network none "$1:1" /x)
		is "$(docker cp "$cid:$2" - | tar -xO)" "$3"
		docker rm "$cid" >/dev/null
	}
	shows twice a two
	shows slash q two
	shows dir-then-file d content
	shows file-then-dir d/x below
	shows linked-then-replaced h three
	shows link-over-file b one
	shows file-and-whiteout x content
	shows sparse-pax holes "$(cat holes)" 2>/dev/null
	shows type-7 c content
	cid=$(docker create --network none opaque-root:1 /x)
	is "$(docker export "$cid" | tar -t | grep -c '^lower$\|^x$')" 0
}

@test 'killed at any time, it leaves a root that a daemon starts on and that a second run completes' {
	demo_layers
	# Slower than a test wants to wait for: the kill comes in the midst of it.
	head -c 30000000 /dev/urandom >top/big
	layer_tar top.tar top --mtime=@1000000000
	docker_archive --tag demo:1 demo.tar base.tar middle.tar top.tar
	local ms killed=0
	for ms in 005 010 020 040 080 120 160 200 300 400; do
		timeout -s KILL "0.$ms" image-copy demo.tar "docker-root:$root" >/dev/null 2>&1 || killed=$((killed + 1))
		# As much as is said to be there is whole.
		for layer in "$root"/image/overlay2/layerdb/sha256/*/; do
			[ -e "$layer" ] || continue
			[ -s "$layer/tar-split.json.gz" ]
			[ -d "$root/overlay2/$(cat "$layer/cache-id")/diff" ]
		done
	done
	echo "killed $killed times"
	[ $killed -gt 0 ]
	start_dockerd "$short"
	docker images
	stop
	try image-copy demo.tar "docker-root:$root"
	# Nothing of the killed runs is left: three layers, three links, no write-set.
	is "$(count "$root"/overlay2{,/l} "$root"/image/overlay2/layerdb/tmp)" '3 3 0'
	start_dockerd "$short"
	saves demo:1 demo.tar.config base.tar middle.tar top.tar
}

@test 'killed at each of its calls, it is completed by the next run' {
	requires strace
	mkdir -p base top && echo one >base/one && echo two >top/two
	layer_tar base.tar base --mtime=@1000000000
	layer_tar top.tar top --mtime=@1000000000
	docker_archive --tag demo:1 demo.tar base.tar top.tar
	local call n
	for call in mkdirat symlinkat renameat,renameat2 fsync; do
		for n in 1 2 3 5 8; do
			rm -rf "$root"
			strace -f -qq -o /dev/null -e "inject=$call:signal=KILL:when=$n" image-copy demo.tar "docker-root:$root" \
				>/dev/null 2>&1 || true
			try image-copy demo.tar "docker-root:$root"
			is "$(count "$root"/overlay2{,/l} "$root"/image/overlay2/layerdb/tmp)" '2 2 0'
			is "$(image-inspect --layers "docker-root:$root:demo:1" | layer-hash --check | wc -l)" 2
			is "$(find "$root" -name '.tmp*')" ''
		done
	done
}

@test 'two at once both end well' {
	demo_layers
	local pids=() n
	for n in 1 2 3; do
		image-copy demo.tar "docker-root:$root:demo:$n" >"out$n" 2>&1 &
		pids+=($!)
	done
	for n in 1 2 3; do wait "${pids[n - 1]}" || { cat out*; return 1; }; done
	is "$(jq -s 'map(.layersCopied) | add' out1 out2 out3)" 3
	is "$(jq -c '.Repositories.demo | keys' "$root"/image/overlay2/repositories.json)" '["demo:1","demo:2","demo:3"]'
}

@test 'a delta goes into a root that has the rest, and into no other' {
	demo_layers
	docker_archive --tag lower:1 lower.tar base.tar middle.tar
	image-copy lower.tar "docker-root:$root" >/dev/null
	find "$root"/image/overlay2/layerdb/sha256 -mindepth 1 -maxdepth 1 -printf 'sha256:%f\n' >have
	image-copy --have have demo.tar - >delta.tar
	try 1 image-copy delta.tar "docker-root:$short/empty"
	has "$stderr" "layer 0 ($(sha256 base.tar)): was left out of the source, and the destination does not have it"
	try image-copy - "docker-root:$root" <delta.tar
	is "$(jq -c '[.layersCopied, .layersSkipped]' <<<"$output")" '[1,2]'
	start_dockerd "$short"
	saves demo:1 demo.tar.config base.tar middle.tar top.tar
}

@test 'a layer that fails its check leaves nothing' {
	demo_layers
	cp demo.tar bad.tar
	# A byte of the middle layer's content: the archive itself says nothing of it.
	"$PYTHON" - <<-'EOF'
		data = open("bad.tar", "rb").read()
		at = data.rindex(b"two\n")
		open("bad.tar", "wb").write(data[:at] + b"Two\n" + data[at + 4:])
	EOF
	try 1 image-copy bad.tar "docker-root:$root"
	has "$stderr" 'layer 1 ('
	has "$stderr" ', expected sha256:'
	is "$(count "$root"/overlay2/l "$root"/image/overlay2/layerdb/{tmp,sha256})" '1 0 1'
	is "$(ls -A "$root"/image/overlay2/imagedb/content/sha256)" ''
	[ ! -e "$root"/image/overlay2/repositories.json ]
	local deep=() n
	for ((n = 0; n < 126; n++)); do deep+=(middle.tar); done
	docker_archive deep.tar "${deep[@]}"
	try 2 image-copy deep.tar "docker-root:$short/deep"
	has "$stderr" 'has more than 125 layers, which dockerd does not stack'
	echo >"$root"/image/overlay2/repositories.json
	try 2 image-copy demo.tar "docker-root:$root"
	has "$stderr" 'repositories.json'
}

@test 'vfs: whole copies, on which a daemon with that driver starts' {
	demo_layers
	try image-copy --driver vfs demo.tar "docker-root:$root"
	is "$(count "$root"/vfs/dir)" 3
	try image-copy demo.tar "$root"
	is "$(jq .layersSkipped <<<"$output")" 3
	try 2 image-copy --driver overlay2 demo.tar "$root"
	is "$(image-copy "docker-root:$root:demo:1" - | tar -xO "blobs/sha256/$(sha256 top.tar | cut -d : -f 2)" | sha256)" "$(sha256 top.tar)"
	DOCKER_DRIVER=vfs dockerd_vfs
	saves demo:1 demo.tar.config base.tar middle.tar top.tar
	try docker run --rm --network none demo:1 /bin/cat /etc/one /removed/back
	is "$output" $'two\nback'
	docker rmi demo:1 me/demo:2 >/dev/null
	is "$(ls "$root"/vfs/dir)" ''
}

# Starts the daemon with vfs.
dockerd_vfs() {
	local dir=$short tenth
	mkdir -p "$dir/config" && echo '{}' >"$dir/config/config.json"
	export DOCKER_HOST=unix://$dir/docker.sock DOCKER_CONFIG=$dir/config
	dockerd --data-root "$root" --exec-root "$dir/exec" --pidfile "$dir/pid" --host "$DOCKER_HOST" \
		--iptables=false --ip6tables=false --bridge=none --storage-driver vfs >"$dir/log" 2>&1 3>&- &
	for ((tenth = 0; tenth < 300; tenth++)); do
		docker version >/dev/null 2>&1 && return
		sleep 0.1
	done
	tail "$dir/log"
	return 1
}

#!/usr/bin/env bats
# layer-unpack: the kernel says what the overlay form shows, GNU tar and stat what the plain form is.
# shellcheck disable=SC2016  # Backquotes mean themselves here.
# shellcheck disable=SC2317  # `try` calls functions.
# shellcheck disable=SC2154  # bats sets $output, $stderr.

load helpers

setup() {
	enter_scratch
	unset TMPDIR
}

# mount_layers TARGET DIR...: mounts directories in overlay form, base first, by mount(8).
mount_layers() {
	local target=$1 dir lowers=empty
	mkdir -p empty "$target"
	for dir in "${@:2}"; do lowers=$dir:$lowers; done
	mount -t overlay overlay -o "ro,lowerdir=$lowers" "$target"
}

# paths: prints the `path` of the records on stdin, relative to here.
paths() {
	jq -r .path | sed "s,^$(pwd -P)/,,"
}

# Writes the stacks of the law: a directory a stack, with layer tars 0.tar, 1.tar... base first. A line of `layer` ends a
# layer, a line `stack NAME` begins a stack.
stacks() {
	local line name='' number=0 lines=''
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		'stack '* | layer)
			[ -z "$lines" ] || entries "$name/$number.tar" <<<"$lines"
			lines=''
			number=$((number + 1))
			[ "$line" = layer ] || {
				name=${line#stack } number=0
				mkdir "$name"
			}
			;;
		*) lines+=$line$'\n' ;;
		esac
	done
	entries "$name/$number.tar" <<<"$lines"
}

the_stacks() {
	stacks <<-'END'
		stack whiteouts
		dir d mode=700 mtime=11
		file d/old 1 mtime=12
		file d/kept 2 mtime=13
		dir d/sub mode=750 mtime=14
		file d/sub/x 3
		file f 4
		symlink l d
		layer
		file d/.wh.old
		file .wh.f
		file .wh.l
		file .wh.nothing
		file nowhere/.wh.nothing
		layer
		file .wh.d
		file d/new 5
		layer
		file d/.wh.new
		file d/newer 6
		stack opaque
		dir d mode=700
		file d/old 1
		dir d/e mode=711
		file d/e/old 2
		dir o
		file o/x
		layer
		dir d mode=755 mtime=5
		file d/.wh..wh..opq
		file d/e/new 3
		file o/.wh..wh..opq
		layer
		file d/e/more 4
		stack late-markers
		dir d mode=700
		file d/old 1
		dir d/e
		file d/e/old 1
		file f 1
		layer
		file d/e/new 2
		file f 2
		file d/.wh..wh..opq
		file d/e/.wh.old
		file .wh.f
		dir g
		file .wh.g
		stack opaque-root
		dir d
		file d/x
		file a 1
		symlink s d
		layer
		file b 2
		file .wh..wh..opq
		dir d mode=711
		file d/y
		layer
		file d/z
		stack types
		dir a
		file a/x
		file b 1
		symlink c b
		fifo p mode=600
		layer
		file a now-a-file
		dir b mode=2755
		file b/x
		dir c
		file c/y
		layer
		dir a
		file a/z
		symlink b a
		fifo c
		layer
		file a/zz
		dir b
		stack symlinked-parents
		dir run
		dir var
		symlink var/run /run
		symlink up ../../run
		symlink dangling nowhere/deep
		file run/old
		layer
		file var/run/new 1
		file up/newer 2
		file dangling/x 3
		file var/run/.wh.old
		dir var/run/sub mode=700
		layer
		dir var/run
		file var/run/x
		stack hardlinks
		dir d mtime=3
		file d/a content mode=4755 uid=7 mtime=9 pax.SCHILY.xattr.user.x=1
		link d/b d/a
		file e/f 1
		link e/g e/f
		symlink s gone
		layer
		link new/c d/a
		file e/f 2
		link t s
		layer
		file d/.wh.a
		link d/z new/c
		stack links-in-order
		file a 1
		link b a
		layer
		file .wh.b
		link c a
		layer
		link d c
		file c 2
		stack devices
		char null 1:3 mode=666
		block loop 7:0 mode=660 gid=6
		char big 4095:1048575
		fifo p mode=640 uid=5
		file su mode=6755 uid=1000 gid=1000
		dir st mode=1777
		link null2 null
		layer
		char loop 1:5
		file null
		stack attributes
		dir d pax.SCHILY.xattr.user.d=1 pax.SCHILY.xattr.trusted.t=2
		file d/f x pax.SCHILY.xattr.user.f=abc mtime=100 pax.mtime=100.123456789
		file cap x mode=755 pax.SCHILY.xattr.security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
		file old mtime=1 pax.mtime=-1.5
		dir acl pax.SCHILY.xattr.system.posix_acl_default=\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff
		file acl/plain mode=640
		dir sgid mode=2775 gid=50
		file sgid/x gid=0
		layer
		file d/g
		dir acl/sub mode=755
		file acl/below mode=600
		layer
		dir d pax.SCHILY.xattr.user.other=1
		file cap y
		stack modes
		dir locked mode=0
		file locked/x mode=0
		dir locked/in mode=111 mtime=7
		file locked/in/y
		file implied/deep/z mtime=3
		layer
		file locked/in/new
		file implied/deep/.wh.z
		dir ./ mode=711 mtime=77 uid=3
		stack names
		file caf\xe9\xff\n\x1b[31m 1
		file -rf 2
		file .wh 3
		dir ...
		file .../.whx 4
		layer
		file .wh.-rf
	END
	"$PYTHON" - >deep.lines <<-'END'
		for depth in range(1, 300):
		    print("dir", "/".join(["d"] * depth), "mode=700 mtime=%d" % depth)
		print("file", "/".join(["d"] * 300), "bottom")
	END
	mkdir deep
	entries deep/0.tar <deep.lines
	entries deep/1.tar <<<"file $(printf 'd/%.0s' {1..299})new 1"
}

@test "the overlay form, merged by the kernel, shows what the plain form is" {
	requires root overlayfs
	local name
	the_stacks
	for name in */; do
		echo "stack ${name%/}"
		(
			cd "$name" || exit
			docker_archive image.tar [0-9]*.tar
			try layer-unpack --image image.tar plain
			says ''
			try layer-unpack --image image.tar --store store
			is "$stderr" ''
			mapfile -t dirs < <(paths <<<"$output")
			mount_layers merged "${dirs[@]}"
			same_tree plain merged
		)
	done
}

@test "the same with --overlay and --lower as in a store, and with the attributes of userxattr" {
	requires root overlayfs
	local name
	the_stacks
	for name in */; do
		echo "stack ${name%/}"
		(
			cd "$name" || exit
			docker_archive image.tar [0-9]*.tar
			layer-unpack --image image.tar plain
			local tar lowers=() stack=''
			for tar in [0-9]*.tar; do
				# Nothing is below the base, which no option says.
				[ "${#lowers[@]}" -gt 0 ] || {
					mkdir -m 755 none
					touch -d @0 none
					lowers=(--lower none)
				}
				try layer-unpack --userxattr "${lowers[@]}" --overlay "${tar%.tar}" <"$tar"
				says ''
				[ "${lowers[1]}" != none ] || lowers=()
				lowers+=(--lower "${tar%.tar}")
				stack=${tar%.tar}:$stack
			done
			mkdir -p empty merged
			mount -t overlay overlay -o "ro,userxattr,lowerdir=${stack}empty" merged
			same_tree plain merged
		)
	done
}

@test "a layer that GNU tar wrote unpacks as GNU tar unpacks it" {
	requires root
	mkdir -p src/d/e
	echo content >src/d/file
	ln src/d/file src/hard
	ln -s d/file src/link
	truncate -s 1G src/sparse
	printf x | dd of=src/sparse bs=1 seek=500M conv=notrunc status=none
	mkfifo src/fifo
	setfattr -n user.x -v 1 src/d/file
	chown 12:34 src/d
	chmod 4711 src/hard
	touch -d @1234567890.123456789 src/d/e src/d
	local format
	for format in pax gnu; do
		tar -C src --sparse --format=$format --xattrs --numeric-owner -cf $format.tar .
		mkdir tar.$format
		tar -C tar.$format --xattrs -xpf $format.tar
		try layer-unpack ours.$format <$format.tar
		says ''
		same_tree tar.$format ours.$format
		[ "$(stat -c %b ours.$format/sparse)" -lt 100 ]
	done
}

@test "what a digest or DiffID does not fit leaves nothing behind" {
	local dir
	entries layer.tar <<<'file f 1'
	docker_archive good.tar layer.tar
	mkdir image && tar -C image -xf good.tar
	# The configuration says another DiffID, and is named as before.
	jq -c '.rootfs.diff_ids = ["sha256:'"$(printf '0%.0s' {1..64})"'"]' good.tar.config >config
	"$PYTHON" - <<-'END'
		import json, os
		manifest = json.load(open("image/manifest.json"))
		os.replace("config", "image/other.json")
		manifest[0]["Config"] = "other.json"
		json.dump(manifest, open("image/manifest.json", "w"))
	END
	tar -C image -cf bad.tar .
	mkdir there empty
	try 1 layer-unpack --no-same-owner --image bad.tar new
	has "$stderr" 'bad.tar: layer 0: '
	has "$stderr" ", expected sha256:$(printf '0%.0s' {1..64})"
	try 1 layer-unpack --no-same-owner --image bad.tar empty
	try 1 layer-unpack --no-same-owner --image bad.tar --store store
	is "$output" ''
	for dir in . empty store; do
		is "$(find "$dir" -maxdepth 1 -name '.*.??????')" ''
	done
	is "$(ls -A empty store)" "$(printf 'empty:\n\nstore:')"
	[ ! -e new ]
}

@test "a store keeps what is there, shares it, and says so with -v" {
	local first second
	entries base.tar <<<'file base 1'
	entries one.tar <<<'file one 1'
	entries two.tar <<<'file two 1'
	docker_archive a.tar base.tar one.tar
	docker_archive b.tar base.tar two.tar
	try layer-unpack --no-same-owner --store store --image a.tar
	first=$output
	is "$(jq -r .path <<<"$first")" "$(chain_ids "$(sha256 base.tar)" "$(sha256 one.tar)" | sed "s,sha256:,$(pwd -P)/store/,")"
	is "$(jq -r '.parent // "none"' <<<"$first")" "$(printf 'none\n%s' "$(sha256 base.tar)")"
	stat -c '%n %i %z' store/* >before
	try layer-unpack --no-same-owner --store store --image b.tar -v
	second=$output
	has "${stderr_lines[0]}" confined
	has "${stderr_lines[1]}" 'already exists'
	has "${stderr_lines[2]}" unpacked
	is "$(head -n 1 <<<"$second" | jq -r .path)" "$(head -n 1 <<<"$first" | jq -r .path)"
	is "$(stat -c '%n %i %z' store/* | grep -cxFf before)" 2
	is "$(find store -mindepth 1 -maxdepth 1 | wc -l)" 3
}

@test "records come on stdin, with their other members unchanged, and wrong ChainIDs are refused" {
	local records
	entries base.tar <<<'file base 1'
	entries one.tar <<<'file one 1'
	docker_archive a.tar base.tar one.tar
	records=$(jq -cr '.rootfs.diff_ids[]' a.tar.config | jq -cR --arg image "docker-archive:$(pwd -P)/a.tar" \
		'{diffId: ., image: $image, other: {n: 1}}')
	try layer-unpack --no-same-owner --store store <<<"$records"
	is "$(jq -c .other <<<"$output")" "$(printf '{"n":1}\n{"n":1}')"
	is "$(jq -r .chainId <<<"$output")" "$(chain_ids "$(sha256 base.tar)" "$(sha256 one.tar)")"
	# The same again, now with ChainIDs.
	try layer-unpack --no-same-owner --store store <<<"$output"
	is "$(jq -r .path <<<"$output" | wc -l)" 2
	records=$output
	try 1 layer-unpack --no-same-owner --store store2 < <(jq -c '.chainId = "sha256:'"$(printf '1%.0s' {1..64})"'"' <<<"$records")
	has "$stderr" 'layer 0: ChainID is sha256:1111'
	is "$(ls -A store2)" ''
	try 1 layer-unpack --no-same-owner --store store2 < <(tail -n 1 <<<"$records")
	has "$stderr" 'layer 0: is not on top of the one before'
	try 2 layer-unpack --store store2 <<<'{"image":"x"}'
	has "$stderr" 'missing member `diffId`'
}

@test "--layers picks layers, and refuses those that are not there" {
	local number
	for number in 0 1 2; do entries $number.tar <<<"file f$number"; done
	docker_archive a.tar 0.tar 1.tar 2.tar
	try layer-unpack --no-same-owner --image a.tar --layers 1..2 some
	is "$(ls some)" "$(printf 'f1\nf2')"
	try layer-unpack --no-same-owner --image a.tar --layers ..0 base
	is "$(ls base)" f0
	try layer-unpack --no-same-owner --image a.tar --layers 1 --overlay one
	is "$(ls one)" f1
	try 1 layer-unpack --image a.tar --layers 3 none
	says 'layer-unpack: a.tar: has 3 layers, none of number 3'
	try 2 layer-unpack --image a.tar --overlay none
	has "$stderr" '3 layers, expected one'
	try 2 layer-unpack --image a.tar --layers 2..1 none
	[ ! -e none ]
}

@test "--path and --exclude pick entries" {
	entries a.tar <<-'END'
		dir usr
		dir usr/share/doc
		file usr/share/doc/x
		file usr/bin/y
		file etc/z.conf
		file etc/z.txt
	END
	try layer-unpack --no-same-owner --path usr --exclude '**/doc' a <a.tar
	is "$(cd a && find . -type f)" ./usr/bin/y
	try layer-unpack --no-same-owner --path 'etc/*.conf' b <a.tar
	is "$(cd b && find . -type f)" ./etc/z.conf
	try 2 layer-unpack --path .. c <a.tar
	has "$stderr" "component"
}

@test "owners are kept, mapped, or the caller's; xattrs are kept or left out" {
	requires root
	entries a.tar <<-'END'
		file a uid=0 gid=5
		file b uid=1000 gid=7 pax.SCHILY.xattr.user.x=1
	END
	try layer-unpack --uid-map 0:500 --uid-map 1000:2000:10 --gid-map 0:100:100 mapped <a.tar
	is "$(cd mapped && stat -c '%n %u %g' ./*)" "$(printf './a 500 105\n./b 2000 107')"
	is "$(stat -c '%u %g' mapped)" '500 100'
	try 2 layer-unpack --uid-map 0:500 none <a.tar
	has "$stderr" 'entry `b`: uid 1000 is in no `--uid-map`'
	[ ! -e none ]
	try layer-unpack --no-same-owner --no-xattrs own <a.tar
	is "$(cd own && stat -c '%n %u %g' ./*)" "$(printf './a 0 0\n./b 0 0')"
	is "$(getfattr -d own/b)" ''
}

@test "an ordinary user unpacks in both forms, through directories without rights" {
	requires root setpriv
	local dir
	dir=$(mktemp -d)
	chmod 777 "$dir"
	entries 0.tar <<-'END'
		dir d mode=0
		file d/x 1
		dir e mode=500
		file e/old
		file .wh.w
	END
	entries 1.tar <<-'END'
		file d/y
		file .wh.e
	END
	chmod 644 ./*.tar
	cp 0.tar 1.tar "$(command -v layer-unpack)" "$dir"
	(
		cd "$dir"
		user() { setpriv --reuid=1234 --regid=1234 --clear-groups "$@"; }
		try user ./layer-unpack --no-same-owner plain <0.tar
		try user ./layer-unpack --no-same-owner plain <1.tar
		is "$(find plain -mindepth 1 -printf '%P %m\n' | sort)" "$(printf 'd 0\nd/x 644\nd/y 644')"
		try user ./layer-unpack --no-same-owner --userxattr --overlay layer <0.tar
		is "$(stat -c %F layer/w)" 'character special file'
		try 2 user ./layer-unpack owned <0.tar
		has "$stderr" '`--no-same-owner`'
	)
	rm -rf "$dir"
}

@test "a new directory is whole or absent, also when the process is killed" {
	mkfifo pipe
	entries a.tar <<<'file f 1'
	layer-unpack --no-same-owner new <pipe &
	local unpack=$!
	exec 5>pipe
	head -c 700 a.tar >&5
	local tenth
	for ((tenth = 0; tenth < 100; tenth++)); do
		[ -z "$(find . -maxdepth 1 -name '.new.??????')" ] || break
		sleep 0.1
	done
	[ ! -e new ]
	kill -9 "$unpack"
	wait "$unpack" || true
	exec 5>&-
	[ ! -e new ]
	try layer-unpack --no-same-owner new <a.tar
	is "$(ls new)" f
}

@test "bad layers are refused in one line" {
	local file
	entries outside.tar <<<'file ../x 1'
	entries link.tar <<<'link h /etc/passwd'
	entries root.tar <<<'file .wh..wh..opq'
	entries good.tar <<<'file a-name 1'
	head -c 512 good.tar >cut.tar
	printf 'this is no archive' >text
	gzip -c good.tar | head -c 60 >cut.gz
	while IFS='|' read -r file message; do
		try 2 layer-unpack --no-same-owner none <"$file"
		is "$(wc -l <<<"$stderr")" 1
		has "$stderr" "$message"
		[ ! -e none ]
	done <<-'END'
		outside.tar|layer-unpack: <stdin>: entry `../x`: `..` leads out of the layer
		link.tar|hard link to `etc/passwd`, which is not there
		cut.tar|layer-unpack: <stdin>: entry `a-name`: 
		text|layer-unpack: <stdin>:
		cut.gz|layer-unpack: <stdin>: gzip stream is cut short
	END
	try 2 layer-unpack --no-same-owner --overlay none <root.tar
	has "$stderr" '`--lower`'
	try 2 layer-unpack --max-size 1000 none <good.tar
	has "$stderr" '--max-size'
	mkdir full
	touch full/x
	try 2 layer-unpack --overlay full <good.tar
	has "$stderr" 'full: is not empty'
	try 2 layer-unpack full/x <good.tar
	has "$stderr" 'layer-unpack: full/x: cannot open the directory: Not a directory'
}

@test "nothing is written through links that lead out" {
	mkdir outside
	entries a.tar <<-END
		symlink d $(pwd -P)/outside
		file d/x 1
		dir e
		symlink e $(pwd -P)/outside
		dir f mode=700
	END
	try layer-unpack --no-same-owner root <a.tar
	is "$(ls -A outside)" ''
	is "$(cat "root$(pwd -P)/outside/x")" 1
}

@test "a full file system and a stdout that is closed end the run" {
	requires root
	mkdir small
	mount -t tmpfs -o size=64k small small
	entries big.tar <<<"file big $(printf 'x%.0s' {1..100000})"
	try 2 layer-unpack small/root <big.tar
	has "$stderr" 'entry `big`: cannot write the file: No space left on device'
	is "$(ls -A small)" ''
	entries a.tar <<<'file f 1'
	docker_archive image.tar a.tar
	try 2 bash -c 'layer-unpack --store store --image image.tar >/dev/full'
	has "$stderr" '<stdout>: cannot write'
	{ sleep 0.5; layer-unpack --store store --image image.tar 2>messages; echo $? >status; } | true
	is "$(cat status)" 141
	[ ! -s messages ]
}

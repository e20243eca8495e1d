#!/usr/bin/env bats
# layer-unpack: GNU tar and stat say what the plain form is; tests/forms.bats holds the overlay form to it.
# shellcheck disable=SC2016  # Backquotes mean themselves here.
# shellcheck disable=SC2317  # `try` calls functions.
# shellcheck disable=SC2154  # bats sets $output, $stderr.

load helpers

setup() {
	enter_scratch
	unset TMPDIR
}

# mount_layers TARGET DIR...: mounts directories in overlay form, base first, by mount(8).
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
	{ sleep 0.5; layer-unpack --store store --image image.tar 2>messages || echo $? >status; } | true
	is "$(cat status)" 141
	[ ! -s messages ]
}

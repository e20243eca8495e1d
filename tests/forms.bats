#!/usr/bin/env bats
# The law of the two forms: the kernel says what the overlay form shows, and the plain form has to hold the same.
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

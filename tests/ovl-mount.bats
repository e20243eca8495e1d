#!/usr/bin/env bats
# ovl-mount: the kernel says what is mounted, in what it shows and in mountinfo.
# shellcheck disable=SC1003,SC2016  # Backslashes and backquotes mean themselves here.
# shellcheck disable=SC2154  # bats sets $stderr.

load helpers

setup() {
	requires root overlayfs
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR" "$BATS_TEST_TMPDIR/here"
	cd "$BATS_TEST_TMPDIR/here" || return
	# Others cannot enter the directories of bats.
	OPEN=$(TMPDIR='' mktemp -d)
	chmod 755 "$OPEN"
}

teardown() {
	leave_scratch
	rm -rf "$OPEN"
}

# layers NAME...: makes layer directories, base first: each has `top` with its name, and a file of its own.
layers() {
	"$PYTHON" -c '
import os, sys
for number, name in enumerate(map(os.fsencode, sys.argv[1:])):
    os.mkdir(name)
    for file, text in (b"top", name), (b"only in %d" % number, b""):
        with open(os.path.join(name, file), "wb") as f: f.write(text)
' "$@"
}

# records NAME...: prints layer records of these directories.
records() {
	"$PYTHON" -c '
import base64, json, os, sys
for name in sys.argv[1:]:
    path = os.path.join(os.getcwdb(), os.fsencode(name))
    try: print(json.dumps({"path": path.decode()}))
    except UnicodeDecodeError: print(json.dumps({"pathRaw": base64.b64encode(path).decode()}))
' "$@"
}

# mountinfo DIR: prints what the kernel shows of the mounts on DIR.
mountinfo() {
	local dir
	dir=$(readlink -f "$1")
	awk -v "dir=$dir" '$5 == dir' /proc/self/mountinfo
}

# Nothing is mounted below the test's directory, and in it is only what is named.
nothing_but() {
	has_no_mounts
	is "$(find . -mindepth 1 -maxdepth 1 | sort)" "$(printf './%s\n' "$@" | sort)"
	is "$(ls -A "$TMPDIR")" ''
}

has_no_mounts() {
	is "$(grep -aF "$PWD/" /proc/self/mountinfo)" ''
}

# shows_layers N DIR: DIR is the merge of N layers made by `layers`, whose top one is the last.
shows_layers() {
	is "$(find "$2" -name 'only in *' -printf x | wc -c)" "$1"
}

@test "layers given as records are merged, base first, and the record says what is mounted" {
	layers base middle top
	try ovl-mount mnt < <(records base middle top)
	is "$stderr" ''
	is "$(jq -r '.target, .type, .readOnly, (.lowers | map(.path) | join(" "))' <<<"$output")" \
		"$PWD/mnt"$'\n'overlay$'\n'true$'\n'"$PWD/base $PWD/middle $PWD/top"
	is "$(jq -r 'keys_unsorted | join(" ")' <<<"$output")" 'target type readOnly lowers'
	is "$(cat mnt/top)" top
	shows_layers 3 mnt
	is "$(findmnt -no FSTYPE,SOURCE mnt | tr -s ' ')" 'overlay ovl-mount:target'
	try 1 touch mnt/x
	has "$stderr" 'Read-only file system'
	try ovl-mount -u mnt
	is "$output$stderr" ''
	nothing_but base middle top
}

@test "ChainIDs of the records are in the mount record, and layers out of order are refused" {
	layers base top
	local ids base top
	mapfile -t ids < <(chain_ids "$(sha256 <<<a)" "$(sha256 <<<b)")
	base="{\"chainId\":\"${ids[0]}\",\"path\":\"$PWD/base\"}"
	top="{\"parent\":\"${ids[0]}\",\"chainId\":\"${ids[1]}\",\"path\":\"$PWD/top\"}"
	try ovl-mount mnt <<<"$base"$'\n'"$top"
	is "$(jq -r '.lowers[].chainId' <<<"$output")" "${ids[0]}"$'\n'"${ids[1]}"
	ovl-mount -u mnt
	try 1 ovl-mount mnt <<<"$top"$'\n'"$base"
	says "ovl-mount: <stdin>: record 2: is not on top of the one before (expected one image, base layer first): parent is none, expected ${ids[1]}"
	try 1 ovl-mount mnt <<<"$top"$'\n'"$top"
	has "$stderr" ": parent is ${ids[0]}, expected ${ids[1]}"
	nothing_but base top
}

@test "one layer, 2, 128 and 500 are mounted whole, 501 are refused" {
	local names count
	mapfile -t names < <(seq -f 'layer-%03g' 501)
	layers "${names[@]}"
	for count in 1 2 128 500; do
		try ovl-mount mnt < <(records "${names[@]:0:count}")
		is "$(jq '.lowers | length' <<<"$output")" "$count"
		is "$(cat mnt/top)" "${names[count - 1]}"
		shows_layers "$count" mnt
		try ovl-mount -u mnt
	done
	try 2 ovl-mount mnt < <(records "${names[@]}")
	says 'ovl-mount: mnt: there are 501 layers, overlayfs takes at most 500'
	try 2 ovl-mount mnt </dev/null
	says 'ovl-mount: mnt: there are no layers to mount'
	nothing_but "${names[@]}"
}

@test "writable overlays take up to 500 layers, and one" {
	local names count
	mapfile -t names < <(seq -f 'layer-%03g' 500)
	layers "${names[@]}"
	for count in 1 500; do
		try ovl-mount --upper "up-$count" mnt < <(records "${names[@]:0:count}")
		touch mnt/new
		try ovl-mount -u mnt
		is "$(ls "up-$count")" new
	done
}

@test "changes land in the upperdir, which stays; what was made for the mount goes" {
	layers base top
	chmod 751 top
	chown 12:34 top
	touch -d @1234567.5 top
	try ovl-mount --lower base --lower top --upper up mnt
	is "$(jq -r '.readOnly, .upper, .work' <<<"$output")" false$'\n'"$PWD/up"$'\n'"$PWD/.up.work"
	# The root that is seen is the upperdir's.
	is "$(stat -c '%a %u:%g %Y' mnt)" '751 12:34 1234567'
	echo new >mnt/new
	rm mnt/top
	is "$(stat -c '%F %t:%T' up/top)" 'character special file 0:0'
	is "$(cat up/new)" new
	try ovl-mount -u mnt
	nothing_but base top up
	# The same upperdir again, on a target that is there and is left there.
	mkdir mnt
	try ovl-mount --lower base --lower top --upper up mnt/
	is "$(cat mnt/new)" new
	[ ! -e mnt/top ]
	try ovl-mount -u mnt/
	nothing_but base mnt top up
}

@test "--work names the workdir: one that was there stays" {
	layers base
	mkdir work
	try ovl-mount --lower base --upper up --work work mnt
	has "$(mountinfo mnt)" "workdir=$PWD/work"
	try ovl-mount -u mnt
	[ -d work ]
	try ovl-mount --lower base --upper up --work own mnt
	try ovl-mount -u mnt
	nothing_but base up work
}

@test "a default workdir left by a run that was cut off is used and removed, but not somebody else's" {
	layers base
	mkdir -p .up.work/work/left
	try ovl-mount --lower base --upper up mnt
	try ovl-mount -u mnt
	nothing_but base up
	mkdir elsewhere
	ln -s elsewhere .up.work
	try 2 ovl-mount --lower base --upper up mnt
	says "ovl-mount: mnt: \`$PWD/.up.work\` is not this user's own directory (give --work)"
	nothing_but .up.work base elsewhere up
}

@test "an upperdir in use is refused" {
	layers base
	try ovl-mount --lower base --upper up mnt
	try 2 ovl-mount --lower base --upper up --work other two
	says "ovl-mount: two: \`$PWD/up\` is in use by the overlay on \`$PWD/mnt\`"
	[ ! -e two ] && [ ! -e other ]
	ovl-mount -u mnt
}

@test "--tmp: changes are in memory, found through the record, and gone with the mount" {
	layers base
	try ovl-mount --lower base --tmp mnt
	local upper
	upper=$(jq -r .upper <<<"$output")
	touch mnt/new
	is "$(ls "$upper")" new
	is "$(findmnt -no FSTYPE -T "$upper")" tmpfs
	is "$(stat -c %a "${upper%/upper}")" 700
	try ovl-mount -u mnt
	nothing_but base
}

@test "names with colons, commas, backslashes, quotes, blanks, newlines and bytes that are no text" {
	local odd=('a:b,c' 'back\slash' 'ends\' 'quo"te'"'" 'a b' $'new\nline' $'no\xfftext' "$(printf '%0200d' 0)")
	layers "${odd[@]}"
	# Longer than 255 bytes: the kernel takes no such path as text.
	mkdir "$(printf '%0200d' 1)"
	mv "${odd[-1]}" "$(printf '%0200d' 1)/"
	odd[-1]="$(printf '%0200d' 1)/${odd[-1]}"
	local upper target
	for upper in 'u:,p' 'u\p' $'u\n\xff' "$(printf '%0240d' 2)"; do
		target="m$upper"
		[ ${#target} -lt 240 ] || target=mnt
		records "${odd[@]}" >lines
		try ovl-mount --upper "$upper" "$target" <lines
		if [[ $upper != *$'\xff'* ]]; then
			is "$(jq -r .upper <<<"$output")" "$PWD/$upper"
		else
			is "$(jq -r .upperRaw <<<"$output" | base64 -d | od -c)" "$(printf %s "$PWD/$upper" | od -c)"
		fi
		shows_layers "${#odd[@]}" "$target"
		touch "$target/new"
		[ -e "$upper/new" ]
		try ovl-mount -u "$target"
		[ ! -e "$target" ] && [ ! -e ".$upper.work" ]
	done
	has_no_mounts
}

@test "--print gives a command that mounts the same" {
	layers 'a:b,c' 'back\slash' 'ends\' $'quo\'te' 'a b' $'new\nline' $'no\xfftext'
	records 'a:b,c' 'back\slash' 'ends\' $'quo\'te' 'a b' $'new\nline' $'no\xfftext' >lines
	mkdir by-hand 'u:,\p' .work
	ovl-mount --print by-hand <lines >mount.sh
	has_no_mounts
	sh mount.sh
	ovl-mount mnt <lines
	same_tree mnt by-hand
	is "$(findmnt -no OPTIONS by-hand | tr , '\n' | grep -v dir)" "$(findmnt -no OPTIONS mnt | tr , '\n' | grep -v dir)"
	ovl-mount -u by-hand
	ovl-mount -u mnt
	ovl-mount --print --upper 'u:,\p' --work .work by-hand <lines >mount.sh
	sh mount.sh
	touch by-hand/new
	[ -e 'u:,\p/new' ]
	ovl-mount -u by-hand
	records 'ends\' | ovl-mount --print by-hand >mount.sh
	sh mount.sh
	same_tree by-hand 'ends\'
	try 1 touch by-hand/x
	umount by-hand
	# It does nothing else: no directory is made.
	try ovl-mount --print --lower x --upper y z
	[ ! -e y ] && [ ! -e z ]
	try 2 ovl-mount --print z < <(records "$(printf '%02000d' 0)" "$(printf '%02500d' 0)")
	has "$stderr" 'bytes, mount(2) takes 4095 (mount without --print)'
}

@test "a layer that redirects elsewhere is not followed, and a rename leaves no redirect in the upperdir" {
	layers base
	mkdir -p base/secret base/plain top/window
	echo hidden >base/secret/file
	setfattr -n trusted.overlay.redirect -v /secret top/window
	try ovl-mount --lower base --lower top --upper up mnt
	try 2 ls mnt/window
	has "$stderr" 'Operation not permitted'
	mv mnt/plain mnt/moved
	is "$(getfattr -R -d -m 'overlay\.(redirect|metacopy)' up)" ''
	chmod 600 mnt/top
	is "$(cat up/top)" base
	ovl-mount -u mnt
}

@test "one layer, read-only, looks like the layer itself and is no bind mount" {
	layers base
	mkdir -m 700 base/dir
	ln base/top base/dir/link
	setfattr -n user.note -v x base/dir
	setfattr -n trusted.overlay.opaque -v y base/dir
	try ovl-mount --lower base mnt
	is "$(findmnt -no FSTYPE mnt)" overlay
	is "$(getfattr -d -m - mnt/dir)" "$(getfattr -d -m user base/dir | sed 's|: base|: mnt|')"
	setfattr -x trusted.overlay.opaque base/dir
	same_tree mnt base
	try ovl-mount -u mnt
	nothing_but base
}

@test "CMD alone sees the mount; its status is ours; nothing is left" {
	layers base
	mkfifo seen go
	ovl-mount --lower base --upper up mnt -- sh -c 'cat mnt/top; touch mnt/new; echo >seen; read -r _ <go; exit 7' >out 2>err 3>&- &
	local job=$!
	read -r _ <seen
	is "$(grep -aF "$PWD/" /proc/self/mountinfo)" ''
	is "$(ls -A mnt)" ''
	echo >go
	local status=0
	wait "$job" || status=$?
	is "$status" 7
	is "$(cat out err)" base
	is "$(ls up)" new
	nothing_but base err go out seen up
}

@test "statuses of CMD: a signal, not found, not to be run, and --tmp leaves nothing" {
	layers base
	# shellcheck disable=SC2016  # The inner shell's own number.
	try 137 ovl-mount --lower base mnt -- sh -c 'kill -9 $$'
	# bats warns of a command that it runs and that ends with 127.
	try 1 sh -c 'ovl-mount --lower base mnt -- no-such-command; exit "$(($? - 126))"'
	says 'ovl-mount: `no-such-command`: cannot run: No such file or directory (os error 2)'
	try 126 ovl-mount --lower base mnt -- ./base
	try 0 ovl-mount --lower base --tmp mnt -- sh -c 'touch mnt/new && ls mnt | wc -l'
	is "$output" 3
	nothing_but base
}

@test "a signal to ovl-mount reaches CMD, and what was made goes" {
	layers base
	mkfifo seen
	ovl-mount --lower base --tmp mnt -- sh -c 'echo >seen; exec sleep 60' 3>&- &
	local job=$! status=0
	read -r _ <seen
	kill "$job"
	wait "$job" || status=$?
	is "$status" 143
	rm seen
	nothing_but base
}

@test "an ordinary user mounts for CMD in a user namespace, and gets to know why not without" {
	requires userns runuser
	mkdir "$OPEN/open"
	chown nobody "$OPEN/open"
	install -m 755 "$(command -v ovl-mount)" "$OPEN/tool"
	cd "$OPEN/open"
	runuser -u nobody -- mkdir base
	runuser -u nobody -- sh -c 'echo one >base/file; echo two >base/gone'
	try 2 runuser -u nobody -- ../tool --lower base mnt
	says 'ovl-mount: mnt: cannot mount overlay (needs CAP_SYS_ADMIN; try `unshare -rm`, or `-- CMD`): Operation not permitted (os error 1)'
	[ ! -e mnt ]
	runuser -u nobody -- unshare -Urm true || skip 'needs user namespaces for ordinary users'
	try 5 runuser -u nobody -- ../tool --lower base --upper up mnt -- \
		sh -c 'cat mnt/file; id -u; rm mnt/gone; mkdir mnt/new; exit 5'
	is "$output" one$'\n'0
	is "$(stat -c '%U %F %t:%T' up/gone)" 'nobody character special file 0:0'
	is "$(ls -A)" base$'\n'up
}

@test "a mount that fails leaves nothing, and says what hindered" {
	layers base
	echo x >file
	try 2 ovl-mount --lower base --lower missing --upper up mnt
	says "ovl-mount: mnt: cannot use \`$PWD/missing\`: No such file or directory (os error 2)"
	try 2 ovl-mount --lower base --lower base --upper up mnt
	has "$stderr" 'two of the directories are the same'
	try 2 ovl-mount --lower missing --tmp mnt
	try 2 ovl-mount --lower missing mnt
	try 2 ovl-mount --lower base file
	says "ovl-mount: file: \`$PWD/file\` is no directory"
	try 2 ovl-mount --lower base no/such/mnt
	try 2 ovl-mount mnt <<<'{"size":1}'
	says 'ovl-mount: <stdin>: record 1: names no unpacked layer (see layer-unpack(1)): not a layer record: missing member `path`'
	try 2 ovl-mount mnt <<<'{"path":"a\u0000b"}'
	try 2 ovl-mount mnt <<<'nonsense'
	has "$stderr" '<stdin>: line 1: not a layer record'
	try 2 sh -c 'ovl-mount --lower base --upper up mnt >/dev/full'
	says 'ovl-mount: <stdout>: cannot write: No space left on device (os error 28)'
	try 141 bash -c 'ovl-mount --lower base --upper up mnt > >(:); exit $?' || [ "$status" -eq 0 ]
	[ ! -e mnt ] || ovl-mount -u mnt
	rm -rf up
	nothing_but base file
}

@test "-u takes only what ovl-mount mounted, and the topmost mount" {
	layers base top
	mkdir mnt plain work up
	try 1 ovl-mount -u plain
	says 'ovl-mount: plain: nothing is mounted here'
	try 2 ovl-mount -u missing
	mount -t overlay overlay -o lowerdir=base,upperdir=up,workdir=work mnt
	try 2 ovl-mount -u mnt
	says 'ovl-mount: mnt: was not mounted by ovl-mount but is a mount of type overlay from `overlay` (use umount(8))'
	try ovl-mount --lower base --lower top mnt
	is "$(cat mnt/top)" top
	try ovl-mount -u mnt
	is "$(cat mnt/top)" base
	umount mnt
	mount -t tmpfs ovl-mount plain
	try 2 ovl-mount -u plain
	umount plain
}

@test "-u of a mount in use is refused; --lazy takes it out of sight" {
	layers base
	try ovl-mount --lower base --upper up mnt
	(cd mnt && exec sleep 60 3>&-) &
	local job=$!
	while [ "$(readlink "/proc/$job/cwd")" != "$PWD/mnt" ]; do sleep 0.01; done
	try 2 ovl-mount -u mnt
	says 'ovl-mount: mnt: cannot unmount (a process uses it, see `fuser -vm`; --lazy takes it out of sight now): Device or resource busy (os error 16)'
	is "$(cat mnt/top)" base
	try ovl-mount -u --lazy mnt
	nothing_but base up
	kill "$job"
}

@test "the target may be a symbolic link, and what is in it is hidden while mounted" {
	layers base
	mkdir mnt
	touch mnt/own
	ln -s mnt link
	try ovl-mount --lower base link
	is "$(jq -r .target <<<"$output")" "$PWD/mnt"
	[ ! -e mnt/own ]
	try ovl-mount -u link
	is "$(ls mnt)" own
}

@test "options that exclude each other end with status 2" {
	local options
	for options in '--tmp --upper u' '--work w' '-u --lower x' '--lazy' '--print --tmp' '-u --tmp'; do
		# shellcheck disable=SC2086
		try 2 ovl-mount $options mnt
		is "$output" ''
	done
}

@test "--image unpacks into --store what is missing there, and mounts it" {
	mkdir base top
	echo one >base/file
	echo two >base/gone
	: >top/.wh.gone
	echo three >top/new
	layer_tar base.tar base
	layer_tar top.tar top
	docker_archive image.tar base.tar top.tar
	try ovl-mount --image image.tar --store store target
	[ -z "$stderr" ]
	is "$(ls target)" $'file\nnew'
	is "$(cat target/file target/new)" $'one\nthree'
	is "$(jq -r '.lowers[].chainId' <<<"$output")" "$(chain_ids "$(sha256 base.tar)" "$(sha256 top.tar)")"
	is "$(ls store)" "$(chain_ids "$(sha256 base.tar)" "$(sha256 top.tar)" | cut -d: -f2 | sort)"
	try ovl-mount -u target
	# --print does nothing, but knows where they would be.
	try ovl-mount --print --image image.tar --store other target
	has "$output" "/other/$(sha256 base.tar | cut -d: -f2)"
	[ ! -e other ]
	# What is there is not unpacked again: the blob is not even needed.
	stat -c '%i %Y' store/* >before
	try ovl-mount --image image.tar --store store target
	stat -c '%i %Y' store/* | diff before -
	try ovl-mount -u target
	[ ! -e target ]
}

@test "--image that is damaged or not there mounts nothing, and --store alone is refused" {
	mkdir tree
	seq 1000 >tree/file
	layer_tar layer.tar tree
	oci_layout image layer.tar
	printf x | dd of="image/blobs/sha256/$(sha256 layer.tar | cut -d: -f2)" bs=1 seek=2000 conv=notrunc status=none
	try 1 ovl-mount --image oci:image --store store target
	[[ $stderr == "ovl-mount: oci:image: layer 0: digest is sha256:"*", expected sha256:"* ]]
	is "$(ls -A store)" ''
	[ ! -e target ]
	try 2 ovl-mount --image missing --store store target
	has "$stderr" 'ovl-mount: missing: '
	try 2 ovl-mount --store store target
	has "$stderr" --image
}

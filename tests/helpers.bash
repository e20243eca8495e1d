# shellcheck shell=bash
# What every tests/*.bats loads. `setup` and `teardown` below are the default ones: a file that has its own calls
# `enter_scratch` and `leave_scratch` in them.
#
# Oracles are never these tools: sha256sum, GNU tar, jq, stat, getfattr, the kernel. Fixtures are made at test time.

bats_require_minimum_version 1.5.0

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export TOP=${TESTS%/*}
export PATH=${TOOLS_DIR:-$TOP/target/debug}:$PATH
export LC_ALL=C.UTF-8 TZ=UTC
unset SOURCE_DATE_EPOCH NO_COLOR
umask 022

# Not a version manager's shim: it takes ten times as long to start.
PYTHON=$(PATH=/usr/bin:$PATH command -v python3)

setup() {
	enter_scratch
}

teardown() {
	leave_scratch
}

# Goes to the test's own empty directory.
enter_scratch() {
	cd "$BATS_TEST_TMPDIR" || return
}

# Unmounts what the test left mounted below its directory; bats removes the directory.
leave_scratch() {
	cd / || return
	[ ! -e "$BATS_TEST_TMPDIR/podman" ] || podman_settles
	unmount_below "$BATS_TEST_TMPDIR"
}

# try [STATUS] COMMAND...: runs COMMAND, which has to end with STATUS (0), and sets $output, $stderr, $lines,
# $stderr_lines and $status. What it printed is shown where the test fails.
try() {
	local want=0
	if [[ $1 =~ ^[0-9]+$ ]]; then
		want=$1
		shift
	fi
	run --separate-stderr "$@"
	# shellcheck disable=SC2154  # bats sets them.
	printf '$ %s\n%s\n%s\n[%d, expected %d]\n' "$*" "$output" "$stderr" "$status" "$want"
	[ "$status" -eq "$want" ]
}

# not COMMAND...: fails where COMMAND succeeds. A plain `! COMMAND` never fails a test.
not() {
	! "$@"
}

# is GOT WANT: compares two texts and shows how they differ.
is() {
	[ "$1" = "$2" ] || {
		diff -u --label got --label want <(printf '%s\n' "$1") <(printf '%s\n' "$2")
		return 1
	}
}

# has TEXT PART: looks for PART, taken literally, in TEXT.
has() {
	[[ $1 == *"$2"* ]] || {
		printf 'expected %q\nin %q\n' "$2" "$1"
		return 1
	}
}

# says MESSAGE: the last `try` printed nothing on stdout and this one line on stderr.
says() {
	is "$output" '' && is "$stderr" "$1"
}

# requires NEED...: skips the test where a need is not met. Needs: root, overlayfs (a writable mount with the test's
# directory as upperdir), userns (an unprivileged user namespace), or the name of a command.
requires() {
	local need
	for need; do
		case $need in
		root) [ "$(id -u)" -eq 0 ] || skip 'needs root' ;;
		overlayfs) overlayfs_works || skip "needs overlayfs with an upperdir in ${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}" ;;
		userns) unshare -Ur true 2>/dev/null || skip 'needs user namespaces' ;;
		*) command -v "$need" >/dev/null || skip "needs $need" ;;
		esac
	done
}

overlayfs_works() {
	local dir
	dir=$(mktemp -d "${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/overlay.XXXXXX") || return
	mkdir "$dir"/{lower,upper,work,merged}
	unshare -m mount -t overlay overlay \
		-o "lowerdir=$dir/lower,upperdir=$dir/upper,workdir=$dir/work" "$dir/merged" 2>/dev/null
	local status=$?
	rm -rf "$dir"
	return "$status"
}

# Prints the names of the tools: every crate with a command line of its own.
tools() {
	local args
	for args in "$TOP"/crates/*/src/args.rs; do
		[ ! -e "$args" ] || basename "${args%/src/args.rs}"
	done
}

# unmount_below DIR: unmounts everything at DIR and below, the latest mount first.
unmount_below() {
	local dir target
	dir=$(readlink -f "$1") || return 0
	cut -d ' ' -f 5 /proc/self/mountinfo | tac | while read -r target; do
		target=$(printf '%b' "$target")
		case $target in "$dir" | "$dir"/*) umount -l "$target" ;; esac
	done
}

# sha256 [FILE]: prints `sha256:HEX`, from sha256sum.
# shellcheck disable=SC2120  # Most callers are in other files.
sha256() {
	sha256sum -- "${1:--}" | sed 's/^\\\?\([0-9a-f]*\).*/sha256:\1/'
}

# chain_ids DIFFID...: prints the ChainIDs, as image-spec's config.md says, from sha256sum.
chain_ids() {
	local chain='' diff_id
	for diff_id; do
		if [ -n "$chain" ]; then
			chain=$(printf '%s %s' "$chain" "$diff_id" | sha256 -)
		else
			chain=$diff_id
		fi
		printf '%s\n' "$chain"
	done
}

# tree_listing DIR [EXCLUDE...]: prints each entry below DIR and DIR itself, sorted: path, type, mode, owner, mtime in
# nanoseconds, size and sha256, link target, device number, xattrs, and the first name of its hard links. EXCLUDE leaves out
# a column by its name (tree.py lists them).
tree_listing() {
	"$PYTHON" "$TESTS/tree.py" "$@"
}

# same_tree A B [EXCLUDE...]: compares two trees by their listings.
same_tree() {
	diff -u --label "$1" --label "$2" <(tree_listing "$1" "${@:3}") <(tree_listing "$2" "${@:3}")
}

# layer_tar OUT DIR [TAR-OPTION...]: archives what is below DIR with GNU tar, sorted, with xattrs, numeric owners. A file
# `.wh.NAME` in DIR is a whiteout, `.wh..wh..opq` an opaque whiteout.
layer_tar() {
	tar --create --file "$1" --directory "$2" --format=pax --sort=name --numeric-owner --xattrs --xattrs-include='*' \
		--pax-option=delete=atime,delete=ctime "${@:3}" .
}

# entries OUT < LINES: writes a tar by hand, one entry a line; see entries.py for the lines.
entries() {
	"$PYTHON" "$TESTS/entries.py" "$1"
}

# Images from layer tars, base first. Options may precede OUT:
#   --tag NAME:TAG (several), --config JSON (merged into the config), --history JSON (the whole array), --compress gzip|zstd
# OUT.config is written beside: the configuration, for jq.
docker_archive() {
	"$PYTHON" "$TESTS/mkimage.py" docker-archive "$@"
}

# The form that `docker save` writes since 25: an OCI layout and manifest.json in one archive.
docker_archive_25() {
	"$PYTHON" "$TESTS/mkimage.py" docker-archive-25 "$@"
}

oci_layout() {
	"$PYTHON" "$TESTS/mkimage.py" oci "$@"
}

oci_archive() {
	"$PYTHON" "$TESTS/mkimage.py" oci-archive "$@"
}

# start_dockerd DIR [DRIVER]: starts a Docker daemon on its own root and socket below DIR and points `docker` at it. Call it and
# `stop_dockerd DIR` in the same function, or in setup_file and teardown_file. DIR's name must be short: a socket's path ends
# at 107 bytes.
start_dockerd() {
	local dir=$1
	mkdir -p "$dir/config"
	echo '{}' >"$dir/config/config.json"
	export DOCKER_HOST=unix://$dir/docker.sock DOCKER_CONFIG=$dir/config
	unset DOCKER_CONTEXT DOCKER_TLS_VERIFY
	dockerd --data-root "$dir/root" --exec-root "$dir/exec" --pidfile "$dir/pid" --host "$DOCKER_HOST" \
		--iptables=false --ip6tables=false --bridge=none --storage-driver "${2:-overlay2}" >"$dir/log" 2>&1 3>&- &
	local dockerd=$! tenth
	for ((tenth = 0; tenth < 600; tenth++)); do
		docker version >/dev/null 2>&1 && return
		kill -0 "$dockerd" 2>/dev/null || break
		sleep 0.1
	done
	echo 'dockerd does not answer:'
	tail "$dir/log"
	return 1
}

# stop_dockerd DIR: ends that daemon and unmounts what it left.
stop_dockerd() {
	local dir=$1 pid tenth
	if pid=$(cat "$dir/pid" 2>/dev/null); then
		kill "$pid" 2>/dev/null
		for ((tenth = 0; tenth < 300; tenth++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -9 "$pid" 2>/dev/null
	fi
	unmount_below "$dir"
}

# own_podman ARG...: podman on a store of its own below the test's directory, mounted by the kernel; runc, because crun
# refuses machines with both versions of cgroups.
own_podman() {
	local dir=$BATS_TEST_TMPDIR/podman runtime=()
	mkdir -p "$dir"
	! command -v runc >/dev/null || runtime=(--runtime runc)
	podman "${runtime[@]}" --root "$dir/root" --runroot "$dir/run" --tmpdir "$dir/tmp" --storage-driver overlay \
		--storage-opt overlay.mount_program= --cgroup-manager cgroupfs --events-backend none "$@"
}

# own_podman_run ARG...: runs a container without network, with limits that need no privilege.
own_podman_run() {
	own_podman run --network=none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@"
}

# Waits for the processes by which podman cleans up behind a container: they mount the store anew.
podman_settles() {
	local tenth
	for ((tenth = 0; tenth < 100; tenth++)); do
		grep -qszF "$BATS_TEST_TMPDIR/podman" /proc/[0-9]*/cmdline || return 0
		sleep 0.1
	done
}

#!/usr/bin/env bash
# The job of layer-tools from end to end, on an image that it makes itself: without docker, without network. Prints each
# command before it runs it. The tools are those in PATH; `make demo` builds them first.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
	# A user namespace of our own will do, where the kernel lets us have one.
	! unshare -rm true 2>/dev/null || exec unshare -rm "$0"
	echo 'demo: mounting needs root, or user namespaces, which are not allowed here (try sudo make demo)' >&2
	exit 2
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/layer-tools-demo.XXXXXX")
trap 'cd / && { ! mountpoint -q "$dir/mnt" || umount "$dir/mnt"; } && rm -rf "$dir"' EXIT
cd "$dir"

say() {
	printf '\n# %s\n' "$*"
}

run() {
	printf '$ %s\n' "$*"
	eval "$*"
}

cat >hello.c <<'END'
#include <stdio.h>

/* Prints the greeting of whatever root it runs in. */
int main(void)
{
	FILE *file = fopen("/etc/greeting", "r");
	int c;

	if (!file) {
		perror("/etc/greeting");
		return 1;
	}
	while ((c = getc(file)) != EOF)
		putchar(c);
	return 0;
}
END

say 'A program that needs nothing, and a file for it to read'
run 'mkdir -p root/etc root/tmp'
run 'cc -static -o root/hello hello.c'
run 'echo "hello from the base layer" > root/etc/greeting'
run 'echo "nobody needs this" > root/etc/old'

say 'Make an image of it, FROM scratch'
run 'tar -C root -c . | layer-commit --import -m "hello" -c '\''CMD ["/hello"]'\'' -t hello:1 > hello.tar'
run 'image-inspect -t hello.tar'

say 'Take it apart and mount it, each stage a process of its own'
run 'image-inspect --layers hello.tar | chain-id | layer-unpack --store store/ | ovl-mount --upper edit/ mnt/'
run 'chroot mnt/ /hello'

say 'Change files'
run 'echo "hello from the second layer" > mnt/etc/greeting'
run 'rm mnt/etc/old'

say 'Commit what changed as a layer on top: an image for docker load, podman load, skopeo and umoci'
run 'layer-commit mnt/ --onto hello.tar -a me -m "greet anew" -t hello:2 > hello2.tar'
run 'ovl-mount -u mnt/'
run 'image-inspect --history -t hello2.tar'

say 'The new layer holds what changed, and nothing else'
run 'layer-commit edit/ | tar -t'

say 'Unpack what is new (the base layer is there), mount it for one command, and run the program'
run 'image-inspect --layers hello2.tar | chain-id | layer-unpack --store store/ | ovl-mount mnt/ -- chroot mnt/ /hello'

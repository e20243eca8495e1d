#!/usr/bin/env bats
# The helpers make what other tools read: what the other tests build on holds.

load helpers

make_layers() {
	mkdir -p base/etc top/etc
	echo base >base/etc/motd
	ln base/etc/motd base/etc/motd.link
	echo gone >base/etc/issue
	touch top/etc/.wh.issue
	layer_tar base.tar base
	layer_tar top.tar top
}

@test "the forms of an image are read by skopeo, and their config has the DiffIDs" {
	requires skopeo jq
	make_layers
	docker_archive --tag example:1 --parent old.tar base.tar top.tar
	docker_archive_25 --tag example:1 new.tar base.tar top.tar
	oci_layout --tag example:1 --compress gzip layout base.tar top.tar
	oci_archive --tag example:1 --compress zstd oci.tar base.tar top.tar
	for image in docker-archive:old.tar docker-archive:new.tar oci:layout:1 oci-archive:oci.tar; do
		try skopeo inspect --config "$image"
		is "$(jq -r '.rootfs.diff_ids[]' <<<"$output")" "$(sha256 base.tar; sha256 top.tar)"
	done
	is "$(jq -cS . old.tar.config)" "$(jq -cS . <<<"$output")"
}

@test "docker-archive with --symlink stores a repeated layer once" {
	make_layers
	docker_archive --symlink image.tar base.tar top.tar base.tar
	is "$(tar -tvf image.tar | grep -c '^l.*/layer.tar -> ../.*/layer.tar')" 1
}

@test "entries writes what GNU tar lists" {
	entries odd.tar <<-'LINES'
		dir etc mode=0700 uid=3000000
		file etc/motd 'hello\n' mtime=1.5 pax.SCHILY.xattr.user.x=1
		file ../out content=x
		link etc/motd2 etc/motd
		symlink sh 'a b\xff'
		char null 1:3
		fifo p
	LINES
	try tar --full-time --numeric-owner -tvPf odd.tar
	is "$(awk '{ print $1, $2 }' <<<"$output")" "drwx------ 3000000/0
-rw-r--r-- 0/0
-rw-r--r-- 0/0
hrw-r--r-- 0/0
lrw-r--r-- 0/0
crw-r--r-- 0/0
prw-r--r-- 0/0"
	has "$output" '1970-01-01 00:00:01.5 etc/motd'
	has "$output" '../out'
	is "$(tar -xOf odd.tar etc/motd)" hello
}

@test "tree_listing tells trees apart that differ in one thing" {
	mkdir a && touch -d @1 a/f a/g && ln -s t a/s && mkfifo a/p
	cp -a a b
	same_tree a b mtime
	touch -d @1.000000001 b/f
	try 1 same_tree a b
	has "$output" '+f f mode=0644'
	touch -d @1 b/f && chmod +x b/f
	try 1 same_tree a b
	cp -a a c && rm c/g && ln c/f c/g
	try 1 same_tree a c mtime
}

@test "requires names what is lacking" {
	try bash -c 'skip() { echo "$1"; exit; }; bats_require_minimum_version() { :; }; . "$1"; requires sh no-such-command' - "$TESTS/helpers.bash"
	is "$output" 'needs no-such-command'
}

#!/usr/bin/env bats
# The tools together: an image is taken apart, mounted, changed, and put together again, each stage a process of its own.

load helpers

# A distribution of the size of a thumb, in two layers: base.tar, top.tar and base-image.tar.
setup() {
	enter_scratch
	mkdir -p base/{bin,etc,media,tmp,var/lib} top/{etc,var/lib}
	cp "$(command -v busybox)" base/bin/
	for applet in cat chmod cp echo ln ls mkdir mv rm sh stat; do
		ln -s busybox "base/bin/$applet"
	done
	echo base >base/etc/issue
	echo base >base/etc/motd
	echo old >base/etc/old
	echo cd >base/media/cdrom
	ln base/etc/old base/etc/old.link
	chmod 4755 base/bin/busybox
	chmod 1777 base/tmp
	setfattr -n user.layer -v base base/etc/issue
	mknod base/etc/null c 1 3
	echo top >top/etc/issue.net
	touch top/etc/.wh.old top/var/lib/.wh..wh..opq
	find base top -depth -exec touch -h -d @1700000000 {} +
	layer_tar base.tar base
	layer_tar top.tar top
	docker_archive --tag tiny:1 --config '{"config":{"Env":["PATH=/bin"],"Cmd":["sh"]}}' image.tar base.tar top.tar
}

mount_it() {
	image-inspect --layers image.tar | chain-id | layer-unpack --store store/ | ovl-mount --upper edit/ mnt/ >mount.json
}

change_it() {
	echo hello >mnt/etc/motd
	rm mnt/etc/issue
	rm -r mnt/media
	mkdir mnt/media
	mv mnt/etc/old.link mnt/etc/renamed
}

commit_it() {
	layer-commit mnt/ --onto image.tar -a me -m 'edit motd' -c 'CMD ["/bin/sh"]' -c 'ENV A=b' -t tiny:edited >edited.tar
}

blob() {
	tar -xOf edited.tar "blobs/sha256/${1#sha256:}"
}

@test "inspect | chain-id | unpack | mount, change, commit, unmount" {
	requires root overlayfs jq
	mount_it
	is "$(cat mnt/etc/issue.net mnt/etc/motd)" 'top
base'
	[ ! -e mnt/etc/old ]
	is "$(stat -c '%a %F' mnt/bin/busybox mnt/etc/null)" '4755 regular file
644 character special file'
	change_it
	commit_it
	try ovl-mount -u mnt/
	not mountpoint -q mnt
	manifest=$(tar -xOf edited.tar manifest.json)
	is "$(jq -c '.[0].RepoTags' <<<"$manifest")" '["tiny:edited"]'

	config=$(blob "$(jq -r '.[0].Config | split("/")[-1]' <<<"$manifest")")
	is "$(jq -c '.config.Cmd, .config.Env' <<<"$config")" '["/bin/sh"]
["PATH=/bin","A=b"]'
	is "$(jq -r '.history[-1] | .author, .comment' <<<"$config")" 'me
edit motd'
	is "$(jq '.history | length' <<<"$config")" 3

	# The layers below are the same bytes; the new one holds what changed.
	is "$(jq -r '.rootfs.diff_ids[:2][]' <<<"$config")" "$(sha256 base.tar; sha256 top.tar)"
	blob "$(sha256 base.tar)" | cmp - base.tar
	layer=$(jq -r '.[0].Layers[-1] | split("/")[-1]' <<<"$manifest")
	blob "$layer" >layer.tar
	is "$(tar -tf layer.tar | grep -v '/$' | sort)" 'etc/.wh.issue
etc/.wh.old.link
etc/motd
etc/renamed
media/.wh..wh..opq'
	is "$(sha256 layer.tar)" "$(jq -r '.rootfs.diff_ids[-1]' <<<"$config")"
}

@test "the same steps give the same image, byte for byte" {
	requires root overlayfs
	export SOURCE_DATE_EPOCH=1700000001
	for _ in 1 2; do
		mount_it
		change_it
		find mnt -newermt @1700000001 -exec touch -h -d @1700000001 {} +
		commit_it
		sha256 edited.tar >>sums
		ovl-mount -u mnt/
		rm -r edit store
	done
	is "$(uniq sums | wc -l)" 1
}

@test "the plain form of the new image is what the mount showed" {
	requires root overlayfs
	mount_it
	change_it
	# A layer holds whole seconds, and nothing of the root directory itself.
	find mnt -mindepth 1 -exec touch -h -d @1700000002 {} +
	touch -d @1700000000 mnt
	commit_it
	tree_listing mnt >mounted
	ovl-mount -u mnt/
	layer-unpack --image edited.tar plain/
	diff -u mounted <(tree_listing plain)
	# And so is the overlay form, which adds one directory to the store.
	image-inspect --layers edited.tar | chain-id | layer-unpack --store store/ | ovl-mount mnt/ >mount.json
	diff -u mounted <(tree_listing mnt)
	is "$(find store -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)" 3
}

@test "a mount for one command: what it prints, its status, and nothing left" {
	requires root overlayfs
	image-inspect --layers image.tar | chain-id | layer-unpack --store store/ >records
	try 3 ovl-mount mnt/ -- chroot mnt/ /bin/sh -c 'cat /etc/motd; exit 3' <records
	has "$output" base
	not grep -q "$PWD/mnt" /proc/self/mountinfo
}

@test "records keep a foreign member from stage to stage" {
	requires root jq
	image-inspect --layers image.tar | jq -c '. + {"org.example.n": 1.50}' | chain-id | layer-unpack --store store/ >records
	is "$(jq -c '."org.example.n"' records)" "$(printf '1.5\n1.5')"
	is "$(jq -r .chainId records)" "$(chain_ids "$(sha256 base.tar)" "$(sha256 top.tar)")"
	is "$(jq -r '.path' records)" "$(jq -r '.chainId | split(":")[1]' records | sed "s|^|$PWD/store/|")"
}

@test "a layer goes through tar, gzip and zstd on its way and stays the same layer" {
	requires root zstd
	mkdir empty
	layer-commit --diff empty base >commit.tar
	zstd -qc commit.tar | zstd -qdc | gzip | layer-hash --tee=tar --record record | layer-unpack root/
	is "$(jq -r .diffId record)" "$(sha256 commit.tar)"
	same_tree base root
}

@test "an image from a root tar, and the same tree from it again" {
	requires root
	tar -C base --numeric-owner --xattrs --xattrs-include='*' -c . |
		layer-commit --import -m imported -c 'ENTRYPOINT ["/bin/sh"]' -t tiny:root >root-image.tar
	layer-unpack --image root-image.tar root/
	same_tree base root
	is "$(image-inspect --config root-image.tar | jq -c .config.Entrypoint)" '["/bin/sh"]'
}

@test "make demo does the whole job and leaves nothing behind" {
	requires root overlayfs cc
	mkdir tmp
	try env TMPDIR="$PWD/tmp" "$TOP/examples/demo.sh"
	has "$output" '$ image-inspect --layers hello.tar | chain-id | layer-unpack --store store/ | ovl-mount'
	has "$output" 'hello from the base layer'
	is "$(tail -n 1 <<<"$output")" 'hello from the second layer'
	is "$(ls -A tmp)" ''
	not grep -q "$PWD/tmp" /proc/self/mountinfo
}

@test "make demo is not for root alone, and says what is needed where nothing else is allowed" {
	requires root overlayfs cc setpriv
	mkdir -m 777 tmp
	mkdir bin
	for tool in $(tools); do
		cp "$(command -v "$tool")" bin/
	done
	cp "$TOP/examples/demo.sh" bin/
	chmod 711 "$BATS_RUN_TMPDIR" "$PWD"
	nobody() {
		try "$1" setpriv --reuid 65534 --regid 65534 --clear-groups env TMPDIR="$PWD/tmp" PATH="$PWD/bin:$PATH" "$PWD/bin/demo.sh"
	}
	if setpriv --reuid 65534 --clear-groups unshare -rm true; then
		nobody 0
		is "$(tail -n 1 <<<"$output")" 'hello from the second layer'
	fi
	printf '#!/bin/sh\nexit 1\n' >bin/unshare
	chmod +x bin/unshare
	nobody 2
	says 'demo: mounting needs root, or user namespaces, which are not allowed here (try sudo make demo)'
}

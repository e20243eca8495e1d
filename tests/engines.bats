#!/usr/bin/env bats
# What other engines make of these tools' images, and these tools of theirs: dockerd, podman, skopeo and umoci, each with a
# store of its own.

load helpers

setup_file() {
	local tool
	for tool in dockerd docker busybox; do
		command -v "$tool" >/dev/null || return 0
	done
	[ "$(id -u)" -eq 0 ] || return 0
	start_dockerd "$BATS_FILE_TMPDIR/d"
}

teardown_file() {
	stop_dockerd "$BATS_FILE_TMPDIR/d"
}

# A base image, and an image that layer-commit put together of it.
setup() {
	enter_scratch
	requires root overlayfs busybox jq
	mkdir -p root/{bin,etc,media,tmp}
	cp "$(command -v busybox)" root/bin/
	for applet in cat chmod echo ln mkdir mknod mv rm sh; do
		ln -s busybox "root/bin/$applet"
	done
	echo base | tee root/etc/motd root/etc/issue root/etc/moved root/media/cdrom >/dev/null
	find root -depth -exec touch -h -d @1700000000 {} +
	layer_tar base.tar root
	docker_archive --tag tiny:1 --config '{"config":{"Env":["PATH=/bin"],"Cmd":["sh"]}}' image.tar base.tar
}

# What a container does. Podman's may make no devices.
SCRIPT='echo hello >/etc/motd; rm /etc/issue; rm -r /media; mkdir /media; mv /etc/moved /etc/here; ln /etc/motd /etc/link
	chmod 4711 /etc/here; mknod /etc/zero c 1 5 2>/dev/null; ln -s motd /etc/symlink; echo new >/media/new'

edited() {
	image-inspect --layers image.tar | chain-id | layer-unpack --store store/ | ovl-mount --upper edit/ mnt/ >mount.json
	chroot mnt /bin/sh -c "$SCRIPT"
	layer-commit mnt/ --onto image.tar -a me -m 'edit motd' -c 'CMD ["/bin/cat", "/etc/motd"]' -c 'ENV A=b' \
		"$@" -t tiny:edited >edited.tar
	ovl-mount -u mnt/
}

# merged ARCHIVE DIR: unpacks the image of a `docker save` archive with umoci.
merged() {
	skopeo copy -q "docker-archive:$1" "oci:$2.oci:x"
	umoci raw unpack --image "$2.oci:x" "$2"
}

@test "dockerd loads and runs what layer-commit writes, whatever its compression" {
	requires dockerd docker
	edited
	for compress in none gzip zstd; do
		[ $compress = none ] || { rm -r edit; edited --compress $compress; }
		# Docker 20.10 does not know zstd.
		if [ $compress = zstd ] && [[ $(dockerd --version) == *' 2'[0-2].* ]]; then
			continue
		fi
		try docker load -i edited.tar
		has "$output" 'Loaded image: tiny:edited'
		try docker run --rm --network=none tiny:edited
		is "$output" hello
		try docker image inspect tiny:edited
		is "$(jq -r '.[0].RootFS.Layers[]' <<<"$output")" "$(image-inspect --config edited.tar | jq -r '.rootfs.diff_ids[]')"
		is "$(jq -c '.[0] | .Author, .Comment, .Config.Env, .Config.Cmd' <<<"$output")" '"me"
"edit motd"
["PATH=/bin","A=b"]
["/bin/cat","/etc/motd"]'
		try docker image rm -f tiny:edited
	done
}

@test "ChainIDs are the names of Docker's layer directories" {
	requires dockerd docker
	edited
	docker load -qi edited.tar
	image-inspect --layers edited.tar | chain-id --plain >chains
	is "$(wc -l <chains)" 2
	while IFS=: read -r _ hex; do
		[ -d "$BATS_FILE_TMPDIR/d/root/image/overlay2/layerdb/sha256/$hex" ]
	done <chains
	is "$(docker image inspect tiny:edited | chain-id --plain)" "$(cat chains)"
	docker image rm -f tiny:edited >/dev/null
}

@test "layer-commit of the upperdir that docker left gives the tree of docker commit" {
	requires dockerd docker skopeo umoci
	docker load -qi image.tar
	docker run --name changed --network=none tiny:1 sh -c "$SCRIPT"
	docker commit changed tiny:theirs
	docker save -o theirs.tar tiny:theirs
	upper=$(docker inspect -f '{{.GraphDriver.Data.UpperDir}}' changed)
	layer-commit "$upper" --onto image.tar -t tiny:ours >ours.tar
	merged theirs.tar theirs
	merged ours.tar ours
	same_tree theirs ours
	docker load -qi ours.tar
	is "$(docker run --rm --network=none tiny:ours cat /etc/motd /etc/here /media/new)" 'hello
base
new'
	docker rm changed
	docker image rm -f tiny:theirs tiny:ours
}

@test "podman loads and runs what layer-commit writes" {
	requires podman
	edited --compress zstd
	try own_podman load -i edited.tar
	try own_podman_run --rm tiny:edited
	is "$output" hello
}

@test "layer-commit of the upperdir that podman left gives the tree of podman commit" {
	requires podman skopeo umoci
	own_podman load -qi image.tar
	own_podman_run --name changed tiny:1 sh -c "$SCRIPT"
	upper=$(own_podman inspect -f '{{.GraphDriver.Data.UpperDir}}' changed)
	layer-commit "$upper" --onto image.tar -t tiny:ours >ours.tar
	own_podman commit -q changed tiny:theirs
	own_podman save -q --format docker-archive -o theirs.tar tiny:theirs
	merged theirs.tar theirs
	merged ours.tar ours
	same_tree theirs ours
	own_podman rm changed
}

@test "skopeo and umoci read what layer-commit writes, as an archive and as a layout" {
	requires skopeo umoci
	edited --compress gzip
	merged edited.tar theirs
	layer-unpack --image edited.tar ours
	same_tree theirs ours
	skopeo copy -q oci-archive:edited.tar oci:layout:x
	umoci raw unpack --image layout:x again
	same_tree theirs again
	mkdir extracted
	tar -C extracted -xf edited.tar
	umoci stat --image extracted:edited --json >stat.json
	is "$(jq -r '.history[-1].comment' stat.json)" 'edit motd'
}

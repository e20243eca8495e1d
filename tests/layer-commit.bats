#!/usr/bin/env bats
# layer-commit(1). Oracles: upperdirs that the kernel makes and the merged tree that it shows, GNU tar's listing, and
# apply.py, which applies a layer as the specification says.

# shellcheck disable=SC2016,SC2154  # Backquotes in messages; what bats and try set.

load helpers

# overlay [OPTION]: mounts lower/ below upper/ on merged/; lower/ is filled by `lower_tree` first.
overlay() {
	mkdir -p upper work merged
	mount -t overlay overlay -o "lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work${1:+,$1}" merged
}

lower_tree() {
	mkdir -p lower/{etc/deep/deeper,old/sub,emptied,replaced,kept}
	echo motd >lower/etc/motd
	echo issue >lower/etc/issue
	echo deep >lower/etc/deep/deeper/file
	echo a >lower/old/a
	echo b >lower/old/sub/b
	ln lower/old/a lower/old/a-link
	echo x >lower/emptied/x
	echo y >lower/replaced/y
	echo file >lower/becomes-dir
	head -c 100000 /dev/zero | tr '\0' z >lower/big
	ln -s etc/motd lower/link
	chmod 4755 lower/kept
	find lower -exec touch -hd @1000000000 {} +
}

# Every kind of change, in the directory $1.
change() {
	(
		cd "$1" || exit
		echo hello >etc/motd
		rm etc/issue
		rm -r emptied && mkdir emptied && echo new >emptied/new
		rm -r replaced && echo file >replaced
		rm becomes-dir && mkdir -p becomes-dir/d
		rm link && ln -s elsewhere link
		chmod 600 big && chown 12:34 big
		mkfifo fifo
		mknod char c 1 3
		mknod block b 7 9
		echo one >linked && ln linked etc/linked-too && ln linked a-linked-one
		ln -s "$(printf '%0150d' 0)" long
		mkdir "$(printf 'n%.0s' {1..200})" && echo x >"$(printf 'n%.0s' {1..200})/$(printf 'm%.0s' {1..120})"
		printf 'x' >"$(printf 'caf\351\n')"
		setfattr -n user.note -v value etc/deep/deeper/file
		setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 linked
		setfacl -m u:1:r kept
		truncate -s 3M sparse && printf data | dd of=sparse bs=1 seek=1M conv=notrunc status=none
		mkdir sticky && chmod 1777 sticky
		touch -hd @1200000000 link linked fifo etc/motd
	)
}

# same_result LAYER TREE: what LAYER makes of lower/ is TREE, but for the root itself and parts of seconds.
same_result() {
	local applied
	applied=$(mktemp -d "$PWD/applied.XXXXXX")
	cp -a lower/. "$applied"
	"$PYTHON" "$TESTS/apply.py" "$1" "$applied"
	listing "$applied" >applied.list
	listing "$2" >tree.list
	diff -u tree.list applied.list
}

listing() {
	tree_listing "$1" "${@:2}" | grep -v '^/ ' | sed -E 's/(mtime=-?[0-9]+)[0-9]{9}( |$)/\1\2/'
}

# Not with `try` itself: the layer is binary.
commit() { layer-commit "$@" >layer.tar; }

@test "what the kernel left in an upperdir makes the merged tree of the lower one" {
	requires root overlayfs setfacl
	lower_tree
	overlay
	change merged
	try commit merged
	is "$output$stderr" ''
	same_result layer.tar merged
	layer-commit upper | cmp - layer.tar
	layer-commit --lower lower upper | cmp - layer.tar
	# Bookkeeping stays behind, and nothing but attributes, long names and long link targets needs an extension.
	try 1 grep -aq 'overlay\.' layer.tar
	tar -xOf layer.tar sparse | cmp - merged/sparse
}

@test "GNU tar lists a directory before what is in it, and names in the order of their bytes" {
	mkdir -p upper/b/c upper/a upper/a-b
	touch upper/b/c/x upper/b/B upper/Z upper/a/y
	try commit upper
	is "$(tar tf layer.tar)" "$(printf '%s\n' Z a/ a/y a-b/ b/ b/B b/c/ b/c/x)"
}

@test "owners have numbers and no names, and times are whole seconds" {
	mkdir upper
	touch -d @1700000000.987654321 upper/f
	try commit upper
	is "$(tar tvf layer.tar --full-time --utc | tr -s ' ')" "-rw-r--r-- $(id -u)/$(id -g) 0 2023-11-14 22:13:20 f"
}

@test "renamed directories and metadata-only copies are followed where the lower directories are known" {
	requires root overlayfs
	lower_tree
	overlay redirect_dir=on,metacopy=on
	change merged
	mv merged/old merged/renamed
	mv merged/renamed/sub merged/etc/moved
	mv merged/etc/deep merged/renamed/deep
	rm merged/renamed/a && echo c >merged/etc/moved/c
	mkdir merged/old && echo again >merged/old/again
	chmod 640 merged/renamed/a-link merged/big && mv merged/big merged/emptied/big
	getfattr -m - -d --absolute-names upper/renamed | grep -q overlay.redirect
	getfattr -m - -d --absolute-names upper/emptied/big | grep -q overlay.metacopy
	try commit merged
	# The kernel counts links of the lower layer that are no longer there.
	local applied=$BATS_TEST_TMPDIR/applied
	cp -a lower "$applied"
	"$PYTHON" "$TESTS/apply.py" layer.tar "$applied"
	diff -u <(listing merged links) <(listing "$applied" links)
	layer-commit --lower lower upper | cmp - layer.tar
	umount merged
	try 2 layer-commit upper
	is "$output" ''
	has "$stderr" '(name the lower directories with --lower)'
}

@test "a redirect or metacopy that leads nowhere is refused by name" {
	requires root
	mkdir -p upper/d lower
	setfattr -n trusted.overlay.redirect -v /gone upper/d
	try 2 layer-commit upper
	says 'layer-commit: upper: d: is redirected to `/gone` (name the lower directories with --lower)'
	try 2 layer-commit --lower lower upper
	says 'layer-commit: upper: d: is redirected to `/gone`, which no lower directory has'
	rm -r upper/d && touch upper/f && setfattr -n trusted.overlay.metacopy -v '' upper/f
	try 2 layer-commit --lower lower upper
	says 'layer-commit: upper: f: is a metacopy of a file that no lower directory has'
}

@test "redirects that the owner of a file could have made are not followed" {
	mkdir -p upper lower
	touch upper/f
	echo secret >lower/secret
	setfattr -n user.overlay.redirect -v /secret upper/f || skip 'needs user xattrs'
	try 2 layer-commit --lower lower upper
	says 'layer-commit: upper: f: has `user.overlay.redirect`, which the kernel does not follow'
}

@test "whiteouts and opaque directories in xattrs are read in both dialects" {
	mkdir -p upper/{x,y,plain,n}
	touch upper/x/gone upper/plain/file
	echo content >upper/x/file
	setfattr -n user.overlay.opaque -v x upper/x || skip 'needs user xattrs'
	setfattr -n user.overlay.whiteout upper/x/gone
	setfattr -n user.overlay.whiteout upper/x/file
	setfattr -n user.overlay.whiteout upper/plain/file
	setfattr -n user.overlay.opaque -v y upper/y
	setfattr -n user.overlay.opaque -v n upper/n
	mknod upper/y/device c 0 0
	try commit upper
	is "$(tar tf layer.tar)" "$(printf '%s\n' n/ plain/ plain/file x/ x/file x/.wh.gone y/ y/.wh..wh..opq y/.wh.device)"
	try 1 grep -aq 'overlay\.' layer.tar
}

@test "an upperdir of a user's mount gives the merged tree" {
	requires userns
	lower_tree
	mkdir upper work merged
	# shellcheck disable=SC2016
	unshare -Urm sh -c '
		mount -t overlay overlay -o "userxattr,lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work" merged || exit 77
		rm -r merged/emptied merged/etc/issue && mkdir merged/emptied && echo hello >merged/etc/motd
		layer-commit merged' >layer.tar || skip 'needs overlayfs in user namespaces'
	is "$(tar tf layer.tar)" "$(printf '%s\n' emptied/ emptied/.wh..wh..opq etc/ etc/.wh.issue etc/motd)"
}

@test "the first name of a hard link has the content, whiteouts are never links" {
	mkdir -p upper/z
	echo x >upper/z/a
	ln upper/z/a upper/z/b
	ln upper/z/a upper/c
	mknod upper/w1 c 0 0
	ln upper/w1 upper/w2
	try commit upper
	is "$(tar tf layer.tar)" "$(printf '%s\n' c .wh.w1 .wh.w2 z/ z/a z/b)"
	is "$(tar tvf layer.tar | grep -c 'link to c$')" 2
}

@test "an empty upperdir is an empty layer" {
	mkdir upper
	try commit upper
	is "$(sha256 layer.tar)" sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
}

@test "the same files give the same bytes, whatever order, zone or umask" {
	mkdir one two
	(cd one && for i in {1..300}; do echo "$i" >"f$i"; done && mkdir d && ln f1 d/l)
	(cd two && mkdir d && for i in {300..1}; do echo "$i" >"f$i"; done && ln f1 d/l && rm f7 && echo 7 >f7)
	find one two -exec touch -d @1700000000 {} +
	layer-commit --compress gzip one >one.tar
	(umask 077 && TZ=Pacific/Kiritimati layer-commit --compress gzip two >two.tar)
	cmp one.tar two.tar
}

@test "SOURCE_DATE_EPOCH cuts later times and leaves earlier ones" {
	mkdir upper
	touch -d @1700000000 upper/late
	touch -d @1000000000 upper/early
	SOURCE_DATE_EPOCH=1600000000 try commit upper
	is "$(tar tvf layer.tar --full-time --utc | awk '{print $4, $5, $6}')" \
		"$(printf '%s\n' '2001-09-09 01:46:40 early' '2020-09-13 12:26:40 late')"
	SOURCE_DATE_EPOCH=soon try 2 layer-commit upper
	has "$stderr" 'SOURCE_DATE_EPOCH is `soon`'
}

@test "two trees are compared, and the layer makes the new one of the old" {
	requires root setfacl
	lower_tree
	cp -a lower new
	change new
	mv new/old new/renamed
	ln new/etc/deep/deeper/file new/deep-link
	try commit --diff lower new
	is "$stderr" ''
	same_result layer.tar new
	try commit --diff new lower
	cp -a new back
	"$PYTHON" "$TESTS/apply.py" layer.tar back
	diff -u <(listing lower) <(listing back)
	try commit --diff new new
	is "$(tar tf layer.tar)" ''
}

@test "a comparison trusts neither times nor sizes" {
	mkdir old new
	echo abc >old/f
	echo abd >new/f
	touch -d @1700000000 old/f new/f old new
	try commit --diff old new
	is "$(tar tf layer.tar)" f
}

@test "sockets are left out, with a warning" {
	mkdir upper
	"$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("upper/s")'
	try commit upper
	is "$stderr" 'layer-commit: upper: s: is a socket, left out'
	is "$(tar tf layer.tar)" ''
}

@test "names that layers keep for whiteouts are refused" {
	mkdir -p upper/d
	touch upper/d/.wh.x
	try 2 layer-commit upper
	says 'layer-commit: upper: d/.wh.x: begins with `.wh.`, which layers keep for whiteouts'
}

@test "compressed layers have the same tar, and the record says what sha256sum says" {
	mkdir upper
	seq 100000 >upper/numbers
	try commit upper
	local how tool
	for how in none:cat gzip:gzip\ -dc gzip:9:gzip\ -dc zstd:zstd\ -dc zstd:19:zstd\ -dc; do
		tool=${how##*:}
		how=${how%:*}
		layer-commit --compress "$how" --record record upper >blob
		$tool <blob | cmp - layer.tar
		is "$(jq -r '.digest, .size, .diffId, .diffSize, .entries' record)" \
			"$(printf '%s\n' "$(sha256 blob)" "$(stat -c %s blob)" "$(sha256 layer.tar)" "$(stat -c %s layer.tar)" 1)"
		is "$(jq -r .mediaType record)" "application/vnd.oci.image.layer.v1.tar$(
			case $how in gzip*) echo +gzip ;; zstd*) echo +zstd ;; esac
		)"
	done
	# shellcheck disable=SC2016
	try bash -c 'layer-commit --record /dev/fd/3 upper 3>&1 >/dev/null'
	is "$(jq -r .diffId <<<"$output")" "$(sha256 layer.tar)"
}

@test "a read-only overlay has nothing to commit, and --lower is not for mounts" {
	requires root overlayfs
	mkdir -p a b merged
	mount -t overlay overlay -o "lowerdir=$PWD/a:$PWD/b" merged
	try 2 layer-commit merged
	says 'layer-commit: merged: is a read-only overlay: it has no upperdir'
	umount merged
	mkdir lower
	overlay
	try 2 layer-commit --lower a merged
	says 'layer-commit: merged: is a mount point and has its own lower directories (leave --lower out)'
}

@test "trees deeper than there are descriptors are read" {
	mkdir upper
	local deep
	deep=$(printf 'd/%.0s' {1..500})
	mkdir -p "upper/$deep"
	touch "upper/${deep}f"
	# shellcheck disable=SC2016
	try bash -c 'ulimit -n 30; layer-commit upper | tar t | wc -l'
	is "$output" 501
}

@test "a full disk, a reader that has gone and a terminal" {
	mkdir upper
	seq 100000 >upper/numbers
	try 2 bash -c 'layer-commit upper >/dev/full'
	is "$stderr" 'layer-commit: <stdout>: cannot write: No space left on device (os error 28)'
	# shellcheck disable=SC2016
	try bash -c 'layer-commit upper | true; echo "${PIPESTATUS[0]}"'
	is "$output$stderr" 141
	requires script
	try 2 script -qec 'layer-commit upper' /dev/null
	has "$output" '<stdout> is a terminal'
}

@test "wrong operands" {
	try 2 layer-commit
	has "$stderr" Usage
	try 2 layer-commit missing
	says 'layer-commit: missing: cannot open: No such file or directory (os error 2)'
	touch file
	try 2 layer-commit file
	is "$output" ''
	has "$stderr" 'layer-commit: file: '
	mkdir dir
	try 2 layer-commit --diff dir missing
	has "$stderr" 'missing: cannot open'
	try 2 layer-commit --compress xz dir
	has "$stderr" 'expected `none`'
}

# base_image [FORM]: makes base.img of two layers.
base_image() {
	mkdir -p one/bin two/etc
	echo sh >one/bin/sh
	echo motd >two/etc/motd
	layer_tar one.tar one
	layer_tar two.tar two
	"${@:-docker_archive}" --tag base:1 --config '{"author":"them","config":{"Cmd":["/bin/sh"],"Env":["A=1"]}}' \
		base.img one.tar two.tar
}

# member ARCHIVE NAME: prints a file of the archive.
member() { tar -xOf "$1" "$2"; }

config_of() { member "$1" "$(member "$1" manifest.json | jq -r '.[0].Config')"; }

# Every blob has the digest that is its name, and what the two lists of the image say is the same.
well_formed() {
	local blob
	for blob in $(tar tf "$1" | grep 'blobs/sha256/.'); do
		is "$(member "$1" "$blob" | sha256)" "sha256:${blob##*/}"
	done
	local manifest
	manifest=$(member "$1" index.json | jq -r '.manifests[0].digest | sub("sha256:"; "blobs/sha256/")')
	is "$(member "$1" "$manifest" | jq -r '.config, .layers[] | .digest | sub("sha256:"; "blobs/sha256/")')" \
		"$(member "$1" manifest.json | jq -r '.[0] | .Config, .Layers[]')"
}

@test "an image is the one below, its blobs unchanged, and the layer on top" {
	local form
	mkdir -p upper/etc
	echo hello >upper/etc/motd
	layer-commit upper >layer.tar
	for form in docker_archive docker_archive_25 'docker_archive_25 --compress gzip' 'oci_archive --compress zstd' oci_layout; do
		# shellcheck disable=SC2086
		rm -rf base.img && base_image $form
		layer-commit upper --onto base.img -a me -m 'say hello' -c 'ENV B=2' -c 'CMD ["/bin/cat", "/etc/motd"]' \
			--created-by 'echo hello' -t new -t host.example:5000/group/new:2 --record record >new.img
		well_formed new.img
		is "$(config_of new.img | jq -c '.config.Cmd, .config.Env, .author, .comment, .history[-1].created_by')" \
			"$(printf '%s\n' '["/bin/cat","/etc/motd"]' '["A=1","B=2"]' '"me"' '"say hello"' '"echo hello"')"
		is "$(config_of new.img | jq -r '.rootfs.diff_ids[]')" "$(sha256 one.tar; sha256 two.tar; sha256 layer.tar)"
		is "$(config_of new.img | jq '.history | length')" 3
		is "$(member new.img manifest.json | jq -c '.[0].RepoTags')" '["new:latest","host.example:5000/group/new:2"]'
		is "$(jq -r '.parent, .chainId' record)" \
			"$(chain_ids "$(sha256 one.tar)" "$(sha256 two.tar)" "$(sha256 layer.tar)" | tail -n 2)"
		case $form in
		*gzip*) member new.img "$(member new.img manifest.json | jq -r '.[0].Layers[1]')" | gzip -dc | cmp - two.tar ;;
		esac
	done
}

@test "an image's time is that of its newest file, and the same input gives the same bytes" {
	base_image
	mkdir upper
	touch -d @1900000000 upper/f
	layer-commit upper --onto base.img >one.img
	is "$(config_of one.img | jq -r '.created, .history[-1].created')" "$(printf '2030-03-17T17:46:40Z\n%.0s' 1 2)"
	TZ=Asia/Tokyo layer-commit upper --onto base.img | cmp - one.img
	touch -d @1000000000 upper/f
	layer-commit upper --onto base.img >old.img
	is "$(config_of old.img | jq -r .created)" "$(jq -r .created base.img.config)"
	SOURCE_DATE_EPOCH=1500000000 layer-commit upper --onto base.img >cut.img
	is "$(config_of cut.img | jq -r .created)" 2017-07-14T02:40:00Z
}

@test "no changes make no layer but an entry of the history" {
	base_image
	mkdir upper
	layer-commit upper --onto base.img -c 'USER 5' --record record >new.img
	well_formed new.img
	is "$(config_of new.img | jq -c '.config.User, (.rootfs.diff_ids | length), .history[-1].empty_layer')" \
		"$(printf '%s\n' '"5"' 2 true)"
	[ ! -s record ]
}

@test "a damaged blob below, and an image that is not there, are status 1" {
	mkdir upper
	touch upper/f
	base_image oci_layout
	local blob
	blob=base.img/blobs/sha256/$(sha256sum <two.tar | cut -d' ' -f1)
	printf X | dd of="$blob" bs=1 seek=600 conv=notrunc status=none
	try 1 bash -c 'layer-commit upper --onto base.img >new.img'
	is "$stderr" "layer-commit: base.img: layer 1: digest is $(sha256 "$blob"), expected $(sha256 two.tar)"
	try 1 layer-commit upper --onto base.img:nosuch
	is "$output" ''
	has "$stderr" 'layer-commit: base.img:nosuch: '
}

@test "a root's tar becomes an image" {
	mkdir -p root/bin
	echo sh >root/bin/sh
	touch -d @1700000000 root/bin/sh root/bin root
	layer_tar root.tar root
	gzip -k root.tar
	local input
	for input in root.tar root.tar.gz; do
		layer-commit --import --platform linux/arm/v7 -c 'CMD /bin/sh' -m imported -t mine --record record <"$input" >"$input.img"
	done
	cmp root.tar.img root.tar.gz.img
	well_formed root.tar.img
	is "$(config_of root.tar.img | jq -c '.os, .architecture, .variant, .config.Cmd, .created, .rootfs.diff_ids')" \
		"$(printf '%s\n' '"linux"' '"arm"' '"v7"' '["/bin/sh","-c","/bin/sh"]' '"2023-11-14T22:13:20Z"' "[\"$(sha256 root.tar)\"]")"
	is "$(jq -r '.diffId, .chainId' record)" "$(sha256 root.tar; sha256 root.tar)"
	is "$(jq -r .entries record)" "$(tar tf root.tar | wc -l)"
	try 2 layer-commit --import </dev/null
	says 'layer-commit: <stdin>: is empty, expected a tar'
	try 2 layer-commit --import <<<text
	is "$output" ''
	xz -k root.tar
	try 2 layer-commit --import <root.tar.xz
	has "$stderr" 'compressed with xz'
}

@test "skopeo and umoci take the archive" {
	requires skopeo umoci
	base_image
	mkdir -p upper/etc
	echo hello >upper/etc/motd
	layer-commit upper --onto base.img -t new:1 >new.img
	is "$(skopeo inspect docker-archive:new.img | jq -c .Layers)" "$(config_of new.img | jq -c .rootfs.diff_ids)"
	is "$(skopeo inspect --raw oci-archive:new.img | jq -c '[.layers[].digest]')" "$(config_of new.img | jq -c .rootfs.diff_ids)"
	mkdir layout && tar -C layout -xf new.img
	try umoci unpack --rootless --image layout:1 bundle
	is "$(cat bundle/rootfs/etc/motd)" hello
}

@test "options of an image need one, and are checked before anything is written" {
	base_image
	mkdir upper
	try 2 layer-commit upper -m text
	has "$stderr" '--onto'
	try 2 layer-commit upper --onto base.img -c 'RUN true'
	is "$output" ''
	has "$stderr" RUN
	try 2 layer-commit upper --onto base.img -t UPPER
	is "$output" ''
	try 2 layer-commit upper --onto missing.img
	is "$output" ''
	has "$stderr" 'layer-commit: missing.img: '
	try 2 layer-commit --import upper
	is "$output" ''
}

@test "no window of zstd is larger than what every decoder has to take" {
	mkdir upper
	head -c 20000000 /dev/urandom >upper/noise
	layer-commit --compress zstd:22 upper >layer.tar.zst
	# A decoder that takes 8 MiB and no more.
	zstd -dc --memory=8MiB layer.tar.zst | cmp - <(layer-commit upper)
}

@test "--record to a descriptor goes where it stands, and stdout is the layer's" {
	mkdir upper
	echo first >log
	layer-commit upper --record /dev/fd/3 3>>log >layer.tar
	is "$(head -n1 log)" first
	is "$(sed -n 2p log | jq -r .diffId)" "$(sha256 layer.tar)"
	try 2 layer-commit upper --record -
	has "$stderr" 'layer-commit: --record -: stdout takes the layer'
}

@test "a bar is drawn on a terminal for what takes long" {
	requires script
	slow='{ head -c 1000 root.tar; sleep 1; tail -c +1001 root.tar; }'
	mkdir root
	head -c 3000000 /dev/urandom >root/noise
	layer_tar root.tar root
	script -qec "$slow | layer-commit --import -t a:b >image.tar" typescript >/dev/null
	has "$(cat typescript)" 'writing'
	script -qec "$slow | layer-commit -q --import -t a:b >image.tar" typescript >/dev/null
	[[ $(cat typescript) != *writing* ]]
}


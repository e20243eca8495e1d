#!/usr/bin/env bats
# image-files(1). Oracles: what overlayfs shows, find, GNU tar, sha256sum, an independent computation of waste, Chromium.

# shellcheck disable=SC2016,SC2154  # Backquotes in messages; what bats and try set.

load helpers

# Three layers that the kernel makes on merged/, as 0.tar, 1.tar and 2.tar, in image.tar. What they came from stays mounted.
kernel_layers() {
	mkdir -p lower/{etc/deep,old/sub,emptied,replaced,kept} upper1 work1 upper2 work2 merged
	echo motd >lower/etc/motd
	echo issue >lower/etc/issue
	echo deep >lower/etc/deep/file
	echo a >lower/old/a
	echo b >lower/old/sub/b
	echo y >lower/replaced/y
	echo x >lower/emptied/x
	echo file >lower/becomes-dir
	echo shared >lower/first-name
	ln lower/first-name lower/kept/second-name
	ln lower/first-name lower/third-name
	ln -s etc/motd lower/link
	printf 'not utf-8' >lower/$'\xff'
	mkfifo lower/fifo
	mknod lower/device c 10 200
	setfattr -n user.note -v one lower/etc/motd
	chmod 4755 lower/kept/second-name
	chown 1000:4000000 lower/old
	find lower -exec touch -hd @1000000000 {} +
	layer_tar 0.tar lower
	mount -t overlay overlay -o "lowerdir=lower,upperdir=upper1,workdir=work1" merged
	echo changed >merged/etc/motd
	rm merged/first-name merged/etc/issue
	rm -r merged/old && mkdir merged/old && echo new >merged/old/new
	rm -r merged/replaced && echo file >merged/replaced
	rm merged/becomes-dir && mkdir merged/becomes-dir && echo in >merged/becomes-dir/in
	rm merged/emptied/x
	layer-commit upper1 --lower lower >1.tar
	umount merged
	mount -t overlay overlay -o "lowerdir=upper1:lower,upperdir=upper2,workdir=work2" merged
	chmod 600 merged/etc/deep/file
	echo again >merged/etc/issue
	rm -r merged/becomes-dir
	ln merged/etc/motd merged/motd-too
	layer-commit upper2 --lower upper1 --lower lower >2.tar
	# Layers hold whole seconds.
	find merged -print0 | while IFS= read -r -d '' path; do touch -hd "@$(stat -c %Y "$path")" "$path"; done
	docker_archive --tag kernel:1 image.tar 0.tar 1.tar 2.tar
}

# hand_layers: an image of every kind of change, by hand.
hand_layers() {
	entries 0.tar <<-'END'
		dir d mode=755
		dir d/sub mode=755
		file d/sub/x 1234567890
		file d/gone 12345
		file f one
		file g same
		link h f
		symlink s d/sub
		symlink abs /s/x
		symlink loop loop
		dir k
		file k/y 1
	END
	entries 1.tar <<-'END'
		file d/.wh.gone
		file f twotwo
		file g same mode=600
		file new/file n
	END
	entries 2.tar <<-'END'
		file .wh.d
		file k file
		file new/.wh..wh..opq
	END
	entries 3.tar <<-'END'
		dir d mode=700
		file d/gone back
	END
	docker_archive --tag hand:1 image.tar 0.tar 1.tar 2.tar 3.tar
}

@test "the list and the tar are what overlayfs shows" {
	requires root overlayfs
	kernel_layers
	image-files image.tar >list
	find merged -mindepth 1 -printf '/%P\t%y\t%m\t%U\t%G\t%Ts\t%l\0' | LC_ALL=C sort -z | tr '\0' '\n' >want
	jq -r 'select(.path != "/") | [(if .pathRaw then .pathRaw | @base64d else .path end),
		{file: "f", directory: "d", symlink: "l", fifo: "p", char: "c"}[.type],
		(.mode | sub("^0+"; "")), .uid, .gid, .mtime, .linkname // ""] | @tsv' list | LC_ALL=C sort >got
	# jq shows what is no UTF-8 as U+FFFD.
	diff -u <(sed 's/\xff/\xef\xbf\xbd/' want | sort) <(sort got)
	[ "$(jq -s '[.[].size // 0] | add' list)" -eq "$(find merged -type f -printf '%s\n' | paste -sd+ | bc 2>/dev/null || find merged -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')" ]
	mkdir flat
	image-files --tar image.tar | tar -x -C flat --numeric-owner --xattrs --xattrs-include='*' -p
	# The kernel breaks hard links of lower layers, and the time of the root is nobody's.
	touch -d @0 flat merged
	same_tree flat merged links
	mkdir plain
	for layer in 0 1 2; do "$PYTHON" "$TESTS/apply.py" $layer.tar plain; done
	touch -d @0 plain
	same_tree flat plain
}

@test "the tar is the plain form of layer-unpack" {
	requires root overlayfs
	kernel_layers
	mkdir flat
	image-files --tar image.tar | tar -x -C flat --numeric-owner --xattrs --xattrs-include='*' -p
	layer-unpack --image image.tar plain
	touch -d @0 flat plain
	same_tree flat plain
}

@test "every form of an image gives the same, on stdin too" {
	hand_layers
	oci_layout --compress gzip gzip 0.tar 1.tar 2.tar 3.tar
	oci_archive --compress zstd zstd.tar 0.tar 1.tar 2.tar 3.tar
	image-files --digest image.tar >list
	image-files --tar image.tar >tar
	for image in oci:gzip zstd.tar; do
		image-files --digest $image | diff - list
		image-files --tar $image | cmp - tar
	done
	image-files --digest - <image.tar | diff - list
	image-files --verify --digest oci:gzip | diff - list
}

@test "the digest is that of the content" {
	hand_layers
	image-files --digest image.tar >list
	[ "$(jq -r 'select(.path == "/h").sha256' list)" = "$(printf one | sha256sum | cut -d' ' -f1)" ]
	[ "$(jq -r 'select(.path == "/d/gone").sha256' list)" = "$(printf back | sha256sum | cut -d' ' -f1)" ]
	[ "$(jq -r 'select(.type == "directory") | has("sha256")' list | sort -u)" = false ]
}

@test "the list gives the layer, and its ChainID is that of the stack up to it" {
	hand_layers
	mapfile -t chain < <(chain_ids "$(sha256 0.tar)" "$(sha256 1.tar)" "$(sha256 2.tar)" "$(sha256 3.tar)")
	for path_layer in /h:0 /f:1 /k:2 /d/gone:3; do
		path=${path_layer%:*} layer=${path_layer#*:}
		try image-files image.tar "$path"
		[ "$(jq .layer <<<"$output")" -eq "$layer" ]
		[ "$(jq -r .chainId <<<"$output")" = "${chain[layer]}" ]
	done
}

@test "PATHs and patterns narrow, and one that matches nothing is an error" {
	hand_layers
	names() { image-files image.tar "$@" | jq -r .path | tr '\n' ' '; }
	is "$(names d)" '/d /d/gone '
	is "$(names '/?' )" '/d /d/gone /f /g /h /k /s '
	is "$(names '**/gone' k)" '/d/gone /k '
	is "$(names / )" "$(names)"
	try 1 image-files image.tar no/such
	says 'image-files: image.tar: `no/such` is not in the image'
	try 1 image-files image.tar d/sub
}

@test "a table is like ls -l" {
	hand_layers
	try image-files -t image.tar f h s
	is "$output" "-rw-r--r-- 0:0 6 1970-01-01T00:00:00Z 1 /f
-rw-r--r-- 0:0 3 1970-01-01T00:00:00Z 0 /h
lrwxrwxrwx 0:0 - 1970-01-01T00:00:00Z 0 /s -> d/sub" || is "$(cut -d' ' -f2- <<<"$output")" "0:0 6 1970-01-01T00:00:00Z 1 /f
0:0 3 1970-01-01T00:00:00Z 0 /h
0:0 - 1970-01-01T00:00:00Z 0 /s -> d/sub"
}

@test "--whence tells the whole story of a path" {
	hand_layers
	story() { image-files --whence "$@" image.tar | jq -r '[.layer, .action, (.changed // [] | join(",")), (.via // ""), .by // ""] | join(" ")'; }
	is "$(story /f)" '0 added   
1 modified size  '
	is "$(story /g)" '0 added   
1 modified mode  '
	is "$(story /d/gone)" '0 added   
1 removed  whiteout /d/gone
3 added   '
	is "$(story d/sub/x)" '0 added   
2 removed  whiteout /d'
	is "$(story k/y)" '0 added   
2 removed  replaced /k'
	is "$(story new/file)" '1 added   
2 removed  opaque /new'
	is "$(story k)" '0 added   
2 modified type,size,mode  '
	is "$(story /f --digest)" '0 added   
1 modified content,size  '
	is "$(story /g --digest)" '0 added   
1 modified mode  '
	[ "$(image-files --whence f image.tar | jq -r .createdBy | tail -n 1)" = 'layer 1' ]
	try 1 image-files --whence /never image.tar
	says 'image-files: image.tar: `/never` is in no layer'
	try image-files -t --whence d/gone image.tar
	has "$output" 'whiteout /d/gone'
}

@test "--layers lists what each layer did" {
	hand_layers
	image-files --layers image.tar | jq -c '[.layer, .added, .modified, .removed, .opaque]' >got
	is "$(cat got)" '[0,["/abs","/d","/d/gone","/d/sub","/d/sub/x","/f","/g","/h","/k","/k/y","/loop","/s"],[],[],[]]
[1,["/new/file"],["/f","/g"],["/d/gone"],[]]
[2,[],["/k"],["/d","/k/y","/new/file"],["/new"]]
[3,["/d","/d/gone"],[],[],[]]'
}

@test "--cat follows links inside the image and never out of it" {
	entries 0.tar <<-'END'
		dir etc
		file etc/passwd image
		symlink abs /etc/passwd
		symlink up ../../../../etc/passwd
		symlink dir etc
		symlink loop loop
		link hard etc/passwd
		file empty
	END
	docker_archive image.tar 0.tar
	for path in etc/passwd /abs up dir/passwd ../../dir/./passwd hard; do
		try image-files --cat "$path" image.tar
		is "$output" image
	done
	try image-files --cat empty image.tar
	is "$output" ''
	try 1 image-files --cat nowhere image.tar
	says 'image-files: image.tar: `nowhere` is not in the image'
	try 2 image-files --cat etc image.tar
	says 'image-files: image.tar: `/etc` is a directory, expected a file'
	try 2 image-files --cat loop image.tar
	says 'image-files: image.tar: `loop` leads through more than 40 symlinks'
}

@test "a file whose first name was removed keeps the others, as one file" {
	entries 0.tar <<-'END'
		file a content mode=640
		link z a
		link b/c a
	END
	entries 1.tar <<-'END'
		file .wh.a
	END
	docker_archive image.tar 0.tar 1.tar
	mkdir flat && image-files --tar image.tar | tar -x -C flat
	[ ! -e flat/a ]
	[ "$(stat -c %h flat/z)" -eq 2 ]
	[ flat/z -ef flat/b/c ]
	is "$(cat flat/z)" content
	# One of them alone is a file.
	mkdir one && image-files --tar image.tar z | tar -x -C one
	is "$(cat one/z)" content
}

@test "files with holes come out whole, plain and compressed" {
	mkdir tree
	truncate -s 1M tree/sparse
	printf data | dd of=tree/sparse bs=1 seek=500000 conv=notrunc status=none
	echo behind >tree/zz
	for format in gnu pax; do
		tar --sparse --format=$format --sort=name -C tree -cf 0.tar .
		docker_archive image.tar 0.tar
		oci_layout --compress gzip gzip.$format 0.tar
		for image in image.tar oci:gzip.$format; do
			image-files --cat sparse "$image" | cmp - tree/sparse
			image-files --cat zz "$image" | cmp - tree/zz
			mkdir flat && image-files --tar "$image" | tar -x -C flat
			cmp flat/sparse tree/sparse
			rm -r flat
		done
	done
}

@test "waste is what an independent script computes, and dive's score" {
	hand_layers
	try image-files --waste image.tar
	is "$(jq -r '"\(.stored) \(.wasted)"' <<<"$output")" "$("$PYTHON" "$TESTS/waste.py" ./?.tar | cut -d' ' -f1,2)"
	score=$("$PYTHON" "$TESTS/waste.py" ./?.tar | cut -d' ' -f3)
	jq -e --argjson score "$score" '(.efficiency - $score) | fabs < 1e-8' <<<"$output"
	[ "$(jq '[.layers[].wasted] | add' <<<"$output")" -eq "$(jq .wasted <<<"$output")" ]
	[ "$(jq '[.layers[].hides] | add' <<<"$output")" -eq "$(jq .wasted <<<"$output")" ]
	[ "$(jq '[.paths[].wasted] | add' <<<"$output")" -eq "$(jq .wasted <<<"$output")" ]
	# f's first content still has the name h.
	[ "$(jq '[.paths[].path] | index("/f")' <<<"$output")" = null ]
	try image-files --waste -t image.tar
	has "$output" ░
	has "$output" efficiency
}

@test "waste of layers that the kernel made" {
	requires root overlayfs
	kernel_layers
	try image-files --waste image.tar
	is "$(jq -r '"\(.stored) \(.wasted)"' <<<"$output")" "$("$PYTHON" "$TESTS/waste.py" ./?.tar | cut -d' ' -f1,2)"
	score=$("$PYTHON" "$TESTS/waste.py" ./?.tar | cut -d' ' -f3)
	jq -e --argjson score "$score" '(.efficiency - $score) | fabs < 1e-8' <<<"$output"
}

@test "--max-waste sets the status" {
	hand_layers
	wasted=$(image-files --waste image.tar | jq .wasted)
	try image-files --waste --max-waste "$wasted" image.tar
	try image-files --waste --max-waste 99% image.tar
	try 1 image-files --waste --max-waste $((wasted - 1)) image.tar
	is "$stderr" "image-files: image.tar: waste is $wasted bytes, expected at most $((wasted - 1)) bytes"
	[ -n "$output" ]
	try 2 image-files --waste --max-waste lots image.tar
}

@test "--lint names each entry on which tools disagree" {
	lint() { # lint RULE...: of the layers base.tar and top.tar
		docker_archive image.tar base.tar top.tar
		try 1 image-files --lint image.tar
		is "$(jq -r 'select(.layer == 1).rule' <<<"$output" | sort -u | paste -sd' ')" "$*"
		[ "$(jq -r '(.docker and .podman and .containerd and .tar) == true' <<<"$output" | sort -u)" = true ]
	}
	entries base.tar <<-'END'
		dir d mode=700
		file d/x 1
		file f 1
		symlink l d
		dir plain mode=755
	END
	docker_archive clean.tar base.tar
	try image-files --lint clean.tar
	is "$output" ''
	printf 'file .wh.f\nfile f 2' | entries top.tar && lint whiteout-and-entry
	printf 'file f 2\nfile .wh.f' | entries top.tar && lint whiteout-and-entry
	printf 'file .wh.' | entries top.tar && lint bare-whiteout
	printf 'file plain/.wh..' | entries top.tar && lint bare-whiteout
	printf 'file .wh.nothing' | entries top.tar && lint whiteout-of-nothing
	printf 'link h f' | entries top.tar && lint hardlink-lower
	printf 'link h g\nfile g' | entries top.tar && lint hardlink-forward
	printf 'link h nowhere' | entries top.tar && lint hardlink-missing
	printf 'file l/y' | entries top.tar && lint symlinked-parent
	printf 'file a 1\nfile a 2' | entries top.tar && lint duplicate
	printf 'file a 1\nfile a/b 2' | entries top.tar && lint below-file
	printf 'file d/y' | entries top.tar && lint parent-not-in-layer
	printf 'file plain/y\nfile n/y' | entries top.tar && lint parent-missing
	printf 'dir ./ mode=700' | entries top.tar && lint root-entry
	printf 'char f 0:0' | entries top.tar && lint whiteout-device
	printf 'dir plain mode=755 pax.SCHILY.xattr.trusted.overlay.opaque=y' | entries top.tar && lint overlay-xattr
	printf 'file .wh..wh.plnk/1' | entries top.tar && lint aufs
	printf 'file ../out' | entries top.tar && lint name
	printf 'raw odd Z' | entries top.tar && lint type
	printf 'file .wh.x' | entries base.tar
	docker_archive image.tar base.tar
	try 1 image-files -t --lint image.tar
	has "$output" 'it is in the base layer'
	has "$output" containerd
}

@test "an uncompressed archive is listed without reading contents" {
	requires strace
	mkdir tree
	head -c 100000000 /dev/zero | tr '\0' x >tree/big
	echo small >tree/small
	tar --sort=name -C tree -cf 0.tar .
	docker_archive image.tar 0.tar
	strace -f -e trace=read,pread64 -o trace image-files image.tar >list
	[ "$(jq -s length list)" -eq 3 ]
	[ "$(sed -n 's/.* = \([0-9]*\)$/\1/p' trace | awk '{ sum += $1 } END { print sum }')" -lt 1000000 ]
	strace -f -e trace=read,pread64 -o trace image-files --cat small image.tar >content
	cmp content tree/small
	[ "$(sed -n 's/.* = \([0-9]*\)$/\1/p' trace | awk '{ sum += $1 } END { print sum }')" -lt 1000000 ]
}

@test "damage is refused in one line, with --verify also where contents are leapt over" {
	hand_layers
	oci_layout image 0.tar
	blob=image/blobs/$(sha256 0.tar | tr : /)
	offset=$(grep -abo 1234567890 "$blob" | cut -d: -f1)
	printf X | dd of="$blob" bs=1 seek="$offset" conv=notrunc status=none
	try image-files oci:image
	try 1 image-files --verify oci:image
	is "$output" ''
	[[ $stderr == 'image-files: oci:image: layer 0: digest is sha256:'*', expected sha256:'* ]]
	truncate -s 3000 "$blob"
	try 1 image-files oci:image
	is "$output" ''
	entries inner.tar <<<'file x 1' && truncate -s 512 inner.tar
	docker_archive cut.tar inner.tar
	try 2 image-files cut.tar
	is "$output" ''
	[ "${#stderr_lines[@]}" -eq 1 ]
}

@test "--max-size bounds what a small layer may become" {
	mkdir tree && head -c 20000000 /dev/zero >tree/zeros
	tar -C tree -cf 0.tar .
	oci_layout --compress gzip image 0.tar
	try 2 image-files --max-size 1000000 oci:image
	has "$stderr" 'over 1000000 bytes'
}

@test "the reader of stdout may leave" {
	hand_layers
	run --separate-stderr bash -c 'image-files --tar image.tar | head -c1 >/dev/null; echo "${PIPESTATUS[0]}"'
	[ -z "$stderr" ]
	[[ $output == 141 || $output == 0 ]]
}

# in_chromium PAGE SCRIPT: runs SCRIPT in PAGE once it has loaded, and prints what it leaves as JSON in `out`, with all errors.
in_chromium() {
	"$PYTHON" - "$1" "$2" >page.html <<-'END'
		import sys
		page, script = (open(name).read() for name in sys.argv[1:])
		# The page's own policy forbids nothing here: scripts in the page are what it allows.
		watch = "<script>window.errors=[];addEventListener('error',e=>errors.push(e.message));console.error=(...a)=>errors.push(a.join(' '));</script>"
		act = "<script>addEventListener('load',async()=>{const wait=ms=>new Promise(r=>setTimeout(r,ms));const out={};try{" + script + \
			"}catch(e){errors.push(String(e))}out.errors=errors;document.body.append('RES'+'ULT'+JSON.stringify(out)+'END')})</script>"
		print(page.replace("<head>", "<head>" + watch, 1).replace("</body>", act + "</body>", 1))
	END
	timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
		--disable-component-update --disable-sync --enable-logging=stderr --user-data-dir="$PWD/chromium" \
		--virtual-time-budget=20000 --dump-dom "file://$PWD/page.html" 2>chromium.log |
		sed -n 's/.*RESULT\(.*\)END.*/\1/p' | sed 's/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g'
}

@test "--html is a page that renders, filters and answers clicks and keys" {
	requires chromium
	hand_layers
	try image-files --html image.tar
	printf '%s\n' "$output" >report.html
	not grep -E 'https?://|src=|href=|@import|url\(' report.html
	cat >script.js <<-'END'
		const key = (target, name) => target.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true }));
		await wait(200);
		out.title = document.title;
		out.all = document.querySelectorAll('.row').length;
		out.layers = document.querySelectorAll('#layers button').length;
		out.tiles = tiles.list.map(tile => paths[tile.i]).sort();
		byId('gone').click();
		byId('filter').value = 'gone'; byId('filter').dispatchEvent(new Event('input')); await wait(300);
		out.filtered = [...document.querySelectorAll('.row')].map(row => row.lastChild.textContent);
		document.querySelector('.row').click(); await wait(50);
		out.whence = [...document.querySelectorAll('#whence li b')].map(step => step.textContent);
		byId('filter').value = '/^.(f|g)$/'; byId('filter').dispatchEvent(new Event('input')); await wait(300);
		rows.focus(); key(rows, 'Home'); key(rows, 'ArrowDown'); await wait(50);
		out.moved = paths[state.path];
		document.querySelectorAll('#layers button')[2].click(); await wait(50);
		key(document.body, '/'); out.focus = document.activeElement.id;
		key(byId('filter'), 'Escape'); await wait(50);
		out.layer = [...document.querySelectorAll('.row')].map(row => row.lastChild.textContent);
		key(document.body, 'Escape'); await wait(50);
		out.back = document.querySelectorAll('#layers [aria-pressed=true]').length;
		const tile = tiles.list.find(tile => P.kind[tile.i] === 'd'), box = canvas.getBoundingClientRect();
		canvas.dispatchEvent(new MouseEvent('click', { clientX: box.left + tile.x + 3, clientY: box.top + tile.y + 3, bubbles: true })); await wait(50);
		out.into = paths[state.dir];
		key(canvas, 'Backspace'); out.up = paths[state.dir];
	END
	in_chromium report.html script.js >result
	cat result
	not grep CONSOLE chromium.log
	jq -e '.errors == []' result
	jq -e '.title == "hand:1" and .layers == 4 and .all == 11' result
	jq -e '.filtered == ["/d/gone"] and .whence == ["layer 0 added", "layer 1 removed", "layer 3 added"]' result
	jq -e '.moved == "/g" and .focus == "filter" and .back == 0' result
	jq -e '.layer == ["/d", "/d/sub", "/d/sub/x", "/k", "/k/y", "/new/file"]' result
	jq -e '.into == "/d" and .up == "/"' result
}

@test "--html is quick with 100,000 files, and their names can do nothing" {
	requires chromium
	"$PYTHON" - <<-'END'
		import io, tarfile
		with tarfile.open("0.tar", "w") as tar:
		    def add(name, size):
		        info = tarfile.TarInfo(name)
		        info.size = size
		        tar.addfile(info, io.BytesIO(bytes(size)))
		    add("</script><script>alert(1)</script>", 3)
		    add("<img src=x onerror=errors.push(1)>", 3)
		    for number in range(100000):
		        add(f"usr/share/{number % 97}/{number}", number % 7)
	END
	docker_archive --tag '<b>:1' image.tar 0.tar
	image-files --html image.tar >report.html
	cat >script.js <<-'END'
		await wait(100);
		out.count = byId('count').textContent;
		out.rows = document.querySelectorAll('.row').length;
		const start = performance.now();
		byId('filter').value = '/9999'; filter();
		out.filter = performance.now() - start;
		out.found = byId('count').textContent;
		byId('filter').value = ''; filter();
		rows.focus();
		rows.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true })); await wait(100);
		out.last = paths[state.path];
		out.shown = document.querySelector('.row[aria-selected=true]') !== null;
		const draws = performance.now(); draw(); out.draw = performance.now() - draws;
	END
	in_chromium report.html script.js >result
	cat result
	jq -e '.errors == [] and .rows < 200 and .shown and .filter < 1000 and .draw < 2000' result
	jq -e '.last == "/usr/share/96/99999" or (.last | startswith("/usr/share/96/"))' result
}

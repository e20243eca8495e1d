#!/usr/bin/env bats
# layer-hash(1). The oracles are sha256sum, wc, gzip, zstd and GNU tar.

load helpers

setup() {
	enter_scratch
	mkdir -p tree/d
	seq 200000 >tree/d/numbers
	ln -s numbers tree/d/link
	: >tree/empty
	tar --sort=name -C tree -cf layer.tar .
	gzip -kn layer.tar
	zstd -q layer.tar
}

# Fails unless record $1 says of blob $2 what the oracles say of it and of the tar $3.
describes() {
	local record=$1 blob=$2 tar=$3
	[ "$(jq -r .digest <<<"$record")" = "sha256:$(sha256sum <"$blob" | cut -d' ' -f1)" ]
	[ "$(jq -r .size <<<"$record")" = "$(wc -c <"$blob")" ]
	[ "$(jq -r .diffId <<<"$record")" = "sha256:$(sha256sum <"$tar" | cut -d' ' -f1)" ]
	[ "$(jq -r .diffSize <<<"$record")" = "$(wc -c <"$tar")" ]
	[ "$(jq -r .entries <<<"$record")" = "$(tar -tf "$tar" | wc -l)" ]
}

@test "a plain, a gzip and a zstd blob are told by their bytes, whatever their names" {
	local suffix
	for blob in layer.tar layer.tar.gz layer.tar.zst; do
		cp "$blob" misnamed.xz
		try layer-hash misnamed.xz
		describes "$output" "$blob" layer.tar
		suffix=${blob#layer.tar} suffix=${suffix#.}
		suffix=${suffix/gz/+gzip} suffix=${suffix/zst/+zstd}
		[ "$(jq -r .mediaType <<<"$output")" = "application/vnd.oci.image.layer.v1.tar$suffix" ]
		[ -z "$stderr" ]
	done
}

@test "gzip of several members with zeros behind, and zstd of several frames with skippable ones" {
	{ head -c 1000 layer.tar | gzip -n; tail -c +1001 layer.tar | gzip -n1; head -c 4096 /dev/zero; } >members.gz
	{
		printf '\x50\x2a\x4d\x18\x02\0\0\0hi'
		head -c 1000 layer.tar | zstd -q
		printf '\x5f\x2a\x4d\x18\0\0\0\0'
		tail -c +1001 layer.tar | zstd -q
	} >frames.zst
	try layer-hash members.gz frames.zst
	describes "$(sed -n 1p <<<"$output")" members.gz layer.tar
	describes "$(sed -n 2p <<<"$output")" frames.zst layer.tar
}

@test "bytes behind the end of the archive count for the DiffID" {
	cp layer.tar padded.tar
	head -c 100000 /dev/zero >>padded.tar
	printf garbage >>padded.tar
	try layer-hash padded.tar
	describes "$output" padded.tar padded.tar
}

@test "extension headers are no entries" {
	name=$(printf 'n%.0s' $(seq 150))
	: >"tree/$name"
	for format in gnu pax; do
		tar --format=$format --sort=name -C tree -cf long.tar .
		try layer-hash long.tar
		describes "$output" long.tar long.tar
	done
}

@test "standard input is read where no blob is named, and as -" {
	describes "$(layer-hash <layer.tar.gz)" layer.tar.gz layer.tar
	describes "$(layer-hash - <layer.tar.gz)" layer.tar.gz layer.tar
}

@test "--expect takes the digest or the DiffID and refuses any other" {
	for tar in layer.tar layer.tar.gz; do
		try layer-hash --expect "sha256:$(sha256sum <$tar | cut -d' ' -f1)" layer.tar.gz
	done
	other=sha256:$(sha256sum </dev/null | cut -d' ' -f1)
	try 1 layer-hash --expect "$other" layer.tar.gz
	[ -z "$output" ]
	[[ $stderr == "layer-hash: layer.tar.gz: digest is sha256:"*" and DiffID sha256:"*", expected $other" ]]
}

@test "--tee copies the blob unchanged and --tee=tar uncompressed, the record goes to --record" {
	layer-hash --tee --record record <layer.tar.gz >copy
	cmp copy layer.tar.gz
	describes "$(cat record)" layer.tar.gz layer.tar
	layer-hash --tee=tar --record /dev/fd/3 <layer.tar.gz 3>record >copy
	cmp copy layer.tar
	describes "$(cat record)" layer.tar.gz layer.tar
}

@test "--tee copies what lies behind the end of the archive too" {
	{ cat layer.tar; head -c 700000 /dev/zero; printf end; } >padded.tar
	gzip -kn padded.tar
	layer-hash --tee --record record padded.tar.gz | cmp - padded.tar.gz
	layer-hash --tee=tar --record record padded.tar.gz | cmp - padded.tar
}

@test "--tee of several blobs is refused" {
	try 2 layer-hash --tee --record record layer.tar layer.tar
	[[ $stderr == "layer-hash: --tee takes one blob, got 2" ]]
}

@test "a blob that fails does not keep the others from being read" {
	try 2 layer-hash missing layer.tar
	describes "$output" layer.tar layer.tar
	[ "$stderr" = "layer-hash: missing: cannot open: No such file or directory (os error 2)" ]
}

@test "what is damaged, cut short or no layer is refused in one line" {
	refused() { # refused MESSAGE: of the blob on stdin
		try 2 layer-hash blob
		[ -z "$output" ]
		[[ $stderr == "layer-hash: blob: "*"$1"* ]]
		[ "$(wc -l <<<"$stderr")" -eq 1 ]
	}
	head -c 5000 layer.tar.gz >blob && refused 'gzip stream is cut short'
	head -c -8 layer.tar.gz >blob && refused 'gzip stream is cut short'
	head -c 5000 layer.tar.zst >blob && refused 'zstd stream is cut short'
	head -c 5000 layer.tar >blob && refused 'cut short'
	{ cat layer.tar.gz; printf garbage; } >blob && refused 'neither a member nor zeros'
	{ head -c 30000 layer.tar.gz; printf '\xff\xff\xff\xff'; tail -c +30005 layer.tar.gz; } >blob && refused 'gzip stream is damaged'
	xz -c layer.tar >blob && refused 'is compressed with xz, expected a plain, gzip or zstd stream'
	seq 1000 >blob && refused 'not a tar archive'
	mkdir -p dir && try 2 layer-hash dir
	[ "$stderr" = "layer-hash: dir: is a directory, expected a file" ]
}

@test "--max-size bounds what a small blob may become" {
	head -c 20000000 /dev/zero | gzip >bomb.gz
	try 2 layer-hash --max-size 1000000 bomb.gz
	[[ $stderr == "layer-hash: bomb.gz: "*"over 1000000 bytes"* ]]
}

@test "memory stays under 32 MiB whatever the size of the blob" {
	requires /usr/bin/time
	head -c 400000000 /dev/zero >tree/zeros
	tar -C tree -cf - . | zstd -q >big.tar.zst
	command time -f %M -o peak layer-hash big.tar.zst
	[ "$(cat peak)" -lt 32768 ]
}

@test "--check verifies each blob where its image says it is" {
	oci_layout image layer.tar
	image-inspect --layers oci:image >records
	try layer-hash --check records
	[ "$(jq -r .diffId <<<"$output")" = "sha256:$(sha256sum <layer.tar | cut -d' ' -f1)" ]
	[ "$(jq .entries <<<"$output")" -eq "$(tar -tf layer.tar | wc -l)" ]
	blob=image/blobs/sha256/$(jq -r '.digest | ltrimstr("sha256:")' records)
	printf x | dd of="$blob" bs=1 seek=600 conv=notrunc status=none
	try 1 layer-hash --check records
	[ -z "$output" ]
	[[ $stderr == "layer-hash: records: layer 0: digest is sha256:"*", expected sha256:"* ]]
	jq -c 'del(.image)' records >lost
	try 2 layer-hash --check lost
	[[ $stderr == *'missing member `image`'* ]]
}

@test "a full disk is said and a reader that has gone is not" {
	run --separate-stderr sh -c 'layer-hash layer.tar >/dev/full'
	[ "$status" -eq 2 ]
	[ "$stderr" = "layer-hash: <stdout>: cannot write: No space left on device (os error 28)" ]
	run --separate-stderr bash -c 'layer-hash --tee --record record layer.tar | head -c1 >/dev/null; echo "${PIPESTATUS[0]}"'
	[ "$output" = 141 ]
	[ -z "$stderr" ]
}

@test "--record to a descriptor goes where it stands, and errors name the file" {
	echo first >log
	layer-hash --record /dev/fd/3 layer.tar 3>>log
	{ echo one; layer-hash --record /dev/fd/3 layer.tar 3>&1; echo two; } >out
	is "$(head -n1 log)" first
	describes "$(sed -n 2p log)" layer.tar layer.tar
	is "$(sed -n '1p;3p' out)" $'one\ntwo'
	describes "$(layer-hash --record - layer.tar)" layer.tar layer.tar
	[ ! -e ./- ]
	try 2 layer-hash --tee --record - layer.tar
	has "$stderr" 'layer-hash: --record -: stdout takes'
	try 2 layer-hash --record missing/record layer.tar
	is "$stderr" 'layer-hash: missing/record: cannot create: No such file or directory (os error 2)'
	try 2 layer-hash --record /dev/full layer.tar
	is "$stderr" 'layer-hash: /dev/full: cannot write: No space left on device (os error 28)'
}

@test "a bar is drawn on a terminal for what takes long, and never elsewhere or with -q" {
	requires script
	slow='{ head -c 1000 layer.tar; sleep 1; tail -c +1001 layer.tar; }'
	script -qec "$slow | layer-hash --record record" typescript >/dev/null
	has "$(cat typescript)" '<stdin>'
	has "$(cat typescript)" 'B/s'
	script -qec "$slow | layer-hash -q --record record" typescript >/dev/null
	[[ $(cat typescript) != *B/s* ]]
	bash -c "$slow | layer-hash --record record" 2>messages
	[ ! -s messages ]
}


#!/usr/bin/env bats
# chain-id(1). The oracle is the specification's recursion, spelled with printf and sha256sum.

load helpers

setup() {
	enter_scratch
	for name in a b c; do
		printf 'sha256:%s\n' "$(printf %s "$name" | sha256sum | cut -d' ' -f1)"
	done >diff-ids
	chain <diff-ids >chain-ids
}

# Prints the ChainID of each stack that the DiffIDs on stdin make, above the stack $1.
chain() {
	local chain=${1-} diff_id
	while read -r diff_id; do
		if [ -z "$chain" ]; then
			chain=$diff_id
		else
			chain=sha256:$(printf '%s %s' "$chain" "$diff_id" | sha256sum | cut -d' ' -f1)
		fi
		printf '%s\n' "$chain"
	done
}

records() { jq -Rc '{diffId: .}' diff-ids; }
config() { jq -Rn '{architecture: "amd64", os: "linux", rootfs: {type: "layers", diff_ids: [inputs]}}' diff-ids; }
inspected() { jq -Rn '[{Id: "x", RootFS: {Type: "layers", Layers: [inputs]}}]' diff-ids; }

@test "each form of input gives the ChainIDs of the recursion" {
	records >records.jsonl
	config >config.json
	config | jq -c . >config-on-one-line.json
	inspected >inspected.json
	inspected | jq .[0] >inspected-one.json
	for input in diff-ids records.jsonl config.json config-on-one-line.json inspected.json inspected-one.json; do
		try chain-id --plain "$input"
		[ "$output" = "$(cat chain-ids)" ]
		[ -z "$stderr" ]
	done
}

@test "records carry diffId, chainId and the parent that the base layer lacks" {
	try chain-id diff-ids
	[ "$(jq -r .diffId <<<"$output")" = "$(cat diff-ids)" ]
	[ "$(jq -r .chainId <<<"$output")" = "$(cat chain-ids)" ]
	[ "$(jq -r '.parent // "none"' <<<"$output")" = "$(echo none; head -n2 chain-ids)" ]
}

@test "standard input is read where no file is named, and as -" {
	[ "$(chain-id --plain <diff-ids)" = "$(cat chain-ids)" ]
	[ "$(chain-id --plain - <diff-ids)" = "$(cat chain-ids)" ]
}

@test "members that it does not know pass through as they were written" {
	jq -Rr '"{\"diffId\":\"\(.)\",\"x\":{\"n\": 1.50e3,\"t\":\"\\u00e9\"},\"size\":7}"' diff-ids >records.jsonl
	try chain-id records.jsonl
	[ "$(grep -cF '"x":{"n": 1.50e3,"t":"\u00e9"}' <<<"$output")" -eq 3 ]
	[ "$(jq .size <<<"$output")" = $'7\n7\n7' ]
}

@test "--last prints the top layer of each stack" {
	try chain-id --last --plain diff-ids diff-ids
	[ "$output" = "$(tail -n1 chain-ids; tail -n1 chain-ids)" ]
	try chain-id --last diff-ids
	[ "$(jq -r .diffId <<<"$output")" = "$(tail -n1 diff-ids)" ]
}

@test "--parent starts above a known stack" {
	try chain-id --plain --parent "$(sed -n 2p chain-ids)" <(sed -n 3p diff-ids)
	[ "$output" = "$(sed -n 3p chain-ids)" ]
	try chain-id --parent "$(sed -n 2p chain-ids)" <(sed -n 3p diff-ids)
	[ "$(jq -r .parent <<<"$output")" = "$(sed -n 2p chain-ids)" ]
	try 2 chain-id --parent nonsense diff-ids
	[[ $stderr == *"`nonsense` is not a digest"* ]]
}

@test "records of another image begin a new stack" {
	{ records | jq -c '.image = "oci:/a"'; records | jq -c '.image = "oci:/b"'; } >two.jsonl
	try chain-id --plain two.jsonl
	[ "$output" = "$(cat chain-ids chain-ids)" ]
}

@test "a chainId that is wrong is a check that did not hold" {
	records | jq -c --arg c "$(head -n1 chain-ids)" '.chainId = $c' >records.jsonl
	try 1 chain-id records.jsonl
	[ "$(wc -l <<<"$output")" -eq 1 ]
	[[ $stderr == "chain-id: records.jsonl: line 2: ChainID is sha256:"*", expected sha256:"* ]]
}

@test "its own output is read again and stays the same" {
	chain-id diff-ids >once
	try chain-id once
	[ "$output" = "$(cat once)" ]
}

@test "what is none of the forms is refused by what it looks like" {
	refused() { # refused TEXT MESSAGE
		try 2 chain-id <(printf "$1")
		[ -z "$output" ]
		[[ $stderr == "chain-id: /dev/fd/"*": $2"* ]]
		[ "$(wc -l <<<"$stderr")" -eq 1 ]
	}
	refused '' 'is empty'
	refused 'hello\n' 'line 1: `hello` is not a digest'
	refused 'sha512:00\n' 'line 1: `sha512:00` is not a digest: digests by sha512 are not supported'
	refused '{"layers":[]}' 'looks like an image manifest'
	refused '{"manifests":[]}' 'looks like an image index'
	refused '{"a":1}' 'has neither `diffId`'
	refused '[1]' 'is not `docker inspect` output'
	refused '\x1f\x8b\x08\0\0\0' 'looks like binary data'
}

@test "a file that fails does not keep the others from being read" {
	try 2 chain-id --plain missing diff-ids
	[ "$output" = "$(cat chain-ids)" ]
	[[ $stderr == "chain-id: missing: cannot open: No such file or directory"* ]]
}

@test "a full disk is said and a reader that has gone is not" {
	run --separate-stderr sh -c 'chain-id diff-ids >/dev/full'
	[ "$status" -eq 2 ]
	[[ $stderr == "chain-id: <stdout>: cannot write: No space left on device"* ]]
	[ "$(wc -l <<<"$stderr")" -eq 1 ]
	yes "$(head -n1 diff-ids)" | head -n 100000 >many
	run --separate-stderr bash -c 'chain-id many | head -n1 >/dev/null; echo "${PIPESTATUS[0]}"'
	[ "$output" = 141 ]
	[ -z "$stderr" ]
}

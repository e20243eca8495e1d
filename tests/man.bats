#!/usr/bin/env bats
# The manual is the specification: it lints, and it and the tools' --help say the same.

load helpers

# --help of the tool and of its subcommands.
help_of() {
	local sub
	"$1" --help
	"$1" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -vx help | while read -r sub; do
		"$1" "$sub" --help
	done
}

@test "every tool has a page, tests, and its page a tool" {
	local tool page
	for tool in $(tools); do
		[ -e "$TOP/man/$tool.1" ] || { echo "no man/$tool.1"; false; }
		[ -e "$TESTS/$tool.bats" ] || { echo "no tests/$tool.bats"; false; }
	done
	for page in "$TOP"/man/*.1; do
		[ ! -e "$page" ] || [ -e "$TOP/crates/$(basename "${page%.1}")/src/args.rs" ] || { echo "$page: no such tool"; false; }
	done
}

@test "pages lint without a warning" {
	requires mandoc
	local page
	for page in "$TOP"/man/*.[1-9]; do
		[ ! -e "$page" ] || try mandoc -Tlint -Wwarning "$page"
	done
}

@test "--help and the page have the same options" {
	local tool differ=''
	for tool in $(tools); do
		help_of "$tool" | sed -nE 's/^ +(-[a-zA-Z0-9], )?(--[a-z0-9-]+).*/\1\2/p' | sort -u >help.txt
		# `.It Fl o , -output Ar FILE` in the page's own lists; options elsewhere are examples, or other tools'.
		sed -nE 's/^\.It (Fl ([a-zA-Z0-9]) , )?(Fl )?(-[a-z0-9-]+).*/-\2, -\4/p' "$TOP/man/$tool.1" | sed 's/^-, //' | sort -u >page.txt
		diff -u --label "$tool --help" --label "$tool.1" help.txt page.txt || differ+=" $tool"
	done
	is "$differ" ''
}

@test "pages have the sections of the house, in mdoc's order" {
	local tool
	for tool in $(tools); do
		sed -n 's/^\.Sh //p' "$TOP/man/$tool.1" >sections
		printf '%s\n' NAME SYNOPSIS DESCRIPTION ENVIRONMENT FILES 'EXIT STATUS' EXAMPLES 'SEE ALSO' STANDARDS HISTORY CAVEATS BUGS |
			grep -xFf sections >ordered
		diff -u --label "$tool.1" sections --label 'the order of mdoc(7)' ordered
		local need
		for need in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
			grep -qxF "$need" sections || { echo "$tool.1: no $need"; false; }
		done
	done
}

@test "layer-tools(7) refers to every page, and every .Xr of ours has its page" {
	local page name section
	[ -e "$TOP/man/layer-tools.7" ] || skip 'needs man/layer-tools.7'
	for page in "$TOP"/man/*.[1-9]; do
		name=$(basename "$page")
		section=${name##*.}
		name=${name%.*}
		[ "$name" = layer-tools ] || grep -q "^\.Xr $name $section" "$TOP/man/layer-tools.7" ||
			{ echo "layer-tools(7) does not refer to $name($section)"; false; }
	done
	grep -hoE '^\.Xr (layer|chain|ovl|image)-[a-z]+ [0-9]' "$TOP"/man/*.[1-9] | sort -u | while read -r _ name section; do
		[ -e "$TOP/man/$name.$section" ] || { echo "no page $name($section)"; exit 1; }
	done
}

@test "--version is the workspace's, and a wrong option ends with status 2 and nothing on stdout" {
	local tool version
	version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$TOP/Cargo.toml" | head -n 1)
	for tool in $(tools); do
		try "$tool" --version
		is "$output" "$tool $version"
		try 2 "$tool" --no-such-option
		is "$output" ''
		has "$stderr" --no-such-option
	done
}

@test "README and CONTRIBUTING name targets that make has, and README every tool" {
	requires make
	local target tool
	for target in $(grep -ohE '(^ +|`|&& |sudo )make [a-z]+' "$TOP/README.md" "$TOP/CONTRIBUTING.md" | sed 's/.* //' | sort -u); do
		try make -C "$TOP" -n "$target"
	done
	for tool in $(tools); do
		grep -qF "| \`$tool\` |" "$TOP/README.md" || { echo "README.md: no $tool"; false; }
	done
}

#!/usr/bin/env bats
# make install, with the tools that the tests run, and what it installs.

load helpers

make_here() {
	make --no-print-directory -C "$TOP" "$@" BIN="${TOOLS_DIR:-$TOP/target/debug}" PREFIX=/usr DESTDIR="$PWD/root"
}

@test "make install puts tools, pages and completions in their places, and uninstall takes them away" {
	requires make
	try make_here completions install
	local tool page
	for tool in $(tools); do
		try "root/usr/bin/$tool" --version
		cmp "$TOP/man/$tool.1" "root/usr/share/man/man1/$tool.1"
		[ -s "root/usr/share/bash-completion/completions/$tool" ]
		[ -s "root/usr/share/zsh/site-functions/_$tool" ]
		[ -s "root/usr/share/fish/vendor_completions.d/$tool.fish" ]
	done
	is "$(stat -c %a root/usr/share/man/man7/layer-tools.7)" 644
	[ -s root/usr/share/man/man5/layer-record.5 ]
	# xtask is the build's own.
	[ ! -e root/usr/bin/xtask ]
	try make_here uninstall
	is "$(find root ! -type d)" ''
}

@test "the completions offer every option of --help" {
	requires make
	try make_here completions install
	local tool option dir=root/usr/share
	for tool in $(tools); do
		grep -q "^#compdef $tool\$" "$dir/zsh/site-functions/_$tool"
		for option in $("$tool" --help | grep -oE '^ +(-[a-zA-Z0-9], )?--[a-z0-9-]+' | grep -oE -- '--.*'); do
			grep -qe "$option" "$dir/zsh/site-functions/_$tool" || { echo "zsh: $tool: no $option"; false; }
			grep -qe "-l ${option#--}" "$dir/fish/vendor_completions.d/$tool.fish" || { echo "fish: $tool: no $option"; false; }
			# What bash completes, asked of bash.
			try bash -c '. "$1"; COMP_WORDS=("$2" "$3") COMP_CWORD=1
				"$(complete -p "$2" | sed "s/.*-F \([^ ]*\).*/\1/")" "$2" "$3" "$2"
				printf "%s\n" "${COMPREPLY[@]}"' - "$dir/bash-completion/completions/$tool" "$tool" "$option"
			grep -qxe "$option" <<<"$output" || { echo "bash: $tool: no $option"; false; }
		done
	done
}

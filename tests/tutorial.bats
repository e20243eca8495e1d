#!/usr/bin/env bats
# layer-tutorial(7) prints what it says: every session in it is run, in order.

load helpers

@test "every session of layer-tutorial(7) ends as the page shows" {
	requires root overlayfs cc jq getfattr
	printf 'int main(void) { return 0; }' | cc -static -x c -o static - || skip 'needs static libraries'
	mkdir try && cd try
	try "$PYTHON" "$TESTS/tutorial.py" "$TOP/man/layer-tutorial.7"
}

@test "a session that differs from its page is found" {
	page() {
		printf '.Bd -literal -offset indent\n%s\n.Ed\n' "${1//$'\n'.../$'\n\\&...'}" >page.7
	}
	for same in $'$ echo a\na' $'$ echo a; false || true\n...' $'$ echo "\\ea"\n\\ea' $'$ seq 9\n1\n...\n9' \
		$'$ cat <<END\n> a\n> END\na' $'$ printf x | sha256sum\nabcdefabcdef...  -' $'$ true' $'$ echo "a    b"\na  b' \
		$'$ echo 111111111111 222222222222 111111111111\naaaaaaaaaaaa bbbbbbbbbbbb aaaaaaaaaaaa'; do
		page "$same"
		try "$PYTHON" "$TESTS/tutorial.py" page.7
	done
	for other in $'$ echo a\nb' $'$ echo a' $'$ true\na' $'$ false' $'$ false | true' $'$ seq 9\n1\n...\n8' \
		$'$ echo 111111111111 222222222222\naaaaaaaaaaaa aaaaaaaaaaaa' \
		$'$ echo 111111111111 111111111111\naaaaaaaaaaaa bbbbbbbbbbbb' $'$ printf x | sha256sum\nabcdefabcdef  -'; do
		page "$other"
		try 1 "$PYTHON" "$TESTS/tutorial.py" page.7
	done
}

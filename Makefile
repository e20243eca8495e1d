# layer-tools: `make` builds, `make test` tests, `make demo` shows, `make install` installs; see CONTRIBUTING.md.

CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
# Where the tools to install, to show and to measure were built.
BIN ?= $(TARGET)/release

TOOLS := $(patsubst crates/%/src/args.rs,%,$(wildcard crates/*/src/args.rs))
PAGES := $(patsubst man/%,%,$(wildcard man/*.[1-9]))
COMPLETIONS := $(TARGET)/completions

all: release completions

release:
	$(CARGO) build --release --locked $(TOOLS:%=-p %)

completions:
	$(CARGO) run -q --locked -p xtask -- completions $(COMPLETIONS)

# Formatting, lints, unit tests, every tests/*.bats; the last line says how many passed, failed and were skipped.
test check:
	@tests/run

# The part of `make test` that takes seconds: formatting, clippy, shellcheck, mandoc.
lint:
	@tests/run lint

demo: release
	@PATH="$(abspath $(BIN)):$$PATH" examples/demo.sh

bench: release
	@PATH="$(abspath $(BIN)):$$PATH" benches/tools.sh

# Copies what `make` built, so that root needs no compiler.
install:
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(DATADIR)
	install $(TOOLS:%=$(BIN)/%) $(DESTDIR)$(BINDIR)
	for page in $(PAGES); do install -D -m 644 man/$$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page || exit; done
	cd $(COMPLETIONS) && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)$(DATADIR))/{} \;

uninstall:
	rm -f $(TOOLS:%=$(DESTDIR)$(BINDIR)/%)
	for page in $(PAGES); do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page; done
	rm -f $(TOOLS:%=$(DESTDIR)$(DATADIR)/bash-completion/completions/%)
	rm -f $(TOOLS:%=$(DESTDIR)$(DATADIR)/zsh/site-functions/_%)
	rm -f $(TOOLS:%=$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/%.fish)

clean:
	$(CARGO) clean

.PHONY: all release completions test check lint demo bench install uninstall clean

# layer-tools: `make` builds, `make test` tests, `make demo` shows, `make install` installs; see CONTRIBUTING.md.

CARGO ?= cargo

all:
	$(CARGO) build --release --locked --workspace

# Formatting, lints, unit tests, every tests/*.bats; the last line says how many passed, failed and were skipped.
test check:
	@tests/run

# The part of `make test` that takes seconds: formatting, clippy, shellcheck, mandoc.
lint:
	@tests/run lint

clean:
	$(CARGO) clean

.PHONY: all test check lint clean

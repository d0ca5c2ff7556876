# The same commands on a laptop and in CI. `make demo` and `make test` do all the set-up that they need.
# One development build (target/debug) serves the demo, the tests and the clients' checks.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
export RUST_BACKTRACE := 0
.DEFAULT_GOAL := help
.PHONY: help setup build demo test quick real soak lint bench fmt reference audit package package-test systemd-test clean

CARGO := cargo
LOCKED := --locked
# Every target in one resolution: a narrower selection would unify features otherwise and build everything twice.
ALL := --workspace --all-targets

help:
	@echo "make demo [KEEP=1]      two sites, a backup, a dropped table brought back"
	@echo "make test               everything that is quick, then everything on real servers"
	@echo "make lint               rustfmt, clippy, rustdoc, buf, tidy"
	@echo "make bench [NAME=...]   the benchmarks, as tables and as target/bench/<name>.json"
	@echo "make soak               long property runs and faults (SEED by MUSTER_SEED)"
	@echo "make audit [ADVISORY_DB=PATH]   licences, sources, advisories"
	@echo "make package [PROFILE=dev]   a Debian package; make package-test installs it into a fresh Debian,"
	@echo "                        make systemd-test boots one with it"
	@echo "make reference         the book's API pages, after a change in proto/"
	@echo "make fmt | setup | clean"

setup:
	@tools/setup

build: setup
	@tools/timed "build" 720 $(CARGO) build $(ALL) $(LOCKED)

demo: build
	@tools/demo

test: quick real

# Unit tests and tidy. No server is started.
quick: build
	@tools/timed "quick tests" 300 $(CARGO) test --workspace $(LOCKED) --quiet --lib --bins --test tidy --test reference

# Every integration test: PostgreSQL, controllers and agents as real processes. Needs root and the user postgres.
real: build
	@tools/timed "tests on real servers" 1200 $(CARGO) test --workspace $(LOCKED) --test '*'

soak: build
	@tools/timed "soak" 14400 env PROPTEST_CASES=$${PROPTEST_CASES:-20000} $(CARGO) test --workspace $(LOCKED) --lib
	@tools/timed "faults" 14400 env MUSTER_SOAK=1 $(CARGO) test --workspace $(LOCKED) --test scenarios -- --nocapture faults_

lint: setup
	@$(CARGO) fmt --all --check
	@tools/timed "clippy" 480 $(CARGO) clippy $(ALL) $(LOCKED) -- -D warnings
	@RUSTDOCFLAGS="-D warnings" tools/timed "rustdoc" 240 $(CARGO) doc --workspace --no-deps $(LOCKED)
	@tools/buf
	@tools/timed "tidy" 300 $(CARGO) test --workspace $(LOCKED) --quiet --test tidy

bench: setup
	@tools/bench $(NAME)

# A Debian package from release binaries (PROFILE=dev: from the development build), in target/debian.
package: setup
	@tools/package

# Installs the package of the development build into a fresh Debian. Needs root, debootstrap and a Debian mirror.
package-test: build
	@tools/package-test

# The same under a live systemd: the shipped units, their limits, restarts and upgrades under load. Needs systemd-nspawn too.
systemd-test: build
	@tools/systemd-test

# The book's reference pages, from the comments in proto/.
reference:
	@MUSTER_WRITE=1 $(CARGO) test -p muster-tests $(LOCKED) --quiet --test reference the_reference

fmt:
	@$(CARGO) fmt --all

audit:
	@ADVISORY_DB="$(ADVISORY_DB)" tools/audit

clean:
	@$(CARGO) clean
	@rm -rf /tmp/muster-testbed

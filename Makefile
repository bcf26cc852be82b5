# SPDX-License-Identifier: Apache-2.0
#
# Makefile - the usual words, over Meson. `make help` lists them.
#
# Variables: BUILD (build folder), PREFIX and DESTDIR (install), MESON_ARGS
# (further options of `meson setup`), JOBS (compilations at a time).

BUILD      ?= build
PREFIX     ?= /usr/local
DESTDIR    ?=
JOBS       ?=
MESON_ARGS ?=

# Tests have build folders of their own; see script/test.
configure = meson setup $(BUILD) --buildtype=release -Dtests=disabled --prefix=$(PREFIX) $(MESON_ARGS)
ninja     = ninja -C $(BUILD) $(if $(JOBS),-j$(JOBS))
c_files   = git ls-files -z --cached --others --exclude-standard '*.c' '*.h'

.DEFAULT_GOAL := all
.PHONY: all agent ffi fmt lint test demo bench bench-http install uninstall clean distclean help FORCE

all: $(BUILD)/build.ninja ## everything: ./agent, its helpers and libera
	@$(ninja)
	@ln -sfn $(BUILD)/src/main/agent agent

# The program resolves the link: its helpers stand near the real file.
agent: $(BUILD)/build.ninja FORCE ## the program, left as ./agent, and its helpers
	@$(ninja) programs
	@ln -sfn $(BUILD)/src/main/agent agent

ffi: $(BUILD)/build.ninja ## libera, shared and static, with its pkg-config file
	@$(ninja) ffi

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { echo "meson is missing: run script/setup first" >&2; exit 1; }
	@$(configure)

fmt: ## format the C code in place
	$(c_files) | xargs -0 clang-format -i

lint: ## every static check
	script/test lint

test: ## every test
	script/test

demo: ## a Python and a Node.js VM from nothing
	script/demo

bench: agent ## times and memory beside bwrap, runc, crun and a bare exec
	script/setup --bench
	bench/run
	bench/microvm

bench-http: agent ## the load that `agent serve` holds, and its rates beside nginx
	script/setup --bench
	bench/http

# With sudo: `make && sudo make install`. The prefix can still be chosen here.
install: $(BUILD)/build.ninja ## into $(DESTDIR)$(PREFIX)
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@$(ninja)
	meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))
	$(if $(DESTDIR),,ldconfig)

uninstall: ## what the last install from this build folder put there
	ninja -C $(BUILD) uninstall

clean: ## what was built; caches and VMs stay
	rm -rf $(BUILD) agent

distclean: clean ## and the build folders and caches of scripts and tests
	rm -rf build build-* .cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

FORCE:

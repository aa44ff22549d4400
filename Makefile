# tendril: build, test, install. GNU make, non-recursive; objects in build/<config>/.
#
#   make deps      installs what building and testing need (apt or dnf; starts no service; does nothing where all is there)
#   make           builds the programs                      make check     installs what is missing and passes all tests
#   make demo      the main job, narrated                   make lint      formatting, analysers, layers, links, sizes
#   make bench     figures (B=NAME for one)                 make format    clang-format over all C
#   make install   DESTDIR= PREFIX=                         make dist      the sources as dist/tendril-VERSION.tar.xz
#
# Knobs: CC=gcc|clang-14  CONFIG=name of the build folder  SANITIZE=address,undefined  DEVELOPER=1 (-Werror)  V=1 (show commands)
#        T=name (one test)  B=name (one figure)  FUZZ_SECONDS=n (random runs of check-fuzz, all targets together)

SHELL     := /bin/bash
ifeq ($(origin CC),default)
CC        := gcc
endif
SANITIZE  ?=
CONFIG    ?= $(if $(SANITIZE),sanitize,release)
PREFIX    ?= /usr
DESTDIR   ?=
CLANG     ?= $(firstword $(notdir $(wildcard /usr/bin/clang-14 /usr/bin/clang)) clang)
FUZZ_SECONDS ?= 20
BUILD     := build/$(CONFIG)
DEVELOPER ?= 0
Q         := $(if $(V),,@)

include agent/sources.mk

LIBS_tendrild        := -lsystemd -ljansson -lyaml
LIBS_tendril         := -lsystemd -ljansson -lyaml
LIBS_tendril-net     := -lcurl -lcrypto -lexpat -ljansson -lsystemd
LIBS_tendril-bundle  := -larchive -lcrypto -lyaml -ljansson
LIBS_tendril-tree    :=
LIBS_ALL             := -lcmocka -lcurl -lexpat -larchive -lcrypto -lyaml -ljansson -lsystemd

WARN := -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
        -Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wswitch-enum -Wcast-qual -Wconversion -Wno-sign-conversion
ifeq ($(DEVELOPER),1)
WARN += -Werror
endif
ifeq ($(SANITIZE),)
HARDEN := -Os -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fno-asynchronous-unwind-tables
SMALL  := -Wl,-z,noseparate-code
else
HARDEN := -O1 -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
CFLAGS   ?= -g
ALL_CFLAGS  = $(WARN) $(HARDEN) $(SPEED) -fPIE -pthread -ffunction-sections -fdata-sections -D_GNU_SOURCE -Iinclude -Iagent -MMD -MP $(CFLAGS)
ALL_LDFLAGS = $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--gc-sections $(SMALL) $(LDFLAGS)

OBJECTS  := $(patsubst %.c,$(BUILD)/%.o,$(SOURCES))
ARCHIVE  := $(BUILD)/libtendril.a
BINARIES := $(addprefix $(BUILD)/,$(PROGRAMS))
UNIT     := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test-*.c))
FUZZ     := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz-*.c))
FAULTS   := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/faults/fault-*.c))
AWS      := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/aws/*.c))

VERSION  := $(shell sed -n 's/^\#define TENDRIL_VERSION "\(.*\)"$$/\1/p' include/agent/contract.h)

.PHONY: all tests fuzz install demo check check-unit check-system check-s3 check-asan check-fuzz check-faults lint format check-headers bench dist deps clean
.SECONDARY:
all: $(BINARIES)
tests: $(BINARIES) $(UNIT) $(FUZZ)
fuzz: $(FUZZ)

# What works on every byte of a bundle is built for speed, the rest for size: what is resident counts on small hosts.
$(BUILD)/agent/bundle/%.o $(BUILD)/agent/base/crc.o $(BUILD)/tests/%.o: SPEED := $(if $(SANITIZE),,-O2)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(ARCHIVE): $(OBJECTS)
	@rm -f $@
	$(Q)ar rcsD $@ $^

$(BUILD)/agent/programs/tendril-%.o: agent/programs/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Sanitizers keep sections that nobody uses: what those name has to be there then.
$(BINARIES): $(BUILD)/%: $(BUILD)/agent/programs/%.o $(ARCHIVE)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(if $(SANITIZE),$(filter-out -lcmocka,$(LIBS_ALL)),$(LIBS_$*))

$(UNIT) $(AWS): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(ARCHIVE)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARCHIVE) $(LIBS_ALL)

# Fuzz targets: with libFuzzer where the sanitizers name it (check-fuzz), else with a driver that feeds them the files it is given.
FUZZ_MAIN := $(if $(findstring fuzzer,$(SANITIZE)),,$(BUILD)/tests/fuzz/driver.o)
$(FUZZ): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(FUZZ_MAIN) $(ARCHIVE)
	$(Q)$(CC) $(ALL_LDFLAGS) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) -o $@ $< $(FUZZ_MAIN) $(ARCHIVE) $(LIBS_ALL)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# ---- tests: each runner ends with a line of counts ----

check: deps
	+$(Q)$(MAKE) --no-print-directory -k lint check-unit check-asan check-fuzz check-faults check-system check-s3

check-unit:
	+$(Q)$(MAKE) --no-print-directory CONFIG=release tests
	$(Q)tests/run --build build/release unit $(T)
	+$(Q)$(MAKE) --no-print-directory CONFIG=clang CC=$(CLANG) tests
	$(Q)tests/run --build build/clang unit $(T)

check-asan:
	+$(Q)$(MAKE) --no-print-directory CONFIG=sanitize SANITIZE=address,undefined tests
	$(Q)tests/run --build build/sanitize unit corpus $(T)

check-fuzz:
	+$(Q)$(MAKE) --no-print-directory CONFIG=fuzz CC=$(CLANG) SANITIZE=address,undefined,fuzzer-no-link fuzz
	$(Q)tests/run --build build/fuzz --seconds $(FUZZ_SECONDS) corpus random $(T)

check-faults: all
	$(Q)tests/faults/run $(T)

check-system: all
	$(Q)TENDRIL_BUILD=$(abspath $(BUILD)) build/venv/bin/python -m pytest -q tests/system tests/hooks $(if $(T),-k $(T))

check-s3: all $(AWS)
	$(Q)tests/aws/run $(abspath $(BUILD)) $(T)

lint: all
	$(Q)CLANG=$(CLANG) tests/lint/run $(abspath $(BUILD)) $(T)

check-headers:
	$(Q)tests/lint/headers

format:
	$(Q)find agent include tests -name '*.[ch]' -print0 | xargs -0 $$(command -v clang-format-14 clang-format | head -n 1) -i

demo: deps
	+$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/demo/run $(abspath $(BUILD))

bench: all
	$(Q)tests/bench/run $(abspath $(BUILD)) $(B)

deps:
	$(Q)tests/deps

# ---- install ----

install: all
	install -D -m 0755 $(BUILD)/tendrild $(DESTDIR)$(PREFIX)/sbin/tendrild
	install -D -m 0755 $(BUILD)/tendril $(DESTDIR)$(PREFIX)/bin/tendril
	install -d $(DESTDIR)$(PREFIX)/libexec/tendril
	install -m 0755 $(addprefix $(BUILD)/,$(filter tendril-%,$(PROGRAMS))) $(DESTDIR)$(PREFIX)/libexec/tendril/
	for page in $(wildcard rpm/*.[1578]); do \
		install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit; done
	for hook in $(wildcard $(addprefix hooks/,$(addsuffix /*,prebuild predeploy postdeploy))); do \
		install -D -m 0755 $$hook $(DESTDIR)$(PREFIX)/lib/tendril/$$hook || exit; done
	for script in $(wildcard rpm/by-hand/*.sh); do \
		install -D -m 0755 $$script $(DESTDIR)$(PREFIX)/share/doc/tendril/$${script#rpm/} || exit; done
	install -D -m 0644 rpm/tendril.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tendril
	install -D -m 0644 rpm/_tendril $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tendril
	install -D -m 0644 rpm/tendril.catalog $(DESTDIR)$(PREFIX)/lib/systemd/catalog/tendril.catalog

dist:
	$(Q)mkdir -p dist
	tar --exclude-vcs --exclude=./build --exclude=./dist --exclude=__pycache__ --exclude=.pytest_cache --transform 's,^\.,tendril-$(VERSION),' \
		-cJf dist/tendril-$(VERSION).tar.xz .

clean:
	rm -rf build dist

# Builds, tests and installs Skein. `make help` lists the targets.
#
# SwiftPM can't link a library without the Swift runtime, so the two Embedded Swift libraries are made
# here; the command `skein` is made by SwiftPM.

PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := $(or $(shell sed -n 's/.*number = "\(.*\)"/\1/p' Sources/skein/Version.swift 2>/dev/null),0)

SWIFTC  := $(shell command -v swiftc)
# The clang that belongs to swiftc reads the same object format and module maps.
CLANG   := $(firstword $(wildcard $(dir $(SWIFTC))clang $(dir $(realpath $(SWIFTC)))clang) clang)
LIB     := build/lib
BIN     := build/bin
LIBEXEC := build/libexec/skein
OBJ     := build/obj

CORE    := $(wildcard Sources/SkeinCore/*.swift Sources/SkeinHooks/*.swift)
SYSTEM  := $(wildcard Sources/CSystem/*.c Sources/CSystem/include/*)
PRELOAD := $(CORE) $(wildcard Sources/SkeinPreload/*.swift)
LIBRARY := $(CORE) $(wildcard Sources/SkeinLibrary/*.swift)
HEADER  := $(firstword $(wildcard Sources/SkeinLibrary/include/skein.h include/skein.h))
CONTRACT := $(wildcard Tests/Contract/*.swift)
TEXT    := $(wildcard Sources/SkeinText/*.swift)
COMMAND := $(TEXT) $(shell find Sources/skein -name '*.swift' 2>/dev/null)

# Found as they are written: the library and the command are made once their sources exist.
has_library := $(wildcard Sources/SkeinLibrary/*.swift)
has_command := $(and $(wildcard Package.swift),$(COMMAND))

TARGETS := $(LIB)/libskein-preload.so $(if $(has_library),$(LIB)/libskein.so) \
           $(if $(has_command),$(BIN)/skein $(LIBEXEC)/skein-export $(LIBEXEC)/skein-agent) $(BIN)/contract $(BIN)/contract-stp

# Module Skein stands on libskein.so: pkg-config says where it lies in this checkout, and what is linked
# with it looks beside itself, in the checkout and where it is installed.
# The Swift runtime is linked in: the command starts on machines without Swift, and in half the time.
SWIFT_BUILD := PKG_CONFIG_PATH='$(CURDIR)/build/pkgconfig' swift build --quiet -c release \
               --static-swift-stdlib -Xswiftc -use-ld=lld -Xlinker --gc-sections -Xlinker -s \
               -Xlinker -rpath -Xlinker '$$ORIGIN/../lib' -Xlinker -rpath -Xlinker '$$ORIGIN/../../lib'
MODULE := $(wildcard Sources/Skein/*.swift) Sources/CSkein/module.modulemap $(HEADER) \
          build/pkgconfig/skein.pc $(LIB)/libskein.so

EMBEDDED := -parse-as-library -wmo -O -swift-version 6 -enable-experimental-feature Embedded \
            -strict-memory-safety -warnings-as-errors -package-name skein \
            -Xcc -D_GNU_SOURCE -I Sources/CSystem/include
# $(call embedded,MODULE,SOURCES). Swift gives what it exports protected visibility, of which the loader warns
# in programs that were linked to take a function's address without asking it.
define embedded
	@$(SWIFTC) $(EMBEDDED) -module-name $(1) -emit-assembly $(2) -o $(@:.o=.s)
	@sed -i '/^[[:space:]]*\.protected[[:space:]]/d' $(@:.o=.s)
	@$(CLANG) -c $(@:.o=.s) -o $@
endef
# Nothing but the @c functions is exported: see scripts/exports.sh.
LINK     := -shared -Wl,-Bsymbolic-functions -Wl,--gc-sections -Wl,-z,now -Wl,--no-undefined

.PHONY: all help setup demo test check test-programs test-vm test-nbd-next bench bench-export bench-disk soak format lint install deb clean
.DELETE_ON_ERROR:
.SUFFIXES:

all: setup
	@$(MAKE) --no-print-directory build

help:
	@echo 'make                 build the libraries, the command and the contract suite into build/'
	@echo 'make demo            1 GiB from python3 -m http.server to curl, over TCP and over shared memory'
	@echo 'make check           the short tests, for use while working (under 5 minutes)'
	@echo 'make test            all tests that need no installed servers'
	@echo 'make test-programs   real servers and clients, and CPython'"'"'s own socket tests; installs what it lacks'
	@echo 'make test-vm         device export with the Linux kernel as client, in a virtual machine'
	@echo 'make test-nbd-next   device export with the clients of Debian 13'
	@echo 'make soak            the tests again and again for SOAK_MINUTES (60)'
	@echo 'make soak SEEDS=N    N other seeds of the two simulators instead'
	@echo 'make bench           measures, and writes the table into docs/BENCHMARKS.md'
	@echo 'make bench-export    skein export beside other NBD servers, into the same document'
	@echo 'make bench-disk      streams between two agents beside fio on the same disk, into the same document'
	@echo 'make format, lint    swift format'
	@echo 'make install         into PREFIX (/usr/local), below DESTDIR'
	@echo 'make deb             a package for Debian and its like, into build/'
	@echo 'make clean           removes build/ and .build/'

# --- set-up: what building needs, by apt-get where missing

setup:
	@scripts/setup.sh build

# --- build

# Pages and completions too: `sudo make install` then only copies, and leaves no folder of root's in build/.
MAN := $(patsubst man/%.scd,build/man/%,$(wildcard man/*.scd))
COMPLETIONS := $(if $(has_command),$(addprefix build/completions/,skein.bash _skein skein.fish))

.PHONY: build
build: $(TARGETS) $(MAN) $(COMPLETIONS)
	@:

$(LIB) $(BIN) $(OBJ):
	@mkdir -p $@

# The hooks that are C: variadic functions and vfork.
C_HOOKS := $(addprefix $(OBJ)/,exec.o clone.o print.o vfork.o)

$(C_HOOKS): $(OBJ)/%.o: Sources/SkeinHooks/%.c $(SYSTEM) | $(OBJ)
	@$(CLANG) -D_GNU_SOURCE -O2 -fPIC -c $< -o $@

$(OBJ)/thread.o: $(SYSTEM) | $(OBJ)
	@$(CLANG) -D_GNU_SOURCE -O2 -fPIC -c Sources/CSystem/thread.c -o $@

$(OBJ)/preload.o: $(PRELOAD) $(SYSTEM) Makefile | $(OBJ)
	@echo 'compile  libskein-preload.so'
	$(call embedded,SkeinPreload,$(PRELOAD))

$(OBJ)/library.o: $(LIBRARY) $(SYSTEM) Makefile | $(OBJ)
	@echo 'compile  libskein.so'
	$(call embedded,SkeinLibrary,$(LIBRARY))

$(OBJ)/preload.map: $(PRELOAD) scripts/exports.sh | $(OBJ)
	@scripts/exports.sh $(PRELOAD) > $@

$(OBJ)/library.map: $(LIBRARY) scripts/exports.sh | $(OBJ)
	@scripts/exports.sh $(LIBRARY) > $@

# A library that programs have mapped must not be written to: made beside it, then renamed.
$(LIB)/libskein-preload.so: $(OBJ)/preload.o $(OBJ)/thread.o $(C_HOOKS) $(OBJ)/preload.map | $(LIB)
	@$(CLANG) $(LINK) -Wl,--version-script=$(OBJ)/preload.map $(OBJ)/preload.o $(OBJ)/thread.o $(C_HOOKS) -o $@.new
	@strip --strip-unneeded $@.new
	@mv $@.new $@

# The header that may be killed before each of its stores to shared memory (Tests/Crash).
CRASH := build/crash
$(CRASH)/preload.o: EMBEDDED += -D CRASH_POINTS -Xcc -DSKEIN_CRASH_POINTS
$(CRASH)/preload.o: $(PRELOAD) $(SYSTEM) Makefile
	@mkdir -p $(CRASH)
	@echo 'compile  crash/libskein-preload.so'
	$(call embedded,SkeinPreload,$(PRELOAD))

$(CRASH)/libskein-preload.so: $(CRASH)/preload.o $(C_HOOKS) $(OBJ)/preload.map
	@$(CLANG) -D_GNU_SOURCE -DSKEIN_CRASH_POINTS -O2 -fPIC -c Sources/CSystem/thread.c -o $(CRASH)/thread.o
	@$(CLANG) $(LINK) -Wl,--version-script=$(OBJ)/preload.map $(CRASH)/preload.o $(CRASH)/thread.o $(C_HOOKS) -o $@

# The target is the link that a linker looks for; programs load what it leads to.
$(LIB)/libskein.so: $(OBJ)/library.o $(OBJ)/thread.o $(C_HOOKS) $(OBJ)/library.map | $(LIB)
	@$(CLANG) $(LINK) -Wl,-soname,libskein.so.0 -Wl,--version-script=$(OBJ)/library.map \
	    $(OBJ)/library.o $(OBJ)/thread.o $(C_HOOKS) -o $@.0.new
	@strip --strip-unneeded $@.0.new
	@mv $@.0.new $@.0
	@ln -sf libskein.so.0 $@

# Where the library and its header lie before they are installed.
build/pkgconfig/skein.pc: skein.pc.in Makefile
	@mkdir -p build/pkgconfig
	@sed 's|@PREFIX@|$(CURDIR)/build|; s|@VERSION@|$(VERSION)|; s|^includedir=.*|includedir=$(CURDIR)/include|' $< > $@

# $(call swift_product,NAME): makes it with SwiftPM, and puts it where the target is.
define swift_product
	@echo 'compile  $(@F)'
	@mkdir -p $(@D)
	@$(SWIFT_BUILD) --product $(1)
	@cp "$$($(SWIFT_BUILD) --show-bin-path)/$(1)" $@.new
	@mv $@.new $@
endef

TRANSFER := $(wildcard Sources/SkeinTransfer/*.swift Sources/CXXHash/*)

$(BIN)/skein: $(COMMAND) $(TRANSFER) $(wildcard Sources/SkeinCore/*.swift) $(SYSTEM) $(MODULE) Package.swift
	$(call swift_product,skein)

EXPORT := $(TEXT) $(wildcard Sources/SkeinNBD/*.swift Sources/SkeinDevice/*.swift Sources/SkeinTLS/*.swift Sources/CGnuTLS/* Sources/CNBD/* Sources/SkeinExport/*.swift Sources/SkeinExport/*/*.swift Sources/skein-export/*.swift)

$(LIBEXEC)/skein-export: $(EXPORT) $(SYSTEM) $(MODULE) Package.swift
	$(call swift_product,skein-export)

AGENT := $(TEXT) $(wildcard $(addprefix Sources/,$(addsuffix /*.swift,SkeinMedium SkeinConduit SkeinGroup SkeinSeal SkeinDevice SkeinAgent skein-agent)) Sources/CXXHash/* Sources/CURing/*)

$(LIBEXEC)/skein-agent: $(AGENT) $(wildcard Sources/SkeinCore/*.swift Sources/CSkein/*) $(SYSTEM) $(MODULE) Package.swift
	$(call swift_product,skein-agent)

$(BIN)/contract-stp: $(CONTRACT) $(wildcard Tests/Contract/STP/*.swift Tests/Contract/CContract/*) $(MODULE) Package.swift
	$(call swift_product,SkeinContract)

build/tests/swift: $(wildcard Tests/Swift/*.swift) $(MODULE) Package.swift
	$(call swift_product,SkeinTests)

build/tests/transfer: $(wildcard Tests/Transfer/*.swift) $(TRANSFER) Package.swift
	$(call swift_product,TransferTests)

build/tests/device: $(wildcard Tests/Device/*.swift) $(EXPORT) $(SYSTEM) Package.swift
	$(call swift_product,DeviceTests)

build/tests/callpath: $(wildcard Benchmarks/CallPath/*.swift Sources/SkeinNBD/*.swift Sources/SkeinDevice/*.swift) $(SYSTEM) Package.swift
	$(call swift_product,CallPath)

MEDIUM := $(wildcard Sources/SkeinMedium/*.swift Sources/CXXHash/*)

build/tests/medium: $(wildcard Tests/Medium/*.swift Tests/MediumKit/*.swift) $(MEDIUM) $(SYSTEM) Package.swift
	$(call swift_product,MediumTests)

build/tests/simulator: $(wildcard Tests/Simulator/*.swift) $(MEDIUM) Package.swift
	$(call swift_product,Simulator)

build/tests/seal: $(wildcard Tests/Seal/*.swift Tests/MediumKit/*.swift Sources/SkeinSeal/*.swift) $(MEDIUM) Package.swift
	$(call swift_product,SealTests)

CONDUIT := $(wildcard Sources/SkeinConduit/*.swift)

build/tests/conduit: $(wildcard Tests/Conduit/*.swift Tests/MediumKit/*.swift Sources/SkeinGroup/*.swift) $(CONDUIT) $(MEDIUM) Package.swift
	$(call swift_product,ConduitTests)

build/tests/conduit-simulator: $(wildcard Tests/ConduitSimulator/*.swift) $(CONDUIT) Package.swift
	$(call swift_product,ConduitSimulator)

$(BIN)/contract: $(CONTRACT) $(wildcard Tests/Contract/CContract/*) | $(BIN)
	@echo 'compile  contract'
	@$(SWIFTC) -O -swift-version 6 -warnings-as-errors -I Tests/Contract/CContract $(CONTRACT) -o $@.new
	@mv $@.new $@

# --- run

demo: all
	@scripts/demo.sh

test:
	@scripts/setup.sh test
	@scripts/test.py

check:
	@scripts/setup.sh build
	@scripts/test.py --short

test-programs: all
	@scripts/setup.sh test
	@Tests/Programs/install.sh
	@scripts/test.py --programs

test-vm: all
	@scripts/setup.sh vm
	@scripts/test.py vm

test-nbd-next: all
	@scripts/setup.sh next
	@scripts/test.py export-next

bench: all
	@scripts/setup.sh test
	@Tests/Programs/install.sh
	@python3 Benchmarks/bench.py --output docs/BENCHMARKS.md

bench-export: all
	@scripts/setup.sh test
	@Tests/Programs/install.sh
	@python3 Benchmarks/export.py --output docs/BENCHMARKS.md

bench-disk: all
	@scripts/setup.sh test
	@Tests/Programs/install.sh
	@python3 Benchmarks/disk.py --output docs/BENCHMARKS.md

soak: all
	@scripts/setup.sh test
	@$(if $(SEEDS),Tests/Simulator/run.sh --count $(SEEDS) && Tests/ConduitSimulator/run.sh --count $(SEEDS),scripts/soak.sh $(or $(SOAK_MINUTES),60))

# --- source form

FORMATTED := $(wildcard Sources Tests Benchmarks/CallPath Package.swift)

format:
	@swift format --in-place --parallel --recursive $(FORMATTED)

lint:
	@swift format lint --strict --parallel --recursive $(FORMATTED)

# --- install

$(MAN): build/man/%: man/%.scd
	@mkdir -p build/man
	@scdoc < $< > $@

# The shell is the suffix; zsh's files have none.
$(COMPLETIONS): $(BIN)/skein
	@mkdir -p $(@D)
	@$(BIN)/skein --generate-completion-script $(or $(patsubst .%,%,$(suffix $@)),zsh) > $@

build/skein.pc: skein.pc.in
	@mkdir -p build
	@sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' $< > $@

to := $(DESTDIR)$(PREFIX)
# install(1) would write into a library that programs have mapped: beside it, then renamed.
define put
	install -D -m $(1) $(2) $(3).new && mv $(3).new $(3)

endef

install: build
	@rm -f build/skein.pc; $(MAKE) --no-print-directory build/skein.pc
	@$(call put,755,$(LIB)/libskein-preload.so,$(to)/lib/libskein-preload.so)
ifneq ($(has_library),)
	@$(call put,755,$(LIB)/libskein.so,$(to)/lib/libskein.so.0)
	@ln -sf libskein.so.0 $(to)/lib/libskein.so
	@$(call put,644,build/skein.pc,$(to)/lib/pkgconfig/skein.pc)
	@$(if $(HEADER),$(call put,644,$(HEADER),$(to)/include/skein.h))
endif
ifneq ($(has_command),)
	@$(call put,755,$(BIN)/skein,$(to)/bin/skein)
	@$(call put,755,$(LIBEXEC)/skein-export,$(to)/libexec/skein/skein-export)
	@$(call put,755,$(LIBEXEC)/skein-agent,$(to)/libexec/skein/skein-agent)
	@$(call put,644,build/completions/skein.bash,$(to)/share/bash-completion/completions/skein)
	@$(call put,644,build/completions/_skein,$(to)/share/zsh/site-functions/_skein)
	@$(call put,644,build/completions/skein.fish,$(to)/share/fish/vendor_completions.d/skein.fish)
endif
	@for page in $(MAN); do \
	    install -D -m 644 $$page $(to)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
# The loader looks for libraries below /usr/local, and other folders of ld.so.conf, in its cache.
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ]; then PATH=$$PATH:/sbin ldconfig; fi
	@echo 'installed below $(to)'

deb: all
	@scripts/setup.sh deb
	@scripts/deb.sh

clean:
	@rm -rf build .build

# Two commands: `make demo` shows rodpod at work, `make test` runs all tests. Both install what they need (Debian 12, Swift 6.2 or later).

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := librdkafka-dev liblmdb-dev libdnnl-dev libsimdjson-dev zlib1g-dev pkg-config
TEST_PACKAGES := systemd chromium openssl strace
DEB_PACKAGES := debhelper dpkg-dev
DEB_CHECK_PACKAGES := lintian mandoc mmdebstrap systemd systemd-container
BROKER := noida-db==0.2.3
TORCH := torch==2.13.0+cpu
TORCH_INDEX := https://download.pytorch.org/whl/cpu
BUILD := swift build -c release

.PHONY: demo test torture fuzz fuzz-corpus sanitize sbom build docs deb check-deb check-rules bench bench-peers build-bench quality broker dependencies \
  test-dependencies clean

demo: build
	.build/release/rodpod demo --data Tests/Fixtures/movielens-small

test: test-dependencies
	$(BUILD) --build-tests
	swift test -c release --skip-build

# Kills, power cuts and damage by the hundred, each with its seed printed: RODPOD_TORTURE_SEED=N runs it again, and as many ids that are made up.
# Power cuts and full disks need root.
KILLS ?= 1000
POWER_CUTS ?= 100
DAMAGE ?= 1000
JUNK ?= 10000000
torture: test-dependencies
	$(BUILD) --build-tests
	RODPOD_TORTURE_KILLS=$(KILLS) RODPOD_TORTURE_POWER_CUTS=$(POWER_CUTS) RODPOD_TORTURE_DAMAGE=$(DAMAGE) RODPOD_TORTURE_JUNK=$(JUNK) \
	  swift test -c release --skip-build --filter 'KillTests|FaultTests|junkIDs'

# Coverage-guided fuzzing (libFuzzer, with AddressSanitizer) of all that reads bytes from outside; what is found lies in .build-fuzz.
# It goes on from its own corpus there and from the one that is kept in Tests/Fixtures/fuzz: `make fuzz-corpus` adds what covers more, if it is
# small, and a finding is added by hand once it is mended.
FUZZ_TARGETS ?= interactions items settings records checkpoint http
FUZZ_RUNS ?= 2000000
FUZZ = RODPOD_FUZZ_TARGET=$$target RODPOD_FUZZ_SEEDS=$$corpus .build-fuzz/release/rodpod-fuzz
fuzz: dependencies
	RODPOD_FUZZ=1 RODPOD_CHECKED=1 $(BUILD) --sanitize fuzzer --sanitize address --scratch-path .build-fuzz --product rodpod-fuzz
	@for target in $(FUZZ_TARGETS); do echo "fuzzing $$target"; corpus=.build-fuzz/corpus/$$target; kept=Tests/Fixtures/fuzz/$$target; \
	  mkdir -p $$corpus $$kept; $(FUZZ) -runs=$(FUZZ_RUNS) -timeout=10 -print_final_stats=1 -artifact_prefix=.build-fuzz/$$target- \
	    $$corpus $$kept || exit 1; done

fuzz-corpus:
	@for target in $(FUZZ_TARGETS); do corpus=.build-fuzz/corpus/$$target; kept=Tests/Fixtures/fuzz/$$target; mkdir -p $$kept; \
	  $(FUZZ) -merge=1 -max_len=256 $$kept $$corpus || exit 1; done

# The tests, but for those of processes, with a sanitizer each; one after the other, since slow ones would use up others' deadlines.
# ThreadSanitizer knows neither C11's threads, which librdkafka has, nor Swift's Mutex where it is contended: a preloaded library tells it.
SANITIZERS ?= address thread
sanitize: export RODPOD_CHECKED = 1
sanitize: export LSAN_OPTIONS = suppressions=$(CURDIR)/Tests/Fixtures/sanitizers/leaks.supp
sanitize: test-dependencies
	@for sanitizer in $(SANITIZERS); do echo "with the $$sanitizer sanitizer"; \
	  options="-c release --sanitize $$sanitizer --scratch-path .build-$$sanitizer"; \
	  swift build $$options --build-tests || exit 1; \
	  [ $$sanitizer != thread ] || clang -shared -fPIC -o .build-thread/unseen_threads.so Tests/Fixtures/sanitizers/unseen_threads.c || exit 1; \
	  LD_PRELOAD=$$([ $$sanitizer != thread ] || echo $(CURDIR)/.build-thread/unseen_threads.so) \
	    swift test $$options --skip-build --no-parallel --skip ProcessTests || exit 1; done

# A software bill of materials of what is built, and whether Debian has something newer of what is linked.
sbom: build
	.ci/sbom.py .build/release/rodpod > .build/rodpod.cdx.json
	.ci/sbom.py --updates .build/release/rodpod

build: dependencies
	$(BUILD) --product rodpod

# Speed: GROUP=train, rank, ingest, e2e, store, threads, curves or products measures that alone; BENCH_JSON=FILE keeps the figures, BEAUTY=DIR is the data set's folder.
bench: build-bench
	.build/release/rodpod-bench $(GROUP)

# The same work in PyTorch by turns, and the ratios; GROUP=train or rank.
bench-peers: build-bench
	@[ -x .venv-bench/bin/pip ] || python3 -m venv .venv-bench
	@.venv-bench/bin/pip freeze | grep -qx '$(TORCH)' || .venv-bench/bin/pip install -q --extra-index-url $(TORCH_INDEX) $(TORCH) numpy
	.venv-bench/bin/python Benchmarks/peers.py $(GROUP)

build-bench: dependencies broker
	$(BUILD) --product rodpod
	$(BUILD) --product rodpod-bench

# The tables of Benchmarks/RESULTS.md, from the folders of the data sets: make quality BEAUTY=DIR DIGINETICA=DIR MOVIELENS=DIR [ONLY="NAME …"]
quality: build
	Benchmarks/quality.py $(if $(BEAUTY),--beauty $(BEAUTY)) $(if $(DIGINETICA),--diginetica $(DIGINETICA)) \
	  $(if $(MOVIELENS),--movielens $(MOVIELENS)) $(if $(ONLY),--only $(ONLY))

# The modules' documentation, each in a folder of .build-docs/html; a warning of DocC is an error, but a parameter
# whose name says all may go without words.
MODULES := Kernels LMDB Kafka DaemonSupport Settings Events StateStore Recommender Datasets Pipeline Backtest AdminAPI
docs: dependencies
	@for module in $(MODULES); do echo "documenting $$module"; mkdir -p .build-docs/html/$$module; \
	  RODPOD_DOCS=1 swift package -c release --allow-writing-to-directory .build-docs/html generate-documentation \
	    --target $$module --warnings-as-errors --disable-parameters-and-returns-validation --disable-indexing --transform-for-static-hosting --hosting-base-path $$module \
	    --output-path .build-docs/html/$$module || exit 1; done

# The Debian package, in dist/.
deb: dependencies
	@dpkg -s $(DEB_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(DEB_PACKAGES); }
	dpkg-buildpackage --build=binary --no-sign
	mkdir -p dist
	mv ../rodpod_*.deb ../rodpod_*.buildinfo ../rodpod_*.changes dist/

# lintian, installation, upgrade and purge in a Debian 12 of its own, and the service under a systemd that a container boots; needs root.
check-deb: PACKAGE = dist/rodpod_$$(dpkg-parsechangelog -S Version)_$$(dpkg --print-architecture).deb
check-deb: deb test-dependencies
	@dpkg -s $(DEB_CHECK_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(DEB_CHECK_PACKAGES); }
	$(SUDO) debian/check.sh $(PACKAGE)
	$(SUDO) debian/check-service.sh $(PACKAGE) .kafka/lib/python3*/site-packages/noida_db/noida-db

# The alert rules by Prometheus' own tool, taken out of Debian's package so that no server is installed.
check-rules:
	@[ -x .prometheus/usr/bin/promtool ] || { mkdir -p .prometheus && cd .prometheus && apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb .; }
	.prometheus/usr/bin/promtool check rules config/prometheus/rodpod.rules.yaml
	.prometheus/usr/bin/promtool test rules Tests/Fixtures/prometheus/rodpod.test.yaml

dependencies:
	@command -v swift >/dev/null || { echo "Swift 6.2 or later is needed: https://www.swift.org/install/linux/"; exit 1; }
	@dpkg -s $(PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(PACKAGES); }

# A broker for the tests and the benchmarks.
broker:
	@dpkg -s python3-venv >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv; }
	@[ -x .kafka/bin/pip ] || python3 -m venv .kafka
	@.kafka/bin/pip freeze | grep -qix '$(BROKER)' || .kafka/bin/pip install -q $(BROKER)

# The broker of the tests is a separate process. RODPOD_TEST_BOOTSTRAP names another one, but not for the tests that stop and start theirs.
# Prometheus is unpacked and not installed: installed it would be a service of this machine.
test-dependencies: dependencies broker
	@dpkg -s $(TEST_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(TEST_PACKAGES); }
	@[ -x .prometheus/usr/bin/prometheus ] || { $(SUDO) apt-get update -q && mkdir -p .prometheus && cd .prometheus && \
	  apt-get download -q prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb; }

clean:
	rm -rf .build .build-deb debian/built dist

# Two commands: `make demo` shows rodpod at work, `make test` runs all tests. Both install what they need (Debian 12, Swift 6.2 or later).

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := librdkafka-dev liblmdb-dev libdnnl-dev libsimdjson-dev zlib1g-dev pkg-config
TEST_PACKAGES := python3-venv systemd
BROKER := noida-db==0.2.3
BUILD := swift build -c release

.PHONY: demo test build quality dependencies test-dependencies clean

demo: build
	.build/release/rodpod demo --data Tests/Fixtures/movielens-small

test: test-dependencies
	$(BUILD) --build-tests
	swift test -c release --skip-build

build: dependencies
	$(BUILD) --product rodpod

# The tables of Benchmarks/RESULTS.md, from the folders of the data sets: make quality BEAUTY=DIR DIGINETICA=DIR MOVIELENS=DIR [ONLY="NAME …"]
quality: build
	Benchmarks/quality.py $(if $(BEAUTY),--beauty $(BEAUTY)) $(if $(DIGINETICA),--diginetica $(DIGINETICA)) \
	  $(if $(MOVIELENS),--movielens $(MOVIELENS)) $(if $(ONLY),--only $(ONLY))

dependencies:
	@command -v swift >/dev/null || { echo "Swift 6.2 or later is needed: https://www.swift.org/install/linux/"; exit 1; }
	@dpkg -s $(PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(PACKAGES); }

# The broker of the tests is a separate process. RODPOD_TEST_BOOTSTRAP names another one, but not for the tests that stop and start theirs.
test-dependencies: dependencies
	@dpkg -s $(TEST_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(TEST_PACKAGES); }
	@[ -x .kafka/bin/pip ] || python3 -m venv .kafka
	@.kafka/bin/pip install -q $(BROKER)

clean:
	rm -rf .build

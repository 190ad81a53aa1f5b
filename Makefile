# Everything runs from the checkout; `make setup` needs python3 and make only.

# Interpreter for `make setup`; empty tries python3.11, then python3.
PYTHON ?=
# Where `make run` puts its results, and extra flags for run and the test targets.
OUT ?= runs/digits
ARGS ?=
# Processes that run tests side by side.
JOBS ?= 2
# What `make mutation` changes: names of modules; empty is all that it can.
MODULES ?=
# What `make bench` measures; BENCH="wire population" picks some.
BENCH ?= wire mask_adapter population data_scale feeding memory selection long_run round_throughput compute_dtype \
  peer_library selection_quality android mcu_size mcu_accuracy mcu_budgets \
  channel_blocks misbehaving privacy worker_scaling report_page device_training comparison_overhead

PY := .venv/bin/python
AS_ROOT = $(if $(filter-out 0,$(shell id -u)),sudo -n)
SOURCES := fedtiny_tff tflite_export pipelines tests tools benchmarks
UV_COMPILE := $(PY) -m uv pip compile --quiet --python-version 3.11 \
  --python-platform x86_64-manylinux_2_31 --generate-hashes --no-emit-index-url \
  --only-binary :all: --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help setup arm64 doctor run test test-slow test-arm64 bazel-test bench lint audit licences docs dist lock build-files clean

help: ## Shows this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Installs the locked packages into .venv/ (PYTHON=... picks the interpreter).
	@for python in python3 python3.11 "$(PYTHON)"; do \
	  if command -v "$$python" >/dev/null 2>&1; then \
	    exec "$$python" tools/setup.py --python="$(PYTHON)"; \
	  fi; \
	done; \
	echo "setup: no python3 found; install Python 3.11 (Debian and Ubuntu: apt-get install python3.11-venv)" >&2; \
	exit 2

arm64: setup ## Sets up LiteRT for emulated ARM64 in .cache/arm64/ (Debian 12; no root needed).
	@$(PY) -m tools.arm64

doctor: | $(PY) ## Tells what is right or wrong with this machine.
	@$(PY) -m pipelines.doctor $(ARGS)

run: setup ## Sets up, trains and prunes on handwritten digits, exports (OUT=directory, ARGS=flags).
	@$(PY) -m pipelines.run --flagfile=pipelines/presets/digits.flags --output_dir="$(OUT)" $(ARGS)

test: setup ## Sets up and runs the quick tests.
	@$(PY) -m pytest -m "not slow and not arm64" -n $(JOBS) --dist=loadfile $(ARGS)

.PHONY: coverage mutation
coverage: ## Runs the quick tests; fails if they leave too many of the libraries' lines out.
	@$(MAKE) --no-print-directory test \
	  ARGS="--cov --cov-report=json:build/coverage.json $(ARGS)"
	@$(PY) -m tools.coverage_gate build/coverage.json

mutation: | $(PY) ## Tells which changes of masks, packing and strategies no test sees (hours; MODULES=names).
	@$(PY) -m tools.mutation $(MODULES)

test-slow: setup ## Runs the tests that need minutes.
	@$(PY) -m pytest -m slow $(ARGS)

test-arm64: arm64 ## Runs exported files under emulated ARM64.
	@$(PY) -m pytest -m arm64 $(ARGS)

bazel-test: setup ## Builds all targets and runs the quick tests with Bazel (ARGS=flags for `bazel test`).
	@command -v bazel >/dev/null || { \
	  $(AS_ROOT) apt-get update -qq && \
	  $(AS_ROOT) apt-get install -qq -y --no-install-recommends bazel-bootstrap; \
	} >/dev/null || { \
	  echo "bazel-test: there is no bazel, and Debian's bazel-bootstrap could not be installed; install it or bazelisk" >&2; \
	  exit 2; \
	}
	@# In a batch no server stays behind.
	@bazel --batch test --jobs=$(JOBS) $(ARGS) //...

bench: setup ## Measures speed, memory and bytes into benchmarks/results/ (BENCH=names).
	@for name in $(BENCH); do $(PY) -m benchmarks.$$name || exit 1; done

lint: setup ## Checks style and types.
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@# With its cache mypy finds comments unused that it needs without.
	@$(PY) -m mypy --no-incremental $(SOURCES)

audit: | $(PY) ## Holds the locked packages against published advisories (needs the network).
	@$(PY) -m tools.audit

licences: | $(PY) ## Writes docs/licences.md from the locked packages (ARGS=--check only looks).
	@$(PY) -m tools.licences $(ARGS)

docs: | $(PY) ## Builds the documentation into build/site/ (the first time needs the network).
	@$(PY) -m tools.docs_site

dist: | $(PY) ## Builds the source distribution and the wheel into dist/.
	@$(PY) -m tools.dist $(ARGS)

lock: | $(PY) ## Resolves requirements*.in into the lock files (needs the network).
	$(UV_COMPILE) requirements.in --override requirements-overrides.txt -o requirements.txt
	$(UV_COMPILE) requirements-dev.in -c requirements.txt -o requirements-dev.txt
	$(UV_COMPILE) requirements-tracking.in -c requirements.txt -o requirements-tracking.txt
	$(UV_COMPILE) requirements-audit.in -o requirements-audit.txt
	$(UV_COMPILE) requirements-docs.in -o requirements-docs.txt

build-files: | $(PY) ## Writes the BUILD files from the imports.
	@$(PY) -m tools.build_files

clean: ## Removes caches and build output; keeps .venv/ and runs/.
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(PY):
	@echo "there is no .venv/ yet: run \`make setup\` first" >&2; exit 2

# Everything runs from here: `make demo` and `make test` need Python 3.11, Java 17, Maven; `make test` Prometheus, Alertmanager and Chromium, too.
.DEFAULT_GOAL := help
SHELL := /bin/sh
# A recipe that fails leaves no half-made target behind.
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
ARGS ?=

.PHONY: help venv demo test test-rest test-broker lint types imports unit integration faults soak bench pictures screenshots lock clean need-java need-prometheus need-chromium

help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  Options of a program follow in ARGS: make demo ARGS="--exit --json"'

venv: $(STAMP) ## Create or update the virtual environment from requirements.lock

# The stamp is newer than what it was made from, so an unchanged environment costs one look at four files.
$(STAMP): requirements.lock deploy/bootstrap.lock pyproject.toml deploy/need.sh
	@PYTHON="$(PYTHON)" sh deploy/need.sh python
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/uv --version >/dev/null 2>&1 || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/bootstrap.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

need-java:
	@sh deploy/need.sh java maven

need-prometheus:
	@sh deploy/need.sh prometheus

need-chromium:
	@sh deploy/need.sh chromium

demo: need-java $(STAMP) ## Replay a month of real telemetry through all parts on this machine
	@$(BIN)/tocsin demo $(ARGS)

test: need-java need-prometheus need-chromium lint ## What CI runs: lint, types, import rule and all tests, in two halves side by side
	@echo "Two halves run side by side, and each prints when it is done: unit, contract, console and fault tests; types and integration tests."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-rest types imports test-broker

# First, beside the types: it compiles the kernels that the other half needs, too.
test-rest: need-java need-prometheus need-chromium $(STAMP)
	$(BIN)/pytest tests/unit tests/contract tests/console tests/faults $(ARGS)

test-broker: need-java need-prometheus $(STAMP)
	$(BIN)/pytest tests/integration $(ARGS)

lint: $(STAMP) ## Check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Check types
	$(BIN)/mypy

imports: $(STAMP) ## Check that imports follow schemas <- detectors <- stream <- console
	$(BIN)/lint-imports

unit: need-prometheus $(STAMP) ## Run the tests that need no broker
	$(BIN)/pytest tests/unit tests/contract $(ARGS)

integration: need-java need-prometheus $(STAMP) ## Run the tests on the real broker and the real engine
	$(BIN)/pytest tests/integration $(ARGS)

faults: need-java $(STAMP) ## Hurt workers, broker, connections, fits and commands for FAULTS_ROUNDS rounds of 23 faults (22), FAULTS_SEED to repeat
	FAULTS_ROUNDS=$${FAULTS_ROUNDS:-22} $(BIN)/pytest tests/faults $(ARGS)

soak: need-java $(STAMP) ## An hour of steady load; fails when the memory of worker or sink grows
	$(BIN)/python -m bench.soak $(ARGS)

bench: need-java $(STAMP) ## Measure the throughput on a real broker
	$(BIN)/python -m bench.throughput $(ARGS)

pictures: need-java need-prometheus $(STAMP) ## Draw the Grafana dashboards, without Grafana, into docs/img
	$(BIN)/python -m bench.pictures $(ARGS)

screenshots: need-java need-chromium $(STAMP) ## Take the pictures of the pages in docs/img, from the data of the demo
	$(BIN)/python -m tests.console.screenshots $(ARGS)

COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

lock: $(STAMP) ## Make all lock files from pyproject.toml; known versions stay unless ARGS=--upgrade
	$(COMPILE) $(ARGS) --group dev pyproject.toml -o requirements.lock
	grep -o '^uv==[^ ]*' requirements.lock | $(COMPILE) - -o deploy/bootstrap.lock
	grep -o '^setuptools==[^ ]*' requirements.lock | $(COMPILE) - -o deploy/docker/build.lock
	@# The image reaches a ClickHouse server, so it leaves the embedded engine out.
	$(COMPILE) --constraint requirements.lock --no-emit-package chdb-core pyproject.toml -o deploy/docker/requirements.lock

clean: ## Remove caches, built files and the data of local runs; the virtual environment stays
	rm -rf .tocsin .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

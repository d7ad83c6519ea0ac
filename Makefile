# Python 3.11 or newer and make are all this needs; everything else lands in .venv.
# PYTHON=python3.12 chooses the interpreter, PYTEST_ARGS="-k quota" the tests.
# Tests wait for brokers and processes more than they compute: TESTERS of them run side by side, file by file.
PYTHON ?= python3
TESTERS ?= 3
PYTEST_ARGS ?=
BENCH_ARGS ?=
LOCK_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PINNED := --constraint constraints.txt
# Builds with the pinned hatchling (and setuptools, for some SDKs), not with ones fetched for the occasion.
EDITABLE := install $(PINNED) --no-build-isolation --editable

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format schemas docs chart bench lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/demo.stamp ## Broker, vendors and verdicts on this machine: watch the worker work
	$(BIN)/moderation-worker demo

test: $(VENV)/dev.stamp ## Every test whose tools are there; says which are not (PYTEST_ARGS=...)
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp ## ruff, its formatter, and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schemas: $(VENV)/dev.stamp ## Write schemas/ anew from the code
	$(BIN)/moderation-worker schemas --out schemas

docs: $(VENV)/dev.stamp ## Write what is made from the vendors' files anew
	$(BIN)/python -m docs.generate

chart: $(VENV)/dev.stamp ## Lint, render and validate the Helm chart and the Dockerfile
	$(BIN)/python -m pytest -m chart $(PYTEST_ARGS)

bench: $(VENV)/dev.stamp ## Run the benchmarks, one after the other (BENCH_ARGS=--quick)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lock: $(VENV)/pip.stamp ## Write constraints.txt anew (LOCK_ARGS=--upgrade takes newer versions)
	$(PIP) install $(PINNED) uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group build \
	  --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate \
	  --custom-compile-command "make lock" --quiet --output-file constraints.txt $(LOCK_ARGS)

clean: ## Remove the environment, the caches and what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: repeated runs install nothing.
$(VENV)/pip.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "This needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
	  "$(PYTHON) cannot make environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(PINNED) pip hatchling editables setuptools
	@touch $@

$(VENV)/demo.stamp: $(VENV)/pip.stamp pyproject.toml
	$(PIP) $(EDITABLE) '.[sandbox]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/pip.stamp pyproject.toml
	$(PIP) $(EDITABLE) '.[sandbox,redis]' --group dev
	@touch $@

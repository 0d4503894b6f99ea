# Every target sets up what it needs from nothing but Python 3.11+ with venv, git and make.
# `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REQUIREMENTS := $(wildcard requirements/*.txt) pyproject.toml sandbox/pyproject.toml hack/localcluster/pyproject.toml
PYTEST := $(BIN)/python -m pytest
# Each worker starts control planes and sandboxes of its own; whole files go to a worker, in the order of the folders.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check bench crash cluster generate pins

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-10s %s\n", $$1, $$2 }'

demo: $(STAMP) ## train a real model through a local control plane and the sandbox (KEEP=1 leaves it running)
	@$(BIN)/python hack/demo.py $(if $(KEEP),--keep)

test: $(STAMP) ## all tests, with one crash point per class (WORKERS=2 at a time)
	@$(BIN)/trainyard-localcluster build >/dev/null
	@$(PYTEST) tests -m "not crash_full and not bench" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

crash: $(STAMP) ## every crash point (long)
	@$(PYTEST) tests/crash -m "not bench"

bench: $(STAMP) ## measure latency, writes, calls and memory
	@$(BIN)/python hack/bench.py

cluster: $(STAMP) ## a local control plane that stays up until interrupted
	@$(BIN)/trainyard-localcluster run .cluster

check: $(STAMP) ## ruff, mypy, import-linter, drift of generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python hack/generate.py --check

generate: $(STAMP) ## write crds/, docs/reference/ and the chart's copy of the CRDs from the models
	@$(BIN)/python hack/generate.py

pins: $(STAMP) ## resolve requirements/*.in into requirements/*.txt
	@for name in operator sandbox dev moto; do \
	  $(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --python-version 3.11 --universal \
	    requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done

# Removed at the start and written at the end, so that an interrupted install is done again.
$(STAMP): $(REQUIREMENTS)
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "error: $(PYTHON) not found: install Python 3.11 or later, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$("$(PYTHON)" -V): Python 3.11 or later is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv: install it (Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }
	@rm -f $@
	@echo "Setting up $(VENV) (two to three minutes the first time) ..." >&2
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  -e . -e sandbox -e hack/localcluster
	@"$(PYTHON)" -m venv $(VENV)/moto
	@$(VENV)/moto/bin/pip install --quiet --disable-pip-version-check -r requirements/moto.txt
	@touch $@

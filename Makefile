# Everything a newcomer needs: `make demo` and `make test` set up what is missing by themselves.
VENV := .venv
# The first Python here that the project supports; or say which: make PYTHON=/path/to/python3.12 demo
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# uv from the machine if it is there, else installed into the project's own environment.
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bin/uv)
RUN := $(VENV)/bin/
STAMP := $(VENV)/.synced

.PHONY: help setup run demo demo-postgres test check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## install everything into .venv

$(STAMP): pyproject.toml uv.lock | $(VENV)/bin/python $(UV)
	UV_PYTHON_DOWNLOADS=never $(UV) sync --all-groups --locked --inexact --compile-bytecode
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: make PYTHON=/path/to/python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/bin/uv: | $(VENV)/bin/python
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(VENV)/bin/python -m ensurepip >/dev/null
	$(VENV)/bin/python -m pip install --quiet uv

run: $(STAMP) ## the main job on real data: ARGS="--color yellow --months 1 2 3 --year 2021"
	$(RUN)python flows/parent.py $(or $(ARGS),--color yellow --months 1 2 3)

demo: $(STAMP) ## the main job on synthetic trips, without server or network, into demo/
	$(RUN)python flows/parent.py --color yellow --months 1 2 3 --source synthetic --data-dir demo

demo-postgres: $(STAMP) ## the same into a private PostgreSQL under demo/
	TAXI_POSTGRES_URL=embedded $(RUN)python flows/parent.py --color yellow --months 1 2 3 --source synthetic \
		--data-dir demo --to postgres

test: $(STAMP) ## the whole test suite
	$(RUN)python -m pytest

check: $(STAMP) ## format, lint, types, layers, lock
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)basedpyright
	$(RUN)lint-imports --no-logo
	$(UV) lock --check

bench: $(STAMP) ## benchmarks against pandas and Polars; ROWS=1440000 for the real thing
	$(RUN)python -m pytest benchmarks $(if $(ROWS),--rows $(ROWS))

clean: ## remove what demo and the tools leave behind, not your data/
	rm -rf demo .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov dist

# Everything a newcomer needs: `make demo` and `make test` set up what is missing by themselves.
VENV := .venv
# The first Python here that the project supports; or say which: make PYTHON=/path/to/python3.12 demo
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# uv from the machine if it is there, else installed into the project's own environment.
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bin/uv)
RUN := $(VENV)/bin/
STAMP := $(VENV)/.synced

# For deploy, worker, serve and alerts; one of yours: make deploy PREFECT_API_URL=https://...
PREFECT_API_URL ?= http://127.0.0.1:4200/api

.PHONY: help setup run demo demo-postgres demo-cloud server deploy worker serve automations pictures test coverage torture image check schema completions reference docs audit bench clean

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

demo: $(STAMP) ## the main job on synthetic trips, without server or network, into demo/, with a page of pictures
	$(RUN)python flows/parent.py --color yellow --months 1 2 3 --source synthetic --data-dir demo
	@$(RUN)taxi-etl report --data-dir demo || test $$? = 2  # 2: without the extra, which it says

demo-postgres: $(STAMP) ## the same into a private PostgreSQL under demo/
	TAXI_POSTGRES_URL=embedded $(RUN)python flows/parent.py --color yellow --months 1 2 3 --source synthetic \
		--data-dir demo --to postgres

demo-cloud: $(STAMP) ## web -> bucket -> BigQuery, against emulators on this machine; no account, no network
	PYTHONPATH=tests $(RUN)python -m support.demo_cloud

server: $(STAMP) ## a Prefect server with its UI on http://127.0.0.1:4200, until Ctrl-C
	$(RUN)taxi-etl server

deploy worker serve automations: export PREFECT_API_URL := $(PREFECT_API_URL)
# Prefect's own commands print a notice about telemetry otherwise; ours see to it themselves.
deploy worker: export DO_NOT_TRACK ?= 1

deploy: $(STAMP) ## everything in prefect.yaml to the server, with its work pool
	$(RUN)taxi-etl deploy

worker: $(STAMP) ## work on what is deployed, until Ctrl-C; as many as you like
	$(RUN)taxi-etl worker $(ARGS)

serve: $(STAMP) ## the same without pool and worker, until Ctrl-C
	$(RUN)taxi-etl serve $(ARGS)

automations: $(STAMP) ## runs that vanish are seen by the server; alerts by it too: ALERT_BLOCK=slack-webhook/taxi
	$(RUN)taxi-etl automations $(ALERT_BLOCK)

pictures: $(STAMP) ## take the pictures in docs/images/ again; those of the UI need chromium
	TAXI_TEST_PICTURES=docs/images $(RUN)python -m pytest tests/flows/test_ui.py tests/flows/cli/test_terminal.py tests/taxi_etl/test_report.py

test: $(STAMP) ## the whole test suite
	$(RUN)python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

coverage: $(STAMP) ## the same, and the share of flows and transforms that it runs; fails below 90 %
	$(RUN)python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder --cov --cov-report=term

# The tests that do more in the long mode say so by these names. Sorted, because pytest loses a folder's fixtures
# when it comes back to the folder.
LONG_FORMS = $(sort tests/flows/destinations/test_contract.py \
	$(shell grep -lrE --include='test_*.py' 'TORTURE|REAL_MONTHS' tests/flows))

torture: $(STAMP) ## the long mode of kills, faults, readers, files, views and soak; writes docs/explanation/reliability.json; SHARE=0.1
	TAXI_TEST_TORTURE=$(or $(SHARE),1) $(RUN)python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder \
		tests/torture $(LONG_FORMS)

IMAGE := docker.io/library/taxi-etl:0.1.0

image: $(STAMP) ## build the image with buildah, and run main job and services from it; BUILD="--volume ..."
	buildah build --tag $(IMAGE) $(BUILD) .
	TAXI_TEST_IMAGE=$(IMAGE) $(RUN)python -m pytest tests/test_image.py

check: $(STAMP) ## format, lint, types, layers, lock, packages
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)basedpyright
	$(RUN)lint-imports --no-logo
	$(UV) lock --check
	rm -rf dist && $(UV) build --quiet && $(RUN)twine check --strict dist/*

schema: $(STAMP) ## write flows/cli/prefect_schema.sql again, for another version of Prefect
	PYTHONPATH=tests $(RUN)python -m support.prefect_schema

completions: $(STAMP) ## write taxi_etl/completions/ again, after a change of an option
	PYTHONPATH=tests $(RUN)python -m support.completions

reference: $(STAMP) ## write the generated pages of docs/reference/ again, after a change of options, settings or columns
	PYTHONPATH=tests $(RUN)python -m support.reference

docs: $(STAMP) ## the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict

audit: $(STAMP) ## known weaknesses of what uv.lock names; asks osv.dev, so it needs the web
	@$(UV) audit --locked || { echo "error: the audit found something, or osv.dev cannot be reached; see above"; exit 1; }

bench: $(STAMP) ## benchmarks against pandas, dlt, psql, ...; ROWS=1440000, FILE=month.csv.gz, RESULTS=folder
	$(RUN)python -m pytest benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(FILE),--file $(FILE)) $(if $(RESULTS),--results $(RESULTS))

clean: ## remove what demo and the tools leave behind, not your data/
	rm -rf demo .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov dist

# Every command of the project. `make setup` builds .venv once; the others call it when needed.
# Nothing here needs activation, root or a GPU. `make PYTHON=/path/to/python3.12 setup` chooses the interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
BIN := .venv/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=
DOMAIN ?=
BENCHES := engine swap masking api train

.PHONY: help setup demo run test lint format pin settings zendesk-app clean $(addprefix bench-,$(BENCHES))

help:  ## Lists these commands.
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@printf 'make %-10s %s\n' 'bench-NAME' 'Measures one part and writes .bench/NAME.json; NAME is one of: $(BENCHES)'

setup:  ## Creates .venv and installs everything; instant when nothing has changed.
	@PYTHON='$(PYTHON)' scripts/setup.sh

demo: setup  ## Runs the whole loop once on bundled tickets and writes .understudy/demo/.
	@$(BIN)/understudy demo

run: setup  ## Serves the console at http://127.0.0.1:8000.
	@$(BIN)/understudy serve

test: lint  ## Runs every check: lint, formatting, types, imports, YAML, then the tests.
	$(BIN)/python -m pytest --durations=15 $(PYTEST_ARGS)

lint: setup  ## Runs every check but the tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .

format: setup  ## Formats the code and repairs what the linter can repair.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pin: setup  ## Writes constraints.txt from what is installed.
	@scripts/pin.sh

settings: setup  ## Writes docs/settings.md and deploy/env.example from the settings classes.
	@$(BIN)/python scripts/settings_table.py

zendesk-app: setup  ## Packs the Zendesk sidebar app for the bot at DOMAIN into dist/zendesk-app.zip.
	@$(BIN)/python deploy/zendesk-app/package.py --domain '$(DOMAIN)'

$(addprefix bench-,$(BENCHES)): bench-%: setup
	@if [ -f benches/$*.py ]; then \
		mkdir -p .bench; \
		$(BIN)/python -m benches.$* $(BENCH_ARGS); \
	else \
		echo "bench-$*: not measured yet in this version (benches/$*.py does not exist)" >&2; \
		exit 2; \
	fi

clean:  ## Removes caches, results and the virtual environment; keeps .understudy, which holds data.
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install reproduce smoke draw test peers format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z_]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create .venv with the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wzfl needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

reproduce: $(INSTALLED)  ## Sweep, train, draw the figures and write results/report.md
	$(BIN)/python scripts/reproduce.py

smoke: $(INSTALLED)  ## The same on a tiny sweep, in results/smoke, under a minute
	$(BIN)/python scripts/reproduce.py --preset smoke --results-dir results/smoke

draw: $(INSTALLED)  ## Draw figures and report from finished runs; trains nothing
	$(BIN)/python scripts/draw.py

test: $(INSTALLED)  ## Lint, check types, run all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

peers: $(INSTALLED)  ## Install fedjax and compare its quantizers with ours
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	$(BIN)/pytest tests/test_peers.py

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove runs, caches and .venv; keeps figures, tables and report
	rm -rf results/runs results/sweeps results/smoke results/wandb $(VENV) .pytest_cache .mypy_cache .ruff_cache

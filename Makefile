PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP_INSTALL) --constraint constraints.txt
EDEN := https://github.com/amitport/EDEN-Distributed-Mean-Estimation

.DEFAULT_GOAL := help
.PHONY: help install reproduce paper smoke beyond convex correlation accuracy-mnist accuracy-cifar tune conditions rate-distortion \
	draw dashboard wandb-sync wandb-workspace test coverage peers launchers kills interrupted fuzz mutants benchmark benchmark-gpu benchmark-peers format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create .venv with the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wzfl needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	@touch $@

reproduce: $(INSTALLED)  ## Sweep, train, draw the figures and write results/report.md
	$(BIN)/python scripts/reproduce.py

paper: $(INSTALLED)  ## The same with all data sets and models, for a GPU; says first how long it may take
	$(BIN)/python scripts/reproduce.py --preset $@ --estimate

smoke:  ## The same on a tiny sweep, under a minute; results go to results/smoke/
beyond:  ## Errors of codes with and without side information, half an hour
convex:  ## Loss against bits on a convex problem with clients that differ, half an hour
correlation:  ## How good the policies of side information are, a quarter of an hour
accuracy-mnist:  ## Accuracy against bits in four regimes, three quarters of an hour
accuracy-cifar:  ## The same for a small CNN, an hour
tune:  ## Which step size suits which compressor, an hour
conditions:  ## Accuracy by participation, clients, lost payloads, batch size, epochs, side information, forty minutes
smoke beyond convex correlation accuracy-mnist accuracy-cifar tune conditions: $(INSTALLED)
	$(BIN)/python scripts/reproduce.py --preset $@

rate-distortion: $(INSTALLED)  ## Measure all compressors on vectors, without training, half an hour
	$(BIN)/python scripts/measure_vectors.py

draw: $(INSTALLED)  ## Draw figures and report from finished runs; trains nothing (PRESET=beyond: of that)
	$(BIN)/python scripts/draw.py --preset $(or $(PRESET),default)

TRACKED = $(or $(FOLDER),results/$(if $(filter-out default,$(PRESET)),$(PRESET)/)wandb)

# The shell's own commands take any number of paths, other programs do not.
NEEDS_TRACKED = @set -- "$(TRACKED)"/*run-*/*.wandb; test -e "$$1" || \
	{ echo "no tracked runs in $(TRACKED); scripts/train.py and make reproduce track theirs"; exit 1; }

dashboard: $(INSTALLED)  ## Look at tracked runs in the terminal (PRESET=beyond: at those; FOLDER=...: at any)
	$(NEEDS_TRACKED)
	WANDB_ERROR_REPORTING=false $(BIN)/wandb leet "$(TRACKED)"

wandb-sync: $(INSTALLED)  ## Upload tracked runs that are not uploaded yet, with an account (PRESET, FOLDER as above)
	$(NEEDS_TRACKED)
	$(BIN)/wandb sync "$(TRACKED)"

wandb-workspace: $(INSTALLED)  ## Make a saved view of uploaded runs (ENTITY=user or team)
	@test -n "$(ENTITY)" || { echo "whose project? make wandb-workspace ENTITY=user-or-team"; exit 1; }
	$(INSTALL) --editable '.[dev,dashboards]'
	$(BIN)/python scripts/wandb_workspace.py --entity $(ENTITY)

test: $(INSTALLED)  ## Lint, check types, run all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

coverage: $(INSTALLED)  ## Run all tests, and write which lines and branches of wzfl/ they take to results/coverage.md
	$(BIN)/pytest --cov --cov-report= --cov-fail-under=0
	$(BIN)/python scripts/report_coverage.py

peers: $(INSTALLED)  ## Install fedjax and compare its quantizers with ours
	$(INSTALL) --editable '.[dev,peers]'
	$(BIN)/pytest tests/test_peers.py

kills: $(INSTALLED)  ## Kill a sweep 500 times at random moments, and compare what comes of it, three quarters of an hour
	$(BIN)/python scripts/kill_sweeps.py

interrupted: $(INSTALLED)  ## Kill make reproduce three times, and compare its tables with those in results/ of the same machine
	$(BIN)/python scripts/interrupt_reproduce.py

fuzz: $(INSTALLED)  ## Install atheris, and fuzz what decodes payloads, an hour (MINUTES=600: ten)
	$(INSTALL) --editable '.[dev,fuzz]'
	$(BIN)/python scripts/fuzz_payloads.py --minutes $(or $(MINUTES),60)

mutants: $(INSTALLED)  ## Change the codecs line by line, and see which changes the tests notice, a quarter of an hour
	$(INSTALL) --editable '.[dev,mutation]'
	rm -rf mutants
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/python scripts/report_mutants.py

# Ray's launcher comes without what it wants for AWS alone, in other versions than ours.
launchers: $(INSTALLED)  ## Install launchers for Slurm and Ray, and run the same sweep on each
	$(INSTALL) --editable '.[dev,slurm]' ray
	$(INSTALL) --no-deps hydra-ray-launcher
	$(BIN)/pytest tests/test_launchers.py
	$(BIN)/python scripts/compare_launchers.py

benchmark: $(INSTALLED)  ## Time rounds and codecs, beside other simulators if installed
	$(BIN)/python scripts/benchmark.py

benchmark-gpu: $(INSTALLED)  ## Time codecs and rounds on a CUDA device
	$(BIN)/python scripts/benchmark_gpu.py

benchmark-peers:  ## Install fedjax, pfl, Flower and EDEN's own code to compare with, each in .venv-peers/
	for name in fedjax pfl flower; do \
		$(PYTHON) -m venv .venv-peers/$$name && .venv-peers/$$name/bin/python $(PIP_INSTALL) \
			-r scripts/peers/$$name.txt || exit 1; \
	done
	test -d .venv-peers/eden || git clone --quiet --depth 1 $(EDEN) .venv-peers/eden || \
		echo "EDEN's own code is left out: it could not be cloned"

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove runs, caches and .venv; keeps figures, tables and report
	rm -rf results/runs results/sweeps results/smoke results/updates results/wandb results/*/runs \
		results/*/sweeps results/*/wandb mutants $(VENV) .venv-peers .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis .coverage .coverage.*

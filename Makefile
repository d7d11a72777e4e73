PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := pyproject.toml setup.py

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test browser lint docs bench clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/installed ## Install xface, explain samples/fake.jpg into results/
	$(BIN)/xface explain --out results samples/fake.jpg
	@echo "Open the panel named above. Next: $(BIN)/xface explain --help"

test: $(VENV)/installed-test ## Install what tests need, run them all
	$(BIN)/pytest --numprocesses 2 --dist loadfile

browser: ## Install a Chromium to test the report's page in (Debian, as root); tests skip without one
	@command -v chromium-headless-shell > /dev/null || { \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell; }

lint: $(VENV)/installed-lint ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed ## Draw the pictures and fill in the table of README.md and docs/ again
	$(BIN)/python docs/make_figures.py

bench: $(VENV)/installed ## Time attribution against captum, grad-cam and the floor, and loading (many minutes)
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/attribution.py --out benchmarks/results/attribution-cpu.json
	$(BIN)/python benchmarks/loading.py --out benchmarks/results/loading-cpu.json

clean: ## Remove the environment and caches; results/ stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: $(METADATA) | $(VENV)/bin/pip
	$(BIN)/pip install --editable .
	@touch $@

$(VENV)/installed-%: $(METADATA) | $(VENV)/bin/pip
	$(BIN)/pip install --editable '.[$*]'
	@touch $@ $(VENV)/installed

$(VENV)/bin/pip:
	@command -v $(PYTHON) > /dev/null || \
	    { echo "$(PYTHON) is not installed; on Debian: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "$$($(PYTHON) --version) is too old for xface, which needs 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	    { echo "$(PYTHON) cannot make environments; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

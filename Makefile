PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := pyproject.toml setup.py
LOCK := requirements.txt
LOWEST := $(VENV)-lowest

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow test-lowest browser lint docs bench lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/installed ## Install xface, explain samples/fake.jpg into results/
	$(BIN)/xface explain --out results samples/fake.jpg
	@echo "Open the panel named above. Next: $(BIN)/xface explain --help"

test: $(VENV)/installed ## Run the quick tests
	$(BIN)/pytest -m 'not slow' --numprocesses 2 --dist loadfile

test-slow: $(VENV)/installed ## Run the slow tests (minutes)
	$(BIN)/pytest -m slow --numprocesses 2 --dist loadfile

test-lowest: ## Run the quick tests at the lowest versions that pyproject.toml allows (PYTHON=python3.10; many minutes)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST) --resolution lowest-direct --editable '.[test]'
	$(LOWEST)/bin/pytest -m 'not slow' --numprocesses 2 --dist loadfile

browser: ## Install a Chromium to test the report's page in (Debian, as root); tests skip without one
	@command -v chromium-headless-shell > /dev/null || { \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell; }

lint: $(VENV)/installed ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/installed ## Draw the pictures and fill in the table of README.md and docs/ again
	$(BIN)/python docs/make_figures.py

bench: $(VENV)/installed ## Time attribution against captum, grad-cam and the floor, and loading (many minutes)
	mkdir -p benchmarks/results
	$(BIN)/python benchmarks/attribution.py --out benchmarks/results/attribution-cpu.json
	$(BIN)/python benchmarks/loading.py --out benchmarks/results/loading-cpu.json

# --no-annotate, as a note would name the file of a constraint that pip is configured with.
lock: | $(VENV)/bin/pip ## Pin the newest versions that pyproject.toml allows, on every Python, in requirements.txt
	$(BIN)/pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND='make lock' UV_CONSTRAINT="$$($(BIN)/pip config --global get global.constraint 2> /dev/null)" \
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --all-extras --generate-hashes \
	    --no-annotate --output-file requirements.txt pyproject.toml

clean: ## Remove the environment and caches; results/ stays
	rm -rf $(VENV) $(LOWEST) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip checks no hash of a folder, so what xface needs comes first. Then xface, without an index: what the lock
# lacks is an error, not a download. `make LOCK= ...` takes the newest versions instead.
$(VENV)/installed: $(METADATA) $(LOCK) | $(VENV)/bin/pip
	$(if $(LOCK),$(BIN)/pip install --require-hashes --requirement $(LOCK))
	$(BIN)/pip install $(if $(LOCK),--no-index --no-build-isolation )--editable '.[test,lint]'
	@touch $@

$(VENV)/bin/pip:
	@command -v $(PYTHON) > /dev/null || \
	    { echo "$(PYTHON) is not installed; on Debian: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "$$($(PYTHON) --version) is too old for xface, which needs 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	    { echo "$(PYTHON) cannot make environments; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The commands a person types. `make` lists them. One environment, .venv, with the exact versions of constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CRATE  := --manifest-path rust_indicators/Cargo.toml
BUILT  := $(VENV)/.built
# What the build reads: editing Python needs no new build, since the install is editable.
SOURCES := pyproject.toml constraints.txt README.md LICENSE \
           $(wildcard rust_indicators/Cargo.*) $(shell find rust_indicators/src -name '*.rs')

# maturin and pyo3 build for this Python, whatever `python3` means elsewhere in PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench lock clean requirements

help: ## this list
	@echo "Shijim: records Taiwan's markets, proves what it recorded, builds datasets. Commands:"
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
	@echo "Needs Python 3.11 to 3.13 with venv, a C compiler and Rust; another Python: make PYTHON=python3.12 …"

demo: $(BUILT) ## one simulated trading day from recording to a finished backtest, into demo/
	@$(BIN)/shijim demo --data-dir demo

test: $(BUILT) ## every test, Rust and Python
	cargo test --locked --quiet $(CRATE)
	$(BIN)/python -m pytest

lint: $(BUILT) ## ruff, mypy --strict, cargo fmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cargo fmt $(CRATE) --check
	cargo clippy --locked --quiet $(CRATE) --all-targets --features extension-module -- -D warnings

format: $(BUILT) ## put Python and Rust into the shape that `make lint` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt $(CRATE)

bench: $(BUILT) ## measure the numbers of benches/, and write benches/RESULTS.md
	$(BIN)/python -m benches

# --no-build-isolation: pip would otherwise fetch its own maturin, of any version, and ignore the constraints.
$(BUILT): $(SOURCES) | requirements
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what constraints.txt names and building the Rust crate (the first time takes a few minutes)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt maturin
	@$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

requirements:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON): install Python 3.11 to 3.13 (apt install python3 python3-venv), or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), Shijim needs Python 3.11 to 3.13; name another one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module: apt install python3-venv" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "make: no C compiler: apt install gcc libc6-dev" >&2; exit 1; }
	@cargo --version >/dev/null 2>&1 || { echo "make: cargo is missing or does not run: install Rust 1.88 or later from https://rustup.rs" >&2; exit 1; }

lock: | requirements ## write constraints.txt anew, from the newest versions pyproject.toml allows
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet '.[dev]'
	@{ echo "# Exact version of everything, written by \`make lock\`: pip freeze of a fresh environment with '.[dev]' on"; \
	   echo "# $$($(PYTHON) --version), $$(uname -sm). The Makefile installs with it; a plain \`pip install\` does not need it."; \
	   build/lock/bin/python -m pip freeze --exclude shijim; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -r build/lock

clean: ## remove the environment, build output, caches and the demo's data
	rm -rf $(VENV) build dist demo rust_indicators/target .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find shijim_live shijim_pipelines rust_indicators tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f rust_indicators/_rust*.so

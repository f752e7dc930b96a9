# The commands a person types. `make` lists them. One environment, .venv, with the exact versions of constraints.txt.

PYTHON ?= python3
# As PATH has it now, before the environment's own Python comes first.
HOST_PYTHON := $(shell command -v $(PYTHON))
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

# The same examples on every run, as Hypothesis has them; another number finds others.
export PROPTEST_RNG_SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo ui test loom asan crash soak days screenshot lint format bench lock clean requirements

help: ## this list
	@echo "Shijim: records Taiwan's markets, proves what it recorded, builds datasets. Commands:"
	@awk -F ':[^#]*## ' '/^[a-z]+:[^#]*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Needs Python 3.11 to 3.13 with venv, a C compiler and Rust; another Python: make PYTHON=python3.12 …"

demo: $(BUILT) ## one simulated trading day, recorded and taken through the whole Dagster chain, into demo/
	@$(BIN)/shijim demo --data-dir demo

# What the UI shows: the demo's data and runs, unless SHIJIM_DATA_DIR and DAGSTER_HOME say otherwise.
ui: $(BUILT) ## the Dagster UI on the demo's day at http://127.0.0.1:3000 (make demo first; UI_PORT=…)
	@test -n "$$DAGSTER_HOME" || test -d demo/dagster_home || { echo "make: nothing to show yet: run make demo first" >&2; exit 1; }
	@echo "Dagster UI: http://127.0.0.1:$${UI_PORT:-3000} – times as your browser's zone has them, schedules in Asia/Taipei; Ctrl-C stops it"
	@SHIJIM_DATA_DIR=$${SHIJIM_DATA_DIR:-$(CURDIR)/demo} DAGSTER_HOME=$${DAGSTER_HOME:-$(CURDIR)/demo/dagster_home} \
	   TZ=Asia/Taipei $(BIN)/dg dev --host 127.0.0.1 --port $${UI_PORT:-3000}

test: $(BUILT) ## every test, Rust and Python
	cargo test --locked --quiet $(CRATE)
	$(BIN)/python -m pytest -n 2 --dist loadfile

loom: | requirements ## every interleaving of the ring's protocol, a minute or two; `make test` tries most of them
	LOOM_MAX_PREEMPTIONS=200 cargo test --locked --release $(CRATE) --test ring_model

# A nightly feature, taken from the stable compiler; a target folder of its own, since it builds everything its way.
asan: | requirements ## the Rust tests under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --quiet $(CRATE) --lib \
	   --target $$(rustc -vV | sed -n 's/^host: //p') --target-dir rust_indicators/target/asan

crash: $(BUILT) ## hundreds of kills and power cuts, and a table of what they cost; SHIJIM_CRASH_SEED for others
	SHIJIM_CRASH_KILLS=$${SHIJIM_CRASH_KILLS:-300} $(BIN)/python -m pytest tests/test_crash.py tests/test_crash_matrix.py

soak: $(BUILT) ## a recorder that takes 10⁸ records and 10⁷ SDK objects, minutes each: does its memory grow?
	SHIJIM_SOAK_RECORDS=$${SHIJIM_SOAK_RECORDS:-100000000} SHIJIM_SOAK_OBJECTS=$${SHIJIM_SOAK_OBJECTS:-10000000} \
	   $(BIN)/python -m pytest -s tests/test_soak.py

days: $(BUILT) ## twenty seeded days with losses of every kind, each to its certificate; SHIJIM_DAYS for more
	SHIJIM_DAYS=$${SHIJIM_DAYS:-20} $(BIN)/python -m pytest tests/test_days.py

screenshot: $(BUILT) ## the lineage as chromium shows it, into docs/lineage.png
	SHIJIM_SCREENSHOT=$(CURDIR)/docs/lineage.png $(BIN)/python -m pytest tests/test_ui.py -k lineage

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
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(HOST_PYTHON) --version)"; $(HOST_PYTHON) -m venv $(VENV); }
	@echo "installing what constraints.txt names and building the Rust crate (the first time takes a few minutes)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt maturin
	@$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

# One line that says what is missing, instead of a stack trace half-way.
define refuse
{ echo "make: $(1)" >&2; exit 1; }
endef
MINOR := -c 'import sys; print("%d.%d" % sys.version_info[:2])'

requirements:
	@test -n "$(HOST_PYTHON)" || $(call refuse,no $(PYTHON) in PATH: apt install python3 python3-venv or name one: make PYTHON=python3.12)
	@case "$$($(HOST_PYTHON) $(MINOR))" in 3.11|3.12|3.13) ;; \
	   *) $(call refuse,$(PYTHON) is $$($(HOST_PYTHON) --version 2>&1) but Shijim needs 3.11 to 3.13; name one: make PYTHON=python3.11) ;; esac
	@$(HOST_PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call refuse,$(PYTHON) has no venv module: apt install python3-venv)
	@! test -x $(BIN)/python || test "$$($(BIN)/python $(MINOR))" = "$$($(HOST_PYTHON) $(MINOR))" || \
	   $(call refuse,$(VENV) is of $$($(BIN)/python --version) but $(PYTHON) is $$($(HOST_PYTHON) --version): run make clean first)
	@command -v cc >/dev/null || $(call refuse,no C compiler: apt install gcc libc6-dev)
	@cargo --version >/dev/null 2>&1 || $(call refuse,cargo is missing or does not run: install Rust 1.88 or later from https://rustup.rs)

# PYO3_PYTHON is for the environment here, not for the one made there.
lock: | requirements ## write constraints.txt anew, from the newest versions pyproject.toml allows
	$(HOST_PYTHON) -m venv --clear build/lock
	env -u PYO3_PYTHON build/lock/bin/python -m pip install --quiet '.[dev]'
	@{ echo "# The exact version of everything the Makefile installs, written by \`make lock\`:"; \
	   echo "# pip freeze of a fresh environment with '.[dev]', $$($(HOST_PYTHON) --version), $$(uname -sm). Not edited by hand."; \
	   build/lock/bin/python -m pip freeze --exclude shijim; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -r build/lock

clean: ## remove the environment, build output, caches and the demo's data
	rm -rf $(VENV) build dist demo rust_indicators/target .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find shijim_live shijim_pipelines rust_indicators tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f rust_indicators/_rust*.so

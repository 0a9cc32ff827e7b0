# massive_lab: everything a newcomer or a continuous-integration machine types.
# Each target sets up .venv by itself; nothing is installed outside it.

PYTHON ?= python3
VENV   ?= .venv
SEED   ?= 7
OUT    ?= out/audit
ARGS   ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help audit test lint types contract bench soak fuzz docs clean

help: ## show this text
	@printf 'massive_lab: make <target>\n\n'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nPYTHON=%s chooses the interpreter (3.11 or newer); ARGS="..." is passed on to the tool.\n' '$(PYTHON)'

# What a machine may lack is checked while make expands the recipe: $(error) ends in one line and exit code 2.
works = $(shell $(PYTHON) -c $(1) >/dev/null 2>&1 && echo yes)
define check_python
$(if $(call works,'import sys'),,$(error there is no '$(PYTHON)' to run: apt-get install python3 python3-venv))
$(if $(call works,'import sys; sys.exit(sys.version_info < (3$(comma) 11))'),,$(error \
  massive_lab needs Python 3.11 or newer and '$(PYTHON)' is older: make PYTHON=/path/to/python3.11))
$(if $(call works,'import venv$(comma) ensurepip'),,$(error \
  '$(PYTHON)' cannot create virtual environments: apt-get install python3-venv))
endef
comma := ,

$(STAMP): pyproject.toml constraints.txt
	$(strip $(check_python))
	@echo "make: setting up $(VENV); this happens once and takes a minute or two"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook,dev]'
	@touch $@
	@echo "make: $(VENV) is ready with $$($(BIN)/python --version)"

audit: $(STAMP) ## measure a run on the sandbox and write the report to out/audit/
	@$(BIN)/massive-lab audit --seed $(SEED) -o $(OUT) $(ARGS)

test: $(STAMP) ## run the whole suite
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting of imports
	@$(BIN)/ruff check . $(ARGS)

types: $(STAMP) ## mypy --strict over the package
	@$(BIN)/mypy $(ARGS)

contract: $(STAMP) ## import-linter: what may import what
	@$(BIN)/lint-imports $(ARGS)

bench: $(STAMP) ## measure against named peers, in the same run
	@$(BIN)/python -m benchmarks.run $(ARGS)

soak: $(STAMP) ## ten minutes at 50,000 events/s with no trade lost, then 10,000 random fault sequences
	@$(BIN)/python -m soak.live $(ARGS)
	@SOAK_SEEDS=$${SOAK_SEEDS:-10000} $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/property/test_live_machine.py

fuzz: $(STAMP) ## mutated answers for the decoder, mutated requests and frames for the gateway (SEED=7; ARGS="--count 100000")
	@$(BIN)/python fuzz/fuzz_decode.py --seed $(SEED) $(ARGS)
	@$(BIN)/python fuzz/fuzz_gateway.py --seed $(SEED) $(ARGS)

docs: $(STAMP) ## regenerate docs/reference.md from the schema
	@$(BIN)/python tools/build_docs.py $(ARGS)

clean: ## remove .venv and everything that runs leave behind
	rm -rf $(VENV) out build dist htmlcov .coverage .coverage.* coverage.xml \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo: five machines under QEMU, phase 1 built on them, and the health table.   make test: everything the project checks.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench
PIP := --quiet --quiet --disable-pip-version-check --no-input
# Keyed by what goes in: another lock or another Python makes another stamp, so an environment is never half old.
key = $(shell (cat $(1); $(PYTHON) -c 'import sys; print(sys.version, sys.prefix)') 2>/dev/null | sha256sum | cut -c 1-16)
STAMP := $(VENV)/.packages-$(call key,requirements-dev.lock)
EDITABLE := $(VENV)/.editable-$(call key,requirements-dev.lock pyproject.toml)
BENCH_STAMP := $(BENCH_VENV)/.packages-$(call key,requirements-bench.lock)

define NEXT

What to try next (with `. $(VENV)/bin/activate` before):
  python -m lab crash dock-mirror              pull the plug of one machine
  python runbooks/health.py --inventory lab    see what health says about it (exit code 3)
  python -m lab start dock-mirror              and bring it back
  python -m lab cut home dc                    cut two sites off from each other; `python -m lab heal` mends it
  python -m lab ssh dock-prod                  look around; break something in /etc/wireguard by hand
  python runbooks/phase1_baseline.py --inventory lab --dry-run     what would be mended, as diffs
  make down                                    stop the machines
Your own five hosts: README.md, then inventory/ and `python runbooks/validate.py`.
endef
export NEXT
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: setup ## five machines under QEMU, phase 1 built on them, and the health table
	$(BIN)/python -m lab up
	$(BIN)/python runbooks/phase1_baseline.py --inventory lab --yes
	$(BIN)/python runbooks/health.py --inventory lab
	@echo "$$NEXT"

.PHONY: test
test: setup ## everything: ruff, mypy, quick tests, lab tests
	@$(MAKE) --no-print-directory lint unit lab-test

.PHONY: setup
setup: ## install what is missing: Debian packages and the locked Python environment
	@./setup.sh
	@$(MAKE) --no-print-directory python

.PHONY: python
python: $(EDITABLE) ## the Python environment alone: all that runbooks need for hosts of your own

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}; give another one: make PYTHON=python3.12 ...")'
	@echo "==> making the Python environment in $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP) --require-hashes --requirement requirements-dev.lock
	@touch $@

# Editable, so that `python runbooks/x.py` finds dockyard/, tasks/ and lab/ from any folder.
$(EDITABLE): $(STAMP)
	@$(BIN)/python -m pip install $(PIP) --no-deps --no-build-isolation --no-index --editable .
	@rm -f $(VENV)/.editable-*
	@touch $@

.PHONY: lint
lint: python ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: unit
unit: python ## the quick tests: no root, no network, no machine
	$(BIN)/pytest -n auto

.PHONY: lab-test
lab-test: setup ## the real runbooks on the lab's machines
	$(BIN)/pytest -m "lab and not drill" --durations=15

.PHONY: drill
drill: setup ## the lab tests that break one thing after the other and wait: hours
	$(BIN)/pytest -m drill

$(BENCH_STAMP):
	@echo "==> making the environment of Ansible and pyinfra in $(BENCH_VENV)"
	@rm -rf $(BENCH_VENV)
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip install $(PIP) --require-hashes --requirement requirements-bench.lock
	@touch $@

.PHONY: bench
bench: setup ## measure the sweep against ssh, Ansible and pyinfra
	@$(MAKE) --no-print-directory $(BENCH_STAMP)
	PATH="$$PATH:$(CURDIR)/$(BENCH_VENV)/bin" $(BIN)/python bench/sweep.py

.PHONY: down
down: ## stop the lab's machines
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m lab down; fi

.PHONY: lock
lock: ## write the three locks anew from pyproject.toml (needs uv)
	@for lock in "requirements.lock pyproject.toml" "requirements-dev.lock pyproject.toml --extra dev" "requirements-bench.lock --group pyproject.toml:bench"; do \
	    set -- $$lock; output=$$1; shift; \
	    uv pip compile "$$@" --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-config --no-emit-index-url \
	        --custom-compile-command "make lock" --quiet --output-file $$output; \
	done

.PHONY: clean
clean: down ## remove the environments and what the tools left; the lab's image stays in the user's cache folder
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .setup.log build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

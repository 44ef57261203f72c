# `make run` and `make test` need Python 3.11 to 3.14 and nothing else set up by hand.
PYTHON ?= python3
ARGS ?=
TESTS ?= tests
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PINS := deploy/pins
UV_VERSION := 0.13.8
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Which engines install: cuda beside an NVIDIA GPU, cpu where vLLM has a wheel, hf elsewhere.
NVIDIA := $(shell test -e /proc/driver/nvidia/version || nvidia-smi -L >/dev/null 2>&1 && echo yes)
ifeq ($(shell uname -sm),Linux x86_64)
FLAVOUR ?= $(if $(NVIDIA),cuda,cpu)
else
FLAVOUR ?= hf
endif
# vLLM for CPUs and vLLM for GPUs are one module: an environment holds either.
OTHER := $(filter-out $(FLAVOUR),cpu cuda)
# PyTorch's CPU builds: from the folder pip is told to look in, else from PyTorch's own index.
TORCH := $(if $(filter cuda,$(FLAVOUR)),,$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend=cpu))
# uv carries certificates of its own; the machine's are the ones that know a proxy.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs),1,0)
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/$(FLAVOUR).stamp ## install, then measure the quickstart grid (ARGS="protocol.repeats=5")
	@$(BIN)/python -m campaign run +grid=quickstart $(ARGS)

# Thousands of processes import the same modules: each would compile them again.
test long chaos: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/$(FLAVOUR).stamp $(VENV)/dev.stamp check ## install, check, then run every test (TESTS=tests/unit WORKERS=1)
	@command -v gcc >/dev/null || { echo "make test: gcc is missing; the stand-in for the NVML library is built with it" >&2; exit 1; }
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS) $(ARGS)

check: $(VENV)/$(FLAVOUR).stamp $(VENV)/dev.stamp ## ruff, formatting, types and import rules
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "make check: run .venv/bin/ruff format" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/$(FLAVOUR).stamp $(VENV)/dev.stamp $(VENV)/bench.stamp ## race the meters, time the program (BENCH_QUICK=1 for a look)
	@command -v gcc >/dev/null || { echo "make bench: gcc is missing; the stand-in for the NVML library is built with it" >&2; exit 1; }
	@$(BIN)/python -m pytest -s -o python_files='bench_*.py' tests/benchmarks $(ARGS)

chaos: $(VENV)/$(FLAVOUR).stamp $(VENV)/dev.stamp ## kill and stop everything under a campaign of 2,160 tasks (CHAOS_SEED=7)
	@$(BIN)/python -m pytest -s -o python_files='long_*.py' tests/chaos $(ARGS)

long: $(VENV)/$(FLAVOUR).stamp $(VENV)/dev.stamp ## run what is too long for make test, chaos included (TESTS=tests/ray)
	@command -v gcc >/dev/null || { echo "make long: gcc is missing; the stand-in for the NVML library is built with it" >&2; exit 1; }
	@$(BIN)/python -m pytest -s -o python_files='long_*.py' $(TESTS) $(ARGS)

install: $(VENV)/$(FLAVOUR).stamp ## install without running (FLAVOUR=cpu, cuda, hf or base)

pins: $(VENV)/dev.stamp ## resolve pyproject.toml into deploy/pins/ again
	@$(BIN)/python deploy/pin.py

docs: $(VENV)/$(FLAVOUR).stamp ## write docs/reference/ again, from the program itself
	@$(BIN)/python -m deploy.reference

clean: ## remove .venv, builds and caches; measurements stay
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || { echo "make: $(PYTHON) is not Python 3.11 to 3.14: name one, as in make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) cannot create environments: install its venv package (Debian: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/%.stamp: $(PINS)/%.txt pyproject.toml | $(BIN)/uv
	@test '$*' != cpu -a '$*' != cuda || test ! -e $(VENV)/$(OTHER).stamp || { echo "make: $(VENV) holds the $(OTHER) engines: make clean, then install $*" >&2; exit 1; }
	@echo "make: installing the pinned '$*' dependencies into $(VENV)$(if $(filter hf,$*),: transformers alone; vLLM for CPUs is built for Linux x86-64)"
	@$(INSTALL) $(TORCH) -r $<
	@$(INSTALL) --editable .
	@touch $@

.PHONY: help run test check bench chaos long install pins docs clean

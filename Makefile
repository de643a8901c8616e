# Everything below sets itself up in .venv first, and only once: stamp files there depend on the
# requirements and on setup.py. The steps themselves are in requirements/setup.sh.

.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?=
EXPERIMENT ?= CodeGenNanoMono
BIN := .venv/bin

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Nothing here reaches for a hub: what is not on this machine is reported as missing.
export HF_HUB_OFFLINE := 1

.PHONY: help setup run ladder quick test bench lint format docs golden clean check

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=/path/to/python3.11 chooses the Python, EXPERIMENT=Name what 'make run' trains"

setup: .venv/.package ## fill .venv: the lock and the package (run and test do it by themselves)

run: setup ## train, evaluate and decode EXPERIMENT with the stock Pax binary
	$(BIN)/codegen-pax run $(EXPERIMENT)

ladder: setup ## train NL, Multi, Mono and Instruct, each from the last, and compare them
	$(BIN)/codegen-pax ladder

quick: .venv/.test ## the tests that need no Pax: under two minutes on two cores
	$(BIN)/python -m pytest --quick -n 2 --dist loadfile

test: lint ## lint, then every test; the documentation is built by one of them
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: .venv/.test ## speed against named peers, in one table; QUICK=1 takes five minutes, all an hour
	$(BIN)/python benchmarks/all.py $(if $(QUICK),--quick)

lint: .venv/.test ## ruff (rules and format) and mypy (types)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs ## build the documentation, build/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "the documentation is in build/docs/index.html"

format: .venv/.test ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: .venv/.test ## refresh the snapshots of every registered experiment
	GOLDEN=refresh $(BIN)/python -m pytest --quiet tests/experiments/test_golden.py

clean: ## remove .venv and what the tools left; runs/ stays
	rm -rf .venv build dist docs/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

check:
	@requirements/setup.sh check

.venv/.package: requirements/base.txt setup.py requirements/setup.sh | check
	@requirements/setup.sh package
	@touch $@

.venv/.docs: requirements/docs.txt .venv/.package | check
	@requirements/setup.sh docs
	@touch $@

.venv/.test: requirements/test.txt requirements/torch.txt .venv/.docs | check
	@requirements/setup.sh test
	@touch $@

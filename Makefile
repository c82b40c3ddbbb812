# Every target does its own set-up, once; all of them can be interrupted and repeated.
#   make PYTHON=/path/to/python3.12 TARGET   uses that Python for a new environment

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PYTHON
# .ci/venv leaves compiling to the first import; where this is set, that would be every import.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
DEMO_RUN := build/demo/quickstart

.PHONY: help demo test lint docs bench horovod cluster cluster-stop test-gpu test-oldest venv-train \
	venv-dev venv-bench ci-packages ci-horovod clean distclean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

venv-train:
	@.ci/venv .venv train

venv-dev:
	@.ci/venv .venv dev,train

venv-bench:
	@.ci/venv .venv bench,dev,train

demo: venv-train  ## train the quickstart, predict held-back pictures, say what to do next
	@$(BIN)/python jobs/quickstart_prepare.py
	@$(BIN)/python jobs/quickstart_demo.py --run-dir $(DEMO_RUN)

# Only continuous integration installs SLURM, shellcheck and MPI for a test run; elsewhere the tests that
# need them skip without them.
ci-packages:
	@if [ -n "$${CI:-}" ]; then for group in cluster scripts horovod containers speech; do \
		.ci/system-packages $$group; done; fi

# There it is built as well; elsewhere the tests that need Horovod skip without it.
ci-horovod: venv-dev ci-packages
	@if [ -n "$${CI:-}" ]; then $(BIN)/python -m harness horovod; fi

test: lint docs ci-packages ci-horovod  ## what continuous integration runs: lint, types, docs, all tests
	@$(BIN)/python -m tests.side_by_side --durations=25

lint: venv-dev  ## ruff, the type checker, the directions of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config setup.cfg

docs: venv-dev  ## build the documentation strictly into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "the documentation is in build/site"

bench: venv-bench  ## run the benchmarks: all, or make bench ONLY=P10
	@$(BIN)/python jobs/quickstart_prepare.py
	@$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY))

# Without MPI it is built with Gloo alone, so packages that nobody here may install are no obstacle.
horovod: venv-train  ## build Horovod for the TensorFlow of .venv, install it, prove it
	@.ci/system-packages horovod || echo "going on without them"
	@$(BIN)/python -m harness horovod

cluster: venv-train  ## start a SLURM of three nodes on this machine; CONFIGURATION=NAME for another
	@.ci/system-packages cluster
	@$(BIN)/python -m tests.cluster.serve start $(if $(CONFIGURATION),--configuration $(CONFIGURATION))

cluster-stop: venv-train  ## end that SLURM, with all its jobs and files
	@$(BIN)/python -m tests.cluster.serve stop

# Not for continuous integration, whose machines have none; without a GPU it fails.
test-gpu: venv-dev  ## what only a GPU can show, on a machine that has one
	@$(BIN)/python -m pytest tests/gpu

test-oldest:  ## the core set of tests with the oldest supported versions
	@.ci/venv .venv-oldest dev,train --constraint tests/constraints-oldest.txt
	@.venv-oldest/bin/python -m pytest -m core tests/unit tests/local

clean:  ## remove what was built, trained and downloaded here, keep the environments
	rm -rf build dist

distclean: clean  ## also remove the environments
	rm -rf .venv .venv-oldest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info

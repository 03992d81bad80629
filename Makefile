# Front door. Needs only Python 3.11+, git and make; everything else comes from this folder's own files.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp-requirements
TORCH  := $(VENV)/.stamp-torch

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast coverage check format bench lock clean

help:  ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml hatch_build.py src/stemma/store/codecs/kernels/accelerator.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

# torch is outside the lock: its CPU build differs per platform; pip takes whichever wheel the machine offers.
$(TORCH): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	@touch $@

setup: $(STAMP)  ## make .venv from requirements.lock

demo: $(STAMP)  ## from a training script to production and back, with real models (under 5 minutes)
	@$(BIN)/python examples/demo/demo.py

test: $(STAMP) $(TORCH)  ## run every test
	@$(BIN)/python -m pytest -n 2 --maxschedchunk 8

test-fast: $(STAMP)  ## run the tests that take under 0.25 s each
	@$(BIN)/python -m pytest -m "not slow" -n 2

coverage: $(STAMP) $(TORCH)  ## run every test and say which lines and branches none reaches
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

check: $(STAMP)  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)  ## rewrite the code to the house style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) $(TORCH)  ## measure; writes benchmarks/results/
	@$(BIN)/python -m benchmarks

lock: $(STAMP)  ## renew requirements.lock from pyproject.toml
	@echo "torch; sys_platform == 'never'" | $(BIN)/uv pip compile --override /dev/stdin --quiet --universal --generate-hashes --no-header \
	  --extra sklearn --extra onnx --extra postgres --extra serve --extra cloud --extra iceberg --extra lance --extra delta --group dev pyproject.toml -o requirements.lock --upgrade

clean:  ## remove what the other tasks made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

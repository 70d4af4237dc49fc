# The commands of this project; CONTRIBUTING.md says when to use which.
# Each one makes the virtual environment that it needs, once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MARK := $(VENV)/.installed
TORCH ?= torch==2.13.0
# Two processes: compiling, which most of the time goes into, uses one core.
PYTEST ?= -n 2 --dist worksteal
FAST := not long and not notebooks and not soak
# On JAX the tests compile far more than they compute, and much of it several times: both
# processes, and those that tests start, keep what they have compiled in one folder.
ON_JAX := KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
    JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax-cache \
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
# Two processes with as many threads as cores each wait for each other: it takes twice as long.
ON_TORCH := KERAS_BACKEND=torch OMP_NUM_THREADS=1
SEED := $(or $(SEED),$(shell date +%s))

export TF_CPP_MIN_LOG_LEVEL ?= 2
# What is compiled is kept, whatever the shell says: tests start many processes that import it.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo docs test test-random notebooks test-backends test-long soak check format dist clean

help:  ## Show the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

# Setuptools warns of a checkout whose folders have the package's name; ours are links on purpose.
EDITABLE := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip install --quiet --editable

# Torch first, and in its own step: resolved together with the rest, pip may take the CUDA build.
$(MARK): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(EDITABLE) '.[dev]'
	touch $@

$(VENV)/.backends: $(MARK)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(EDITABLE) '.[dev,jax]'
	touch $@

$(VENV)/.docs: $(MARK)
	$(EDITABLE) '.[dev,docs]'
	touch $@

demo: $(MARK)  ## Train the study `depth` on handwritten digits and write its report
	$(BIN)/deeplstm study depth

docs: $(VENV)/.docs  ## Build the documentation as a site, which needs no network to read
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo build/docs/index.html

test: $(MARK)  ## Run the tests on TensorFlow
	@echo 'Covers layers, models, callbacks, runs, studies, searches and commands, on TensorFlow.'
	@echo 'More: test-backends (JAX, PyTorch), test-long (wide tables, each moment of a kill, learning),'
	@echo 'notebooks, soak (two hours of kills), python tests/faults_in_code.py (do the tests notice?)'
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PYTEST) -m '$(FAST)'

test-random: $(MARK)  ## Run the same tests in a random order, that of SEED
	@echo SEED=$(SEED)
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PYTEST) \
	    -p pytest_randomly --randomly-seed=$(SEED) -m '$(FAST)'

notebooks: $(MARK)  ## Run the notebooks
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PYTEST) -m notebooks

test-backends: $(VENV)/.backends  ## Run layers, models, callbacks and diagnostics on JAX and PyTorch
	$(ON_JAX) $(BIN)/python -m pytest $(PYTEST) -m 'backends and not long'
	$(ON_TORCH) $(BIN)/python -m pytest $(PYTEST) -m 'backends and not long'

test-long: $(VENV)/.backends  ## Run the tests that take long, on all backends; look for known holes
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PYTEST) -m long
	$(ON_JAX) $(BIN)/python -m pytest $(PYTEST) -m 'backends and long'
	$(ON_TORCH) $(BIN)/python -m pytest $(PYTEST) -m 'backends and long'
	$(BIN)/pip-audit --skip-editable

soak: $(MARK)  ## Train for two hours (SOAK_MINUTES), killed every few minutes
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -s -m soak

check: $(MARK)  ## Lint, look whether everything is formatted, check the types and the imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(MARK)  ## Format, and mend what the linter can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

dist: $(MARK)  ## Build the wheel and the source archive in dist/, and check what they say of themselves
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist .
	$(BIN)/twine check --strict dist/*

clean:  ## Remove the virtual environment and build products, not the runs
	rm -rf $(VENV) build dist *.egg-info

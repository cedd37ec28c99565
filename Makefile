# `make demo` and `make test` are all a fresh machine needs: both create the environment first.
# Another build of torch:  make demo PIP_ARGS="--index-url <PyTorch's CPU wheel index> ..."

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e
SOURCES := pyproject.toml constraints.txt $(wildcard kansearch/compiled/*.[ch])
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-slow check format bench clean

demo: $(READY)  ## a real search on scikit-learn's digits, with its report
	$(BIN)/kansearch optimize studies/digits.yaml

test: $(DEV)  ## every check and every test but the slow ones
	@$(MAKE) --no-print-directory check
	$(PYTEST) -m "not slow" -n auto --dist worksteal

test-slow: $(DEV)  ## the tests that take minutes
	$(PYTEST) -m slow -n auto --dist worksteal

check: $(DEV)  ## format, lint, types and the floors of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV)  ## search with and without pruning, at equal epochs
	$(BIN)/python benchmarks/pruning/run.py

clean:
	rm -rf $(VENV)

$(READY): $(SOURCES)  # what a user needs
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[dashboard]'
	touch $@

$(DEV): $(SOURCES)  # what checks and tests need besides
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[dev]'
	touch $(READY) $@

# `make demo` and `make test` are all a fresh machine needs: both create the environment first.
# Another build of torch:  make demo PIP_ARGS="--index-url <PyTorch's CPU wheel index> ..."

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e
SOURCES := pyproject.toml constraints.txt $(wildcard kansearch/compiled/*.[ch] kansearch/compiled/training/*.[ch])
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-slow test-containers check format bench clean

demo: $(READY)  ## two real searches, one that KANs win and one that plain networks win, with their reports
	$(BIN)/kansearch optimize studies/function.yaml
	$(BIN)/kansearch optimize studies/digits.yaml
	@echo
	@echo "KANs win by far where the target is a smooth function of few numbers (reports/function/report.html); plain"
	@echo "networks do as well, or better, where it is not: pictures, categories, noise (reports/digits/report.html)."
	@echo "Which of the two your data are, a search on them tells: $(BIN)/kansearch optimize YOURS.yaml"
	@echo "Both studies in a browser: $(BIN)/kansearch dashboard"

test: $(DEV)  ## every check and every test but the slow ones
	@$(MAKE) --no-print-directory check
	$(PYTEST) -m "not slow" -n auto --dist worksteal

test-slow: $(DEV)  ## the tests that take minutes
	$(PYTEST) -m "slow and not containers" -n auto --dist worksteal

test-containers: $(DEV)  ## builds docker/ and runs it, with podman and as root
	KANSEARCH_REQUIRE=containers $(PYTEST) -m containers

check: $(DEV)  ## format, lint, types, the floors of the house, and docker/
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(filter Linux,$(shell uname)),$(BIN)/hadolint docker/Dockerfile)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec $(wildcard docker/compose*.yaml)
	$(PYTEST) --quiet tests/docker/test_files.py

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

# Everything a desk or a CI machine does with this repository; `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin
# Some tests call make themselves: it is not to look for the jobs of ours.
PYTEST := env -u MAKEFLAGS $(BIN)/python -m pytest -q --dist worksteal

.PHONY: help demo test check lint witness witnesses pycuda long format schema clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     start a node and an archive, send real studies, show what came back"
	@echo "make check    format, lint, types, unit and property tests: about a minute on two cores"
	@echo "make test     make check's steps and every test that needs no GPU; installs what it needs"
	@echo "make witness  results before PixelMed's validator and OHIF's loaders too: installs a JDK and 100 MB"
	@echo "make long     measure which tests are too long for make check, on a quiet machine"
	@echo "make format   put the code into shape"
	@echo "make schema   write docs/engine.schema.json anew, from the code and docs/engines.md"
	@echo "make clean    remove .venv, .demo and what the tools left behind"

demo: .venv/.runtime
	@$(BIN)/python -m dicom_node.harness.demo --data tests/data --engines engines --work .demo

check: lint
	@echo "Unit and property tests"
	@$(PYTEST) -n 2 -m "not slow" $(wildcard tests/unit tests/property)

test: witnesses pycuda lint
	@echo "Every test: twenty-five minutes on two cores"
	@$(PYTEST) -n 3  # one more than there are processors: many tests wait for processes of theirs

lint: .venv/.test
	@echo "Format, lint, types"
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy

witness: witnesses .venv/.test
	@.ci/witnesses pixelmed ohif
	@echo "Results before every witness: ten minutes at most"
	@$(PYTEST) -n 2 tests/witness

witnesses:
	@.ci/witnesses

pycuda: .venv/.test
	@.ci/pycuda

long: .venv/.test
	@$(BIN)/python -m pytest -q -p tests.costs -p no:xdist $(wildcard tests/unit tests/property)

format: .venv/.test
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

schema: .venv/.runtime
	@$(BIN)/python -m dicom_node.infer.schema docs/engines.md > docs/engine.schema.json

clean:
	rm -rf tests/witness/ohif/node_modules
	rm -rf .venv .demo .node .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

# One stamp for what the node runs with, one for what its tests need besides.

.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing dicom_node into .venv (minutes the first time, seconds later)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.test: .venv/.runtime
	@echo "Installing what the tests need into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "Python's venv module is missing; the administrator of this machine" \
	         "has to run: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

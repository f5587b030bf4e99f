# `make demo` and `make test` are all the set-up that a machine with Python >= 3.11 and make needs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST ?= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
# Two processes: most of the time is compilation, which takes one core. Each may need 4 GB.
TWICE ?= -n 2 --dist worksteal

.PHONY: demo test test-slow test-thorough lint docs clean

demo: $(VENV)/.installed
	$(BIN)/quenched demo

test: lint
	$(PYTEST) tests/test_imports.py
	$(PYTEST) $(TWICE) --ignore=tests/test_imports.py

test-slow: $(VENV)/.installed-test
	$(PYTEST) $(TWICE) -m "slow and not thorough"

# PART=1/12 runs a twelfth of them.
test-thorough: $(VENV)/.installed-test
	$(PYTEST) $(TWICE) -m thorough $(if $(PART),--part $(PART))

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

# Warnings are errors. QUENCHED_GALLERY=0 leaves the examples of the gallery unexecuted.
docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -n -W --keep-going docs docs/_build/html

# The build backend is installed first, pinned too; the stamps skip what is up to date.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[test]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) quenched-report docs/_build docs/gallery docs/sg_execution_times.rst

# The project's only interface. Needs Python 3.11 or newer with venv, and the package index.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-long fuzz lint bench clean

train: .venv/installed  ## train LeNet-5 on the embedded MNIST
	$(BIN)/rot180 train

test: lint  ## everything that continuous integration checks
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: .venv/installed-test  ## what takes minutes: networks in their full size, the whole ONNX suite
	$(BIN)/python -m pytest -m long

fuzz: .venv/installed-test  ## damaged files, 20,000 of each kind
	$(BIN)/python -m pytest tests/test_fuzz.py --hypothesis-profile=fuzz

lint: .venv/installed-test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: .venv/installed-test  ## measure against PyTorch
	$(BIN)/rot180 bench

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# PyTorch is only the tests' outside oracle; its CPU build is enough where the index offers it.
.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

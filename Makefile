# make demo: the main job on a synthetic catalogue. make test: the tests. Both install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: venv demo test lint types clean

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: venv
	$(BIN)/semid compare --config examples/demo.yaml

test: venv
	$(BIN)/pytest --cov=semid --cov=tca --cov-report=term-missing:skip-covered --cov-fail-under=95

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv
	$(BIN)/mypy

clean:
	rm -rf build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find semid tca baselines scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo: the main job on a synthetic catalogue, then its best model recommends.
# make test: the tests that gate a change. make test-all: those, then what takes longer.
# make site: the documentation as pages in site/. All of them install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: venv demo test test-all lint types site clean

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: venv
	$(BIN)/semid compare --config examples/demo.yaml
	$(BIN)/semid pick runs/demo --out runs/demo-best
	$(BIN)/semid recommend --model runs/demo-best --histories examples/demo_users.jsonl --k 5
	@echo 'report: runs/demo/report.html'

test: export OMP_NUM_THREADS = 1
test: venv
	$(BIN)/pytest -m 'not slow' -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

test-all: test
	$(BIN)/pytest -m slow
	$(BIN)/python scripts/check_command_lines.py --number 500 --fresh 5
	$(BIN)/python scripts/check_damage.py --runs finished --damages digit half swapped
	$(BIN)/python scripts/check_readers.py
	$(BIN)/python scripts/fuzz_readers.py --number 2000
	$(BIN)/python scripts/check_kills.py --kills 20 --every 25 --every-of-compare 100
	$(BIN)/python scripts/check_wheel.py

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv
	$(BIN)/mypy

site: venv
	$(BIN)/python scripts/write_options.py
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict

clean:
	rm -rf build dist site docs/options.md *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find semid tca baselines scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# `make demo` and `make test` set up what they need; `make help` lists all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# DVC and the stages are found beside the interpreter, whether or not the environment is activated.
RUN := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help install demo test lint bench docs clean

help:
	@echo "make install  set up $(VENV) from requirements.lock (needs Python 3.11 or 3.12)"
	@echo "make demo     run the whole DAG on params.yaml and show the tables"
	@echo "make test     run all tests, the slow ones too (-m 'not slow' leaves them out: make test ARGS=...)"
	@echo "make lint     check style and the lock of dependencies"
	@echo "make bench    run the benchmarks"
	@echo "make docs     copy the tables and figures of the last run into docs/demo and the README"

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "Python %d.%d found; audionas needs 3.11 or 3.12: make PYTHON=python3.11 …" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(READY)

demo: install
	$(RUN) audionas check
	$(RUN) dvc repro
	@cat results/tables/table1.md results/tables/table2.md
	@echo "The whole study on one page: results/report.html. Ablations: see README.md."

test: install
	$(RUN) python -m pytest $(ARGS)

lint: install
	$(RUN) ruff check . && $(BIN)/ruff format --check .
	$(RUN) snakefmt --check -l 110 Snakefile workflow
	$(RUN) python -m pip check

bench: install
	$(RUN) python -m benchmarks all

docs: install
	$(RUN) python docs/update.py demo

clean:
	rm -rf data models results logs .state .snakemake

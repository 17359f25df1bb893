# `make demo` and `make test` set up what they need; `make help` lists all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := $(VENV)/.ready
# DVC and the stages are found beside the interpreter, whether or not the environment is activated.
RUN := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help install demo test test-fast test-cluster test-hostile lint check-lock lock bench docs clean

help:
	@echo "make install  set up $(VENV) from requirements.lock (needs Python 3.11 or 3.12)"
	@echo "make demo     run the whole DAG on params.yaml and show the tables"
	@echo "make test     run all tests (some with: make test ARGS='-m engine' or ARGS='-k teacher')"
	@echo "make test-fast  run the unit tests that take no more than a few seconds each"
	@echo "make test-cluster  run the tests that need root, Slurm, sshd and Swift; what is not there is skipped"
	@echo "make test-hostile  feed seeded damage to every reader: no traceback, no hang, no crash (6 minutes)"
	@echo "make lint     check style and the lock of dependencies"
	@echo "make check-lock  check that dvc.lock fits the parameters and the code, without any data"
	@echo "make lock     write requirements.lock from pyproject.toml, with hashes (needs uv)"
	@echo "make bench    run the benchmarks"
	@echo "make docs     copy the tables and figures of the last run into docs/demo.md and the README"

$(READY): requirements.lock pyproject.toml workflow/safe_dvc.py
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "Python %d.%d found; audionas needs 3.11 or 3.12: make PYTHON=python3.11 …" % v)'
	$(PYTHON) -m venv $(VENV)
	# First the locked setuptools: it builds what has no wheel, in place of whatever release is the newest that day.
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(PIP) install --require-hashes -r $(VENV)/setuptools.lock
	$(PIP) install --require-hashes --no-build-isolation -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(BIN)/python workflow/safe_dvc.py  # what it changes in DVC, and why, stands there
	@touch $@

install: $(READY)

demo: install
	$(RUN) audionas check
	$(RUN) dvc repro
	@cat results/tables/table1.md results/tables/table2.md
	@echo "The whole study on one page: results/report.html. Next: docs/README.md."

test: install
	$(RUN) python -m pytest $(ARGS)

test-fast: install
	$(RUN) python -m pytest tests/unit -m "not slow and not browser" $(ARGS)

test-cluster: install
	$(RUN) python -m pytest -n 0 tests/cluster $(ARGS)

test-hostile: install
	$(RUN) python -m pytest tests/hostile $(ARGS)

lint: install
	$(RUN) ruff check . && $(BIN)/ruff format --check .
	$(RUN) snakefmt --check -l 110 Snakefile workflow
	$(RUN) python -m pip check

# A clone without data can tell whether dvc.lock, params.yaml and the code agree.
check-lock: install
	$(RUN) audionas check
	$(RUN) dvc repro --dry --allow-missing | tee /dev/stderr | grep --quiet "up to date"

# New versions: make lock ARGS=--upgrade, or ARGS='--upgrade-package NAME'.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock $(ARGS)

bench: install
	$(RUN) python -m benchmarks all

docs: install
	$(RUN) python tools/update_docs.py demo

# What stages write, and nothing else of these folders. DVC's cache stays: `dvc checkout` brings all of it back.
clean:
	rm -rf data/segments data/raw data/audio data/logmel
	rm -rf models/teacher models/supernet models/found models/within models/finetuned models/individual models/init models/ranked models/release
	rm -rf results/scores results/curves results/eval results/tables results/figures results/coverage
	rm -f results/metrics.json results/report.html data/.gitignore models/.gitignore results/.gitignore
	rm -rf logs/*.log logs/seconds logs/forked logs/slurm .state .snakemake
	-rmdir data models results logs 2>/dev/null || true

# `make demo` and `make test` install their dependencies; `make help` lists all targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# If not empty, GPU packages are installed too. Set by an NVIDIA driver, or by `make install GPU=1`.
GPU := $(wildcard /dev/nvidiactl)
SET_UP := $(BIN)/python tools/set_up.py
FOR := $(if $(GPU),--gpu)
DEMO := $(VENV)/.demo$(FOR)
ALL := $(VENV)/.all$(FOR)
# Use the programs of the environment, even if it is not activated.
RUN := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help install demo test test-fast test-cluster test-hostile lint check-lock lock bench docs clean deploy-page \
	lock-deploy deploy-litert deploy-executorch deploy-sherpa

help:
	@echo "make demo     install what the pipeline needs in $(VENV), run it with params.yaml, and show the tables"
	@echo "make install  install all of requirements.lock in $(VENV) (needs Python 3.11 or 3.12); GPU packages are"
	@echo "              included with GPU=1 or if there is an NVIDIA driver"
	@echo "make deploy-litert, deploy-executorch, deploy-sherpa  set up an export target in .deploy"
	@echo "make deploy-page  download what \`audionas page\` puts into a page: onnxruntime-web (33 MB, from npm)"
	@echo "make test     run all tests (select some with ARGS='-m engine' or ARGS='-k teacher')"
	@echo "make test-fast  run the fast unit tests"
	@echo "make test-cluster  run the tests that need root, Slurm, sshd and Swift; skips what is not installed"
	@echo "make test-hostile  damage every reader, and kill trainings, downloads and engines (9 minutes)"
	@echo "make lint     check code style and the installed dependencies"
	@echo "make check-lock  check dvc.lock against the parameters and the code, without data"
	@echo "make lock     write requirements.lock from pyproject.toml, with hashes (needs uv)"
	@echo "make bench    run the benchmarks"
	@echo "make docs     copy the tables and figures of the last run into docs/demo.md and the README"

define install
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "Python %d.%d found; audionas needs 3.11 or 3.12: make PYTHON=python3.11 …" % v)'
	@echo "Setting up $(VENV) from requirements.lock, with packages for $(if $(GPU),GPU and CPU,the CPU)"
	@$(PYTHON) -m venv $(VENV)
	@$(SET_UP) install $(FOR) $(1)
	@$(BIN)/python workflow/safe_dvc.py  # its docstring explains the changes to DVC
	@$(SET_UP) page || echo "Without it, \`audionas page\` and the last stage, listen, do not work. Later: make deploy-page"
endef
SOURCES := requirements.lock pyproject.toml tools/set_up.py workflow/safe_dvc.py

$(DEMO): $(SOURCES)
	$(call install,pipeline report deploy)
	@touch $@

$(ALL): $(SOURCES)
	$(call install,dev)
	@touch $@ $(DEMO)

install: $(ALL)

# An export target, in an environment of its own. It uses the PyTorch of $(VENV).
define deploy
	@echo "Setting up $(dir $@) from deploy/requirements-$(1).txt: $(2)"
	@$(BIN)/python -m venv --clear $(dir $@)
	@PYTHONPATH= $(dir $@)bin/python tools/set_up_deploy.py $(1) $(3)
endef
PURELIB = "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

deploy-litert: .deploy/litert/complete

deploy-executorch: .deploy/executorch/complete

deploy-sherpa: .deploy/sherpa/complete

.deploy/litert/complete: deploy/requirements-litert.txt tools/set_up_deploy.py | $(DEMO)
	$(call deploy,litert,1.3 GB of disk,--torch $(PURELIB))

.deploy/executorch/complete: deploy/requirements-executorch.txt tools/set_up_deploy.py | $(DEMO)
	$(call deploy,executorch,0.4 GB of disk,--torch $(PURELIB))

.deploy/sherpa/complete: deploy/requirements-sherpa.txt tools/set_up_deploy.py | $(DEMO)
	$(call deploy,sherpa,0.15 GB of disk)

demo:
	@echo "The first time this takes about 9 minutes: 2 to set up $(VENV) (a download of 2.4 GB), 7 to compute."
	@echo "It needs 7 GB of disk: 4.5 for packages, 2 for audio and DVC's cache; pip's cache may take 2.4 more."
	@echo "Measured on two cores without a GPU; at 100 Mbit/s the download takes 3 minutes more."
	@$(MAKE) --no-print-directory $(DEMO)
	$(RUN) audionas check
	$(RUN) dvc repro
	@cat results/tables/table1.md results/tables/table2.md models/release/files.md
	@echo "The whole study on one page: results/report.html. Next: docs/README.md."
	@echo "Hear the network of the last budget: open $(abspath results/listen.html) in a browser."

deploy-page: $(DEMO)
	$(SET_UP) page

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
	$(SET_UP) check $(FOR)

# This check also works in a clone without data.
check-lock: install
	$(RUN) audionas check
	$(RUN) dvc repro --dry --allow-missing --all-pipelines | tee /dev/stderr | grep --quiet "up to date"

# To upgrade: make lock ARGS=--upgrade, or ARGS='--upgrade-package NAME'.
lock:
	uv pip compile pyproject.toml --extra dev --extra page --universal --python-version 3.11 --generate-hashes \
		--annotation-style split --custom-compile-command 'make lock' --quiet --output-file requirements.lock $(ARGS)

# Each deploy/NAME.in has the versions to choose; PyTorch is that of the project.
lock-deploy:
	for name in litert executorch sherpa; do \
		uv pip compile deploy/$$name.in --excludes deploy/excludes.txt --universal --python-version 3.11 \
			--prerelease if-necessary-or-explicit --generate-hashes --annotation-style split \
			--custom-compile-command 'make lock-deploy' --quiet --output-file deploy/requirements-$$name.txt $(ARGS) \
			|| exit 1; \
	done

bench: install
	$(RUN) python -m benchmarks all

docs: install
	$(RUN) python tools/update_docs.py demo

# Removes only the outputs of stages. `dvc checkout` restores them from DVC's cache.
clean:
	rm -rf data/segments data/raw data/audio data/logmel
	rm -rf models/teacher models/supernet models/found models/within models/finetuned models/individual models/init models/ranked
	rm -rf models/exported models/release results/exported
	rm -rf results/scores results/curves results/eval results/tables results/figures results/coverage
	rm -f results/metrics.json results/report.html results/listen.html data/.gitignore models/.gitignore results/.gitignore
	rm -rf logs/*.log logs/seconds logs/forked logs/slurm .state .snakemake
	rm -rf pipelines/*/.state pipelines/*/data pipelines/*/models pipelines/*/results pipelines/*/logs
	-rmdir data models results logs 2>/dev/null || true

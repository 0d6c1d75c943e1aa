# `make demo` checks every claim and writes a report; `make test` runs all that CI runs.
PYTHON ?= python3
BIN := .venv/bin
BENCHMARKS := $(subst /,.,$(basename $(filter-out %/__init__.py benchmarks/contest.py,$(wildcard benchmarks/*.py benchmarks/*/*.py))))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types imports unit docs bench system clean

demo: .venv/installed
	@$(BIN)/tendsto check --all --budget quick --out report || test $$? = 1  # 1: some paper's claim does not hold

test: lint types imports unit docs

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

imports: .venv/dev
	$(BIN)/lint-imports

unit: .venv/dev system
	$(BIN)/pytest --numprocesses 2 --dist worksteal

docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/bench
	@for benchmark in $(BENCHMARKS); do $(BIN)/python -m $$benchmark || exit 1; done

# Rocq checks the formal proofs. Where it cannot be installed, the tests that need it are skipped and say so.
system:
	@command -v coqc >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends coq >/dev/null; \
	else echo "Rocq is missing: 'apt-get install coq' brings it; without it the formal proofs are not checked"; fi

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv .venv; \
		else echo "python3-venv is missing: 'apt-get install python3-venv' brings it"; exit 1; fi; }

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing tendsto into .venv"
	@$(PIP) --editable '.[constants,cutest,private]'
	@touch $@

.venv/dev: .venv/installed
	@echo "Installing what the tests need"
	@$(PIP) --editable '.[dev,docs]'
	@touch $@

# The peers of the benchmarks; one of them is compiled against IPOPT's headers.
.venv/bench: .venv/dev
	@pkg-config --exists ipopt 2>/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends \
		gcc libc6-dev pkg-config coinor-libipopt-dev libblas-dev liblapack-dev >/dev/null; \
	else echo "IPOPT is missing: 'apt-get install coinor-libipopt-dev libblas-dev liblapack-dev' brings it"; fi
	@echo "Installing the peers"
	@$(PIP) --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv report site

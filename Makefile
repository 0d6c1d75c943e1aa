# `make demo` checks every claim and writes a report; `make test` runs all that CI runs.
PYTHON ?= python3
BIN := .venv/bin
BENCHMARKS := $(subst /,.,$(basename $(filter-out %/__init__.py benchmarks/contest.py benchmarks/site/server.py benchmarks/proof/proving.py,$(wildcard benchmarks/*.py benchmarks/*/*.py))))
SITE := src/tendsto/site
MODULES := .venv/site/node_modules
ASSETS := $(SITE)/static/vendor
PROVERS := coq libcoq-mathcomp libcoq-hammer eprover coinor-csdp bubblewrap
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types imports unit flower docs bench system browser postgresql assets clean

demo: .venv/installed assets
	@$(BIN)/tendsto check --all --budget quick --out report || test $$? = 1  # 1: some paper's claim does not hold

test: lint types imports .venv/flower/installed system browser postgresql assets
	@$(MAKE) --no-print-directory --jobs=2 unit docs
	@$(MAKE) --no-print-directory flower

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

imports: .venv/dev
	$(BIN)/lint-imports

unit: .venv/dev system browser postgresql assets
	$(BIN)/pytest --numprocesses 2 --dist worksteal

flower: .venv/dev .venv/flower/installed
	PYTHONPATH=.venv/flower $(BIN)/pytest tests/federated/test_flower.py

docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/bench
	@for benchmark in $(BENCHMARKS); do $(BIN)/python -m $$benchmark || exit 1; done

# Rocq checks and finds proofs, with a library to learn from and provers to ask, in a jail. Tests that need what is not
# there are skipped and say so.
system:
	@missing=$$(for each in $(PROVERS); do dpkg --status $$each >/dev/null 2>&1 || printf ' %s' $$each; done); \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "Missing:$$missing; 'apt-get install$$missing' brings what proofs need"; fi

# Chromium drives the tests of the site.
browser:
	@command -v chromium >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else echo "Chromium is missing: 'apt-get install chromium' brings it; without it no page is tried in a browser"; fi

# The site keeps its papers in PostgreSQL too. Debian's programs lie outside the path.
postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; \
	else echo "PostgreSQL is missing: 'apt-get install postgresql' brings it; without it the site is tried on SQLite alone"; fi

# What the site's pages load. Without it they read the same: formulas are MathML, and a search is a form.
assets: .venv/site/installed

.venv/site/installed: .venv/bin/python $(SITE)/package-lock.json
	@rm -rf $(ASSETS); command -v npm >/dev/null || { echo "npm is missing: 'apt-get install npm' brings it; without it" \
		"pages have no scripts"; exit 0; }; \
	mkdir -p .venv/site && cp $(SITE)/package.json $(SITE)/package-lock.json .venv/site && \
	(cd .venv/site && npm ci --silent --ignore-scripts --no-audit --no-fund) || { echo "npm brings nothing: pages have no" \
		"scripts"; exit 0; }; \
	mkdir -p $(ASSETS)/fonts && \
	cp $(MODULES)/htmx.org/dist/htmx.min.js $(MODULES)/htmx-ext-sse/dist/sse.min.js $(ASSETS) && \
	cp $(MODULES)/katex/dist/katex.min.js $(MODULES)/katex/dist/katex.min.css $(ASSETS) && \
	cp $(MODULES)/katex/dist/fonts/*.woff2 $(ASSETS)/fonts && \
	for name in htmx.org htmx-ext-sse katex; do cp $(MODULES)/$$name/LICENSE $(ASSETS)/$$name.LICENSE || exit 1; done && \
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv .venv; \
		else echo "python3-venv is missing: 'apt-get install python3-venv' brings it"; exit 1; fi; }

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing tendsto into .venv"
	@$(PIP) --editable '.[constants,cutest,private,proof,site]'
	@touch $@

.venv/dev: .venv/installed
	@echo "Installing what the tests need"
	@$(PIP) --editable '.[dev,docs]'
	@touch $@

# Flower and what it pins, in a folder that only its own tests see.
.venv/flower/installed: .venv/bin/python requirements-flower.txt
	@echo "Installing Flower"
	@rm -rf .venv/flower
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/flower --requirement requirements-flower.txt
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
	rm -rf .venv report site $(ASSETS)

# Every target has its equivalent without make in README.md. A stamp in .venv says which extras are installed.

HOST ?= 127.0.0.1
PORT ?= 5050
ARGS ?=
VENV := .venv
# The first interpreter found that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help serve test setup check lint types coverage bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

serve: $(VENV)/.serve ## run the server; HOST=, PORT= and ARGS= pass through
	@exec $(RUN) -m kvss_gevent serve $(HOST) $(PORT) $(ARGS)

test: $(VENV)/.test ## run the tests; ARGS= passes through to pytest
	$(RUN) -m pytest $(ARGS)

setup: $(VENV)/.dev ## install every extra, for development

check: lint types coverage ## all checks: lint, types, tests with branch coverage

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.dev
	$(RUN) -m mypy

coverage: $(VENV)/.dev
	$(RUN) -m coverage erase
	COVERAGE_DATA_FILE=$(CURDIR)/.coverage COVERAGE_PROCESS_START=$(CURDIR)/tests/coverage-servers.ini $(RUN) -m coverage run -m pytest $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

bench: $(VENV)/.serve ## what the server costs, beside redis-server where it is installed
	$(RUN) -m bench.server $(ARGS)

clean: ## remove .venv and what the tools leave behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,EXTRAS): an editable install, with uv where it is installed, else with venv and pip.
define install
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer was found" >&2; \
		echo "  Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@if command -v uv >/dev/null; then \
		{ test -x $(RUN) || uv venv --quiet --python $(PYTHON) $(VENV); } && uv pip install --quiet --python $(RUN) -e '.$(1)'; \
	else \
		{ test -x $(RUN) || $(PYTHON) -m venv $(VENV); } && $(RUN) -m pip install --quiet --disable-pip-version-check -e '.$(1)'; \
	fi
	@touch $@
endef

$(VENV)/.serve: pyproject.toml
	$(call install,)

$(VENV)/.test: pyproject.toml
	$(call install,[test])

$(VENV)/.dev: pyproject.toml
	$(call install,[dev])
	@touch $(VENV)/.serve $(VENV)/.test

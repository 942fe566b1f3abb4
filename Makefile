# Every target has its equivalent without make in README.md. A stamp in .venv says which extras are installed.

HOST ?= 127.0.0.1
PORT ?= 5050
SLO ?= p99<5ms
PROFILE ?= quick
ARGS ?=
VENV := .venv
# The first interpreter found that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
RUN := $(VENV)/bin/python
# A test that failed is given a second chance by itself: on a busy machine a wait can run out beside other tests.
ALONE = { test $$? -eq 1 && echo "== the tests that failed, once more, alone" && $(RUN) -m pytest --last-failed; }
MEASURED = COVERAGE_DATA_FILE=$(CURDIR)/.coverage COVERAGE_PROCESS_START=$(CURDIR)/tests/coverage-servers.ini

.DEFAULT_GOAL := help
.PHONY: help serve test setup check lint types coverage bench load load-headless load-search truth bench-load compare compare-again report-sample capture cluster-up cluster-down torture docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(VENV)/.serve ## run the server; HOST=, PORT= and ARGS= pass through
	@exec $(RUN) -m kvss_gevent serve $(HOST) $(PORT) $(ARGS)

test: $(VENV)/.test ## run the tests; ARGS= passes through to pytest
	$(RUN) -m pytest -n 2 --dist loadfile $(ARGS) || $(ALONE)

setup: $(VENV)/.dev ## install every extra, for development

check: lint types coverage ## all checks: lint, types, tests with branch coverage

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.dev
	$(RUN) -m mypy

coverage: $(VENV)/.dev
	$(RUN) -m coverage erase
	$(MEASURED) $(RUN) -m coverage run -m pytest $(ARGS) || $(ALONE)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

bench: $(VENV)/.dev ## what the server and its stores cost, beside redis-server where it is installed
	$(RUN) -m bench.server $(ARGS)
	$(RUN) -m bench.disk
	$(RUN) -m bench.cluster

load: $(VENV)/.load ## the load tester with its web page on loopback; HOST=, PORT= and ARGS= pass through
	$(RUN) -m kvss_gevent load -H $(HOST):$(PORT) --web-host 127.0.0.1 $(ARGS)

load-headless: $(VENV)/.load ## ten seconds of load without a page; ARGS= passes through
	$(RUN) -m kvss_gevent load -H $(HOST):$(PORT) --headless -u 10 -r 100 -t 10s --only-summary $(ARGS)

load-search: $(VENV)/.load ## the highest rate that keeps a promise, SLO="p99<5ms"
	$(RUN) -m kvss_gevent load search --slo "$(SLO)" --host $(HOST):$(PORT) $(ARGS)

compare: $(VENV)/.lab ## all concurrency models in one report, in about 7 minutes; PROFILE=full, MODELS=, EXPERIMENTS=, RESUME=
	$(RUN) -m kvss_gevent.compare run --profile $(PROFILE) --models "$(MODELS)" --experiments "$(EXPERIMENTS)" \
		$(if $(RESUME),--resume $(RESUME)) $(ARGS)

compare-again: $(VENV)/.lab ## the quick comparison twice, and whether both say the same
	$(RUN) -m kvss_gevent.compare again --models "$(MODELS)" $(ARGS)

report-sample: $(VENV)/.lab ## measure the sample report in docs/sample-report anew
	rm -rf docs/sample-report
	$(RUN) -m kvss_gevent.compare run --out docs/sample-report $(ARGS)

truth: $(VENV)/.load ## the load tester against servers whose truth is known, in 25 minutes at most; ARGS=--quick
	$(RUN) -m kvss_gevent load truth $(ARGS)

bench-load: $(VENV)/.load ## what the load tester itself costs
	$(RUN) -m bench.load_tester $(ARGS)

cluster-up: $(VENV)/.test ## three valkey-servers as a cluster, on loopback
	$(RUN) -m tests.valkeys up

cluster-down: $(VENV)/.test ## end what cluster-up started
	$(RUN) -m tests.valkeys down

capture: $(VENV)/.serve ## real captures for docs/wire.md, with dumpcap; needs root or the group wireshark
	$(RUN) -m kvss_gevent wireshark capture docs/captures

torture: $(VENV)/.test ## kill a disk server 200 times under load, cut its power 50 times
	$(RUN) tests/torture.py $(ARGS)

docs: $(VENV)/.docs ## the documents as a site in site/, without a network once it is installed
	$(RUN) -m publishing.site

clean: ## remove .venv and what the tools leave behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist site
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

$(VENV)/.load: pyproject.toml
	$(call install,[load])

$(VENV)/.lab: pyproject.toml
	$(call install,[lab])

$(VENV)/.docs: pyproject.toml
	$(call install,[docs])

$(VENV)/.test: pyproject.toml
	$(call install,[test])

$(VENV)/.dev: pyproject.toml
	$(call install,[dev])
	@touch $(VENV)/.serve $(VENV)/.load $(VENV)/.lab $(VENV)/.test

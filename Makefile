# Every target has its equivalent without make in README.md. A stamp in .venv says which extras are installed.

HOST ?= 127.0.0.1
PORT ?= 5050
SLO ?= p99<5ms
PROFILE ?= quick
ARGS ?=
VENV := .venv
COMMA := ,
# The interpreter to install with; where none is given, the first that is new enough.
PYTHON ?=
RUN := $(VENV)/bin/python
MEASURED = COVERAGE_DATA_FILE=$(CURDIR)/.coverage COVERAGE_PROCESS_START=$(CURDIR)/tests/coverage-servers.ini

.DEFAULT_GOAL := help
.PHONY: help idle serve test test-full setup check lint types coverage bench load load-headless load-search truth truth-search bench-load compare compare-again report-sample capture cluster-up cluster-down torture attack soak same-marks fuzz docs reference dist try-wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(VENV)/.serve ## run the server; HOST=, PORT= and ARGS= pass through
	@exec $(RUN) -m kvss_gevent serve $(HOST) $(PORT) $(ARGS)

test: $(VENV)/.test ## run the tests but those that take long; ARGS= passes through to pytest
	$(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

test-full: $(VENV)/.test ## run all tests; ARGS= passes through to pytest
	$(RUN) -m pytest -n 2 --dist loadfile --full $(ARGS)

setup: $(VENV)/.dev ## install every extra, for development

check: lint types coverage ## all checks: lint, types, tests with branch coverage

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.dev
	$(RUN) -m mypy

coverage: $(VENV)/.dev
	$(RUN) -m coverage erase
	$(MEASURED) $(RUN) -m coverage run -m pytest $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

bench: $(VENV)/.dev ## what the server and its stores cost, beside redis-server where it is installed
	$(RUN) -m bench.server $(ARGS)
	$(RUN) -m bench.disk
	$(RUN) -m bench.cluster

idle: $(VENV)/.dev ## what 15,000 quiet connections cost, with and without hibernating
	$(RUN) -m bench.idle $(ARGS)

load: $(VENV)/.load ## the load tester with its web page on loopback; HOST=, PORT= and ARGS= pass through
	$(RUN) -m kvss_gevent load -H $(HOST):$(PORT) --web-host 127.0.0.1 $(ARGS)

load-headless: $(VENV)/.load ## ten seconds of load without a page; ARGS= passes through
	$(RUN) -m kvss_gevent load -H $(HOST):$(PORT) --headless -u 10 -r 100 -t 10s --only-summary $(ARGS)

load-search: $(VENV)/.load ## the highest rate that keeps a promise, SLO="p99<5ms"
	$(RUN) -m kvss_gevent load search --slo "$(SLO)" --host $(HOST):$(PORT) $(ARGS)

compare: $(VENV)/.lab ## all concurrency models in one report, in about 8 minutes; PROFILE=full, MODELS=, EXPERIMENTS=, RESUME=
	$(RUN) -m kvss_gevent compare run --profile $(PROFILE) --models "$(MODELS)" --experiments "$(EXPERIMENTS)" \
		$(if $(RESUME),--resume $(RESUME)) $(ARGS)

compare-again: $(VENV)/.lab ## the quick comparison twice, and whether both say the same
	$(RUN) -m kvss_gevent compare again --models "$(MODELS)" $(ARGS)

report-sample: $(VENV)/.lab ## measure the sample report in docs/sample-report anew
	$(RUN) -m kvss_gevent compare run --force --out docs/sample-report $(ARGS)

truth: $(VENV)/.load ## the load tester against servers whose truth is known, in 25 minutes at most; ARGS=--quick
	$(RUN) -m kvss_gevent load truth $(ARGS)

truth-search: $(VENV)/.load ## three searches on a server whose highest rate is known, in 15 minutes at most
	$(RUN) -m kvss_gevent load truth --search $(ARGS)

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

same-marks: $(VENV)/.test ## grade the same servers 100 times, six at once: the marks must not change; ARGS="--times 10"
	$(RUN) tests/same_marks.py $(ARGS)

attack: $(VENV)/.dev ## how long an honest client waits beside silent, guessing, deaf and flooding ones; ARGS="--seconds 30"
	$(RUN) -m bench.safety.attack $(ARGS)

soak: $(VENV)/.dev ## an hour of odd traffic: memory, descriptors and threads must not grow; ARGS="--minutes 5"
	$(RUN) -m bench.safety.soak $(ARGS)

fuzz: $(VENV)/.test ## odd bytes for session, client, TLS and checker; ARGS="--executions 10000000"
	$(RUN) tests/fuzz.py $(ARGS)

docs: $(VENV)/.docs ## the documents as a site in site/, without a network once it is installed
	$(RUN) -m publishing.site

reference: $(VENV)/.dev ## make docs/reference/ and the manual page anew, after a change of options or of the client
	$(RUN) -m publishing.reference

dist: $(VENV)/.dev ## the wheel and the source distribution in dist/
	$(RUN) -m build --quiet --outdir dist

try-wheel: dist ## install the wheel with each extra, on each Python here, and run its commands; some 10 minutes
	$(RUN) -m publishing.try_wheel $(ARGS)

clean: ## remove .venv and what the tools leave behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,EXTRAS,WHAT,MB): an editable install, with uv where it is installed, else with venv and pip.
define install
	@echo "make: installing $(2) into $(VENV), $(3) MB on disk; that takes a minute or more" >&2
	@python="$(PYTHON)"; for found in python3 python3.13 python3.12 python3.11; do \
		[ -n "$$python" ] && break; \
		$$found -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$$found; \
	done; \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 or newer was found" >&2; \
		echo "  Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; \
	elif command -v uv >/dev/null; then \
		{ test -x $(RUN) || uv venv --quiet --seed --python $$python $(VENV); } && uv pip install --quiet --python $(RUN) -e '.$(1)'; \
	else \
		{ test -x $(RUN) || $$python -m venv $(VENV); } && $(RUN) -m pip install --quiet --disable-pip-version-check -e '.$(1)'; \
	fi
	@touch $@
endef

$(VENV)/.serve: pyproject.toml
	$(call install,,the server,60)

$(VENV)/.load: pyproject.toml
	$(call install,[load],the server and the load tester,100)

$(VENV)/.lab: pyproject.toml
	$(call install,[lab],the server$(COMMA) the load tester and the laboratory,300)

$(VENV)/.docs: pyproject.toml
	$(call install,[docs],what makes the site,80)

$(VENV)/.test: pyproject.toml
	$(call install,[test],all that the tests need,330)

$(VENV)/.dev: pyproject.toml
	$(call install,[dev],all extras and the tools of development,400)
	@touch $(VENV)/.serve $(VENV)/.load $(VENV)/.lab $(VENV)/.test $(VENV)/.docs

# What a developer types. Needs make and Python >= 3.11; everything else is installed into .venv on first use.
# Another interpreter: `make test PYTHON=/path/to/python` (after `rm -rf .venv`). More options for pytest: `make test ARGS="-k pull"`.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.demo
FUZZ := $(VENV)/.fuzz
SECONDS ?= 300
PORTAL := examples/portal_app
ARGS ?=

# The first interpreter that runs, is new enough and can make a venv. A name on PATH proves nothing: it may be a shim.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

# Directories of programs rather than packages: their modules import each other by bare name, so each is checked alone.
PROGRAMS := $(wildcard tests/adopter) $(filter-out $(PORTAL),$(patsubst %/,%,$(wildcard examples/*/)))
# Only those that hold a module: mypy refuses a directory without one.
PACKAGES := $(sort $(dir $(wildcard $(addsuffix /*.py,offlinekit adapters/offlinekit_adapters $(PORTAL)/offlinekit_portal tests benchmarks tools/mutants))))

.DEFAULT_GOAL := help
.PHONY: help bench test fuzz test-browser pictures sim mutants crash demo demo-console lint format types clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: $(STAMP) ## run the tests on two cores
	$(PY) -m pytest -q -n 2 $(ARGS)

test-browser: $(STAMP) ## drive the portal in Chromium, at a desk and on a phone (needs Chromium)
	$(PY) -m pytest -q -n 2 -o faulthandler_timeout=300 tests/browser $(ARGS)

pictures: $(STAMP) ## take the pictures in docs/pictures anew, from the browser tests
	PICTURES=docs/pictures $(PY) -m pytest -q -n 2 -o faulthandler_timeout=300 tests/browser $(ARGS)

sim: $(STAMP) ## simulate devices and head office under every fault; ARGS="--profile soak" goes on for ever
	$(PY) -m offlinekit.testing.simulate --json build/sim.json $(or $(ARGS),--profile ci)

mutants: $(STAMP) ## plant bugs and see that the simulation finds each, in a minute at most
	$(PY) tools/mutants/run.py $(ARGS)

fuzz: $(FUZZ) ## fuzz every decoder for SECONDS each, two at a time, guided by coverage (Linux alone)
	$(PY) -m tests.fuzz.all $(SECONDS)

bench: $(STAMP) ## measure against a baseline, a quarter of an hour with a million records; draws docs/performance.svg
	$(PY) -m benchmarks --rows 1000000 --svg $(ARGS)

demo: $(DEMO) ## start the portal with its head office, and a line between them to be cut
	$(PY) -m offlinekit_portal demo $(ARGS)

demo-console: $(DEMO) ## run the company demo, a story on the console: head office, a device, a cut line
	$(PY) examples/company_demo $(ARGS)

crash: $(STAMP) ## cut the power and fail the disk at every operation, about two minutes; writes build/crash.json
	$(PY) -m tests.crash.all $(ARGS)

lint: $(STAMP) ## look for mistakes and for unformatted code
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP) ## format the code and repair what can be repaired
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

types: $(STAMP) ## check the types: mypy strict everywhere, pyright on what users copy
	$(PY) -m mypy $(PACKAGES) --exclude '^(tests/adopter/|tests/typing/(pass|fail)_|benchmarks/spikes/)'
	@set -e; for d in $(PROGRAMS); do echo "mypy $$d"; MYPYPATH=$$d $(PY) -m mypy $$d; done
	@test -z "$(PROGRAMS)" || $(PY) -m pyright --pythonpath $(PY) $(PROGRAMS)

clean: ## remove what runs have made (`rm -rf .venv` removes the environment)
	rm -rf build dist .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMP): $(DEMO)
	$(PY) -m pip install -q --group dev
	@touch $@

# On its own, because it has no wheels for other systems and the newest Python.
$(FUZZ): $(STAMP)
	$(PY) -m pip install -q --group fuzz
	@touch $@

# What the demos need: the library and the portal, without what tests and checks stand on.
$(DEMO): pyproject.toml $(PORTAL)/pyproject.toml | $(PY)
	@echo "installing into $(VENV) ..."
	$(PY) -m pip install -q --upgrade 'pip>=25.1'
	$(PY) -m pip install -q --editable '.[aiohttp,jwt]' --editable $(PORTAL)
	@touch $@

$(PY):
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# cexdex in a few words. `make demo` and `make test` set everything up on a fresh machine by themselves.

.DEFAULT_GOAL := help
.PHONY: help demo up test fix docs bench requirements ready check-format check-lint check-types check-layers check-docs tests

PYTHON ?=
VENV ?= .venv
PEERS ?= .venv-bench
UV ?= uv
SECONDS ?=
GIGABYTES ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

RUN := $(VENV)/.run
DEV := $(VENV)/.dev
BIN := $(VENV)/bin
INSTALL := -m pip install --require-hashes --only-binary :all: --no-input $$([ -t 1 ] || echo --quiet)
COMPILE := pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --only-binary :all: --quiet

# Unit tests first, then those that start real parts, then those that kill them.
LATE := tests/integration tests/faults
TESTS = $(filter-out $(LATE) tests/__pycache__,$(sort $(patsubst %/,%,$(dir $(wildcard tests/*/*)))) $(wildcard tests/test_*.py)) \
	$(wildcard $(LATE))

help:
	@echo 'make demo [SECONDS=30]  everything at once on simulated venues, without the network'
	@echo 'make up                 everything on this machine on live venues'
	@echo 'make test               format, lint, types, layers, docs and every test'
	@echo 'make fix                format, mend what can be mended, generate the docs anew'
	@echo 'make docs               generate docs/schemas, docs/topics.md, docs/tables.md and docs/asyncapi.json'
	@echo 'make bench              benchmarks, beside peers and limits (BENCH=feeds for one)'
	@echo 'make requirements       compile requirements/*.txt anew (needs uv)'

demo: $(RUN)
	@$(BIN)/cexdex demo $(if $(SECONDS),--seconds $(SECONDS))

up: GIGABYTES := 15
up: ready $(RUN)
	@$(BIN)/cexdex up

# Every check runs, whatever the ones before it said; pytest comes last and its summary ends the output.
test: $(DEV)
	@failed=; \
	for check in format lint types layers docs; do \
		$(MAKE) --no-print-directory check-$$check || failed="$$failed $$check"; \
	done; \
	[ -z "$$failed" ] || echo "== not passed:$$failed (see above); the tests run all the same"; \
	$(MAKE) --no-print-directory tests && [ -z "$$failed" ]

check-format:
	@echo '== format: ruff format --check'
	@$(BIN)/ruff format --check .

check-lint:
	@echo '== lint: ruff check'
	@$(BIN)/ruff check --quiet .

check-types:
	@echo '== types: mypy --strict'
	@$(BIN)/mypy --no-error-summary

check-layers:
	@echo '== layers: who may import whom'
	@$(BIN)/lint-imports --no-logo

check-docs:
	@echo '== docs: schemas, topics and tables are what the records declare'
	@$(BIN)/python -m docs.generate --check

tests:
	@echo '== tests: unit, then integration (a real broker and ClickHouse), then faults'
	@$(BIN)/python -m pytest -m 'not network' -rfEs $(TESTS)

fix: $(DEV)
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/python -m docs.generate

docs: $(DEV)
	@$(BIN)/python -m docs.generate

bench: $(DEV) $(PEERS)/.peers
	@$(BIN)/python -m bench $(BENCH)

requirements:
	$(UV) $(COMPILE) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(UV) $(COMPILE) --group build -c requirements/dev.txt pyproject.toml -o requirements/run.txt
	$(UV) $(COMPILE) --group peers -o requirements/bench.txt

# Set-up. A stamp is older than what it was made from only when that has changed.

ready:
	@sh requirements/check.sh $(GIGABYTES) $(PYTHON) >/dev/null

$(VENV)/.made:
	@python=$$(sh requirements/check.sh $(GIGABYTES) $(PYTHON)) && \
		echo "== set-up: $(VENV) with $$($$python -V)" && $$python -m venv $(VENV) && touch $@

$(PEERS)/.peers: requirements/bench.txt
	@python=$$(sh requirements/check.sh $(GIGABYTES) $(PYTHON)) && \
		echo "== set-up: $(PEERS), the peers we are measured against" && $$python -m venv $(PEERS)
	@$(PEERS)/bin/python $(INSTALL) --no-binary cryptofeed -r $<  # most Pythons have no wheel of it: a C compiler is needed
	@touch $@

$(RUN): requirements/run.txt pyproject.toml $(VENV)/.made
	@echo '== set-up: what cexdex runs on, pinned and hashed (some minutes the first time, then at once)'
	@$(BIN)/python $(INSTALL) -r $<
	@$(call editable)
	@touch $@

$(DEV): requirements/dev.txt pyproject.toml $(VENV)/.made
	@echo '== set-up: what cexdex and its tests run on, pinned and hashed (some minutes the first time, then at once)'
	@$(BIN)/python $(INSTALL) -r $<
	@$(call editable)
	@touch $@ $(RUN)

# cexdex itself, from this folder: what it needs is there already, so nothing is fetched.
editable = $(BIN)/python -m pip install --quiet --no-input --no-index --no-deps --no-build-isolation -e .

# Everything that a person does here is one of these words; `make` alone lists them.
# Options: PYTHON=/path/to/python, ARGS="for the program behind the word".

.DEFAULT_GOAL := help
.NOTPARALLEL:

PY := .venv/bin/python
RUN := .venv/.installed-run
DEV := .venv/.installed-dev
BENCH := .venv/.installed-bench
# Most tests wait for servers, so there are more processes than cores. Each has its own servers; ARGS="-n 0" has all tests in one.
SIDE_BY_SIDE := -n 3 --dist worksteal
export PYTHON

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN): pyproject.toml infra/dev/environment.sh
	@echo "making the environment in .venv (a minute the first time)"
	@infra/dev/environment.sh run
	@touch $@

$(DEV): $(RUN)
	@infra/dev/environment.sh dev
	@touch $@

$(BENCH): $(DEV)
	@infra/dev/environment.sh bench
	@touch $@

.PHONY: env
env: $(DEV)  ## .venv with Pointsman and the tools for working on it

.PHONY: demo
demo: $(RUN)  ## a git history through the whole pipeline: GIT=/path/to/repo or COMMITS=file.jsonl.gz
	@.venv/bin/pointsman demo $(if $(GIT),--git "$(GIT)") $(if $(COMMITS),--commits "$(COMMITS)") $(ARGS)

.PHONY: real-parts
real-parts: $(RUN)  ## set up real Kafka (jars, Java), PostgreSQL, TimescaleDB, Prometheus and Alertmanager for the tests
	@$(PY) infra/dev/real_parts.py

.PHONY: real-servers
real-servers: $(RUN)
	@$(PY) infra/dev/real_parts.py servers

# Where a real part cannot be had, its tests are skipped and say why at the end; under CI=true they fail.
.PHONY: try-real-parts
try-real-parts: $(RUN)
	-@$(PY) infra/dev/real_parts.py

.PHONY: test
test: $(DEV) try-real-parts  ## all tests, against real Kafka and PostgreSQL
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(ARGS)

.PHONY: unit
unit: $(DEV)  ## the tests that need no server
	@$(PY) -m pytest tests/unit $(SIDE_BY_SIDE) $(ARGS)

.PHONY: integration
integration: $(DEV) try-real-parts  ## the tests that need real Kafka and PostgreSQL
	@$(PY) -m pytest tests/integration $(SIDE_BY_SIDE) $(ARGS)

.PHONY: lint
lint: $(DEV)  ## lint, format and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

.PHONY: check
check: lint  ## the same, and the tests that need no server; in under two minutes
	@$(PY) -m pytest -q tests/unit tests/style tests/docs tests/contract $(SIDE_BY_SIDE)

.PHONY: fuzz
fuzz: $(DEV)  ## odd bytes into every decoder, with a fresh seed: ARGS="--minutes 10"; finds are kept in tests/corpus
	@$(PY) -m tests.fuzz $(ARGS)

.PHONY: format
format: $(DEV)  ## let ruff lay out the code and mend what it can
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

.PHONY: bench
bench: $(BENCH) real-servers  ## measure everything beside what it is compared with, and write docs/performance.md
	@$(PY) -m benchmarks $(ARGS)

.PHONY: bench-check
bench-check: $(DEV) real-servers  ## a short form of it, its ratios beside the committed ones
	@$(PY) -m benchmarks.check $(ARGS)

.PHONY: chaos
chaos: $(DEV) real-servers  ## faults under load against the real parts, then an account of every record: ARGS="--seed 7"
	@$(PY) -m tests.chaos $(ARGS)

.PHONY: train
train: $(RUN)  ## train the default model of documentation-keeper anew: COMMITS=file.jsonl.gz
	@.venv/bin/pointsman train documentation-keeper $(if $(COMMITS),--commits "$(COMMITS)") --out models/agents/documentation_keeper/model $(ARGS)

.PHONY: contracts
contracts: $(RUN)  ## write the JSON Schemas and the AsyncAPI document into docs/contracts
	@$(PY) -m pointsman.streams.contracts docs/contracts

.PHONY: clean
clean:  ## remove the environment and everything else that was made here
	@rm -rf .venv .links .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

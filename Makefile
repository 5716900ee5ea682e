# Everything that CI, a hook or a person runs. `make` alone lists it.

PYTHON ?= python3
# Test processes; 0 runs the tests in one.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-ready
DEV := $(VENV)/.dev-ready

# uv takes a second where pip takes twenty. Where uv can't reach the registry (it doesn't read
# pip's configuration), pip does the same work with the same hashes.
define install
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || $(BIN)/pip install --quiet $(1)
endef

compile = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(DEV) ## Make .venv with the locked packages and the project in it

.PHONY: demo
demo: $(RUNTIME) ## Show a fault found and acted upon, from nothing installed, in a minute
	@$(BIN)/firstfault demo

.PHONY: demo-live
demo-live: $(RUNTIME) ## Cut a link between two network namespaces, as root; no broker
	@$(BIN)/firstfault demo --live

.PHONY: test
test: check ## Check, then the tests that need neither Java nor root, doctests and code blocks
	@$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

.PHONY: check
check: $(DEV) ## Formatting, lint, types and import boundaries
	@$(BIN)/ruff format --check --quiet . || { echo "make format puts that right"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(DEV) ## Format, and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet --exit-zero .
	@$(BIN)/ruff format .

.PHONY: docs
docs: $(DEV) ## Run the documents' code blocks alone
	@$(BIN)/python -m pytest tests/docs $(ARGS)

.PHONY: cover
cover: $(DEV) ## Unit tests and doctests with branch coverage
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --cov --cov-report term $(ARGS)

.PHONY: root-test
root-test: $(DEV) ## Tests that need root: real netlink in network namespaces of their own
	@$(BIN)/python -m pytest tests/root $(ARGS)

.PHONY: kafka-test
kafka-test: $(DEV) ## Tests on a real Kafka broker: KAFKA_BOOTSTRAP's, a container's, or our own (Java)
	@$(BIN)/python -m pytest tests/kafka $(ARGS)

.PHONY: examples-test
examples-test: $(DEV) ## Run the examples in other languages (Node 20)
	@$(BIN)/python -m pytest tests/examples $(ARGS)

.PHONY: bench
bench: $(DEV) ## Measure speed
	@$(BIN)/python -m bench $(ARGS)

.PHONY: kafka-faults
kafka-faults: N ?= 20
kafka-faults: $(DEV) ## Do each fault N=20 times to workers and brokers under load; prints figures
	@$(BIN)/python -m tests.kafka.faults --runs $(N) $(ARGS)

.PHONY: corpus
corpus: SEEDS ?= 50
corpus: $(DEV) ## Play every scenario of the corpus under SEEDS=50 kinds of noise
	@FIRSTFAULT_CORPUS_SEEDS=$(SEEDS) $(BIN)/python -m pytest --numprocesses $(JOBS) tests/corpus \
		$(ARGS)

.PHONY: sim
sim: N ?= 300
sim: SEED ?= 1
sim: $(DEV) ## Simulate N=300 worlds from SEED=1 on; a violation tells how to repeat it
	@$(BIN)/python -m tests.simulation --runs $(N) --seed $(SEED) $(ARGS)

.PHONY: schemas
schemas: $(RUNTIME) ## Write the JSON Schemas to schemas/exported
	@$(BIN)/firstfault schema export schemas/exported

.PHONY: lock
lock: $(RUNTIME) ## Write the lock files anew (UPGRADE=1 takes newer versions)
	@$(compile) pyproject.toml --output-file requirements.lock
	@$(compile) --group build --constraint requirements.lock --output-file requirements-build.lock
	@$(compile) pyproject.toml --group dev --constraint requirements.lock \
		--constraint requirements-build.lock --output-file requirements-dev.lock

.PHONY: clean
clean: ## Remove .venv and every cache
	@rm -rf $(VENV) .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage dist

$(RUNTIME): pyproject.toml requirements-build.lock requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firstfault needs Python 3.11: make PYTHON=python3.11")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(call install,--require-hashes -r requirements.lock)
	@$(call install,--no-deps --no-build-isolation --editable .)
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	@$(call install,--require-hashes -r requirements-dev.lock)
	@touch $@

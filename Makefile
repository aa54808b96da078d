# Two commands matter: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml requirements.lock 2>/dev/null | cksum | cut -d' ' -f1)
TRACE ?=
JSON ?=
GROWTH ?=

.PHONY: setup demo test check bench bench-operator faults-agent lock clean help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Create .venv with the locked dependencies
	@$(BIN)/dynawatt sandbox build

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dynawatt needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup ## Run the main job; TRACE=FILE replays an Azure-format trace, JSON=FILE writes the result
	@$(BIN)/dynawatt demo $(if $(TRACE),--trace '$(TRACE)') $(if $(JSON),--json '$(JSON)')

check: $(STAMP) ## Lint, types, import rule, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/dynawatt crds --check
	@$(BIN)/python -m dynawatt.dashboards --check
	@$(BIN)/python -m dynawatt.reference --check

test: setup check ## All tests, those against the real control plane included
	@$(BIN)/dynawatt sandbox build --helm
	@$(BIN)/pytest -m "not integration and not bench and not gpu" --numprocesses 2
	@$(BIN)/pytest -m "integration and not bench and not gpu" --numprocesses 2 --dist loadfile --durations 30

bench: setup ## Measure; writes tests/bench/out/*.json
	@$(BIN)/pytest tests/bench -m bench -o faulthandler_timeout=0 --ignore=tests/bench/operator

bench-operator: setup ## Measure the operator with 300 services on 400 nodes; GROWTH=1 also with 100 and 1,000
	@$(BIN)/pytest tests/bench/operator -m bench -o faulthandler_timeout=0 $(if $(GROWTH),--growth)

faults-agent: setup ## Let go wrong what can go wrong around an agent; prints what it did, writes build/faults-agent.json
	@$(BIN)/pytest tests/faults/agent --thorough

lock: ## Resolve the dependencies anew (needs uv in .venv)
	@$(BIN)/uv pip compile --quiet pyproject.toml --group dev --universal --generate-hashes --no-header \
		--python-version 3.11 --output-file requirements.lock
	@for image in "operator pyproject.toml" "agent --group pyproject.toml:agent" "build --group pyproject.toml:build"; do \
		set -- $$image; name=$$1; shift; \
		$(BIN)/uv pip compile --quiet "$$@" --constraint requirements.lock --universal --generate-hashes --no-header \
			--no-annotate --python-version 3.11 --output-file operator/containers/$$name.lock || exit 1; done

clean: ## Stop sandboxes, remove .venv and caches in this folder (built tools stay in the user's cache)
	@test ! -x $(BIN)/dynawatt || $(BIN)/dynawatt sandbox down --all
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist operator/*.egg-info

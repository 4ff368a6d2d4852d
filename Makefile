# Two commands suffice: `make demo` and `make test`. Both set up .venv first when it is missing.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-importers lint types contracts check wheel profiles docs statistics lock bench fuzz clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: python3 has no venv module"; echo "hint: apt-get install python3-venv"; exit 1; }
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

setup: $(VENV)/.ready ## create .venv and install the project with its tools

demo: $(VENV)/.ready ## the whole path on sample_data, in a temporary store
	$(BIN)/lamina-traces demo

lint: $(VENV)/.ready ## ruff: lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready ## mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/.ready
	PYTHONPATH=. $(BIN)/lint-imports

check: lint types contracts ## lint, types and import contracts

test: check ## check, then every test
	$(BIN)/python -m pytest -q -n 2 -m "not wheel"

test-importers: $(VENV)/.ready ## load exports with the tools they are for (installs them under build/importers, some GB)
	$(BIN)/python -m tests.importers.install
	$(BIN)/python -m tests.importers.run

fuzz: $(VENV)/.ready ## every reader under 1,500 mutations (half an hour)
	LAMINA_TRACES_FUZZ=1500 $(BIN)/python -m pytest -q -n 2 tests/formats/test_fuzz.py

wheel: $(VENV)/.ready ## build the wheel and run its demo in a clean environment outside the checkout
	$(BIN)/python -m pytest -q -m wheel tests/test_wheel.py

samples: $(VENV)/.ready ## refit the library profiles (needs LAMINA_TRACES_REAL_DATA) and remake the sample
	@test -n "$$LAMINA_TRACES_REAL_DATA" || { echo "error: LAMINA_TRACES_REAL_DATA is not set"; exit 2; }
	rm -rf build/samples && mkdir -p build/samples
	$(BIN)/lamina-traces ingest "$$LAMINA_TRACES_REAL_DATA/llm/AzureLLMInferenceTrace_code.csv" --name azure-llm-code-2023 --licence "CC-BY-4.0, cite Patel et al., Splitwise, ISCA 2024" --store build/samples
	$(BIN)/lamina-traces fit azure-llm-code-2023 --name azure-code -o sample_data/profiles/azure-code.json --store build/samples
	$(BIN)/lamina-traces ingest "$$LAMINA_TRACES_REAL_DATA/llm/mooncake_conversation_trace.jsonl" --name mooncake-conversation-fast25 --licence "Apache-2.0, cite Qin et al., Mooncake, FAST 2025" --store build/samples
	$(BIN)/lamina-traces fit mooncake-conversation-fast25 --name mooncake-conversation -o sample_data/profiles/mooncake-conversation.json --store build/samples
	$(BIN)/lamina-traces generate azure-code --duration 30m --seed 7 --name sample --store build/samples
	$(BIN)/lamina-traces export sample --to azure -o sample_data/requests.csv --store build/samples

docs: $(VENV)/.ready ## write docs/cli.md and docs/formats.md again
	TYPER_USE_RICH=0 $(BIN)/python -m typer lamina_traces.cli.app utils docs --name lamina-traces --output docs/cli.md
	$(BIN)/python -c "from lamina_traces.catalogs import formats_page; print(formats_page(), end='')" > docs/formats.md

statistics: $(VENV)/.ready ## run the recovery by simulation and write its tables into docs/statistics.md (minutes)
	$(BIN)/python -m tests.recovery

lock: ## pin the present dependency versions in constraints.txt
	$(VENV)/bin/python -m pip freeze --exclude-editable | sed -E '/ @ |^-e /d' > constraints.txt

bench: $(VENV)/.ready ## run the benchmarks (minutes; figures are ratios)
	$(BIN)/python -m benchmarks

clean: ## remove what was built
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis lamina-store
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +

# Two commands suffice: `make demo` and `make test`. Both set up .venv first when it is missing.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-importers lint types contracts check wheel profiles samples docs statistics fidelity accuracy claims lock bench fuzz clean

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

fuzz: $(VENV)/.ready ## every reader under 1,500 mutations, the clock against the oracle in 50,000 cases (an hour)
	LAMINA_TRACES_FUZZ=1500 $(BIN)/python -m pytest -q -n 2 tests/formats/test_fuzz.py
	LAMINA_TRACES_CLOCK_CASES=50000 $(BIN)/python -m pytest -q -n 2 -rP tests/simulator/test_serving_oracle.py

wheel: $(VENV)/.ready ## build the wheel and run its demo in a clean environment outside the checkout
	$(BIN)/python -m pytest -q -m wheel tests/test_wheel.py

REAL = $${LAMINA_TRACES_REAL_DATA:?is not set}
LIBRARY := azure-code mooncake-conversation burstgpt-400-rows servegen-m-small vllm-qwen3-32b-rtxpro6000 \
	huawei-cold-starts-2025 lambda-perf azure-functions-2019 azure-functions-2021 \
	mlperf-a100-bert99-server mlperf-a100-bert99-offline zeus-a40 zeus-v100-power-limits mlenergy-h100 acme-seren-power \
	philly-jobs

# Of each library profile: the files it is fitted on, the name of that trace, its licence, and what part of the whole it is.
profile-azure-code: FROM = llm/AzureLLMInferenceTrace_code.csv
profile-azure-code: TRACE = azure-llm-code-2023
profile-azure-code: LICENCE = CC-BY-4.0, cite Patel et al., Splitwise, ISCA 2024
profile-mooncake-conversation: FROM = llm/mooncake_conversation_trace.jsonl
profile-mooncake-conversation: TRACE = mooncake-conversation-fast25
profile-mooncake-conversation: LICENCE = Apache-2.0, cite Qin et al., Mooncake, FAST 2025
profile-burstgpt-400-rows: FROM = llm/BurstGPT_1.head400.csv
profile-burstgpt-400-rows: TRACE = burstgpt-1-head
profile-burstgpt-400-rows: LICENCE = CC-BY-4.0, cite Wang et al., BurstGPT, KDD 2025
profile-burstgpt-400-rows: EXCERPT = 400 rows: the first of 1,429,737
profile-servegen-m-small: FROM = llm/servegen/language/m-small
profile-servegen-m-small: TRACE = servegen-language-m-small
profile-servegen-m-small: LICENCE = Apache-2.0, alibaba/ServeGen
profile-servegen-m-small: EXCERPT = six clients of the many that the source describes
profile-vllm-qwen3-32b-rtxpro6000: FROM = llm/vllm_bench_rtxpro6000_Qwen3-32B.requests.jsonl
profile-vllm-qwen3-32b-rtxpro6000: TRACE = vllm-0.19-qwen3-32b
profile-vllm-qwen3-32b-rtxpro6000: LICENCE = MIT, casys-kaist/LLMServingSim
profile-huawei-cold-starts-2025: FROM = serverless/huawei-2025/paper_cdf_curves.csv
profile-huawei-cold-starts-2025: TRACE = huawei-eurosys25-figures
profile-huawei-cold-starts-2025: LICENCE = CC-BY-4.0, cite Joosen et al., Serverless Cold Starts, EuroSys 2025
profile-lambda-perf: FROM = serverless/lambda-perf
profile-lambda-perf: TRACE = lambda-perf-days
profile-lambda-perf: LICENCE = Apache-2.0, maxday/lambda-perf
profile-lambda-perf: EXCERPT = ten days between 2022 and 2026, the same function each day
profile-azure-functions-2019: FROM = serverless/azure-functions-2019/sample_100
profile-azure-functions-2019: TRACE = azure-functions-2019-sample
profile-azure-functions-2019: LICENCE = CC-BY-4.0, cite Shahrad et al., Serverless in the Wild, ATC 2020; sample of vhive-serverless/invitro, MIT
profile-azure-functions-2019: EXCERPT = a sample of 100 functions, 8 hours of one day
profile-azure-functions-2021: FROM = serverless/azure-functions-2021
profile-azure-functions-2021: TRACE = azure-functions-2021-head
profile-azure-functions-2021: LICENCE = CC-BY-4.0, cite Zhang et al., Faster and Cheaper Serverless Computing, SOSP 2021
profile-azure-functions-2021: EXCERPT = 500 rows: the first of two weeks
profile-mlperf-a100-bert99-server: FROM = power/mlperf-inference-v1.0/nvidia__a100-pciex8_trt_maxq__bert-99__server
profile-mlperf-a100-bert99-server: TRACE = mlperf-v1.0-a100x8-bert99-server
profile-mlperf-a100-bert99-server: LICENCE = Apache-2.0, mlcommons/inference_results_v1.0
profile-mlperf-a100-bert99-offline: FROM = power/mlperf-inference-v1.0/nvidia__a100-pciex8_trt_maxq__bert-99__offline
profile-mlperf-a100-bert99-offline: TRACE = mlperf-v1.0-a100x8-bert99-offline
profile-mlperf-a100-bert99-offline: LICENCE = Apache-2.0, mlcommons/inference_results_v1.0
profile-zeus-a40: FROM = power/zeus-monitor-log
profile-zeus-a40: TRACE = zeus-monitor-a40
profile-zeus-a40: LICENCE = Apache-2.0, ml-energy/zeus
profile-zeus-v100-power-limits: FROM = power/zeus-nsdi23/summary_power_v100.csv
profile-zeus-v100-power-limits: TRACE = zeus-nsdi23-v100
profile-zeus-v100-power-limits: LICENCE = Apache-2.0, ml-energy/zeus; cite You et al., Zeus, NSDI 2023
profile-mlenergy-h100: FROM = power/ml-energy-v3/llm_configurations_H100.csv
profile-mlenergy-h100: TRACE = ml-energy-v3-h100
profile-mlenergy-h100: LICENCE = Apache-2.0, ml-energy/data
profile-acme-seren-power: FROM = power/acmetrace
profile-acme-seren-power: TRACE = acme-seren-cdf
profile-acme-seren-power: LICENCE = CC-BY-4.0, cite Hu et al., Acme, NSDI 2024
profile-philly-jobs: FROM = failures/philly/philly_jobs_clusters_a.csv
profile-philly-jobs: TRACE = philly-adaptdl
profile-philly-jobs: LICENCE = CC-BY-4.0, cite Jeon et al., Philly, ATC 2019; as in petuum/adaptdl, Apache-2.0
profile-philly-jobs: EXCERPT = some of the virtual clusters; submission, run time and GPUs only

define SAY_EXCERPT
import sys
from dataclasses import replace
from pathlib import Path
from lamina_traces.errors import Notice
from lamina_traces.profile import Profile
path = Path(sys.argv[1])
profile = Profile.load(path)
said = (Notice("excerpt", "fitted on " + sys.argv[2], "rows"), *profile.notices)
path.write_text(replace(profile, notices=said).dumps(), encoding="utf-8")
endef
export SAY_EXCERPT

profiles: $(LIBRARY:%=profile-%) ## refit the profiles of the library (needs LAMINA_TRACES_REAL_DATA)

.PHONY: $(LIBRARY:%=profile-%)
$(LIBRARY:%=profile-%): profile-%: $(VENV)/.ready
	rm -rf build/profiles/$* && mkdir -p build/profiles/$* sample_data/profiles
	$(BIN)/lamina-traces ingest "$(REAL)/$(FROM)" --name $(TRACE) --licence "$(LICENCE)" --store build/profiles/$*
	$(BIN)/lamina-traces fit store:$(TRACE) --name $* -o sample_data/profiles/$*.json --store build/profiles/$*
	$(if $(EXCERPT),$(BIN)/python -c "$$SAY_EXCERPT" sample_data/profiles/$*.json "$(EXCERPT)")

samples: $(VENV)/.ready profile-azure-code ## remake sample_data/requests.csv from the library profile azure-code
	rm -rf build/samples && mkdir -p build/samples
	$(BIN)/lamina-traces generate azure-code --duration 30m --seed 7 --name sample --store build/samples
	$(BIN)/lamina-traces export sample --to azure -o sample_data/requests.csv --store build/samples

docs: $(VENV)/.ready ## write docs/cli.md, docs/formats.md, docs/presets.md and the reference in docs/profile.md again
	TYPER_USE_RICH=0 $(BIN)/python -m typer lamina_traces.cli.app utils docs --name lamina-traces --output docs/cli.md
	$(BIN)/python -c "from lamina_traces.catalogs import formats_page; print(formats_page(), end='')" > docs/formats.md
	$(BIN)/python -c "from lamina_traces.presets.page import page; print(page(), end='')" > docs/presets.md
	$(BIN)/python -c "from pathlib import Path; from lamina_traces.profile_schema import page; p = Path('docs/profile.md'); p.write_text(page(p.read_text()))"

statistics: $(VENV)/.ready ## run the recovery by simulation and write its tables into docs/statistics.md (minutes)
	$(BIN)/python -m tests.recovery

fidelity: $(VENV)/.ready ## judge the generator on held-out halves of real traces: docs/fidelity.md (minutes; needs LAMINA_TRACES_REAL_DATA)
	: "$(REAL)" && $(BIN)/python -m lamina_traces.fidelity.heldout --page docs/fidelity.md

accuracy: $(VENV)/.ready ## hold the cost model against public measurements: docs/cost-model.md (needs LAMINA_TRACES_GROUND_TRUTH)
	: "$${LAMINA_TRACES_GROUND_TRUTH:?is not set}" && $(BIN)/python -m benchmarks.accuracy --page docs/cost-model.md

claims: $(VENV)/.ready ## measure what papers claim: docs/claims.md
	$(BIN)/python -c "from lamina_traces.claims.page import page; print(page(), end='')" > docs/claims.md

lock: ## pin the present dependency versions in constraints.txt
	$(VENV)/bin/python -m pip freeze --exclude-editable | sed -E '/ @ |^-e /d' > constraints.txt

bench: $(VENV)/.ready ## run the benchmarks (minutes; figures are ratios)
	$(BIN)/python -m benchmarks

clean: ## remove what was built
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis lamina-store
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +

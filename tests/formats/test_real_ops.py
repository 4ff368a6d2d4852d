"""Every real file of the serverless, power and failure sources has one format, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina_traces import formats
from lamina_traces.errors import UnknownFormat

EXPECTED = {
    "failures/philly/*.csv": "philly_csv",
    "power/acmetrace/*.csv": "cdf_curve",
    "power/codecarbon/emissions_*.csv": "codecarbon",
    "power/ml-energy-v3/*.csv": "mlenergy_csv",
    "power/mlperf-inference-v1.0/*/spl.txt": "ptdaemon",
    "power/mlperf-inference-v1.0/*/mlperf_log_detail.txt": "mlperf_detail",
    "power/splitwise-sim/*.csv": "splitwise_perf",
    "power/zeus-monitor-log/*.csv": "zeus_log",
    "power/zeus-nsdi23/*.csv": "zeus_sweep",
    "serverless/azure-functions-2019/*/invocations.csv": "azure_functions_2019",
    "serverless/azure-functions-2019/*/durations.csv": "azure_functions_2019_durations",
    "serverless/azure-functions-2019/*/memory.csv": "azure_functions_2019_memory",
    "serverless/azure-functions-2021/*.csv": "azure_functions_2021",
    "serverless/huawei-2023/*/requests_*/*.csv": "huawei_2023_requests",
    "serverless/huawei-2023/*/*_limit_*/*.csv": "huawei_2023_metrics",
    "serverless/huawei-2025/cold_start/*/*.csv": "huawei_cold_start",
    "serverless/huawei-2025/per_request/*/*.csv": "huawei_request",
    "serverless/huawei-2025/quantiles/*/requests/*.csv": "huawei_2025_requests",
    "serverless/huawei-2025/runtime_triggerType/*.csv": "huawei_runtime",
    "serverless/huawei-2025/paper_cdf_curves.csv": "cdf_figures",
    "serverless/ibm-code-engine-2026/*.csv": "ibm_code_engine",
    "serverless/lambda-perf/*.json": "lambda_perf",
}
UNREAD = (
    "failures/acmetrace/cluster_summary.csv",
    "power/codecarbon/cpu_load_rapl_E5-2620_all_cores.csv",
)


@pytest.mark.real_data
@pytest.mark.parametrize("pattern", EXPECTED)
def test_real_files_have_one_format(real_data: Path, pattern: str) -> None:
    files = sorted(real_data.glob(pattern))
    assert files
    assert {formats.detect(f).name for f in files} == {EXPECTED[pattern]}


@pytest.mark.real_data
@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_refused(real_data: Path, name: str) -> None:
    with pytest.raises(UnknownFormat):
        formats.detect(real_data / name)

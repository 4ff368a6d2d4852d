"""One small, format-true source for each format that reads text: what fuzzing starts from; and where it must lie
for formats whose path says something."""

from __future__ import annotations

from tests.formats import fixtures_llm, fixtures_power, fixtures_serverless
from tests.formats.test_damage import SOURCES

FIXTURES: dict[str, bytes] = {
    **{name: text.encode() for name, text in SOURCES.items() if name != "columns"},
    **fixtures_llm.FIXTURES,
    **fixtures_serverless.FIXTURES,
    **fixtures_power.FIXTURES,
    **fixtures_power.JOBS,
    **fixtures_power.METRICS,
}
SECRETS: dict[str, bytes] = {
    **fixtures_llm.SECRETS,
    **fixtures_serverless.SECRETS,
    **fixtures_power.SECRETS,
}
"""sources with planted text, keys and addresses, none of which may come out."""
PATHS: dict[str, str] = {
    "servegen": "chunk-7-trace.csv",
    "servegen_dataset": "chunk-7-dataset.json",
    **fixtures_serverless.PATHS,
    **fixtures_power.PATHS,
    **fixtures_power.JOB_PATHS,
}
SIDE = {"ragpulse_parts", "pai_jobs_header", "pai_tasks_header"}
"""sources that are read beside others and hold no row of their own."""

"""Azure LLM inference traces 2023 and 2024 (Patel et al., ISCA 2024; Stojkovic et al., HPCA 2025).

Layout read from Azure/AzurePublicDataset and the files. The stamps are naive with 7 digits (2023) or
carry +00:00 with 6 digits or none, mixed in one file (2024); naive ones are UTC by assumption. The
source records no status, so nothing can be said about failures.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("TIMESTAMP").alias("arrival_ns"),
        pl.col("ContextTokens").alias("input_tokens"),
        pl.col("GeneratedTokens").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


FORMATS = (
    Format(
        name="azure",
        title="Azure LLM inference trace (2023, 2024)",
        table="llm_requests",
        syntax=("csv",),
        fields=(
            Field("TIMESTAMP", "instant", "UTC", "arrival_ns", minimum=None),
            Field("ContextTokens", "tokens", "tokens", "input_tokens"),
            Field("GeneratedTokens", "tokens", "tokens", "output_tokens"),
        ),
        canonical=_canonical,
        clock="utc",
        source="Azure/AzurePublicDataset (CC-BY-4.0), AzureLLMInferenceDataset2023.md and 2024.md",
        evidence="real file",
        closed=True,
        quirks=(
            "naive stamps are taken for UTC",
            "0 to 9 fractional digits, also mixed within a file",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

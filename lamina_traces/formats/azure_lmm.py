"""Azure trace of multimodal inference (2025): the Azure layout with the number of images.

Layout read from Azure/AzurePublicDataset (AzureLMMInferenceDataset2025.md). Stamps are UTC with Z.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("TIMESTAMP").alias("arrival_ns"),
        pl.col("ContextTokens").alias("input_tokens"),
        pl.col("GeneratedTokens").alias("output_tokens"),
        pl.col("NumImages").alias("image_count"),
        pl.lit("unknown").alias("status"),
    )


FORMATS = (
    Format(
        name="azure_lmm",
        title="Azure multimodal inference trace (2025)",
        table="llm_requests",
        syntax=("csv",),
        fields=(
            Field("TIMESTAMP", "instant", "UTC", "arrival_ns", minimum=None),
            Field("NumImages", "tokens", "", "image_count"),
            Field("ContextTokens", "tokens", "tokens", "input_tokens"),
            Field("GeneratedTokens", "tokens", "tokens", "output_tokens"),
        ),
        canonical=_canonical,
        clock="utc",
        source="Azure/AzurePublicDataset (CC-BY-4.0), AzureLMMInferenceDataset2025.md",
        evidence="documentation",
        closed=True,
        quirks=(
            "whether the tokens of images are part of ContextTokens is not recorded",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

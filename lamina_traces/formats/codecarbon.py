"""CodeCarbon emissions.csv, versions 2 and 3 (mlco2/codecarbon, MIT).

Layout from examples/emissions.csv and tests/test_data/emissions_valid_headers.csv in the repository.
Columns are bound by name, since version 3 inserts some. Energy is kWh (1 kWh = 3.6e6 J), emissions kg. The
``*_power`` columns are the last reading, not the mean, so the mean power here is energy over duration and
the readings stay in ``extra``. A run that is flushed again and again writes cumulative rows under one
run_id: from its second row on a window is the difference to the row before. Rows without a run_id stand
alone. The stamp is taken at the end of a window, in local time. Longitude and latitude are left out unless
text is kept.
"""

from __future__ import annotations

import polars as pl

from .durations import as_ns
from .format import Context, Field, Format, json_object

J_PER_KWH = 3.6e6
_DOMAINS = {"energy_consumed": ("all", "server"), "cpu_energy": ("cpu", "cpu"), "gpu_energy": ("gpu", "gpu"), "ram_energy": ("dram", "dram")}  # fmt: skip
_SUMS = ("duration", "emissions", *_DOMAINS)
_FIELDS = (
    Field("timestamp", "instant", "local", "arrival_ns", minimum=None),
    Field("project_name", "text", "", "label", required=False),
    Field("run_id", "text", required=False),
    Field("duration", "seconds", "s", "duration_s"),
    Field("emissions", "number", "kg", "emissions_kg", required=False),
    Field("emissions_rate", "number", "kg/s", required=False),
    Field("cpu_energy", "number", "kWh", "energy_j", required=False),
    Field("gpu_energy", "number", "kWh", "energy_j", required=False),
    Field("ram_energy", "number", "kWh", "energy_j", required=False),
    Field("energy_consumed", "number", "kWh", "energy_j", required=False),
    Field("cpu_model", "text", required=False),
    Field("gpu_model", "text", required=False),
)


def _windows(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Rows as windows: less what the same run had when it was written before."""
    rows = frame.select("run_id", *_SUMS)
    last: dict[str, tuple[float | None, ...]] = context.state.setdefault("runs", {})
    before: list[tuple[float | None, ...]] = []
    for run, *sums in rows.iter_rows():
        known = last.get(run) if run is not None else None
        goes_on = known is not None and _grew(known, sums)
        before.append(known if goes_on and known is not None else (0.0,) * len(_SUMS))
        if goes_on:
            context.note("cumulative", "rows of one run_id add up: each is a window from the row before it on", "energy_j")  # fmt: skip
        if run is not None:
            last[run] = tuple(sums)
    earlier = pl.DataFrame(before, schema=dict.fromkeys(_SUMS, pl.Float64), orient="row")
    return frame.with_columns(frame[n] - earlier[n] for n in _SUMS)


def _grew(known: tuple[float | None, ...], sums: list[float | None]) -> bool:
    """Whether no sum is below what it was, and all that were there still are."""
    return all(a is None or (b is not None and b >= a) for a, b in zip(known, sums, strict=True))


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    width = _windows(frame.with_row_index("line"), context)
    used = {"timestamp", "project_name", *_SUMS}
    extra = json_object(frame, (n for n in frame.columns if n not in used), context)
    nothing = pl.lit(None, pl.String)
    parts = []
    for name, (device, domain) in _DOMAINS.items():
        whole = name == "energy_consumed"
        energy = pl.col(name) * J_PER_KWH
        parts.append(
            width.select(
                "line",
                (pl.col("timestamp") - as_ns(pl.col("duration"))).alias("arrival_ns"),
                pl.col("project_name").alias("label"),
                pl.lit(device).alias("device"),
                pl.col("gpu_model" if name == "gpu_energy" else "cpu_model").alias("device_name")
                if name in ("gpu_energy", "cpu_energy")
                else pl.lit(None, pl.String).alias("device_name"),
                pl.lit(domain).alias("domain"),
                pl.col("duration").alias("duration_s"),
                energy.alias("energy_j"),
                pl.when(pl.col("duration") > 0).then(energy / pl.col("duration")).alias("mean_power_w"),
                (pl.col("emissions") if whole else pl.lit(None, pl.Float64)).alias("emissions_kg"),
                (extra if whole else nothing).alias("extra"),
            ).filter(pl.col("energy_j").is_not_null() | whole)
        )  # fmt: skip
    return pl.concat(parts).sort("line", maintain_order=True).drop("line")


FORMATS = (
    Format(
        name="codecarbon",
        title="CodeCarbon emissions.csv (versions 2 and 3)",
        table="power_windows",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        private=frozenset(("longitude", "latitude")),
        clock="local",
        source="mlco2/codecarbon (MIT), examples/emissions.csv and tests/test_data",
        evidence="real file",
        quirks=(
            "energy in kWh becomes J (× 3.6e6)",
            "*_power columns are last readings: the mean power is energy over duration",
            "rows of one run_id are cumulative; each becomes the window since the row before it",
            "a window is four rows: cpu, gpu, dram, and all of them (server)",
        ),
        matches=lambda head: {"emissions_rate", "energy_consumed", "run_id", "duration"} <= set(head.names),
        version=lambda head: "3" if "experiment_id" in head.names else "2",
    ),
)  # fmt: skip

"""ServeGen client pools: arrival laws and length distributions of each client, by window (Xiang et al., 2025).

Layout read from alibaba/ServeGen (README, servegen/clientpool.py and data/). ``chunk-<client>-trace.csv``
has no header: start of the window in seconds, requests a second, CV of the gaps, law, shape, scale in
seconds; an idle window has no law. ``chunk-<client>-dataset.json`` maps the start of a window to fields,
each the text of a Python dictionary value: probability, which is read by a pattern and never evaluated.
The client stands in the file name, category and model in the folders above it. Windows without a
distribution hold nothing; upstream uses the last one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from .format import Context, Field, Format, Head

WINDOW_S = 600.0
"""width of the windows in the published files (README)."""
_NAMES = ("start_s", "rate_rps", "gap_cv", "law", "arg1", "arg2")
_LAWS = frozenset(("gamma", "weibull", ""))
_PATH = re.compile(
    r"(?:(?:^|[/\\])(?P<category>language|reason|multimodal)[/\\](?P<model>[^/\\]+)[/\\]|^|[/\\])"
    r"chunk-(?P<client>[^/\\]+?)-(?:trace|dataset)\."
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*:\s*({_NUMBER})\s*(?:,|$)")


def _from_path(path: str) -> dict[str, str | None]:
    found = _PATH.search(path)
    if found is None:
        stem = re.split(r"[/\\]", path)[-1].split(".")[0]
        return {"category": None, "model": None, "client": stem or "-"}
    return found.groupdict()


def _who(path: str) -> list[pl.Expr]:
    part = _from_path(path)
    return [
        pl.lit(part["category"], pl.String).alias("category"),
        pl.lit(part["model"], pl.String).alias("model"),
        pl.lit(part["client"], pl.String).alias("client_id"),
    ]


def _numeric(text: str) -> bool:
    return re.fullmatch(_NUMBER, text.strip()) is not None


def _headless(cells: Sequence[str], _path: str) -> Sequence[str] | None:
    if len(cells) != len(_NAMES) or cells[3].strip().lower() not in _LAWS:
        return None
    return _NAMES if all(_numeric(c) for i, c in enumerate(cells) if i != 3) else None


def _windows(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    steps = frame["start_s"].diff().drop_nulls()
    step = steps.filter(steps > 0).min()
    file = context.state.setdefault("file", {})
    width = file.setdefault("window_s", WINDOW_S if step is None else int(step) / 1e9)  # type: ignore[arg-type]
    busy = pl.col("rate_rps") > 0
    law = pl.col("law").str.strip_chars().str.to_lowercase()
    some = busy & law.is_not_null() & (law != "")
    return frame.select(
        *_who(context.path),
        pl.col("start_s").alias("arrival_ns"),
        pl.lit(width, pl.Float64).alias("window_s"),
        pl.col("rate_rps"),
        pl.when(busy).then("gap_cv").alias("gap_cv"),
        pl.when(some).then(law).alias("law"),
        pl.when(some).then("arg1").alias("shape"),
        pl.when(some).then("arg2").alias("scale_s"),
    )


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of ``{39: 0.0003, 40: 1e-05}`` as text. Raises ValueError for anything else."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError("not a dictionary of numbers")
    inner, at = inner[1:-1].strip(), 0
    while at < len(inner):
        found = _PAIR.match(inner, at)
        if found is None:
            raise ValueError("not a dictionary of numbers")
        yield found[1], found[2]
        at = found.end()


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    for start, fields in value.items():
        for name, text in fields.items():
            row = {"start_s": start, "field": name}
            try:
                found = list(pairs(text))
            except (ValueError, AttributeError):
                yield {**row, "value": "not a distribution", "prob": None}
                continue
            if not found:
                context.tally["empty distributions"] += 1
            yield from ({**row, "value": v, "prob": p} for v, p in found)


def _pmf(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    return frame.select(
        *_who(context.path),
        pl.col("start_s").alias("arrival_ns"),
        pl.col("field"),
        pl.col("value"),
        pl.col("prob"),
    )


def _rest(context: Context) -> pl.DataFrame:
    if n := context.tally["empty distributions"]:
        text = f"{n:,} distributions of windows are empty; ServeGen uses the last one before"
        context.note("empty-windows", text, "prob")
    return pl.DataFrame()


def _is_dataset(head: Head) -> bool:
    numbered = [n for n in head.names if n.isdigit()]
    inner = ("input_tokens", "output_tokens")
    return (
        bool(numbered)
        and len(numbered) == len(head.names)
        and any(f"{n}.{f}" in head.keys for n in numbered for f in inner)
    )


_SOURCE = "alibaba/ServeGen (Apache-2.0), README, servegen/clientpool.py and data/"

FORMATS = (
    Format(
        name="servegen",
        title="ServeGen client windows (chunk-N-trace.csv)",
        table="client_windows",
        syntax=("csv",),
        fields=(
            Field("start_s", "clock", "s", "arrival_ns"),
            Field("rate_rps", "number", "1/s", "rate_rps"),
            Field("gap_cv", "number", "", "gap_cv", required=False),
            Field("law", "text", "", "law", required=False),
            Field("arg1", "number", "", "shape", required=False),
            Field("arg2", "number", "s", "scale_s", required=False),
        ),
        canonical=_windows,
        rest=_rest,
        headless=_headless,
        matches=lambda _head: False,
        clock="relative",
        source=_SOURCE,
        evidence="real file",
        family="servegen",
        others=("client_pmf",),
        quirks=(
            "no header line; an idle window has no law and no CV",
            "the client is in the file name, category and model are the folders above it",
            "the mean of the law need not fit the window's rate: rescale it (client 14 of m-small: 1.6 times)",
        ),
    ),
    Format(
        name="servegen_dataset",
        title="ServeGen length distributions (chunk-N-dataset.json)",
        table="client_pmf",
        syntax=("json",),
        fields=(
            Field("start_s", "clock", "s", "arrival_ns"),
            Field("field", "text", "", "field"),
            Field("value", "number", "", "value"),
            Field("prob", "number", "", "prob"),
        ),
        canonical=_pmf,
        rest=_rest,
        unfold=_unfold,
        matches=_is_dataset,
        clock="relative",
        source=_SOURCE,
        evidence="real file",
        family="servegen",
        rank=1,
        quirks=(
            "distributions are the text of Python dictionaries: read by a pattern, never evaluated",
            "windows of 6 h; an empty one means the last one before",
        ),
    ),
)

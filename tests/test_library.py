"""The library of workload profiles: complete, small, attributed, and without a trace of a row."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces.profile import Profile, fitted_names

from .conftest import Ran

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "sample_data" / "profiles"
NAMES = (
    "acme-seren-power", "azure-code", "azure-functions-2019", "azure-functions-2021", "burstgpt-400-rows", "huawei-cold-starts-2025",
    "lambda-perf", "mlenergy-h100", "mlperf-a100-bert99-offline", "mlperf-a100-bert99-server", "mooncake-conversation", "philly-jobs",
    "servegen-m-small", "vllm-qwen3-32b-rtxpro6000", "zeus-a40", "zeus-v100-power-limits",
)  # fmt: skip
REQUESTS = (
    "azure-code", "burstgpt-400-rows", "mooncake-conversation", "servegen-m-small", "vllm-qwen3-32b-rtxpro6000",
)  # fmt: skip
EXCERPTS = {
    "burstgpt-400-rows": "400 rows",
    "azure-functions-2021": "500 rows",
    "azure-functions-2019": "100 functions",
    "servegen-m-small": "six clients",
    "philly-jobs": "some of the virtual clusters",
    "lambda-perf": "ten days",
}


def presets(lamina: Callable[..., Ran]) -> dict[str, dict[str, Any]]:
    found = json.loads(lamina("catalog", "presets", "--format", "json").out)
    return {r["name"]: r for r in found}


def strings(x: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every string of a profile, keys included, with where it stands."""
    if isinstance(x, dict):
        for k, v in x.items():
            yield path, k
            yield from strings(v, (*path, k))
    elif isinstance(x, list):
        for v in x:
            yield from strings(v, path)
    elif isinstance(x, str):
        yield path, x


def test_what_is_there() -> None:
    assert tuple(fitted_names()) == NAMES
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^LIBRARY := ((?:.*\\\n)*.*)$", makefile, re.M)
    assert listed is not None
    assert sorted(listed[1].replace("\\\n", " ").split()) == list(NAMES)
    sizes = {p.name: p.stat().st_size for p in FOLDER.iterdir()}
    assert max(sizes.values()) <= 300_000
    assert sum(sizes.values()) <= 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_one(name: str) -> None:
    p = Profile.library(name)
    assert p.name == name
    file = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert p.to_dict() == file, "run make profiles: this tool would write it differently"
    assert p.source["licence"]
    assert p.source["trace"] not in NAMES, "a stored trace of that name could not be told apart"
    assert p.source["inputs"]
    assert any(s.aspects for part in p.parts.values() for s in part.streams)
    assert not any(s.unknown for part in p.parts.values() for s in part.streams)
    assert p.findings()


@pytest.mark.parametrize("name", EXCERPTS)
def test_a_part_of_a_trace_says_so(name: str) -> None:
    first = Profile.library(name).notices[0]
    assert first.code == "excerpt"
    assert EXCERPTS[name] in first.text


SUSPECT = {
    "hash": re.compile(r"[0-9a-f]{16,}", re.I),
    "mail": re.compile(r"[\w.+-]+@\w+\.\w+"),
    "address": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
    "instant": re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d"),
    "path": re.compile(r"(?:^|\s)(?:/[\w.-]+){2,}"),
    "pod": re.compile(r"pool\d+-\d+-\d+-\d+"),
    "id": re.compile(r"\b(?:user|session|request|conversation|func)[-_ ]?[0-9a-f]*\d[0-9a-f]*\b", re.I),
}  # fmt: skip


def test_the_patterns_find_what_they_are_for() -> None:
    for kind, text in {
        "hash": "a1b2c3d4e5f60718", "mail": "jo@example.org", "address": "10.0.0.7", "instant": "2023-11-16 18:17:03",
        "path": "/home/jo/trace.csv", "pod": "pool22-300-128-0004", "id": "user-17",
    }.items():  # fmt: skip
        assert SUSPECT[kind].search(text), kind


@pytest.mark.parametrize("name", NAMES)
def test_no_names_of_people_hosts_or_rows(name: str) -> None:
    """The hashes of the input files are those of public files."""
    d = json.loads((FOLDER / f"{name}.json").read_text())
    for entry in d["source"]["inputs"]:
        assert len(entry.pop("sha256")) == 64
    for path, text in strings(d):
        for kind, pattern in SUSPECT.items():
            assert not pattern.search(text), (kind, path, text)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_of_a_table(name: str) -> None:
    """A grid ends at the 10th extremes, so it has ten rows a step; power is exempt."""
    p = Profile.library(name)
    for part in p.parts.values():
        for stream in part.streams:
            for aspect, fitted in stream.aspects.items():
                if aspect != "power":
                    for grid in grids(fitted.to_dict()):
                        assert (len(grid["values"]) - 1) * 10 <= grid["rows"], aspect


def grids(x: Any) -> Iterator[dict[str, Any]]:
    if isinstance(x, dict):
        if {"values", "mean", "rows"} <= set(x):
            yield x
        for v in x.values():
            yield from grids(v)
    elif isinstance(x, list):
        for v in x:
            yield from grids(v)


def test_catalogue_and_readme(lamina: Callable[..., Ran]) -> None:
    listed = {k: r for k, r in presets(lamina).items() if r["basis"] == "fitted"}
    assert tuple(listed) == NAMES
    table = [
        [c.strip() for c in line.strip("|").split("|")]
        for line in (ROOT / "sample_data" / "README.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert sorted(r[0].strip("`") for r in table) == list(NAMES)
    for name, _, rows, evidence, licence in table:
        row = listed[name.strip("`")]
        assert rows == f"{row['rows']:,}"
        assert evidence == row["evidence"]
        assert row["licence"].startswith(licence)
        assert row["aspects"]


OTHER_TABLES = (
    "azure-functions-2019",
    "azure-functions-2021",
    "mlperf-a100-bert99-server",
    "mlperf-a100-bert99-offline",
)
WITHOUT_ARRIVALS = ("huawei-cold-starts-2025", "lambda-perf")


@pytest.mark.parametrize("name", NAMES)
def test_generate(name: str, lamina: Callable[..., Ran]) -> None:
    ran = lamina("generate", name, "-n", 50, "--seed", 1, "-o", "made.parquet")
    if name in (*REQUESTS, *OTHER_TABLES):
        assert ran.code == 0, ran.err
        assert pl.read_parquet("made.parquet").height == 50
        return
    assert ran.code == 1
    assert "hint:" in ran.err
    assert "Traceback" not in ran.err
    if name in WITHOUT_ARRIVALS:
        assert "--arrivals poisson --rate 2/s" in ran.err
        supplied = ("--arrivals", "poisson", "--rate", "2/s")
        again = lamina("generate", name, "-n", 50, *supplied, "-o", "made.parquet")
        assert again.code == 0, again.err
    else:
        assert f"profile '{name}' describes " in ran.err


@pytest.mark.parametrize("name", NAMES)
def test_show(name: str, lamina: Callable[..., Ran]) -> None:
    ran = lamina("show", name)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"{name}: ")
    assert " nan" not in ran.out.lower()
    assert "inf " not in ran.out.lower()


def numbers_apart(x: Any) -> tuple[Any, list[float]]:
    """A value with its numbers taken out, and these, in order."""
    found: list[float] = []

    def bare(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: bare(w) for k, w in v.items()}
        if isinstance(v, list):
            return [bare(w) for w in v]
        if isinstance(v, int | float) and not isinstance(v, bool):
            found.append(float(v))
            return 0
        return v

    return bare(x), found


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["vllm-qwen3-32b-rtxpro6000", "azure-functions-2019"])
def test_refit_gives_the_same_profile(name: str, real_data: Path, tmp_path: Path) -> None:
    """The recipe of the Makefile, in a copy of what it needs. Processors differ in the last digits of a fit."""
    for folder in (".venv", "lamina_traces", "cli", "queries", "reports", "Makefile", "pyproject.toml", "constraints.txt"):  # fmt: skip
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "sample_data" / "profiles").mkdir(parents=True)
    subprocess.run(
        ["make", "-o", ".venv/.ready", f"profile-{name}"], cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "LAMINA_TRACES_REAL_DATA": str(real_data.resolve())},
    )  # fmt: skip
    file = f"sample_data/profiles/{name}.json"
    words, made = numbers_apart(json.loads((tmp_path / file).read_text(encoding="utf-8")))
    kept_words, kept = numbers_apart(json.loads((ROOT / file).read_text(encoding="utf-8")))
    assert words == kept_words
    assert made == pytest.approx(kept, rel=1e-5, abs=1e-9)

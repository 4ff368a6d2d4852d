"""Failures, jobs, incidents, cold starts and invocations on the page, from traces that were fitted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest

from lamina_traces.characterization import characterize
from lamina_traces.profile import Profile
from lamina_traces.reports import figures, render
from lamina_traces.reports.blocks import Figure, Section, Table
from lamina_traces.reports.workload import sections, tiles
from tests.aspects import (
    test_cold_starts,
    test_failures,
    test_incidents,
    test_invocations,
    test_jobs,
)
from tests.aspects.tables import stored

from .samples import HOSTILE


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    def of(table: str, frame: pl.DataFrame) -> Profile:
        return characterize(stored(tmp_path_factory.mktemp(table), table, frame))

    return {
        "failures": of("llm_requests", test_failures.bursty()),
        "jobs": of("jobs", test_jobs.cluster(3000, days=3)),
        "incidents": of("incidents", test_incidents.nodes()),
        "cold-starts": of("cold_starts", test_cold_starts.starts(2000)),
        "invocations": of("invocations", test_invocations.calls()),
    }


def section(profile: Profile, id_: str) -> Section:
    return next(s for s in sections(profile) if s.id == id_)


def figures_of(s: Section) -> dict[str, Figure]:
    return {b.id.removeprefix(f"{s.id}-"): b for b in s.blocks if isinstance(b, Figure)}


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("failures", {"time", "load", "clusters", "between"}),
        ("jobs", {"run", "waiting"}),
        ("incidents", {"between", "own", "repair"}),
        ("cold-starts", {"cdf", "shares"}),
        ("invocations", {"trade", "cold", "duration"}),
    ],
)
def test_figures(profiles: dict[str, Profile], name: str, drawn: set[str]) -> None:
    s = section(profiles[name], name)
    found = figures_of(s)
    assert set(found) == drawn
    for f in found.values():
        assert len(f.sentence) > 40
        assert figures.points(f.data) <= figures.MAX_POINTS
        assert all(
            v["title"]["text"] for k, v in f.layout.items() if k.startswith(("xaxis", "yaxis"))
        )
        text = json.dumps({"data": f.data, "layout": f.layout}, allow_nan=False)
        go.Figure(json.loads(re.sub(r'"\$(ink|soft|grid|paper|middle|sans)"', '"#abcdef"', text)))
        assert f.table.rows
    for b in s.blocks:
        for t in b if isinstance(b, tuple) else [b]:
            if isinstance(t, Table):
                assert all(len(r) == len(t.columns) == len(t.align) for r in t.rows), t.caption


def test_pages_render_and_have_tiles(profiles: dict[str, Profile]) -> None:
    for profile in profiles.values():
        assert len(tiles(profile)) >= 2
        page = render(profile)
        assert (
            "nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).lower().split()
        )


def test_both_definitions_stand_beside_each_other(profiles: dict[str, Profile]) -> None:
    cold = section(profiles["cold-starts"], "cold-starts")
    steps = next(b for b in cold.blocks if isinstance(b, Table) and b.caption == "Time by step")
    assert steps.columns[-2:] == ("share of the sums", "mean of the shares")
    assert any(r[0] == "deploy dep, where not 0" for r in steps.rows)
    assert {r[1] for r in steps.rows} == {"platform total"}
    numbers = next(
        b
        for b in section(profiles["jobs"], "jobs").blocks
        if isinstance(b, Table) and b.caption == "Jobs in numbers"
    )
    assert {"failed, by jobs", "failed, by GPU time"} <= {r[0] for r in numbers.rows}


def test_names_from_a_trace_are_text(tmp_path: Path) -> None:
    """Runtimes and components may be anything."""
    names = [h for h in HOSTILE if "\0" not in h and "\ud800" not in h][:8]
    n = 50 * len(names)
    cold = test_cold_starts.starts(n).with_columns(runtime=pl.Series(names * 50))
    page = render(characterize(stored(tmp_path / "a", "cold_starts", cold)))
    assert "<script>alert(1)</script>" not in page
    assert "alert(1)" in page
    frame = test_incidents.nodes()
    broken = [names[i % len(names)] for i in range(len(frame))]
    page = render(
        characterize(
            stored(tmp_path / "b", "incidents", frame.with_columns(component=pl.Series(broken)))
        )
    )
    assert "<script>alert(1)</script>" not in page
    assert "alert(1)" in page

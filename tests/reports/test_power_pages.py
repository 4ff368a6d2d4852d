"""Pages of power, operating points and metrics: their figures, their bounds, and names from strangers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import Aspect, from_dict, metrics, operating_points, power
from lamina_traces.aspects.power_windows import Curve, Window
from lamina_traces.errors import LaminaError
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.reports import page as pages
from lamina_traces.reports.blocks import Figure, Section, Table
from lamina_traces.reports.figures import MAX_POINTS, points
from tests.aspects.tables import stored
from tests.recovery.scrapes import drawn, scrapes
from tests.reports.samples import HOSTILE

S = 10**9


def profile(table: str, name: str, aspect: Aspect) -> Profile:
    stream = Stream("all", 1.0, {}, {name: aspect})
    return Profile(name, {table: Part(table, (stream,))}, {"kind": "power", "rows": 1})


def watts(n: int, every_s: float, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    level = np.where(np.arange(n) // 40 % 3 == 0, 90.0, 400.0)
    return pl.concat(
        pl.DataFrame(
            {
                "arrival_ns": (np.arange(n) * every_s * S).astype(np.int64) + i,
                "host": ["node"] * n,
                "device": [f"gpu{i}"] * n,
                "domain": ["gpu"] * n,
                "power_w": level + 5 * rng.standard_normal(n),
                "energy_j": np.cumsum(level) * every_s,
                "power_limit_w": [400.0] * n,
            }
        )
        for i in range(2)
    ).sort("arrival_ns")


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> power.Power:
    found = power.fit(stored(tmp_path_factory.mktemp("p"), "power_samples", watts(1200, 0.5)), [])
    assert found is not None
    return found


def blocks(section: Section, kind: type[Any]) -> list[Any]:
    return [b for b in section.blocks if isinstance(b, kind)]


def test_power_page(gpus: power.Power) -> None:
    page = pages.compose(profile("power_samples", "power", gpus))
    section = next(s for s in page.sections if s.id == "power")
    figures = {f.id for f in blocks(section, Figure)}
    assert figures == {"power-course", "power-duration", "power-acf"}
    assert all(points(f.data) <= MAX_POINTS for f in blocks(section, Figure))
    captions = [t.caption for t in blocks(section, Table)]
    for caption in ("Levels of power", "Power in numbers", "Devices", "Energy counters"):
        assert caption in captions
    assert {t.label for t in page.tiles} >= {"mean power", "highest sum", "energy"}
    assert any("ran into a cap" in s.text for s in page.findings)
    assert pages.render(profile("power_samples", "power", gpus)).count("<figure") >= 3


def test_a_bound_is_written_as_one(tmp_path: Path) -> None:
    found = power.fit(stored(tmp_path, "power_samples", watts(300, 15.0)), [])
    assert found is not None
    page = pages.compose(profile("power_samples", "power", found))
    section = next(s for s in page.sections if s.id == "power")
    devices = next(t for t in blocks(section, Table) if t.caption == "Devices")
    rise = devices.rows[0][devices.columns.index("rise in 2 s")]
    assert rise.startswith("≥ ")
    assert not devices.rows[0][devices.columns.index("in 40 s")].startswith("≥")


def test_version_1_of_power_has_a_page() -> None:
    d = json.loads((Path(__file__).parent.parent / "golden" / "power-1.json").read_text())
    assert "Devices" in pages.render(profile("power_samples", "power", power.from_dict(d)))


def test_windows_and_curves_have_pages(gpus: power.Power) -> None:
    w = Window("", "", "gpu0", "gpu", 3, 30.0, 3000.0, 100.0, highest_w=140.0)
    alone = replace(gpus, devices=(), groups=(), load_duration=None, windows=(w,), evidence="windows")  # fmt: skip
    assert "Energy of the named windows" in pages.render(profile("power_windows", "power", alone))
    assert gpus.load_duration is not None
    c = Curve("gpu_power_w", "seren", gpus.load_duration)
    curves = replace(alone, windows=(), curves=(c,), evidence="curves")
    assert "Published curves of power" in pages.render(profile("cdf_points", "power", curves))


def test_metrics_page(tmp_path: Path) -> None:
    frame = scrapes(drawn(np.random.default_rng(0), 4000, 2.0), resets_s=(300.0,))
    found = metrics.fit(stored(tmp_path, "metric_series", frame), [])
    assert found is not None
    page = pages.compose(profile("metric_series", "metrics", found))
    section = next(s for s in page.sections if s.id == "metrics")
    ids = {f.id for f in blocks(section, Figure)}
    assert ids == {f"metrics-{x}" for x in ("rate", "queue", "tokens", "shares", "input", "output")}
    lost = next(t for t in blocks(section, Table) if t.caption == "What metrics do not say")
    assert len(lost.rows) == len(found.unknowable)
    latencies = next(t for t in blocks(section, Table) if t.caption.startswith("Latencies"))
    assert " to " in latencies.rows[0][3]
    bare = replace(found, input=None, output=None, latencies={}, curves={}, rate_curve=(), rate_per_s=None)  # fmt: skip
    assert "Metrics in numbers" in pages.render(profile("metric_series", "metrics", bare))


def test_operating_points_page(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "device_name": ["v100"] * 6,
            "model": ["a", "a", "a", "b", "b", "b"],
            "batch_size": np.array([1, 2, 4] * 2, dtype=np.int32),
            "power_limit_w": [250.0] * 6,
            "energy_per_token_j": [4.0, 2.0, 1.0, 8.0, 4.0, 3.0],
            "mean_power_w": [100.0] * 6,
        }
    )
    limits = frame.with_columns(pl.lit(4, pl.Int32).alias("batch_size"), pl.Series("power_limit_w", [100.0, 200.0, 300.0] * 2), energy_j=pl.Series([90.0, 80.0, 100.0] * 2), duration_s=pl.Series([2.0, 1.2, 1.0] * 2))  # fmt: skip
    both = pl.concat([frame, limits], how="diagonal")
    found = operating_points.fit(stored(tmp_path, "operating_points", both), [])
    assert found is not None
    page = pages.compose(profile("operating_points", "operating_points", found))
    section = next(s for s in page.sections if s.id == "operating-points")
    assert {f.id for f in blocks(section, Figure)} == {
        "operating-points-limits",
        "operating-points-batch",
    }


def test_names_from_strangers_are_text(gpus: power.Power) -> None:
    devices = tuple(replace(gpus.devices[0], host=h, device=h, domain=h) for h in HOSTILE)
    hostile = replace(gpus, devices=devices, device_count=len(devices))
    html = pages.render(profile("power_samples", "power", hostile))
    assert "<script>alert" not in html.split('id="facts"')[0]
    assert "<img src=x" not in html.split('id="facts"')[0]
    html.encode("utf-8", "replace")


def _numbers(x: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(x, dict):
        return [p for k, v in x.items() for p in _numbers(v, (*path, k))]
    if isinstance(x, list):
        return [p for i, v in enumerate(x[:2]) for p in _numbers(v, (*path, i))]
    return [path] if isinstance(x, int | float) or x is None else []


def test_odd_numbers_are_reported_or_refused(gpus: power.Power, tmp_path: Path) -> None:
    """Whatever numbers a profile file holds: a page without NaN, or an error with a hint, never a traceback."""
    scraped = metrics.fit(stored(tmp_path, "metric_series", scrapes(drawn(np.random.default_rng(1), 800, 2.0))), [])  # fmt: skip
    points_ = operating_points.OperatingPoints(
        (operating_points.DevicePoints("v100", 4, 200.0, 0.5, 1e-16, 4, 1),),
        (operating_points.Cap("v100", 4, 250.0, -0.2, 1.1, 0.5, None, None, ((0.5, 0.8, 1.1, 4), (1.0, 1.0, 1.0, 4))),),
        (operating_points.Batches("v100", "m", "w", 1, 0.5, 8, -1.0, ((1, 2.0), (8, 0.5))),),
        1, -1.0, 1.0, (operating_points.Fraction("v100", "batch_size", 8.0, 1.0, 0.5, 4),),
    )  # fmt: skip
    assert scraped is not None
    rng = np.random.default_rng(12)
    for name, table, aspect in (
        ("power", "power_samples", gpus),
        ("metrics", "metric_series", scraped),
        ("operating_points", "operating_points", points_),
    ):
        text = json.dumps(aspect.to_dict())
        places = _numbers(json.loads(text))
        shown = 0
        for _ in range(40):
            d = json.loads(text)
            path = places[rng.integers(len(places))]
            at = d
            for k in path[:-1]:
                at = at[k]
            at[path[-1]] = (0, -1, 0.5, 1e300, -1e300, 1e-300, None, "x", [])[rng.integers(9)]
            try:
                read = from_dict(name, d)
            except LaminaError:
                continue
            page = pages.compose(profile(table, name, read))
            shown += 1
            said = " ".join(s.text for s in page.findings)
            assert not re.search(r"\bnan\b|\binf\b", said.lower()), (name, path)
        assert shown > 5


def test_nameless_and_brief(gpus: power.Power) -> None:
    bare = gpus.nameless()
    text = json.dumps(bare.to_dict())
    assert "node" not in text
    assert [d.host for d in bare.devices] == ["host1", "host1"]
    assert bare.energy_j == gpus.energy_j
    brief = gpus.brief()
    assert len(json.dumps(brief.to_dict())) < 0.6 * len(json.dumps(gpus.to_dict()))
    assert power.from_dict(json.loads(json.dumps(brief.to_dict()))).findings()

"""The page as text: whole, escaped, deterministic, small, and whole or not at all on disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from lamina_traces.aspects import Line
from lamina_traces.errors import DataError, LaminaError, UsageError
from lamina_traces.fidelity import ScoreCard
from lamina_traces.profile import Profile
from lamina_traces.reports import figures, render, write_report
from lamina_traces.reports.blocks import Figure
from lamina_traces.reports.page import compose

from . import samples

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Checks that tags nest; keeps elements, ids and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = dict(attrs)
        self.elements.append((tag, a))
        if a.get("id"):
            self.ids.append(str(a["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts[str(self.elements[-1][1].get("id"))] = data
        elif inside != "style":
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def without_bundle(page: str) -> str:
    """The page without Plotly's own code, which is not ours to check."""
    from plotly.offline import get_plotlyjs

    bundle: str = get_plotlyjs()
    return page.replace(bundle, "")


@pytest.fixture(scope="module")
def page() -> str:
    text: str = render(
        samples.profile(), samples.run(), samples.card(), "lamina-traces report sample"
    )
    return text


def test_is_one_well_formed_page_in_order(page: str) -> None:
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    headings = re.findall(r"<h2>([A-Z][a-z ]+)", page)
    assert [h.strip() for h in headings] == [
        "Findings", "Arrivals", "Lengths", "Failures", "Simulation", "Fidelity", "Warnings", "Methods", "Reproduce this page",
    ]  # fmt: skip
    text = " ".join(" ".join(reader.text).split())
    assert "real trace 5,000 rows over 2.78 h format azure-llm utc clock sample.csv" in text
    assert "sha256 0f0f0f0f0f0f" in text
    assert "half see their first token within 43 ms, 99% within 2.1 s" in text
    assert "$0.42" in text
    assert "fewer than 10 samples lie beyond it" in text
    assert "lamina-traces report sample" in text
    assert sum(t == "dt" for t, _ in reader.elements) == 6


def test_every_figure_speaks_without_being_seen(page: str) -> None:
    reader = read(page)
    plots = [
        a for t, a in reader.elements if t == "div" and "plot" in (a.get("class") or "").split()
    ]
    assert len(plots) == 7
    for a in plots:
        assert a["role"] == "img"
        assert len(a["aria-label"] or "") > 40
    assert page.count("<figure") == page.count("<details><summary>The numbers") == 7


def test_same_input_same_bytes(page: str) -> None:
    again = render(samples.profile(), samples.run(), samples.card(), "lamina-traces report sample")
    assert again == page
    assert render(samples.profile(seed=1)) != render(samples.profile())


def test_same_bytes_in_another_process(page: str) -> None:
    code = (
        "import hashlib; from tests.reports import samples; from lamina_traces.reports import render;"
        "print(hashlib.sha256(render(samples.profile(), samples.run(), samples.card(), 'lamina-traces report sample').encode()).hexdigest())"
    )
    import hashlib

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}
    )  # fmt: skip
    assert answer.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_is_small(page: str) -> None:
    assert len(page.encode()) <= 6_000_000
    assert len(without_bundle(page).encode()) <= 600_000


def test_our_own_text_names_no_address(page: str) -> None:
    folder = resources.files("lamina_traces.reports")
    for name in ("templates/page.html.j2", "static/report.css", "static/report.js"):
        assert not re.search(
            r"https?:|//[a-z]", folder.joinpath(name).read_text().replace("// ", "")
        )
    ours = without_bundle(page)
    assert "http://" not in ours
    assert "https://" not in ours
    assert page.count("/**\n* plotly.js") == 1


def test_policy_allows_nothing_from_outside(page: str) -> None:
    policies = [a["content"] for t, a in read(page).elements if t == "meta" and a.get("http-equiv")]
    assert policies == [
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    ]


def test_no_figure_can_be_sent_away(page: str) -> None:
    drawings = json.loads(read(page).scripts["drawings"])
    assert drawings["config"]["showSendToCloud"] is False
    assert drawings["config"]["plotlyServerURL"] == ""
    assert drawings["config"]["displaylogo"] is False


def test_facts_are_embedded(page: str) -> None:
    facts = json.loads(read(page).scripts["facts"])
    assert facts["command"] == "lamina-traces report sample"
    assert Profile.from_dict(facts["profile"]).name == "sample"
    assert facts["run"]["metrics"]["ttft_p99_s"] == 2.1
    assert facts["score_card"]["passed"] is False
    assert len(facts["figures"]) == 7


@pytest.mark.parametrize(
    ("profile", "run"),
    [
        (samples.profile(), samples.run(n=20_000)),
        (samples.profile(streams=8, with_failures=False), None),
        (samples.serverless(), None),
        (samples.power(), None),
    ],
)
def test_figures_are_plotlys_and_short(profile: Profile, run: Any) -> None:
    page = compose(profile, run)
    drawn = [b for s in page.sections for b in s.blocks if isinstance(b, Figure)]
    assert drawn
    for f in drawn:
        assert figures.points(f.data) <= figures.MAX_POINTS
        for k, v in f.layout.items():
            if k.startswith(("xaxis", "yaxis")) and f.id != "simulation-time":
                assert v["title"]["text"]
        text = json.dumps({"data": f.data, "layout": f.layout})
        plain = json.loads(re.sub(r'"\$(ink|soft|grid|paper|middle|sans)"', '"#abcdef"', text))
        go.Figure(plain)  # raises on a property that Plotly does not know
        assert f.table.rows
        assert all(len(r) == len(f.table.columns) == len(f.table.align) for r in f.table.rows)


def test_hostile_names_are_text() -> None:
    p, r, c = samples.hostile()
    page = render(p, r, c, samples.HOSTILE[1])
    reader = read(page)
    assert not [
        t
        for t, a in reader.elements
        if t in ("img", "iframe", "object", "embed", "link", "base", "form")
    ]
    assert not [a for _, a in reader.elements for k in a if k.startswith("on")]
    assert sum(t == "script" for t, _ in reader.elements) == 4
    for tag, a in reader.elements:
        if tag == "a":
            assert str(a["href"]).startswith("#")
    facts = json.loads(reader.scripts["facts"])
    assert facts["profile"]["name"] == "".join(samples.HOSTILE)
    text = "".join(reader.text)
    for name in samples.HOSTILE[:7]:
        assert name in text
    page.encode("utf-8")
    assert "\0" not in page


def test_names_with_half_a_pair_can_be_written(tmp_path: Path) -> None:
    p = samples.profile("half \ud800")
    write_report(tmp_path / "r.html", profile=p)
    assert "half \ufffd" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_says_what_is_not_recorded() -> None:
    text = " ".join(read(render(samples.profile(with_failures=False))).text)
    assert (
        "Not known: the source does not record whether requests failed; log a status for each request."
        in text
    )


def test_saturated_run_shows_no_percentiles() -> None:
    none: dict[str, Any] = {
        f"{k}_{s}_s": None
        for k in ("ttft", "tpot", "e2e", "queue")
        for s in ("mean", "p50", "p90", "p99")
    }
    why: dict[str, Any] = {f"{k}_why": "the run is saturated" for k in none}
    page = render(samples.profile(), samples.run(saturated=True, **none, **why))
    text = " ".join(" ".join(read(page).text).split())
    assert "more arrive than it can serve" in text
    assert "Its latencies grow with the length of the trace, so no percentile is given." in text
    assert "No mean, p50, p90 or p99 of any latency: the run is saturated." in text
    assert "No steady state: these times grow" in text


def test_many_streams_show_six() -> None:
    text = " ".join(" ".join(read(render(samples.profile(streams=8))).text).split())
    assert "8 streams, each with aspects of its own" in text
    assert "stream 5" in text
    assert "stream 6" not in text
    assert "2 more streams are in the download" in text


def test_score_card_says_what_failed() -> None:
    text = " ".join(" ".join(read(render(samples.profile(), card=samples.card())).text).split())
    assert (
        "“synthetic” misses 1 of 2 limits when compared with “real”. 1 more could not be computed."
        in text
    )
    assert "not computed" in text


def test_score_card_shows_floors_seeds_and_what_informs() -> None:
    lines = (
        Line("arrivals", "rate", 0.03, 0.045, "relative", floor=0.03, floor_range=(0.01, 0.04), seed_range=(0.025, 0.035)),
        Line("privacy", "exact rows", 0.25, None, "share", "of b's rows that a has"),
    )  # fmt: skip
    card = ScoreCard("real", "profile", lines, 5, ("floors are of the first 10 rows of real",))
    text = " ".join(" ".join(read(render(samples.profile(), card=card)).text).split())
    assert "“profile” stays within the one limit of “real”." in text
    assert "0.03 [0.025, 0.035]" in text
    assert "floors are of the first 10 rows of real" in text
    assert "of b's rows that a has" in text
    assert "no differential privacy is claimed" in text


def _numbers(x: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to the numbers of a dictionary, three of each list."""
    if isinstance(x, dict):
        return [p for k, v in x.items() for p in _numbers(v, (*path, k))]
    if isinstance(x, list):
        return [p for i, v in enumerate(x[:3]) for p in _numbers(v, (*path, i))]
    return [path] if isinstance(x, int | float) else []


def test_profiles_with_odd_numbers_are_reported_or_refused() -> None:
    """Whatever numbers a profile file holds: a page without NaN, or an error with a hint, never a traceback."""
    original = samples.profile(seed=5).to_dict()
    text = json.dumps(original)
    places = [p for p in _numbers(original) if "params" not in p]
    rng = np.random.default_rng(11)
    odd = (0, -1, 0.5, 1e300, -1e300, 1e-300)
    pages = 0
    for _ in range(60):
        d = json.loads(text)
        path = places[rng.integers(len(places))]
        at = d
        for k in path[:-1]:
            at = at[k]
        at[path[-1]] = odd[rng.integers(len(odd))]
        try:
            p = Profile.from_dict(d)
        except LaminaError:
            continue
        page = compose(p)
        pages += 1
        words = " ".join(f.text for f in page.findings) + repr([s.blocks for s in page.sections])
        assert not re.search(r"\bnan\b|\binf\b", words.lower()), path
        render(p)
    assert pages > 5


# --- on disk ---------------------------------------------------------------------------------------


def test_writes_the_whole_file_or_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.html"
    size = write_report(path, profile=samples.power())
    assert size == path.stat().st_size > 4_000_000
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="No space left") as e:
        write_report(path, profile=samples.serverless())
    assert e.value.hint
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["r.html"]


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to("real.html")
    write_report(tmp_path / "link.html", profile=samples.power())
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").stat().st_size > 4_000_000


def test_says_what_to_do_when_it_cannot_write(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "r.html"):
        with pytest.raises(DataError) as e:
            write_report(path, profile=samples.power())
        assert e.value.hint
    with pytest.raises(UsageError):
        write_report(tmp_path / "r.html", profile=samples.power(), assets="cdn")


# --- figures ---------------------------------------------------------------------------------------


def test_min_max_keeps_order_and_peaks() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(100_000.0)
    y = rng.standard_normal(100_000)
    y[54_321], y[77_777] = 50.0, -50.0
    xs, ys = figures.min_max(x, y, 2000)
    assert len(xs) <= 2000
    assert (np.diff(xs) > 0).all()
    assert (ys.max(), ys.min()) == (50.0, -50.0)
    assert np.array_equal(figures.min_max(x[:10], y[:10], 2000)[1], y[:10])


def test_quantile_curve_is_the_empirical_cdf() -> None:
    v = np.random.default_rng(1).lognormal(0, 2, 20_000)
    x, share = figures.quantile_curve(v)
    assert np.allclose(share, np.searchsorted(np.sort(v), x, side="right") / len(v))
    assert share[-1] == 1.0
    assert (np.diff(x) >= 0).all()


@pytest.mark.parametrize(
    ("lo", "hi"),
    [
        (1e-3, 100.0),
        (0.02, 0.08),
        (0.1, 3600.0),
        (1e-6, 1e7),
        (102.0, 122.0),
        (5.0, 5.2),
        (7.0, 7.0),
    ],
)
def test_ticks_are_few_and_inside(lo: float, hi: float) -> None:
    for ticks in (figures.duration_ticks(lo, hi), figures.decade_ticks(lo, hi)):
        assert len(ticks["tickvals"]) <= figures.MOST_TICKS
        assert all(lo <= v <= hi for v in ticks["tickvals"])
    assert figures.duration_ticks(0.5, 7200.0)["ticktext"] == [
        "1 s",
        "10 s",
        "1 min",
        "10 min",
        "1 h",
    ]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_colours_are_readable_on_both_papers() -> None:
    css = resources.files("lamina_traces.reports").joinpath("static/report.css").read_text()
    papers = re.findall(r"--paper: (#\w{6})", css)
    assert len(papers) == 2
    for paper in papers:
        for colour in (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE, figures.GREY):
            a, b = sorted((_luminance(colour), _luminance(paper)))
            assert (b + 0.05) / (a + 0.05) >= 3.0  # WCAG 2.2, 1.4.11: graphical objects


def test_plotly_markup_in_names_is_shown() -> None:
    assert figures.plain("<b>x</b> & %{y}") == "&lt;b&gt;x&lt;/b&gt; &amp; %&#123;y}"
    assert len(figures.plain("x" * 500)) == 40

"""The page in a real browser: offline, silent, every figure drawn, in light, in dark, on paper, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina_traces.reports import write_report
from lamina_traces.reports.figures import BLUE, ORANGE

from . import samples
from .browser import Page, find, opened

CHROMIUM = find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]

DRAW_ALL = "window.dispatchEvent(new Event('beforeprint')); window.dispatchEvent(new Event('afterprint')); new Promise(r => setTimeout(() => r(true), 300))"
COUNTS = """({
  figures: document.querySelectorAll('figure').length,
  drawn: [...document.querySelectorAll('.js-plotly-plot')].filter(d => d.querySelector('.main-svg .cartesianlayer path, .main-svg .cartesianlayer image')).length,
  flagged: document.querySelectorAll('[data-drawn="true"]').length,
})"""

# Text of a figure that lies outside it is cut off.
CUT = """[...document.querySelectorAll('.js-plotly-plot')].flatMap(d => {
  const box = d.getBoundingClientRect();
  return [...d.querySelectorAll('.main-svg text')].filter(t => {
    const b = t.getBoundingClientRect();
    return b.width > 0 && (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1);
  }).map(t => d.id + ': ' + t.textContent);
})"""

OVERLAPPING = """[...document.querySelectorAll('.js-plotly-plot')].flatMap(d => {
  const out = [];
  for (const axis of ['.xtick text', '.ytick text']) {
    const boxes = [...d.querySelectorAll(axis)].map(t => [t.textContent, t.getBoundingClientRect()]).filter(b => b[1].width > 0);
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
      const [s, a] = boxes[i], [u, b] = boxes[j];
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) out.push(d.id + ': ' + s + ' / ' + u);
    }
  }
  return out;
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with opened(CHROMIUM, tmp_path_factory.mktemp("chromium")) as p:
        yield p


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        profile=samples.profile(),
        run=samples.run(),
        card=samples.card(),
        command="lamina-traces report x",
    )
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_draws_every_figure_without_a_request(
    page: Page, report: Path, scheme: str, width: int
) -> None:
    page.resize(width, 900)
    page.scheme(scheme)
    page.open(report)
    page.run(DRAW_ALL)
    counts = page.run(COUNTS)
    assert counts["figures"] >= 7
    assert counts["drawn"] == counts["flagged"] == counts["figures"]
    assert page.requests == [report.as_uri()] or all(
        u == report.as_uri() or u.startswith("data:") for u in page.requests
    )
    assert page.messages == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(CUT) == []
    assert page.run(OVERLAPPING) == []
    # A colour that is none makes Plotly fall back to its own scale without a word.
    scale = "document.getElementById('lengths-ranks')._fullData[0].colorscale.map(s => s[1])"
    assert page.run(scale)[0] == BLUE
    assert page.run(scale)[2] == ORANGE


def test_draws_only_what_is_near_the_screen(page: Page, report: Path) -> None:
    page.resize(1000, 600)
    page.open(report)
    page.run("new Promise(r => setTimeout(() => r(true), 300))")
    first = page.run(COUNTS)
    assert first["flagged"] < first["figures"]
    page.run(
        "document.querySelectorAll('figure')[3].scrollIntoView(); new Promise(r => setTimeout(() => r(true), 500))"
    )
    assert page.run(COUNTS)["flagged"] > first["flagged"]


def test_follows_a_change_of_scheme(page: Page, report: Path) -> None:
    page.resize(1000, 900)
    colours = []
    page.scheme("light")
    page.open(report)
    page.run(DRAW_ALL)
    for scheme in ("light", "dark", "light"):
        page.scheme(scheme)
        page.run("new Promise(r => setTimeout(() => r(true), 400))")
        colours.append(page.run("getComputedStyle(document.querySelector('.xtick text')).fill"))
    assert colours[0] == colours[2] != colours[1]


def test_offers_no_upload(page: Page, report: Path) -> None:
    page.open(report)
    page.run(DRAW_ALL)
    buttons = page.run("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert buttons
    assert not [b for b in buttons if b and ("Share" in b or "cloud" in b.lower() or "Plotly" in b)]


def test_prints_with_all_figures_and_light_colours(page: Page, report: Path) -> None:
    page.scheme("dark")
    page.resize(1600, 900)
    page.open(report)
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    counts = page.run(COUNTS)
    assert counts["drawn"] == counts["figures"]
    assert page.messages == []
    # the same on a screen as wide as the paper, where it can be measured
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    page.send("Emulation.setEmulatedMedia", media="print")
    page.resize(672, 950)
    below = """[...document.querySelectorAll('figure')].map(f => {
      const svg = f.querySelector('.main-svg').getBoundingClientRect();
      return [svg.right - 672, svg.bottom - f.querySelector('figcaption').getBoundingClientRect().top];
    })"""
    for right, bottom in page.run(below):
        assert right <= 0
        assert bottom <= 1
    assert page.run("getComputedStyle(document.body).color") == "rgb(28, 31, 35)"
    assert (
        page.run("getComputedStyle(document.querySelector('.legendtext')).fill")
        == "rgb(28, 31, 35)"
    )
    assert page.run("document.querySelectorAll('.method:not([open])').length") == 0
    page.send("Emulation.setEmulatedMedia", media="")


def test_hostile_names_do_nothing(page: Page, tmp_path: Path) -> None:
    p, r, c = samples.hostile()
    path = tmp_path / "hostile.html"
    write_report(path, profile=p, run=r, card=c, command=samples.HOSTILE[1])
    page.resize(400, 900)
    page.scheme("light")
    page.open(path)
    page.run(DRAW_ALL)
    counts = page.run(COUNTS)
    assert counts["drawn"] == counts["figures"] > 0
    assert page.messages == []  # a blocked address is logged; an alert would have held up the load
    assert all(u == path.as_uri() or u.startswith("data:") for u in page.requests)
    assert (
        page.run("document.querySelectorAll('img, iframe, object, link[href], script[src]').length")
        == 0
    )
    assert page.run("document.documentElement.scrollWidth") <= 400


def test_is_useful_without_javascript(page: Page, report: Path) -> None:
    page.resize(1000, 900)
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(report)
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    # asked from outside, of the page as it was laid out without scripts
    assert page.run("[...document.querySelectorAll('.plot')].every(p => p.offsetHeight === 0)")
    assert page.run("document.getElementById('findings').innerText").count("\n") > 8
    assert "Figures need JavaScript" in page.run("document.getElementById('findings').innerText")
    assert page.run("document.getElementById('download').hidden")
    assert page.messages == []


def test_downloads_the_facts(page: Page, report: Path) -> None:
    page.open(report)
    facts = page.run("JSON.parse(document.getElementById('facts').textContent)")
    assert facts["profile"]["format"] == "lamina-profile/1"
    assert page.run("document.querySelector('#download').hidden") is False
    assert page.run(
        "(() => { document.querySelector('#download').click(); return document.querySelector('#download').href.startsWith('blob:'); })()"
    )


@pytest.mark.parametrize("make", [samples.serverless, samples.power])
def test_other_kinds(page: Page, tmp_path: Path, make: object) -> None:
    path = tmp_path / "other.html"
    write_report(path, profile=make())  # type: ignore[operator]
    page.resize(1000, 900)
    page.open(path)
    page.run(DRAW_ALL)
    counts = page.run(COUNTS)
    assert counts["drawn"] == counts["figures"] > 0
    assert page.messages == []
    assert page.run(CUT) == []

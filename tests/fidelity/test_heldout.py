"""The held-out evaluation, on a trace made here and, where it is at hand, on real ones; and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina_traces import generator
from lamina_traces.fidelity import heldout, heldout_page
from lamina_traces.fidelity.distances import distances
from lamina_traces.fidelity.heldout import OURS, Evaluation, Row

from ..aspects.tables import stored
from .test_card import requests
from .workloads import drawn

ROOT = Path(__file__).parents[2]
FIGURES = json.loads((ROOT / "docs" / "fidelity.json").read_text(encoding="utf-8"))


def test_page_is_fresh() -> None:
    """Run ``make fidelity`` when this fails: the page, the generator or the lines have changed since."""
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    assert heldout_page.page(FIGURES) == text
    assert FIGURES["generator_version"] == generator.GENERATOR_VERSION
    assert [e["name"] for e in FIGURES["evaluations"]] == list(heldout.TRACES)
    a = drawn(0)
    known = {f"{x.aspect}: {x.metric}" for x in distances(a, a)}
    for e in map(Evaluation.from_dict, FIGURES["evaluations"]):
        lines = {r.name for r in e.rows} | set(e.left_out)
        assert known <= lines or lines == {k for k in known if k.startswith("arrivals")}, e.name
        assert e.seeds >= 7


def test_page_names_every_line_that_is_lost() -> None:
    text = heldout_page.page(FIGURES)
    for e in map(Evaluation.from_dict, FIGURES["evaluations"]):
        for r in e.rows:
            medians = [m for k in heldout.CONTEST if (m := r.median(k)) is not None]
            ours = r.median(OURS)
            best = ours is not None and ours <= min(medians)
            assert (f"- {e.name}, **{r.name}**" in text) != best, r.name
            assert (f"| **{r.name}** |" in heldout_page.table(e)) != best


def row(ours: tuple[float, ...], poisson: float, block: float, halves: float) -> Row:
    scores: dict[str, tuple[float, ...]] = dict.fromkeys(heldout.CONTEST, (9.0,))
    scores |= {
        OURS: ours,
        "Poisson": (poisson,),
        "block bootstrap": (block,),
        "row bootstrap": (0.0,),
    }
    return Row("x", "m", "", scores, halves, 0.1)


def test_floor_winner_and_tie() -> None:
    r = row((1.0, 2.0, 3.0), 1.5, 4.0, 2.5)
    assert (r.floor, r.ratio) == (4.0, 0.5)
    # copies cannot win; a third of our seeds is better than the winner's median: a tie
    assert (r.winner, r.tied, r.near) == ("Poisson", True, True)
    assert not row((1.0, 2.0, 3.0, 4.0, 5.0), 1.5, 1, 1).tied
    assert row((0.0, 0.0), 0.0, 0.0, 0.0).near
    assert not row((1.6, 1.6), 1.5, 1.0, 1.0).near
    assert row((1.0, 2.0, 3.0), 2.1, 1, 3).winner == OURS
    assert row((), 1.0, 1, 1).winner == "Poisson"
    assert row((), 1.0, 1, 1).ratio is None


def test_evaluation_of_a_known_law(tmp_path: Path) -> None:
    """Poisson arrivals: the Poisson generator and ours are at the floor, the gamma of shape 0.2 of another trace is not."""
    poisson = heldout.evaluate(stored(tmp_path / "a", "llm_requests", requests(drawn(1))), "p", 3)
    bursty = heldout.evaluate(
        stored(tmp_path / "b", "llm_requests", requests(drawn(2, shape=0.2))), "b", 3
    )
    by_name = {r.metric: r for r in poisson.rows}
    gaps = by_name["gap KS D"]
    assert gaps.median("Poisson") < 2 * gaps.floor + 0.02  # type: ignore[operator]
    assert gaps.median(OURS) < 2 * gaps.floor + 0.02  # type: ignore[operator]
    by_name = {r.metric: r for r in bursty.rows}
    for metric in ("gap KS D", "IDC-curve distance", "p99 wait at equal load 0.7"):
        r = by_name[metric]
        assert r.median("Poisson") > 3 * r.median(OURS), metric  # type: ignore[operator]
    again = Evaluation.from_dict(json.loads(json.dumps(bursty.to_dict())))
    assert again.to_dict() == bursty.to_dict()
    assert [r.winner for r in again.rows] == [r.winner for r in bursty.rows]
    assert abs(bursty.fitted - bursty.judged) < 600
    assert bursty.fitted + bursty.judged == 6000


@pytest.mark.real_data
def test_research_figures_come_back(real_data: Path) -> None:
    """Generators judged in sample, as the fidelity research did on this trace (statistics-and-limits 1.6): Poisson KS .518,
    W1 1.06, ACF .42; gamma by CV .913, 2.10, .38. Its figures are medians of seven other seeds."""
    import numpy as np

    from lamina_traces import workloads
    from lamina_traces.aspects import arrival_distances
    from lamina_traces.aspects.rows import Rows
    from lamina_traces.fidelity import baselines

    a = Rows.of(workloads.trace(str(real_data / heldout.TRACES["azure-code"])))
    published = {
        baselines.poisson: (0.518, 1.06, 0.42),
        baselines.vllm_gamma: (0.913, 2.10, 0.38),
        baselines.block_bootstrap: (0.023, 0.036, 0.03),
    }
    metrics = ("gap KS D", "gap W1", "count ACF distance")
    for make, figures in published.items():
        cards = [
            {x.metric: x.value for x in arrival_distances.distances(a, make(a, a.span_ns, np.random.default_rng(s)))}
            for s in range(7)
        ]  # fmt: skip
        for metric, figure in zip(metrics, figures, strict=True):
            mine = float(np.median([c[metric] or 0.0 for c in cards]))
            assert mine == pytest.approx(figure, rel=0.05, abs=0.02), (make.__name__, metric)


def test_the_real_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina_traces.errors import UsageError

    monkeypatch.delenv("LAMINA_TRACES_REAL_DATA", raising=False)
    with pytest.raises(UsageError, match="not at hand") as e:
        heldout.opened("azure-code")
    assert "LAMINA_TRACES_REAL_DATA" in str(e.value.hint)

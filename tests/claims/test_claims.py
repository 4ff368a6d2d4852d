"""Claims: statuses are computed, the page is what was measured, and the command prints both."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lamina_traces import claims
from lamina_traces.claims import Reproduced
from lamina_traces.claims.page import page
from lamina_traces.errors import UnknownName
from lamina_traces.techniques import TECHNIQUES

from ..conftest import Ran

ROOT = Path(__file__).parents[2]
ALL = claims.claims()
Lamina = Callable[..., Ran]


def test_page_is_fresh() -> None:
    """Run ``make claims`` when this fails."""
    text = page()
    assert text == (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    reproduced = int(re.search(r"(\d+) reproduced, ", text)[1])  # type: ignore[index]
    told = f"of {len(ALL)} claims {reproduced} are reproduced"
    assert told in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALL)
def test_a_claim_is_whole(name: str) -> None:
    c = ALL[name]
    assert c.band[0] <= c.reported <= c.band[1]  # who says what the paper says has reproduced it
    assert c.technique is None or c.technique in TECHNIQUES
    assert (c.tier == "B") == (c.calibrated is not None)
    assert c.measure() == c.measure()


def test_no_claim_hides_another() -> None:
    listed = [c.name for m in claims._MODULES for c in importlib.import_module(f"lamina_traces.claims.{m}").CLAIMS]  # fmt: skip
    assert len(listed) == len(set(listed)) == len(ALL)
    assert all(any(n.startswith(f"{m}-") for m in claims._MODULES) for n in listed)


@pytest.mark.parametrize(
    ("value", "neutral", "status"),
    [
        (1.2, 1.0, "reproduced"),
        (1.5, 1.0, "reproduced"),
        (1.19, 1.0, "direction-only"),
        (2.5, 1.0, "direction-only"),
        (1.0, 1.0, "not-reproduced"),
        (0.9, 1.0, "not-reproduced"),
        (2.5, None, "not-reproduced"),
        (float("nan"), 1.0, "not-reproduced"),
    ],
)
def test_status(value: float, neutral: float | None, status: str) -> None:
    gain = replace(next(iter(ALL.values())), reported=1.3, band=(1.2, 1.5), neutral=neutral)
    assert Reproduced(gain, value).status == status
    loss = replace(gain, reported=-1.3, band=(-1.5, -1.2), neutral=neutral and -neutral)
    assert Reproduced(loss, -value).status == status


def test_named_by_first_words() -> None:
    gains = [c.name for c in claims.named(["nanoflow-gain"])]
    assert gains == [n for n in ALL if n.startswith("nanoflow-gain-")]
    assert len(claims.named(["nanoflow", "nanoflow-ceiling"])) == len(claims.named(["nanoflow"]))
    with pytest.raises(UnknownName) as e:
        claims.named(["nanoflow-cieling"])
    assert "nanoflow-ceiling" in str(e.value.hint)
    with pytest.raises(UnknownName):
        claims.named(["nano"])  # words, not letters


def test_reproduce_lists_without_a_name(lamina: Lamina) -> None:
    done = lamina("reproduce", "--format", "json")
    assert done.code == 0
    assert [row["name"] for row in json.loads(done.out)] == list(ALL)
    assert done.out == lamina("catalog", "claims", "--format", "json").out


def test_a_miss_is_a_result(lamina: Lamina) -> None:
    done = lamina("reproduce", "nanoflow-table-2-prefill-attention", "nanoflow-ceiling")
    assert done.code == 0
    first, second = done.out.splitlines()[1:3]
    assert first.startswith("nanoflow-table-2-prefill-attention")
    assert first.endswith("not-reproduced")
    assert "916.3" in first
    assert "458.1" in first
    assert second.startswith("nanoflow-ceiling")
    assert "causal" in done.out  # the note says why
    assert done.out.endswith("1 reproduced, 0 direction only, 1 not\n")


def test_all_ends_with_what_is_not_reproducible(lamina: Lamina) -> None:
    done = lamina("reproduce", "--all", "--format", "json")
    assert done.code == 0
    assert "the serving clock was ready after" in done.err
    found = json.loads(done.out)
    assert [c["claim"] for c in found["claims"]] == list(ALL)
    assert {c["status"] for c in found["claims"]} >= {"reproduced", "not-reproduced"}
    assert any(u["says"].startswith("4.18") for u in found["unreproducible"])
    shown = lamina("reproduce", "--all").out
    assert shown.index(found["summary"]) < shown.index("4.18 times")


def test_bad_names_are_usage_errors(lamina: Lamina) -> None:
    done = lamina("reproduce", "nanoflow-cieling")
    assert (done.code, done.out) == (2, "")
    assert "did you mean nanoflow-ceiling" in done.err
    assert lamina("reproduce", "nanoflow", "--all").code == 2

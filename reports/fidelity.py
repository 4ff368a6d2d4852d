"""A score card on the page: how far a second trace is from a first, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina_traces.units import format_number

from .blocks import NOTHING, Section, Table

if TYPE_CHECKING:
    from lamina_traces.fidelity import ScoreCard


def section(card: ScoreCard) -> Section:
    """The score card as a table."""
    verdict = {True: "within", False: "over", None: NOTHING}
    rows = tuple(
        (
            x.aspect.replace("_", " "),
            x.metric,
            format_number(x.value if x.value is None or abs(x.value) > 1e-9 else 0.0),
            format_number(x.limit),
            "not computed" if x.value is None and x.limit is not None else verdict[x.passed],
            x.unit,
            x.note,
        )
        for x in card.lines
    )
    over = len(card.failed)
    gated = sum(x.limit is not None for x in card.lines)
    text = (
        f"“{card.b}” stays within all {gated} limits of “{card.a}”."
        if card.passed
        else f"“{card.b}” misses {over} of {gated} limits when compared with “{card.a}”."
    )
    table = Table(
        ("aspect", "distance", "value", "limit", "", "unit", "note"), rows, "llrrlll", wide=True,
        notes=("Every distance is 0 when the traces agree. The limits are not calibrated on held-out data: a tripwire, not a proof.",),
    )  # fmt: skip
    return Section("fidelity", "Fidelity", (text,), (table,))

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
    judged = len(card.judged)
    unjudged = sum(x.limit is not None for x in card.lines) - judged
    if not judged:
        text = f"“{card.b}” could not be judged against “{card.a}”."
    elif card.failed:
        text = f"“{card.b}” misses {len(card.failed)} of {judged} limits when compared with “{card.a}”."
    else:
        text = f"“{card.b}” stays within all {judged} limits of “{card.a}”."
    if judged and unjudged:
        text += f" {unjudged} more could not be computed."
    table = Table(
        ("aspect", "distance", "value", "limit", "", "unit", "note"), rows, "llrrlll", wide=True,
        notes=("Every distance is 0 when the traces agree. The limits are not calibrated on held-out data: a tripwire, not a proof.",),
    )  # fmt: skip
    return Section("fidelity", "Fidelity", (text,), (table,))

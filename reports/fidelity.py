"""A score card on the page: how far a second trace is from a first, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamina_traces.units import format_number

from .blocks import NOTHING, Section, Table

if TYPE_CHECKING:
    from lamina_traces.aspects import Line
    from lamina_traces.fidelity import ScoreCard


def section(card: ScoreCard) -> Section:
    """The score card as two tables: what is judged, and what informs."""
    tables = [_judged(card)]
    rows = tuple(
        (x.aspect.replace("_", " "), x.metric, _shown(x), x.unit, x.note)
        for x in card.lines
        if x.limit is None
    )
    if rows:
        note = "Not judged. Rows that agree by chance are no copies, and rows that differ are no proof: no differential privacy is claimed."
        head = ("aspect", "figure", "value", "unit", "note")
        tables.append(Table(head, rows, "llrll", wide=True, notes=(note,)))
    text = card.verdict
    if card.judged and card.unjudged:
        text += f" {len(card.unjudged)} more could not be computed."
    return Section("fidelity", "Fidelity", (text, *card.notes), tuple(tables))


def _judged(card: ScoreCard) -> Table:
    verdict = {True: "within", False: "over", None: "not computed"}
    rows = tuple(
        (
            x.aspect.replace("_", " "),
            x.metric,
            _shown(x),
            format_number(x.limit),
            verdict[x.passed],
            NOTHING if x.floor is None else format_number(x.floor),
            x.unit,
            x.note,
        )
        for x in card.lines
        if x.limit is not None
    )
    return Table(
        ("aspect", "distance", "value", "limit", "", "floor", "unit", "note"), rows, "llrrlrll", wide=True,
        notes=("Every distance is 0 when the traces agree. The floor is the distance of block bootstraps of the first trace from itself; a limit is a fixed threshold or 1.5 times the floor. The thresholds are not calibrated on held-out data: a tripwire, not a proof.",),
    )  # fmt: skip


def _shown(x: Line) -> str:
    """The value, with its range over seeds where there is one."""
    if x.value is None:
        return NOTHING
    text = format_number(x.value if abs(x.value) > 1e-9 else 0.0)
    if x.seed_range is None:
        return text
    low, high = map(format_number, x.seed_range)
    return f"{text} [{low}, {high}]"

"""The held-out evaluation as text: one table a trace, and the lines we lose summed up at the top."""

from __future__ import annotations

from collections.abc import Sequence

from ..units import format_number, format_seconds
from .heldout import CONTEST, OURS, Evaluation, Row

HEAD = ("line", "ours", *CONTEST[1:], "row bootstrap", "block bootstrap", "halves", "in-sample", "floor", "ours/floor", "best")  # fmt: skip


def table(e: Evaluation) -> str:
    """Markdown: every line, medians over seeds, ours with its range; bold where ours is not the best generator."""
    facts = (
        f"{len(e.first):,} rows fitted, {len(e.second):,} judged against; halves of {format_seconds(e.first.span_s)}; "
        f"{e.seeds} seeds. Ours is best on {e.won} of {len(e.rows)} lines and within 1.5 × the floor on {e.within}."
    )
    lines = [
        f"### {e.name}",
        "",
        facts,
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---" + "|---:" * (len(HEAD) - 2) + "|---|",
        *(_row(r) for r in e.rows),
    ]
    if e.left_out:
        lines += ["", "Not computed:", ""]
        lines += [f"- {line.aspect}: {line.metric}: {line.note}" for line in e.left_out]
    return "\n".join(lines)


def _row(r: Row) -> str:
    ours = r.scores[OURS]
    spread = (
        f"{_number(ours.median)} [{_number(min(ours.values))}, {_number(max(ours.values))}]"
        if ours.values
        else "–"
    )
    lost = r.winner != OURS
    name = f"{r.line.aspect}: {r.line.metric}"
    cells = [
        f"**{name}**" if lost else name,
        f"**{spread}**" if lost else spread,
        *(_number(r.scores[k].median) for k in (*CONTEST[1:], "row bootstrap", "block bootstrap")),
        _number(r.halves),
        _number(r.in_sample),
        _number(r.floor),
        "–" if r.ratio is None else f"{r.ratio:.2f}",
        r.winner,
    ]
    return "| " + " | ".join(cells) + " |"


def _number(x: float | None) -> str:
    return "–" if x is None else format_number(x) if abs(x) >= 1e-4 else "0"


def page(done: Sequence[Evaluation], text: str) -> str:
    raise NotImplementedError

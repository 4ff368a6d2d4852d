"""The held-out evaluation as a page: the lines that we lose at the top, then one table a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..units import format_number, format_seconds
from .heldout import CONTEST, NEAR, OURS, Evaluation, Row

OTHERS = (*CONTEST[1:], "row bootstrap", "block bootstrap")
HEAD = ("line", "unit", OURS, *OTHERS, "halves", "in-sample", "floor", "ours/floor", "best")

INTRODUCTION = """\
# Fidelity, held out

`make fidelity` writes this page. Every generator is given the first half of the time of a real trace and is judged on the second half, which
none has seen: our generator from the workload profile of the first half, and what people use today. The lines are those of `lamina-traces compare`
([statistics](statistics.md)); each is a distance from the real second half, 0 when they agree.

- **Poisson**: the mean rate; lengths drawn from the rows, each side alone. **gamma by CV**: vLLM's `--burstiness` of 1/CV², its cumulative sum rescaled to
  n/rate as vLLM does; lengths alike. **piecewise gamma**: in the manner of ServeGen, windows of 600 s (a sixth of a shorter half) in their order, shapes by maximum
  likelihood, counts fixed by its rescaling; lengths alike, where ServeGen would draw both sides from one number.
- **row bootstrap**, **block bootstrap** (a twelfth of the half, two hours at most): they copy recorded rows, so they are bounds and cannot win.
- **halves**: the distance of the two real halves. **floor**: the larger of it and of the block bootstrap. Days differ: where a rate falls by a third between the halves, every
  generator that keeps to what it was shown misses it, and is not to blame. **in-sample**: block bootstraps of the second half against itself, shown for scale and used for nothing.
- Ours is the median over the seeds with its lowest and highest. A line in **bold** is lost: another generator that copies nothing has a smaller median. It says
  "(tie)" where a quarter of our seeds or more are as near as that. The three rivals draw lengths in one way, so on those lines it is ours against the luckiest of three.
"""


def page(figures: Mapping[str, Any]) -> str:
    """The whole page, from what ``docs/fidelity.json`` holds."""
    done = [Evaluation.from_dict(d) for d in figures["evaluations"]]
    version = f"Generator version {figures['generator_version']}."
    tables = "\n\n".join(table(e) for e in done)
    return f"{INTRODUCTION}\n{version}\n\n{_summary(done)}\n\n{tables}\n"


def _summary(done: Sequence[Evaluation]) -> str:
    """Who wins how much, and every line that we lose."""
    lines = [
        "## In short",
        "",
        f"| trace | lines | best | lost, tie | lost | within {NEAR:g} × floor |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for e in done:
        ties = sum(r.tied for r in e.lost)
        cells = (e.name, len(e.rows), len(e.won), ties, len(e.lost) - ties, len(e.near))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "Lines that we lose:", ""]
    for e in done:
        for r in e.lost:
            best = r.winner or "nobody"
            tie = " (tie)" if r.tied else ""
            lines.append(
                f"- {e.name}, **{r.name}**: {_number(r.median(OURS))}; {best} {_number(r.median(best))}{tie}"
            )
    far = [(e, r) for e in done for r in e.rows if not r.near]
    lines += ["", f"Lines beyond {NEAR:g} times the floor:", ""]
    lines += [
        f"- {e.name}, {r.name}: {_number(r.median(OURS))}, floor {_number(r.floor)}" for e, r in far
    ]
    return "\n".join(lines)


def table(e: Evaluation) -> str:
    """Markdown: every line with its generators."""
    facts = (
        f"{e.fitted:,} rows fitted, {e.judged:,} judged against; halves of {format_seconds(e.half_s)}; {e.seeds} seeds. "
        f"Best on {len(e.won)} of {len(e.rows)} lines, within {NEAR:g} × the floor on {len(e.near)}."
    )
    lines = [
        f"## {e.name}",
        "",
        facts,
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---|---" + "|---:" * (len(HEAD) - 3) + "|---|",
        *map(_row, e.rows),
    ]
    if e.left_out:
        lines += ["", "Not computed:", ""]
        reasons: dict[str, list[str]] = {}
        for name, why in e.left_out.items():
            reasons.setdefault(why, []).append(name)
        lines += [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(lines)


def _row(r: Row) -> str:
    ours = r.scores.get(OURS)
    text = (
        f"{_number(r.median(OURS))} [{_number(min(ours))}, {_number(max(ours))}]" if ours else "–"
    )
    lost = r.winner != OURS
    cells = (
        f"**{r.name}**" if lost else r.name,
        r.unit,
        f"**{text}**" if lost else text,
        *(_number(r.median(k)) for k in OTHERS),
        _number(r.halves),
        _number(r.in_sample),
        _number(r.floor),
        "–" if r.ratio is None else f"{r.ratio:.2f}",
        f"{r.winner} (tie)" if lost and r.tied else r.winner or "–",
    )
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _number(x: float | None) -> str:
    return "–" if x is None else "0" if abs(x) < 1e-4 else format_number(x)

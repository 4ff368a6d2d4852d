"""docs/claims.md: every claim measured, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from . import Reproduced, claims, measured, shown, summary
from .unreproducible import UNREPRODUCIBLE

_HEAD = """# What papers say, and what this model gives

Written by `make claims`; `lamina-traces reproduce` measures the same. Bands were set from the papers' own spread and from first
estimates, before this code was written, unless a note says otherwise; statuses are computed, and misses stay.

- *reproduced*: ours lies in the band; *direction-only*: outside it, but on the paper's side of no effect; *not-reproduced*: neither.
- **A**: nothing is fitted to the target; **B**: one published number is calibrated and another predicted; **C**: constants are assumed with the target in view, so
  only order and sign count.
"""


def page() -> str:
    results = [measured(c) for c in claims().values()]
    out = [
        _HEAD,
        f"{summary(results)}.\n",
        "```console\n$ lamina-traces reproduce nanoflow\n$ lamina-traces reproduce nanoflow-gain-512-512 --format json\n```\n",
    ]
    for paper in dict.fromkeys(r.claim.paper for r in results):
        out += _section(paper, [r for r in results if r.claim.paper == paper])
    out += [
        "## Not reproducible with a model of this kind\n",
        "| paper | says | why |",
        "|---|---|---|",
        *(f"| {u.paper} | {u.says} | {u.why} |" for u in UNREPRODUCIBLE),
    ]
    return "\n".join(out) + "\n"


def _section(paper: str, results: Sequence[Reproduced]) -> list[str]:
    rows = [shown(r) for r in results]
    out = [f"## {paper}\n", f"| {' | '.join(rows[0])} |", "|---|---|--:|--:|---|---|---|---|"]
    out += [f"| {' | '.join(r.values())} |" for r in rows]
    for title, said in (
        ("Configurations", [(r.claim.config, r.claim.name) for r in results]),
        ("Calibrated", [(r.claim.calibrated, r.claim.name) for r in results]),
        ("Notes", [(r.claim.note, r.claim.name) for r in results]),
    ):
        named: dict[str, list[str]] = {}
        for text, name in said:
            if text:
                named.setdefault(text, []).append(f"`{name}`")
        if named:
            out += [
                "",
                f"{title}:\n",
                *(f"- {', '.join(names)}: {text}." for text, names in named.items()),
            ]
    return [*out, ""]

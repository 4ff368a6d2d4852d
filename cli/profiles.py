"""A workload profile on the page: findings with their evidence, laws, and what the trace cannot say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .output import clean, emit, emit_object, table, warn, write

if TYPE_CHECKING:
    from lamina_traces.aspects import Finding, Unanswered
    from lamina_traces.distributions import Fitted
    from lamina_traces.profile import Profile

WIDTH = 100
INDENT = " " * 13
LAWS = 3
"""laws shown of each quantity; --format json has all."""


def print_profile(profile: Profile, fmt: str) -> None:
    """A profile as text, rows of findings, LaTeX, or all of it as JSON."""
    if fmt in ("json", "jsonl"):
        found = [finding_row(f) for f in profile.findings()]
        emit_object(profile.to_dict() | {"findings": found}, fmt)
        return
    if fmt == "latex":
        write(latex(profile))
    elif fmt == "table":
        write(text(profile))
    else:
        emit([finding_row(f) for f in profile.findings()], fmt)
    said = fmt == "table"  # what is not recorded stands on that page already
    warn(n for n in profile.notices if not (said and n.code == "not-recorded"))


def finding_row(f: Finding) -> dict[str, str]:
    """One finding as a flat object."""
    return {
        "aspect": f.aspect,
        "finding": f.text,
        "model": f.model,
        "parameters": f.parameters,
        "effect": f.effect,
        "warning": f.warning,
    }


def text(profile: Profile) -> str:
    """The profile as a page of text."""
    out = [_head(profile), "\n"]
    before = ""
    for f in profile.findings():
        label = f.aspect.replace("_", " ") if f.aspect != before else ""
        before = f.aspect
        out.append(_wrapped(f"{clean(label):12} ", clean(f.text)))
        evidence = [": ".join(x for x in (f.model, f.parameters) if x), f.effect]
        said = "; ".join(x for x in evidence if x) + (f" [{f.warning}]" if f.warning else "")
        if said:
            out.append(_wrapped(INDENT + "  ", clean(said)))
    laws = list(_laws(profile))
    if laws:
        out.append(
            "\n"
            + table(
                laws,
                [
                    "law of",
                    "family",
                    "parameters",
                    "KS D",
                    "W1 dec",
                    "AIC/row",
                    "p50",
                    "p90",
                    "p99",
                ],
            )
        )
        out.append("p50, p90, p99: error of the law's quantile\n")
    out.append(cannot_say(profile.unanswered))
    stated = profile.source.get("preset")
    if stated:
        out.append("\n" + quantities(stated["quantities"]))
    return "".join(out)


def quantities(stated: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers that a preset states, with their basis and source."""
    rows = [
        [clean(k), f"{q['value']:,g} {q['unit']}".rstrip(), q["basis"], clean(q["source"])]
        for k, q in stated.items()
    ]
    return table(rows, ["number", "value", "basis", "source"])


def cannot_say(unanswered: Iterable[Unanswered]) -> str:
    """What a trace does not record, and what would record it; nothing where it has all."""
    out = []
    for u in unanswered:
        label = f"{clean(u.aspect.replace('_', ' ')):12} "
        out.append(_wrapped(label, clean(f"needs {', '.join(u.needs)}: {u.record}")))
    return "\nThe trace cannot say:\n" + "".join(out) if out else ""


def _head(profile: Profile) -> str:
    source = profile.source
    rows = source.get("rows")
    stated = source.get("preset")
    if stated:
        text = f"{profile.name}: {stated['title']}; a preset, after {stated['paper']}"
        return _wrapped("", clean(text)) + _wrapped("", clean(f"It models {stated['models']}. What it leaves out: {stated['limits']}."))  # fmt: skip
    if source.get("relative"):
        text = f"{profile.name}: rates are multiples of the mean rate, counts are not told"
        return clean(text) + "\n"
    count = f"{rows:,}" if isinstance(rows, int) else "some"
    table_ = str(source.get("table") or "")
    what = "rows" if table_ in ("", "llm_requests") else f"rows of {table_}"
    nature = f"{source.get('nature') or 'unknown'} {what}"
    licence = f", {source['licence']}" if source.get("licence") else ""
    return (
        clean(f"{profile.name}: {count} {nature}, read as {source.get('format') or '–'}{licence}")
        + "\n"
    )


def _wrapped(first: str, body: str) -> str:
    lines = textwrap.wrap(
        body,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines or [first.rstrip()]) + "\n"


def fits(profile: Profile) -> Iterator[tuple[str, tuple[Fitted, ...]]]:
    """(what, its fitted laws, best first) of every stream and aspect."""
    for part in profile.parts.values():
        for stream in part.streams:
            prefix = f"{stream.name} " if len(part.streams) > 1 else ""
            for aspect in stream.aspects.values():
                for what, laws in getattr(aspect, "laws", list)():
                    if laws:
                        yield prefix + what, laws


def _laws(profile: Profile) -> Iterator[list[str]]:
    for what, laws in fits(profile):
        for i, law in enumerate(laws[:LAWS]):
            errors = [law.quantile_errors.get(q) for q in ("p50", "p90", "p99")]
            yield [
                clean(what) if i == 0 else "",
                law.family,
                _parameters(law),
                f"{law.ks_d:.3f}",
                f"{law.w1_log10:.3f}",
                f"{law.aic_per_row:.3f}",
                *map(_error, errors),
            ]


def _error(e: float | None) -> str:
    """Model over data, less one: ``+12%``, ``×13`` beyond tenfold."""
    if e is None:
        return "–"
    return "0%" if abs(e) < 0.005 else f"{e:+.0%}" if abs(e) < 10 else f"×{1 + e:.0f}"


def _parameters(law: Fitted) -> str:
    parts = sum(1 for k in law.params if k.startswith("w") and k[1:].isdigit())
    if parts > 1:
        return f"{parts} components"
    return law.parameters()


_ESCAPES = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "−": "--", "µ": r"$\mu$", "ρ": r"$\rho$", "τ": r"$\tau$", "≥": r"$\ge$", "≤": r"$\le$", "α": r"$\alpha$", "σ": r"$\sigma$"}  # fmt: skip


def _tex(value: Any) -> str:
    return "".join(_ESCAPES.get(c, c) for c in clean(str(value)))


def latex(profile: Profile) -> str:
    """Two booktabs tables: the findings, and the laws."""
    out = [
        r"% \usepackage{booktabs,tabularx}",
        "\n",
        r"\begin{tabularx}{\textwidth}{lXp{0.38\textwidth}}",
        "\n",
        r"\toprule",
        "\n",
    ]
    out.append("aspect & finding & evidence \\\\\n\\midrule\n")
    for f in profile.findings():
        evidence = "; ".join(x for x in (f.model, f.parameters, f.effect) if x)
        out.append(f"{_tex(f.aspect.replace('_', ' '))} & {_tex(f.text)} & {_tex(evidence)} \\\\\n")
    out.append("\\bottomrule\n\\end{tabularx}\n")
    rows = list(_laws(profile))
    if rows:
        out.append("\n\\begin{tabular}{lllrrrrrr}\n\\toprule\n")
        out.append(
            "law of & family & parameters & KS $D$ & $W_1$ dec & AIC/row & p50 & p90 & p99 \\\\\n\\midrule\n"
        )
        out += [" & ".join(map(_tex, row)) + " \\\\\n" for row in rows]
        out.append("\\bottomrule\n\\end{tabular}\n")
    return "".join(out)

"""The page: profile, run and score card → sections → one HTML text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lamina_traces import __version__
from lamina_traces.errors import Notice
from lamina_traces.profile import Profile
from lamina_traces.units import format_seconds

from . import fidelity, methods, simulation, workload
from .blocks import Figure, Method, Page, Section, Tile, number
from .figures import PLOT_CONFIG

if TYPE_CHECKING:
    from lamina_traces.fidelity import ScoreCard
    from lamina_traces.runs import Run

MOST_TILES = 6


def render(
    profile: Profile, run: Run | None = None, card: ScoreCard | None = None, command: str = ""
) -> str:
    """The whole page as text. Pure: the same arguments give the same text, whatever the day or the machine."""
    page = compose(profile, run, card, command)
    figures = [b for s in page.sections for b in s.blocks if isinstance(b, Figure)]
    drawings = {f.id: {"data": f.data, "layout": f.layout} for f in figures}
    return _template().render(
        page=page,
        figures=figures,
        facts=embedded(page.facts),
        drawings=embedded({"config": PLOT_CONFIG, "figures": drawings}),
        css=_asset("static/report.css"),
        js=_asset("static/report.js"),
        plotly=get_plotlyjs() if figures else "",
    )


def compose(
    profile: Profile, run: Run | None = None, card: ScoreCard | None = None, command: str = ""
) -> Page:
    """What the page says, before any HTML."""
    sections = workload.sections(profile)
    findings = workload.findings(profile)
    tiles = workload.tiles(profile)
    notices = list(profile.notices)
    if run is not None:
        sections.append(simulation.section(run))
        findings += simulation.findings(run)
        tiles = _chosen(tiles, simulation.tiles(run))
        notices += run.notices
    if card is not None:
        sections.append(fidelity.section(card))
    return Page(
        title=profile.name,
        eyebrow=_eyebrow(run, card),
        provenance=_provenance(profile),
        findings=tuple(findings),
        tiles=tuple(tiles[:MOST_TILES]),
        sections=tuple(sections),
        warnings=_warnings(notices),
        methods=_methods(profile, run, card),
        command=command,
        tool=f"lamina-traces {__version__}",
        facts=_facts(profile, run, card, command, sections),
    )


def _chosen(own: list[Tile], simulated: list[Tile]) -> list[Tile]:
    """The workload's first tiles and the run's, six in all."""
    return own[: MOST_TILES - len(simulated)] + simulated


def _eyebrow(run: Run | None, card: ScoreCard | None) -> str:
    parts = ["Workload report"]
    if run is not None:
        parts.append("with a simulation")
    if card is not None:
        parts.append("and a score card" if run is not None else "with a score card")
    return " ".join(parts)


def _provenance(profile: Profile) -> tuple[str, ...]:
    """What was fitted: trace, nature, rows, span, format, clock, inputs. What is not known is left out."""
    s = profile.source
    rows, span = number(s.get("rows")), number(s.get("span_s"))
    out = []
    trace, nature = s.get("trace"), s.get("nature")
    if trace and trace != profile.name:
        out.append(f"fitted to the trace “{trace}”")
    if nature:
        out.append(f"{nature} trace")
    if rows is not None:
        out.append(
            f"{rows:,.0f} rows" + (f" over {format_seconds(span)}" if span is not None else "")
        )
    if s.get("format"):
        out.append(f"format {s['format']}")
    if s.get("clock"):
        out.append(f"{s['clock']} clock")
    inputs = s.get("inputs")
    files = [x for x in inputs if isinstance(x, Mapping)] if isinstance(inputs, list) else []
    out += [f"{x.get('name')} (sha256 {str(x.get('sha256'))[:12]})" for x in files[:3]]
    if len(files) > 3:
        out.append(f"{len(files) - 3} more files")
    if s.get("licence"):
        out.append(f"licence {s['licence']}")
    out.append(profile.tool)
    return tuple(x for x in out if x)


def _warnings(notices: Sequence[Notice]) -> tuple[tuple[str, str, str], ...]:
    return tuple((n.code, n.subject, n.text) for n in dict.fromkeys(notices))


def _methods(profile: Profile, run: Run | None, card: ScoreCard | None) -> tuple[Method, ...]:
    used = {name for s in workload.streams_of(profile) for name in s.aspects}
    out = [m for name, notes in methods.WORKLOAD.items() if name in used for m in notes]
    if run is not None:
        out += methods.SIMULATION
    if card is not None:
        out += methods.FIDELITY
    return tuple(out)


# --- facts -----------------------------------------------------------------------------------------


def _facts(
    profile: Profile, run: Run | None, card: ScoreCard | None, command: str, sections: list[Section]
) -> dict[str, Any]:
    """What the page rests on, for scripts: offered as a download."""
    facts: dict[str, Any] = {"command": command, "profile": profile.to_dict()}
    if run is not None:
        facts["run"] = run.facts()
    if card is not None:
        facts["score_card"] = card.to_dict()
    facts["figures"] = [
        {
            "id": b.id,
            "title": b.title,
            "sentence": b.sentence,
            "series": [_series(d) for d in b.data],
        }
        for s in sections
        for b in s.blocks
        if isinstance(b, Figure)
    ]
    return facts


def _series(d: Mapping[str, Any]) -> dict[str, Any]:
    return {k: d[k] for k in ("name", "x", "y", "z") if k in d}


def embedded(x: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or starts a comment."""
    text = json.dumps(_clean(x), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _clean(x: Any) -> Any:
    """Plain JSON values; what is not finite is nothing."""
    if isinstance(x, Mapping):
        return {str(k): _clean(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_clean(v) for v in x]
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if x is None or isinstance(x, str | int | bool):
        return x
    return str(x)


# --- template --------------------------------------------------------------------------------------


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _readable(x: Any) -> Any:
    """Names from a file without the characters that HTML or UTF-8 cannot carry."""
    if isinstance(x, str) and not isinstance(x, Markup):
        return _UNREADABLE.sub("\ufffd", x)
    return x


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["figure"] = lambda b: isinstance(b, Figure)
    environment.tests["stack"] = lambda b: isinstance(b, tuple)
    environment.finalize = _readable
    return environment.from_string(_asset("templates/page.html.j2"))

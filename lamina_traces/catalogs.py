"""What is built in, as rows: formats, targets, gpus, models, techniques, presets, knobs, queries, claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import UnknownName
from .units import short

if TYPE_CHECKING:
    from .profile import Profile
    from .units import Quantity

Row = dict[str, Any]


def _formats() -> list[Row]:
    from .formats import FORMATS

    return [
        {
            "name": f.name,
            "kind": f.kind,
            "table": f.table,
            "reads": f.title,
            "evidence": f.evidence,
            "source": f.source,
        }
        for f in FORMATS.values()
    ]


def _targets() -> list[Row]:
    from .formats import TARGETS

    return [
        {
            "name": t.name,
            "writes": t.title,
            "tools": t.tools,
            "file": t.suffix or "folder",
            "from": " or ".join(dict.fromkeys("any" if i == "*" else i for i in t.tables)),
            "needs": ", ".join(t.needs),
            "carries": "all" if t.carries is None else ", ".join(t.carries),
        }
        for t in TARGETS.values()
    ]


EVIDENCE_KINDS: Mapping[str, str] = {
    "client_windows": "client windows",
    "invocation_counts": "counts per bin",
    "power_windows": "windows",
    "operating_points": "configurations",
    "cdf_points": "CDF points",
    "metric_series": "metrics",
}
"""what the rows of a main table are, where they are not the events or readings themselves."""


def _presets() -> list[Row]:
    """Fitted profiles and stated ones alike; what a kind of profile does not say is None."""
    from .profile import Profile, library_names

    return [_preset(Profile.library(name)) for name in library_names()]


def _preset(p: Profile) -> Row:
    from .aspects.arrivals import Arrivals
    from .aspects.lengths import Lengths

    source = p.source
    stated = source.get("preset")
    streams = [s for part in p.parts.values() for s in part.streams]
    has = list(dict.fromkeys(a for s in streams for a in s.aspects))
    arrivals = [a for s in streams if isinstance(a := s.aspects.get("arrivals"), Arrivals)]
    lengths = [(s.weight, a) for s in streams if isinstance(a := s.aspects.get("lengths"), Lengths)]
    known = not source.get("relative") and "llm_requests" in p.parts
    extra = [c for c in ("adapter",) if any(c in s.where for s in streams)]
    bases = Counter(q["basis"] for q in stated["quantities"].values()) if stated else Counter()
    return {
        "name": p.name,
        "kind": source.get("kind"),
        "basis": _basis(bases) if stated else "fitted",
        "fitted_on": source.get("trace"),
        "numbers": dict(bases.most_common()) or None,
        "published": f"{sum(bases[b] for b in PUBLISHED)} of {bases.total()}" if stated else None,
        "requests_per_s": short(sum(a.rate_per_s for a in arrivals), 4) if arrivals and known else None,
        "input_tokens_mean": _mean([(w, a.input.grid.mean) for w, a in lengths]),
        "output_tokens_mean": _mean([(w, a.output.grid.mean) for w, a in lengths]),
        "rows": source.get("rows"),
        "evidence": "statements" if stated else EVIDENCE_KINDS.get(str(source.get("table")), "rows"),
        "span_s": source.get("span_s"),
        "streams": len(streams),
        "aspects": ", ".join([*has, *extra]),
        "licence": source.get("licence"),
        "title": stated["title"] if stated else f"fitted to {source.get('trace')}",
        "paper": stated["paper"] if stated else None,
    }  # fmt: skip


PUBLISHED = ("datasheet", "paper", "measured")


def _basis(bases: Mapping[str, int]) -> str:
    """``paper`` where any number is published or measured."""
    return "paper" if any(bases.get(b) for b in PUBLISHED) else "assumed"


def _mean(parts: list[tuple[float, float]]) -> float | None:
    whole = sum(w for w, _ in parts)
    return short(sum(w * m for w, m in parts) / whole, 4) if whole else None


PRESET_COLUMNS = (
    "name", "kind", "basis", "published", "requests_per_s", "input_tokens_mean", "output_tokens_mean", "aspects", "title",
)  # fmt: skip
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "presets": PRESET_COLUMNS,
    "gpus": (
        "name", "bf16_tflop_s", "fp8_tflop_s", "fp4_tflop_s", "int8_top_s", "memory_gb", "memory_gb_s", "link", "link_gb_s",
        "tdp_w", "idle_w", "published",
    ),
    "links": ("name", "kind", "gb_s", "latency_us", "collective_share", "published"),
}  # fmt: skip
"""of the lists for people; machines get all."""


def preset_details(name: str) -> Row:
    """One profile of the library, with what a preset states number by number. Raises UnknownName."""
    from .profile import Profile

    p = Profile.library(name)
    stated = p.source.get("preset") or {}
    numbers = [{"number": k, **q} for k, q in stated.get("quantities", {}).items()]
    more = {k: stated.get(k) for k in ("models", "limits")}
    return {**_preset(p), **more, "quantities": numbers}


def _knobs() -> list[Row]:
    from .generator.knobs import KNOBS

    return [
        {"name": name, "takes": k.takes, "turns": k.aspect, "changes": k.doc}
        for name, k in KNOBS.items()
    ]


def _queries() -> list[Row]:
    from .store import query

    return [
        {
            "name": q.name,
            "asks": q.doc,
            "parameters": ", ".join(q.parameters),
            "columns": ", ".join(q.columns),
        }
        for q in map(query.load, query.names())
    ]


def _gpus() -> list[Row]:
    from .hardware import all_devices

    out = []
    for d in all_devices().values():
        numbers = {
            "bf16_tflop_s": d.fp16_tflops,
            "fp8_tflop_s": d.fp8_tflops,
            "fp4_tflop_s": d.fp4_tflops,
            "int8_top_s": d.int8_tops,
            "memory_gb": d.memory_gb,
            "memory_gb_s": d.memory_gb_s,
            "link_gb_s": d.link_gb_s,
            "tdp_w": d.tdp_w,
            "idle_w": d.idle_w,
        }
        out.append({"name": d.name, "link": d.link.name, **_row(numbers)})
    return out


def _links() -> list[Row]:
    from .hardware import all_links

    out = []
    for x in all_links().values():
        latency = replace(x.latency_s, value=short(x.latency_s.value * 1e6, 6), unit="us")
        numbers = {"gb_s": x.gb_s, "latency_us": latency, "collective_share": x.collective_share}
        out.append({"name": x.name, "kind": x.kind, **_row(numbers)})
    return out


def _row(numbers: Mapping[str, Quantity | None]) -> Row:
    """The values; how many are published or measured; basis and source of each by name."""
    known = {k: q for k, q in numbers.items() if q is not None}
    return {
        **{k: None if q is None else q.value for k, q in numbers.items()},
        "published": f"{sum(q.basis in PUBLISHED for q in known.values())} of {len(known)}",
        "basis": {k: q.basis for k, q in known.items()},
        "source": {k: q.source for k, q in known.items()},
    }


def _models() -> list[Row]:
    from .hardware import all_models

    return [
        {
            "name": m.name,
            "params_b": m.params / 1e9,
            "active_b": m.active_params / 1e9,
            "layers": m.layers,
            "hidden": m.hidden,
            "heads": m.heads,
            "kv_heads": m.kv_heads,
            "experts": m.experts,
            "weights": m.native,
            "max_context": m.max_context,
        }
        for m in all_models().values()
    ]


def _numbers(quantities: Mapping[str, Quantity]) -> list[Row]:
    return [{"number": name, **q.to_dict()} for name, q in quantities.items()]


def gpu_details(name: str) -> Row:
    """One GPU: its names, its link, every number with unit, source and basis. Raises UnknownName."""
    from .hardware import device

    d = device(name)
    return {"name": d.name, "names": list(d.names), "link": d.link.name, "numbers": _numbers(d.quantities())}  # fmt: skip


def link_details(name: str) -> Row:
    """One link, every number with unit, source and basis. Raises UnknownName."""
    from .hardware import link

    x = link(name)
    return {"name": x.name, "names": list(x.names), "kind": x.kind, "numbers": _numbers(x.quantities())}  # fmt: skip


def model_details(name: str) -> Row:
    """One model: its shape, and what follows from it: parameters, bytes by type. ``weights``: the type of a checkpoint of
    that name, ``quantized``: which weights have it. Raises UnknownName; for a config.json what ``hardware.model`` raises."""
    from .hardware import BYTES, model
    from .units import Quantity

    m = model(name)
    values = {
        "parameters": (m.params, ""),
        "active_parameters": (m.active_params, ""),
        **{f"weight_bytes.{t}": (m.weight_bytes(t), "bytes") for t in BYTES},
        **{f"kv_bytes_per_token.{t}": (m.kv_bytes_per_token(t), "bytes") for t in ("bf16", "fp8")},
        "state_bytes_per_sequence": (m.state_bytes, "bytes"),
    }
    derived = {k: Quantity(v, unit, "the shape", "derived") for k, (v, unit) in values.items() if v}
    return {
        "name": m.name,
        "names": list(m.names),
        "weights": m.native,
        "quantized": m.quantized if BYTES[m.native] < 2 else None,
        "kv_cache": m.kv_native,
        "flags": list(m.flags),
        "numbers": _numbers({**m.quantities(), **derived}),
    }


def _techniques() -> list[Row]:
    from .techniques import TECHNIQUES

    return [
        {
            "name": t.name,
            "what": t.what,
            "parameters": ", ".join(
                f"{k}={q.value:g} ({q.basis})" for k, q in t.parameters.items()
            ),
            "limits": t.limits,
            "paper": t.paper,
        }
        for t in TECHNIQUES.values()
    ]


def technique_details(name: str) -> Row:
    """One technique: its parameters with unit, source and basis, its names to choose from, what it leaves out. Raises UnknownName."""
    from . import techniques

    t = techniques.named(name)
    return {
        "name": t.name, "what": t.what, "paper": t.paper, "limits": t.limits, "excludes": sorted(t.excludes),
        "neutral": ", ".join(f"{k}={v}" for k, v in t.neutral.items()),
        "choices": [f"{k}={c.default}: {c.what}" for k, c in t.choices.items()],
        "numbers": _numbers(t.parameters),
    }  # fmt: skip


def _claims() -> list[Row]:
    from .claims import claims

    return [
        {"name": c.name, "says": c.says, "reported": c.reported, "unit": c.unit, "tier": c.tier, "technique": c.technique, "paper": c.paper}
        for c in claims().values()
    ]  # fmt: skip


TOPICS: Mapping[str, Callable[[], list[Row]]] = {
    "formats": _formats,
    "targets": _targets,
    "gpus": _gpus,
    "links": _links,
    "models": _models,
    "techniques": _techniques,
    "presets": _presets,
    "knobs": _knobs,
    "queries": _queries,
    "claims": _claims,
}


def format_details(name: str) -> Row:
    """One format whole: how it is recognised, its columns with their units and what becomes of them, quirks,
    source and evidence. Raises UnknownName."""
    from .formats import FORMATS

    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS, "lamina-traces catalog formats")
    f = FORMATS[name]
    return {
        "name": f.name,
        "reads": f.title,
        "kind": f.kind,
        "tables": [f.table, *f.others],
        "read_with": [g.name for g in FORMATS.values() if g.group == f.group and g is not f],
        "files": " or ".join(f.syntax),
        "clock": f.clock,
        "nature": f.nature,
        "columns": [
            {
                "column": c.name,
                "holds": c.cell,
                "unit": c.unit or None,
                "becomes": c.to or None,
                "needed": c.required,
            }
            for c in f.fields
        ],
        "quirks": list(f.quirks),
        "source": f.source,
        "evidence": f.evidence,
    }


ENTRIES: Mapping[str, Callable[[str], Row]] = {
    "formats": format_details,
    "gpus": gpu_details,
    "links": link_details,
    "models": model_details,
    "presets": preset_details,
    "techniques": technique_details,
}
"""one entry in full, by topic."""

EVIDENCE: Mapping[str, str] = {
    "real file": "a real file was read, and its figures match the published or measured ones",
    "importer's loader": "the layout was read in the source of the tool that writes or loads it",
    "documentation": "the layout was read in its documentation",
}
"""how well a format is known, best first."""


def formats_page() -> str:
    """docs/formats.md: every format and every target."""
    from .formats import FORMATS, TARGETS

    out = [
        "# Formats and targets\n",
        "Written by `make docs` from the registries; `lamina-traces catalog formats` and `catalog targets` print the same.\n",
        "## What is read\n",
        *(f"- **{k}**: {v}." for k, v in EVIDENCE.items()),
        "",
        "| format | reads | tables | evidence |",
        "|---|---|---|---|",
    ]
    listed = sorted(
        FORMATS.values(), key=lambda f: (list(EVIDENCE).index(f.evidence), f.kind, f.name)
    )
    out += [
        f"| [`{f.name}`](#{f.name}) | {f.title} | {', '.join((f.table, *f.others))} | {f.evidence} |"
        for f in listed
    ]
    out += [
        "",
        "## What is written\n",
        "| target | writes | tools | file | source of the rules |",
        "|---|---|---|---|---|",
    ]
    out += [
        f"| `{t.name}` | {t.title} | {t.tools} | {t.suffix or 'folder'} | {t.source} |"
        for t in TARGETS.values()
    ]
    out += [
        "",
        "How each is proven stands in [importers.md](importers.md).\n",
        "## Formats, one by one\n",
    ]
    for f in listed:
        out += _format_section(format_details(f.name))
    return "\n".join(out).rstrip() + "\n"


def _format_section(d: Row) -> list[str]:
    facts = [
        f"{d['reads']}. Files: {d['files']}; clock: {d['clock']}; tables: {', '.join(d['tables'])}."
    ]
    if d["read_with"]:
        facts.append(f"Read together with {', '.join(f'`{n}`' for n in d['read_with'])}.")
    out = [f"### {d['name']}\n", " ".join(facts) + "\n"]
    if d["columns"]:
        out += ["| column | holds | unit | becomes |", "|---|---|---|---|"]
        out += [
            f"| `{c['column']}`{'' if c['needed'] else ' (optional)'} | {c['holds']} | {c['unit'] or '–'} | {c['becomes'] or '–'} |"
            for c in d["columns"]
        ]
        out.append("")
    out += [f"- {q}" for q in d["quirks"]]
    return [*out, f"- Source: {d['source']}. Evidence: {d['evidence']}.", ""]


def rows(topic: str) -> list[Row]:
    """The rows of a topic. Raises UnknownName."""
    if topic not in TOPICS:
        raise UnknownName("topic", topic, TOPICS)
    return TOPICS[topic]()

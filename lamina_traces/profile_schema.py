"""The JSON Schema of workload profiles, and the reference that docs/profile.md prints from it.

``profile.schema.json`` (draft 2020-12) is the one place that says what the keys of a profile mean, and in which unit (``unit``, an
annotation). It checks shapes and ranges; what it cannot (that grids rise, that shares add up) ``Profile.from_dict`` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

START = "<!-- from here on written by `make docs` from lamina_traces/profile.schema.json -->"


def text() -> str:
    """The schema as it is packaged."""
    return resources.files("lamina_traces").joinpath("profile.schema.json").read_text("utf-8")


def schema() -> dict[str, Any]:
    """The schema of ``lamina-profile/1``."""
    d: dict[str, Any] = json.loads(text())
    return d


def fault(value: Any, name: str = "") -> str | None:
    """The first place where a profile, or the object ``name`` of one ("arrivals"), departs from the schema, in words:
    ``rate_curve.window_s is missing``. None where it does not, as far as the schema tells, which is of present versions."""
    whole = schema()
    return _fault(value, whole["$defs"][name] if name else whole, "", whole["$defs"])


_KINDS: dict[str, tuple[Any, str]] = {
    "object": (dict, "an object"),
    "array": (list, "a list"),
    "string": (str, "a text"),
    "number": ((int, float), "a number"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "null": (type(None), "null"),
}


def _is(value: Any, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind][0]) and (kind == "boolean" or not isinstance(value, bool))


def _fault(value: Any, entry: dict[str, Any], at: str, known: dict[str, Any]) -> str | None:
    """What of the schema is used: references, choices, types, ranges, keys, items, and versions (if, then)."""
    here = at or "it"
    if "$ref" in entry:
        entry = known[entry["$ref"].rpartition("/")[2]]
    if "if" in entry:
        told = entry["if"]["properties"]["version"]
        same = isinstance(value, dict) and value.get("version") in told.values()
        if same and (found := _fault(value, entry["then"], at, known)):
            return found
    if "anyOf" in entry:
        each = [_fault(value, e, at, known) for e in entry["anyOf"]]
        # the choice that was meant is wrong somewhere inside
        inner = (f for f in each if f and not f.startswith(f"{here} is "))
        return None if None in each else next(inner, each[0])
    kinds = entry.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and not any(_is(value, k) for k in kinds):
        wanted = " or ".join(_KINDS[k][1] for k in kinds)
        return f"{here} is {_shown(value)}, not {wanted}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = entry.get("minimum", -math.inf), entry.get("maximum", math.inf)
        above = entry.get("exclusiveMinimum", -math.inf)
        if not (math.isfinite(value) and low <= value <= high and value > above):
            ends = f"from {low:g}" if low > -math.inf else f"above {above:g}"
            ends = "finite" if math.isinf(low) and math.isinf(above) else ends
            return f"{here} is {value:g}, not {ends}{f' to {high:g}' if high < math.inf else ''}"
    if "enum" in entry and value not in entry["enum"]:
        return f"{here} is {_shown(value)}, not one of {', '.join(map(str, entry['enum']))}"
    inside: Iterator[tuple[Any, dict[str, Any], str]] = iter(())
    if isinstance(value, dict):
        missing = [k for k in entry.get("required", []) if k not in value]
        if missing:
            return f"{at}.{missing[0]} is missing".lstrip(".")
        others = entry.get("additionalProperties")
        given = {**dict.fromkeys(value, others if isinstance(others, dict) else {}), **entry.get("properties", {})}  # fmt: skip
        inside = ((value[k], given[k], f"{at}.{k}".lstrip(".")) for k in value)
    elif isinstance(value, list):
        low, high = entry.get("minItems", 0), entry.get("maxItems", math.inf)
        if not low <= len(value) <= high:
            count = (
                f"{low}"
                if low == high
                else f"{low} or more"
                if high == math.inf
                else f"{low} to {high}"
            )
            return f"{here} has {len(value)} entries, not {count}"
        inside = ((v, entry.get("items", {}), f"{at}[{i}]") for i, v in enumerate(value))
    return next((f for v, e, place in inside if (f := _fault(v, e, place, known))), None)


def _shown(value: Any) -> str:
    """A value for people, short."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


def page(written: str) -> str:
    """docs/profile.md with its reference made again; what is above the marker is kept."""
    return written.partition(START)[0] + START + "\n\n" + reference()


def reference() -> str:
    """A table for every object of a profile, and the schema whole."""
    d = schema()
    out = ["## Keys\n", "### The profile\n", *_table(d)]
    for name, entry in d["$defs"].items():
        out += [f"### {name}\n", entry["description"] + "\n", *_table(entry)]
    out += ["## The schema\n", "```json", text().rstrip("\n"), "```"]
    return "\n".join(out) + "\n"


def _table(entry: dict[str, Any]) -> Iterator[str]:
    yield "| key | holds | unit | meaning |"
    yield "|---|---|---|---|"
    for key, value in entry["properties"].items():
        unit = value.get("unit") or value.get("items", {}).get("unit") or "–"
        yield f"| `{key}` | {_holds(value)} | {unit} | {value.get('description', '–')} |"
    yield ""


def _holds(value: dict[str, Any]) -> str:
    """The type in words, with a link where it is an object of its own."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "anyOf" in value:
        return " or ".join(_holds(v) for v in value["anyOf"])
    if "const" in value:
        return f"`{value['const']}`"
    types = value.get("type", "any")
    many = types if isinstance(types, list) else [types]
    out = []
    for t in many:
        if t == "array":
            inner = _holds(value["items"]) if "items" in value else "string, number"
            out.append(f"list of {inner}")
        elif t == "object" and isinstance(value.get("additionalProperties"), dict):
            inner = _holds(value["additionalProperties"])
            out.append(f"name → {inner}")
        else:
            out.append(str(t))
    return " or ".join(out)

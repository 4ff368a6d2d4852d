"""The JSON Schema of workload profiles, and the reference that docs/profile.md prints from it.

``profile.schema.json`` (draft 2020-12) is the one place that says what the keys of a profile mean, and in which unit (``unit``, an
annotation). It checks shapes and ranges; what it cannot (that grids rise, that shares add up) ``Profile.from_dict`` does.
"""

from __future__ import annotations

import json
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

"""docs/presets.md: what presets there are, and every number of each."""

from __future__ import annotations

from collections.abc import Iterator

from . import Preset, load, names

_HEAD = """# Presets

Written by `make docs` from `sample_data/presets/*.toml`. A preset is a workload profile that is stated instead of fitted: its name works wherever
that of a fitted profile does.

```console
$ lamina-traces catalog presets                               # fitted and stated profiles
$ lamina-traces catalog presets text-to-sql                   # every number of one
$ lamina-traces show text-to-sql
$ lamina-traces generate text-to-sql -n 2000 --seed 1 -o queries.parquet
$ lamina-traces generate coding-agents -n 2000 --set sessions.turns=x2 -o agents.parquet
$ lamina-traces simulate queries.parquet --model llama-3.1-70b --gpu h100-sxm --tp 8
```

Every number has a unit, a source and a basis:

- **paper**: stated in the publication or in its published code, as read there or in notes that cite it (the source says which);
- **measured**: measured on published data;
- **derived**: computed from other numbers of the preset;
- **assumed**: nobody published it, or it could not be checked. A preset with assumed numbers only has the shape that its paper describes, and no more.

Read rates first: nearly all are assumed, and `--rate` changes them without changing anything else. Means that a preset is held to (`held_to`) are checked
when it is loaded.

## How one is written

A TOML file in the words of the field; a table's `basis` and `source` hold for all numbers below it, `sources.KEY = "basis: source"` for one of them, and
`[references]` gives names to sources that come up often.

| table | states |
|---|---|
| `title`, `paper`, `models`, `limits` | what it is, after whom, what it models and what it leaves out |
| `[arrivals]` | one of `requests_per_s`, `sessions_per_s`, `workflows_per_s`; `law` (poisson, constant, gamma, weibull, lognormal) with `cv`; `span_s`; `[arrivals.hours]` a daily course |
| `[lengths]` | `input`, `output`, and `reasoning_tokens`, `image_tokens`, `image_count` …; `spearman`: dependence of input and output, as a Gaussian copula |
| `[sessions]` | `turns`, `think_time_s`, `context` (cumulative, without-answers, delta), `first_input`, `new_tokens`, `max_input` |
| `[[workflows]]` | `[[workflows.steps]]` with `after`, `input`, `output`, `repeat`, `repeat_in`, `probability`, `holds`, `delay_s`, `delay_kind`, `lasts_s`, `copies` |
| `[prefixes]` | `block_tokens`, `head_tokens` that prompts begin with, `heads` of them by `zipf`, `hit_ratio`, `anywhere_ratio`, `lru` |
| `[adapters]` | `count`, `zipf`, share `without` |
| `[failures]` | `rate`, mean `run` |
| `[held_to]` | `calls_per_workflow`, `turns_per_session` that the rest must bring |

A law is one number, `{ median, p90 }`, `{ median, p99 }`, `{ mean, median }`, `{ mean, cv }` (lognormal), `{ mean, law = "exponential" }` or
`{ parts = [ { share, … }, … ] }`; `min` and `max` cut it, `plus` is added to it.
"""


def page() -> str:
    """The page whole."""
    presets = [load(name) for name in names()]
    out = [
        _HEAD,
        "## The list\n",
        "| preset | what | after | numbers |",
        "|---|---|---|---|",
    ]
    out += [f"| [`{p.name}`](#{p.name}) | {p.title} | {p.paper} | {_bases(p)} |" for p in presets]
    for p in presets:
        out += ["", *_section(p)]
    return "\n".join(out) + "\n"


def _bases(p: Preset) -> str:
    return ", ".join(f"{n} {basis}" for basis, n in p.bases.items())


def _section(p: Preset) -> Iterator[str]:
    yield f"## {p.name}\n"
    yield f"{p.title}, after {p.paper}.\n"
    yield f"It models {p.models}. What it leaves out: {p.limits}.\n"
    yield "| number | value | basis | source |"
    yield "|---|---|---|---|"
    for name, q in p.quantities.items():
        yield f"| `{name}` | {f'{q.value:,g} {q.unit}'.rstrip()} | {q.basis} | {q.source} |"

"""The JSON Schema of workload profiles: what is fitted passes it, what is damaged does not, and the page prints it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

from lamina_traces import disclosure
from lamina_traces.aspects import ASPECTS
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError
from lamina_traces.profile import FORMAT, Profile, fitted_names
from lamina_traces.profile_schema import page, reference, schema, text
from tests.recovery import scrapes

from .aspects.tables import stored

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
S = 10**9


def faults(d: Any) -> list[str]:
    return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in VALIDATOR.iter_errors(d)]


# --- the page and the file -------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["properties"]["format"]["const"] == FORMAT


def test_the_page_is_fresh() -> None:
    """Run ``make docs`` when this fails."""
    written = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    assert page(written) == written


def test_the_page_has_the_schema_whole() -> None:
    written = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    assert written.partition("```json\n")[2].partition("```")[0] == text()


def test_every_key_has_a_meaning() -> None:
    assert "| – |\n" not in reference()
    for name, entry in SCHEMA["$defs"].items():
        assert entry["description"], name
        assert set(entry["required"]) <= set(entry["properties"]), name


def test_links_of_the_page_lead_somewhere() -> None:
    for where in references(SCHEMA):
        assert where.removeprefix("#/$defs/") in SCHEMA["$defs"]


def references(x: Any) -> Iterator[str]:
    if isinstance(x, dict):
        yield from (v for k, v in x.items() if k == "$ref")
        for v in x.values():
            yield from references(v)
    elif isinstance(x, list):
        for v in x:
            yield from references(v)


def test_every_aspect_is_in_it_with_its_version() -> None:
    known = SCHEMA["$defs"]["stream"]["properties"]["aspects"]["properties"]
    assert set(known) == set(ASPECTS)
    for name, module in ASPECTS.items():
        assert known[name]["if"]["properties"]["version"]["maximum"] == module.VERSION, name
        assert known[name]["then"]["$ref"] == f"#/$defs/{name}"
        condition = SCHEMA["$defs"][name].get("if")
        if condition:
            assert condition["properties"]["version"]["const"] == module.VERSION, name


# --- what is fitted --------------------------------------------------------------------------------


def requests(n: int = 3000) -> pl.DataFrame:
    """Conversations of a few tenants with growing prompts that share blocks, tasks of three calls, failures in runs."""
    rng = np.random.default_rng(1)
    arrival = np.cumsum(rng.gamma(0.5, 2.0, n) * S).astype(np.int64)
    session = np.arange(n) // 4
    turn = np.arange(n) % 4
    task = np.arange(n) // 3
    arrival = np.sort(arrival)
    size = (np.ceil(rng.lognormal(6, 0.8, n)) + 400 * turn).astype(int)
    bad = np.repeat(rng.random(n // 5) < 0.05, 5)
    out = np.ceil(rng.lognormal(4, 1, n)).astype(int)
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(n)],
            "arrival_ns": arrival,
            "tenant_id": [f"t{i}" for i in rng.choice(40, n, p=weights(40))],
            "model": rng.choice(["a", "b"], n).tolist(),
            "session_id": [f"s{i}" for i in session],
            "workflow_id": [f"w{i}" for i in task],
            "stage": [("plan", "act", "check")[i % 3] for i in range(n)],
            "input_tokens": pl.Series(size, dtype=pl.Int32),
            "output_tokens": pl.Series(out, dtype=pl.Int32),
            "cached_input_tokens": pl.Series(size // 2, dtype=pl.Int32),
            "prefix_block_size": pl.Series([64] * n, dtype=pl.Int32),
            "prefix_hashes": pl.Series(
                [[int(s) * 1000 + j for j in range(k)] for s, k in zip(session, size // 64, strict=True)],
                dtype=pl.List(pl.UInt64),
            ),
            "status": np.where(bad, rng.choice(["timeout", "error"], n), "ok").tolist(),
            "last_token_ns": arrival + (out * 2e7).astype(np.int64),
        }
    )  # fmt: skip


def weights(n: int) -> Any:
    w = 1 / np.arange(1, n + 1)
    return w / w.sum()


def calls(n: int = 2000) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    return pl.DataFrame(
        {
            "func_id": [f"f{i}" for i in rng.choice(30, n, p=weights(30))],
            "app_id": [f"a{i}" for i in rng.integers(0, 5, n)],
            "arrival_ns": np.cumsum(rng.exponential(3 * S, n)).astype(np.int64),
            "duration_s": rng.lognormal(-1, 1, n),
            "is_cold": rng.random(n) < 0.1,
            "status": "ok",
        }
    )


def counts() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    made = rng.poisson(3, (20, 200))
    func, minute = np.nonzero(made)
    return pl.DataFrame(
        {
            "func_id": [f"f{i}" for i in func],
            "arrival_ns": minute * 60 * S,
            "bin_s": 60.0,
            "invocations": made[func, minute],
        }
    ).sort("arrival_ns")


def cold(n: int = 2000) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    alloc, code = rng.lognormal(-2, 1, n), rng.lognormal(-1, 0.5, n) * (rng.random(n) < 0.7)
    return pl.DataFrame(
        {
            "func_id": [f"f{i}" for i in rng.integers(0, 50, n)],
            "region": rng.choice(["R1", "R2"], n).tolist(),
            "runtime": rng.choice(["python", "java"], n).tolist(),
            "pod_id": [f"p{i}" for i in range(n)],
            "arrival_ns": np.cumsum(rng.exponential(8 * S, n)).astype(np.int64),
            "total_s": alloc + code + 0.1,
            "pod_alloc_s": alloc,
            "deploy_code_s": code,
            "scheduling_s": 0.1,
        }
    )


def curves() -> pl.DataFrame:
    x = np.geomspace(0.1, 50, 60)
    shares = 1 / (1 + (2 / x) ** 1.5)
    return pl.concat(
        pl.DataFrame({"figure": "1", "quantity": "total_s", "series": s, "x": x * k, "cdf": shares})
        for s, k in (("R1", 1.0), ("R2", 2.0))
    )


def watts(n: int = 1200) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    level = np.where((np.arange(n) // 200) % 2 == 0, 120.0, 380.0)
    one = {"arrival_ns": np.arange(n) * S, "host": "h", "domain": "gpu", "phase": np.where(level < 200, "idle", "busy").tolist()}  # fmt: skip
    made = [
        pl.DataFrame(
            one
            | {
                "device": f"gpu{i}",
                "power_w": np.minimum(level + rng.normal(0, 8, n), 385),
                "power_limit_w": 400.0,
                "energy_j": np.cumsum(level),
            }
        )
        for i in range(2)
    ]
    return pl.concat(made).sort("arrival_ns", "device")


def windows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "arrival_ns": [0, 60 * S, 120 * S], "label": ["a", "b", "b"], "device": "gpu0", "domain": "gpu",
            "duration_s": 60.0, "energy_j": [6000.0, 12000.0, 15000.0], "tokens": [100, 200, 250],
        }
    )  # fmt: skip


def points() -> pl.DataFrame:
    rows = [
        ("gpu", f"m{m}", "chat", b, w, 1000 * (1 + (w / 400 - 0.6) ** 2), 100 * (400 / w) ** 0.5, 1.0 / b, w)
        for m in range(5) for b in (1, 2, 4) for w in (200.0, 300.0, 400.0)
    ]  # fmt: skip
    names = ["device_name", "model", "workload", "batch_size", "power_limit_w", "energy_j", "duration_s", "energy_per_token_j", "mean_power_w"]  # fmt: skip
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return frame.with_columns(pl.col("batch_size").cast(pl.Int32), mean_power_frac=0.5)


def cluster(n: int = 2000) -> pl.DataFrame:
    rng = np.random.default_rng(6)
    arrival = np.cumsum(rng.exponential(300 * S, n)).astype(np.int64)
    run, wait = rng.weibull(0.6, n) * 9000, rng.exponential(600, n)
    return pl.DataFrame(
        {
            "job_id": [f"j{i}" for i in range(n)],
            "arrival_ns": arrival,
            "start_ns": arrival + (wait * S).astype(np.int64),
            "end_ns": arrival + ((wait + run) * S).astype(np.int64),
            "duration_s": run,
            "queue_s": wait,
            "gpus": 2.0 ** rng.integers(0, 4, n),
            "attempts": pl.Series(rng.integers(1, 3, n), dtype=pl.Int32),
            "state": rng.choice(["completed", "failed", "node_fail"], n, p=[0.8, 0.15, 0.05]),
        }
    )


def broken(n: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    arrival = np.cumsum(rng.weibull(0.7, n) * 5000 * S).astype(np.int64)
    return pl.DataFrame(
        {
            "arrival_ns": arrival,
            "end_ns": arrival + (rng.lognormal(6, 1, n) * S).astype(np.int64),
            "entity_type": "node",
            "entity_id": [f"n{i}" for i in rng.integers(0, 12, n)],
            "kind": rng.choice(["hardware", "network"], n).tolist(),
            "component": "gpu",
        }
    )


def scraped() -> pl.DataFrame:
    return scrapes.scrapes(scrapes.drawn(np.random.default_rng(0), 3000, 2.0))


KINDS: Mapping[str, tuple[str, Callable[[], pl.DataFrame], frozenset[str]]] = {
    "requests": ("llm_requests", requests, frozenset({"arrivals", "lengths", "sessions", "workflows", "prefixes", "failures"})),
    "invocations": ("invocations", calls, frozenset({"arrivals", "invocations"})),
    "counts": ("invocation_counts", counts, frozenset({"invocations"})),
    "cold starts": ("cold_starts", cold, frozenset({"arrivals", "cold_starts"})),
    "curves": ("cdf_points", curves, frozenset({"cold_starts"})),
    "power": ("power_samples", watts, frozenset({"power"})),
    "windows": ("power_windows", windows, frozenset({"power"})),
    "points": ("operating_points", points, frozenset({"operating_points"})),
    "jobs": ("jobs", cluster, frozenset({"arrivals", "jobs"})),
    "incidents": ("incidents", broken, frozenset({"incidents"})),
    "metrics": ("metric_series", scraped, frozenset({"metrics"})),
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    folder = tmp_path_factory.mktemp("kinds")
    return {
        kind: characterize(stored(folder / table, table, make()))
        for kind, (table, make, _) in KINDS.items()
    }


def aspects(d: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in d["parts"].values():
        for stream in part["streams"]:
            yield from stream["aspects"].items()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_fitted_passes(kind: str, fitted: dict[str, Profile]) -> None:
    d = json.loads(fitted[kind].dumps())
    assert faults(d) == []
    assert {name for name, _ in aspects(d)} >= KINDS[kind][2]


def test_every_aspect_was_fitted(fitted: dict[str, Profile]) -> None:
    found = {name for p in fitted.values() for name, _ in aspects(p.to_dict())}
    assert found == set(ASPECTS)


def test_streams_pass(tmp_path: Path) -> None:
    alone = requests().drop("session_id", "workflow_id")
    d = characterize(stored(tmp_path, "llm_requests", alone), by="tenant_id").to_dict()
    assert len(d["parts"]["llm_requests"]["streams"]) > 5
    assert d["parts"]["llm_requests"]["tail"]
    assert faults(json.loads(json.dumps(d))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_hides_volumes_and_names_passes(kind: str, fitted: dict[str, Profile]) -> None:
    p = fitted[kind]
    assert faults(json.loads(disclosure.nameless(p).dumps())) == []
    if p.aspect("arrivals", next(iter(p.parts))):
        assert faults(json.loads(disclosure.relative(p).dumps())) == []


@pytest.mark.parametrize("name", fitted_names())
def test_library_profiles_pass(name: str) -> None:
    assert faults(json.loads(Profile.library(name).dumps())) == []
    file = ROOT / "sample_data" / "profiles" / f"{name}.json"
    assert faults(json.loads(file.read_text(encoding="utf-8"))) == []


def test_a_file_of_version_1_passes() -> None:
    assert faults(json.loads((GOLDEN / "profile-1.json").read_text())) == []


@pytest.mark.parametrize("name", sorted(ASPECTS))
def test_aspects_of_version_1_pass(name: str) -> None:
    """Fixtures that code before the present one left."""
    path = GOLDEN / f"{name}-1.json"
    if path.exists():
        assert faults(profile_of(name, json.loads(path.read_text()))) == []
    else:
        held = [n for n, _ in aspects(json.loads((GOLDEN / "profile-1.json").read_text()))]
        assert ASPECTS[name].VERSION == 1 or name in held


def profile_of(name: str, aspect: dict[str, Any]) -> dict[str, Any]:
    stream = {"name": "all", "weight": 1.0, "where": {}, "aspects": {name: aspect}}
    return {"format": FORMAT, "name": "x", "source": {}, "parts": {"t": {"streams": [stream]}}}


def documented(x: Any, entry: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Keys that the schema does not name."""
    options = [resolved(e) for e in entry.get("anyOf", [entry])]
    alike = [e for e in options if fits(x, e)]
    whole = [e for e in alike if isinstance(x, dict) and set(e.get("required", ())) <= set(x)]
    entry = next(iter([*whole, *alike]), {})
    if isinstance(x, dict):
        named, rest = entry.get("properties", {}), entry.get("additionalProperties")
        for k, v in x.items():
            if k in named:
                yield from documented(v, named[k], f"{where}.{k}")
            elif isinstance(rest, dict):
                yield from documented(v, rest, f"{where}.*")
            elif named:
                yield f"{where}.{k}"
    elif isinstance(x, list) and "items" in entry:
        for v in x:
            yield from documented(v, entry["items"], where + "[]")


def resolved(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in entry or ("then" in entry and "$ref" in entry["then"]):
        target = entry.get("$ref") or entry["then"]["$ref"]
        entry = SCHEMA["$defs"][target.removeprefix("#/$defs/")]
    return entry


def fits(x: Any, entry: Mapping[str, Any]) -> bool:
    wanted = entry.get("type", ())
    many = [wanted] if isinstance(wanted, str) else wanted
    return (isinstance(x, dict) and "object" in many) or (isinstance(x, list) and "array" in many)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_fit_is_documented(kind: str, fitted: dict[str, Profile]) -> None:
    """An aspect that stores something new says what it is in ``profile.schema.json``."""
    assert sorted(set(documented(json.loads(fitted[kind].dumps()), SCHEMA))) == []


# --- what is damaged -------------------------------------------------------------------------------


def at(d: dict[str, Any], *path: str) -> Any:
    x: Any = d["parts"]["llm_requests"]["streams"][0]["aspects"]
    for p in path:
        x = x[p]
    return x


DAMAGE: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "no format": lambda d: d.pop("format"),
    "another format": lambda d: d.update(format="lamina-profile/2"),
    "no source": lambda d: d.pop("source"),
    "parts in a list": lambda d: d.update(parts=[]),
    "no streams": lambda d: d["parts"]["llm_requests"].pop("streams"),
    "weight of nothing": lambda d: d["parts"]["llm_requests"]["streams"][0].update(weight=0),
    "no version": lambda d: at(d, "arrivals").pop("version"),
    "version in words": lambda d: at(d, "arrivals").update(version="2"),
    "version 0": lambda d: at(d, "arrivals").update(version=0),
    "an aspect in a list": lambda d: at(d).update(arrivals=[]),
    "an unknown aspect in a list": lambda d: at(d).update(telepathy=[]),
    "no rate": lambda d: at(d, "arrivals").pop("rate_per_s"),
    "no key of version 2": lambda d: at(d, "arrivals").pop("acf"),
    "rate in words": lambda d: at(d, "arrivals").update(rate_per_s="fast"),
    "negative rate": lambda d: at(d, "arrivals").update(rate_per_s=-1.0),
    "half an arrival": lambda d: at(d, "arrivals").update(events=2.5),
    "share above 1": lambda d: at(d, "arrivals").update(zero_gap_share=1.2),
    "one knot": lambda d: at(d, "lengths", "input", "grid").update(values=[1]),
    "grid without rows": lambda d: at(d, "lengths", "input", "grid").pop("rows"),
    "correlation above 1": lambda d: at(d, "lengths").update(spearman=1.5),
    "interval without an end": lambda d: at(d, "lengths", "input", "intervals", "mean").pop("high"),
    "law without parameters": lambda d: at(d, "lengths", "input", "families")[0].pop("params"),
    "share below 0": lambda d: at(d, "failures").update(rate=-0.1),
    "ratio without value": lambda d: at(d, "sessions", "single").pop("value"),
    "cell of two": lambda d: at(d, "sessions", "turns", "cells")[0].pop(),
    "hits above 1": lambda d: at(d, "prefixes", "blocks", "lru")[0].update(value=2),
    "notice without code": lambda d: d["notices"].append({"text": "x"}),
    "hash of an input": lambda d: d["source"].update(inputs=[{"name": "f", "sha256": "x"}]),
    "concentration above 1": lambda d: d["parts"]["llm_requests"]["concentration"][0].update(gini=2),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_fails(how: str, fitted: dict[str, Profile]) -> None:
    d = json.loads(fitted["requests"].dumps())
    DAMAGE[how](d)
    assert faults(d)


def test_what_is_new_passes(fitted: dict[str, Profile]) -> None:
    d = json.loads(fitted["requests"].dumps())
    newer = copy.deepcopy(d)
    at(newer)["telepathy"] = {"version": 3, "x": [1, 2]}
    at(newer, "lengths")["colour"] = "blue"
    newer["colour"] = "blue"
    assert faults(newer) == []
    at(newer)["arrivals"] = {
        "version": ASPECTS["arrivals"].VERSION + 1,
        "rate_per_s": "as it likes",
    }
    assert faults(newer) == []
    with pytest.raises(ModelError, match="version"):
        Profile.from_dict(newer)

"""Writing, reading, naming and removing traces."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import math
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina_traces.errors import DataError, ModelError, Notice, StoreError, UnknownName, UsageError
from lamina_traces.schema import SCHEMA_VERSION, TABLES
from lamina_traces.store import Input, Manifest, Store, TableInfo, Trace, names, writer
from lamina_traces.store.clockwork import Clockwork

from .frames import requests


def stored(
    store: Store, name: str, *frames: pl.DataFrame, replace: bool = False, **fields: Any
) -> Trace:
    with store.writer(name, kind="llm", replace=replace) as w:
        for frame in frames:
            w.write("llm_requests", frame)
        return w.commit(**fields)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# what is written comes back, in time order


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(
        st.one_of(st.none(), st.integers(-20, 20).map(lambda x: x * 30)), min_size=1, max_size=40
    ),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    in_order=st.booleans(),
    origin=st.sampled_from([None, 10**18]),
)
def test_any_blocks_become_one_sorted_trace(
    tmp_path_factory: pytest.TempPathFactory,
    arrivals: list[int | None],
    cuts: list[int],
    in_order: bool,
    origin: int | None,
) -> None:
    if in_order:
        known = sorted(a for a in arrivals if a is not None)
        arrivals = [*known, *[None] * (len(arrivals) - len(known))]
    frame = requests(arrivals)
    edges = [0, *sorted(min(c, len(frame)) for c in cuts), len(frame)]
    blocks = [frame[a:b] for a, b in itertools.pairwise(edges)]
    trace = stored(Store(tmp_path_factory.mktemp("s")), "t", *blocks, origin_ns=origin, clock="utc")
    m = trace.manifest

    wanted = frame.sort("arrival_ns", "row_id", nulls_last=True)
    known = [a for a in arrivals if a is not None]
    shift = min(known, default=0) if origin is not None else 0
    wanted = wanted.with_columns(pl.col("arrival_ns") - shift)
    if not known:
        wanted = wanted.drop("arrival_ns")
    assert trace.scan().collect().equals(wanted)
    assert m.sorted_by_us == (not frame.equals(frame.sort("arrival_ns", "row_id", nulls_last=True)))
    assert ("sorted" in [n.code for n in m.notices]) == m.sorted_by_us
    assert m.rows == len(arrivals)
    assert m.origin_ns == (None if origin is None else origin + shift)
    assert m.arrival_first_ns == (min(known) - shift if known else None)
    assert m.arrival_last_ns == (max(known) - shift if known else None)
    steps = math.gcd(*(a - known[0] for a in known)) if known else 0
    assert m.tick_ns == (steps or None)
    assert trace.has("arrival_ns") == bool(known)


def test_tick_of_many_rows() -> None:
    """The vector path agrees with Euclid, whatever the order of the steps."""
    rng = np.random.default_rng(7)
    for tick in (1, 6, 1000, 10**6):
        t = rng.integers(0, 10**6, 50_000) * tick
        t[:100] = t[0]  # a run of equal instants first
        clock = Clockwork()
        for part in np.array_split(t, 7):
            clock.see(pl.Series(part), pl.Series(np.arange(len(part))))
        assert clock.tick == math.gcd(*np.diff(t).tolist())


def test_tick_that_shrinks_late() -> None:
    t = np.arange(20_000) * 6000
    t[-1] += 4
    clock = Clockwork()
    clock.see(pl.Series(t), pl.Series(np.arange(len(t))))
    assert clock.tick == 4


def test_ties_go_by_row_id(store: Store) -> None:
    frame = requests([1, 1, 2, 2])
    swapped = frame[[1, 0, 2, 3]]
    for blocks in ([swapped], [swapped[:1], swapped[1:]]):
        trace = stored(store, "t", *blocks, replace=True)
        assert trace.manifest.sorted_by_us
        assert trace.scan().collect().equals(frame)


def test_blocks_with_other_columns(store: Store) -> None:
    a = requests([0, 1]).with_columns(model=pl.lit("m"))
    b = requests([2, 3], first_row=2).with_columns(turn=pl.lit(1))
    trace = stored(store, "t", a, b, requests([4], first_row=4))
    assert trace.columns() == ("row_id", "arrival_ns", "model", "turn", "input_tokens", "status")
    got = trace.scan().collect()
    assert got["model"].to_list() == ["m", "m", None, None, None]
    assert got["turn"].to_list() == [None, None, 1, 1, None]
    assert got["turn"].dtype == pl.Int32
    batches = pl.concat(pl.DataFrame(b) for b in trace.batches())
    assert batches.equals(got)


def test_every_type_comes_back(store: Store) -> None:
    frame = requests([0, 1, 2]).with_columns(
        prefix_hashes=pl.Series([[1, 2**64 - 1], [], None], dtype=pl.List(pl.UInt64)),
        depends_on=pl.Series([[], [0], [0, 1]], dtype=pl.List(pl.Int64)),
        ttft_s=pl.Series([0.1, None, 1e-9]),
        streaming=pl.Series([True, None, False]),
        model=pl.Series(["a", None, "ü🎉"], dtype=pl.Categorical),
        service=pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
        extra=pl.Series([None, None, None], dtype=pl.String),
    )
    trace = stored(store, "t", frame)
    wanted = frame.drop("extra").cast({"model": pl.String, "service": pl.String})
    got = trace.scan().collect()
    assert got.equals(wanted.select(got.columns))
    assert not trace.has("extra")
    assert trace.has("streaming")
    assert not trace.has("nope")
    everything = next(trace.batches(columns=TABLES["llm_requests"].names))
    assert everything.num_columns == len(TABLES["llm_requests"].names)
    assert everything["extra"].null_count == 3
    assert everything["prefix_hashes"].to_pylist() == [[1, 2**64 - 1], [], None]


def test_sorting_keeps_every_type_and_moves_only_instants(store: Store) -> None:
    frame = requests([30, 10, None, 20]).with_columns(
        first_token_ns=pl.Series([35, None, None, 21], dtype=pl.Int64),
        delay_after_parent_ns=pl.Series([5, 6, 7, 8], dtype=pl.Int64),
        prefix_hashes=pl.Series([[1], [2**63], None, []], dtype=pl.List(pl.UInt64)),
    )
    got = stored(store, "t", frame, origin_ns=1000, clock="utc").scan().collect()
    assert got["arrival_ns"].to_list() == [0, 10, 20, None]
    assert got["first_token_ns"].to_list() == [None, 11, 25, None]
    assert got["delay_after_parent_ns"].to_list() == [6, 8, 5, 7]
    assert got["prefix_hashes"].to_list() == [[2**63], [], [1], None]
    assert got["row_id"].to_list() == [1, 3, 0, 2]


def test_relative_clocks_stay_as_recorded(store: Store) -> None:
    trace = stored(store, "t", requests([5, 6]), clock="relative")
    assert trace.manifest.arrival_first_ns == 5
    assert trace.manifest.origin_ns is None


def test_many_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART_ROWS", 10)
    monkeypatch.setattr(writer, "_PENDING_ROWS", 4)
    blocks = [requests([3 * i, 3 * i + 1, 3 * i + 1], first_row=3 * i) for i in range(20)]
    trace = stored(store, "t", *blocks)
    assert trace.manifest.tables["llm_requests"].parts == 5
    assert not trace.manifest.sorted_by_us
    assert trace.scan().collect()["row_id"].to_list() == list(range(60))
    assert [r for b in trace.batches(rows=7) for r in b["row_id"].to_pylist()] == list(range(60))
    assert trace.manifest.bytes == sum(f.stat().st_size for f in trace.files("llm_requests"))


def test_encodings(store: Store) -> None:
    trace = stored(store, "t", requests(range(1000)))
    meta = pq.read_metadata(trace.files("llm_requests")[0])
    column = {
        meta.row_group(0).column(i).path_in_schema: meta.row_group(0).column(i) for i in range(4)
    }
    assert "DELTA_BINARY_PACKED" in column["arrival_ns"].encodings
    assert column["arrival_ns"].statistics.max == 999
    assert {c.compression for c in column.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in column["status"].encodings


def test_several_tables(store: Store) -> None:
    power = pl.DataFrame(
        {"row_id": [0, 1], "arrival_ns": [4, 2], "device": ["g", "g"], "domain": ["gpu"] * 2}
    )
    with store.writer("t", kind="llm", nature="simulated") as w:
        w.write("llm_requests", requests([3, 5]))
        w.write("power_samples", power)
        trace = w.commit(origin_ns=100, clock="utc", provenance={"seed": 1})
    assert trace.tables == ("llm_requests", "power_samples")
    assert trace.manifest.origin_ns == 102
    assert trace.scan().collect()["arrival_ns"].to_list() == [1, 3]
    assert trace.scan("power_samples").collect()["arrival_ns"].to_list() == [0, 2]
    assert [n.subject for n in trace.manifest.notices] == ["power_samples"]
    assert trace.rows("power_samples") == 2
    part = trace.select("input_tokens = 1", start_ns=1)
    assert (part.rows(), part.rows("power_samples")) == (1, 1)
    with pytest.raises(UnknownName):
        trace.scan("cold_starts")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (requests([0]).with_columns(ttft_s=pl.lit(math.nan)), "ttft_s"),
        (requests([0]).with_columns(ttft_s=pl.lit(math.inf)), "ttft_s"),
        (requests([0]).with_columns(input_tokens=pl.lit(2**40)), "conversion"),
        (requests([0]).with_columns(input_tokens=pl.lit("x")), "conversion"),
        (requests([0]).drop("status"), "status"),
        (requests([0]).drop("row_id"), "row_id"),
    ],
)
def test_what_cannot_be_stored(store: Store, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stored(store, "t", frame)
    assert store.traces() == []
    assert list((store.path / "staging").iterdir()) == []


def test_a_trace_without_rows(store: Store) -> None:
    trace = stored(store, "t", requests([]))
    assert trace.manifest.rows == trace.scan().collect().height == trace.rows() == 0
    assert trace.manifest.span_ns is None
    assert trace.query("arrivals/extent")["events"].to_pylist() == [0]
    assert trace.select("input_tokens > 1", start_ns=5).scan().collect().height == 0
    assert store.sql("SELECT * FROM t").num_rows == 0
    with pytest.raises(DataError, match="nothing was written"):
        stored(store, "u")


def test_unknown_columns_and_tables(store: Store) -> None:
    with pytest.raises(UnknownName, match="tokens_in"):
        stored(store, "t", requests([0]).with_columns(tokens_in=1))
    with store.writer("t", kind="llm") as w, pytest.raises(UnknownName, match="requests"):
        w.write("requests", requests([0]))
    with pytest.raises(UnknownName, match="kind"):
        store.writer("t", kind="chat")
    with pytest.raises(StoreError, match="closed"):
        w.write("llm_requests", requests([0]))


def test_leaving_without_commit_leaves_nothing(store: Store) -> None:
    with store.writer("t", kind="llm") as w:
        w.write("llm_requests", requests(range(10)))
        w.rejects(
            pl.DataFrame(
                {"file": ["f"], "line": [1], "column": [None], "reason": ["r"], "text": ["t"]}
            )
        )
    with pytest.raises(DataError), store.writer("t", kind="llm") as w:
        w.write("llm_requests", pl.concat([requests([0])] * 3).drop("status"))
    assert store.names() == []
    assert [p for p in store.path.rglob("*") if p.is_file()] == [store.path / "lock"]


def test_rejects(store: Store) -> None:
    rejects = pl.DataFrame(
        {
            "file": ["f", "f"],
            "line": [3, 9],
            "column": ["x", None],
            "reason": ["r", "q"],
            "text": ["**", None],
        }
    )
    with store.writer("t", kind="llm") as w:
        w.rejects(rejects[:1])
        w.write("llm_requests", requests([0]))
        w.rejects(rejects[1:])
        trace = w.commit()
    assert trace.rejects().equals(rejects)
    assert stored(store, "u", requests([0])).rejects().shape == (0, 5)


# a part of a trace


def test_select(store: Store) -> None:
    trace = stored(store, "t", requests([0, 10, 20, 30, None]))
    assert trace.select(start_ns=10, end_ns=30).scan().collect()["row_id"].to_list() == [1, 2]
    assert trace.select("input_tokens >= 2").scan().collect()["row_id"].to_list() == [1, 2, 3, 4]
    part = trace.select("input_tokens >= 2", end_ns=25).select("input_tokens <> 2", start_ns=5)
    assert part.is_part
    assert not trace.is_part
    assert part.scan().collect()["row_id"].to_list() == [2]
    assert part.query("arrivals/extent").to_pylist() == [
        {"events": 1, "with_arrival": 1, "first_ns": 20, "last_ns": 20}
    ]
    lazy = trace.select("row_id < 4").scan()
    assert lazy.filter(pl.col("arrival_ns") > 0).select("row_id").head(2).collect()[
        "row_id"
    ].to_list() == [1, 2]
    for frame in (lazy, trace.select(end_ns=1000).scan(), trace.scan()):
        assert frame.head(3).filter(pl.col("row_id") >= 1).collect()["row_id"].to_list() == [1, 2]
        assert frame.filter(pl.col("row_id") >= 1).head(2).collect()["row_id"].to_list() == [1, 2]
        assert frame.filter(pl.col("row_id") == 3).select("status").collect().height == 1
        assert frame.tail(1).collect(engine="streaming").height == 1
    assert lazy.select(pl.len()).collect().item() == 4
    with pytest.raises(UsageError, match="empty"):
        trace.select(start_ns=5, end_ns=5)
    with pytest.raises(UnknownName, match="input_token"):
        trace.select("input_token > 1")
    with pytest.raises(UsageError):
        trace.select("model > 5 AND input_tokens = 'many'")


# names

ODD = [
    "../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "x" * 300,
    "🎉",
    "🎊",
    "…",
    "con:aux|nul?*",
    "ﬁne",
    "\u202ereversed",
    "-rf",
    "~",
    "a b\u00a0c",
    "current",
    "日本語の負荷",
]


def test_any_text_is_a_name(store: Store, tmp_path: Path) -> None:
    for i, name in enumerate(ODD):
        stored(store, name, requests([i]))
    assert sorted(store.names()) == sorted(n.strip() for n in ODD)
    for i, name in enumerate(ODD):
        assert store.trace(name).scan().collect()["arrival_ns"].to_list() == [i]
        assert name in store
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert {p.name for p in store.path.iterdir()} == {"lock", "staging", "traces"}
    assert all(
        set(p.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        for p in (store.path / "traces").iterdir()
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a\x00b",
        "a\nb",
        "\x7f",
        "a\ud800",
        "main",
        "LLM_requests",
        "events",
        "Information_Schema",
    ],
)
def test_what_is_no_name(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        store.writer(name, kind="llm")
    with pytest.raises(UnknownName):
        store.trace(name)
    assert not store.path.exists()


def test_names_ignore_case_and_composition(store: Store) -> None:
    stored(store, "Café Straße", requests([1]))
    for same in ("cafe\u0301 strasse", "CAFÉ STRASSE", " Café Straße "):
        assert store.trace(same).name == "Café Straße"
        with pytest.raises(UsageError, match="exists") as error:
            store.writer(same, kind="llm")
        assert "--replace" in str(error.value.hint)
    assert stored(store, "CAFÉ straße", requests([2]), replace=True).name == "CAFÉ straße"
    assert store.names() == ["CAFÉ straße"]


def test_unknown_names_are_helped(store: Store) -> None:
    stored(store, "azure-code", requests([1]))
    with pytest.raises(UnknownName) as error:
        store.trace("azure-cod")
    assert "azure-code" in str(error.value.hint)
    with pytest.raises(UnknownName):
        store.remove("azure-cod")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/y/azure code.csv.gz", "azure code"),
        ("a.b.jsonl", "a.b"),
        ("-", "stdin"),
        ("x/.csv", "trace"),
        ("events.csv", "events-2"),
        ("noext", "noext"),
    ],
)
def test_names_from_paths(path: str, name: str) -> None:
    assert names.from_path(path, set()) == name
    assert names.from_path(path, {names.folded(name.upper())}) not in ("", name)


# generations


def test_readers_keep_what_they_hold(store: Store) -> None:
    old = stored(store, "t", requests([1]))
    reading = old.batches()
    new = stored(store, "t", requests([2]), replace=True)
    assert old.path != new.path
    assert [b["arrival_ns"].to_pylist() for b in reading] == [[1]]
    lazy = new.scan()
    del new
    new = stored(store, "t", requests([3]), replace=True)
    assert lazy.collect()["arrival_ns"].to_list() == [2]
    del lazy
    gc.collect()
    assert old.query("arrivals/extent")["first_ns"].to_pylist() == [1]
    store.remove("t")
    assert old.scan().collect()["arrival_ns"].to_list() == [1]
    assert new.scan().collect()["arrival_ns"].to_list() == [3]
    assert "t" not in store
    part, path = new.select("row_id = 0"), new.path
    del old, new, reading
    assert store.sweep() == 1  # the part still holds the third generation
    assert part.rows() == 1
    del part
    assert store.sweep() == 1
    assert not path.exists()
    assert list((store.path / "traces").iterdir()) == []


def test_a_replaced_generation_goes_at_once_when_nobody_reads(store: Store) -> None:
    first = stored(store, "t", requests([1])).path
    stored(store, "t", requests([2]), replace=True)
    assert not first.exists()


def test_two_writers_of_one_name(store: Store) -> None:
    with store.writer("t", kind="llm") as a, store.writer("T", kind="llm") as b:
        a.write("llm_requests", requests([1]))
        b.write("llm_requests", requests([2]))
        assert store.sweep() == 0  # both live
        b.commit()
        with pytest.raises(StoreError, match="somebody else"):
            a.commit()
    assert store.trace("t").scan().collect()["arrival_ns"].to_list() == [2]
    with (
        store.writer("t", kind="llm", replace=True) as a,
        store.writer("t", kind="llm", replace=True) as b,
    ):
        a.write("llm_requests", requests([3]))
        b.write("llm_requests", requests([4]))
        b.commit()
        a.commit()
    assert store.trace("t").scan().collect()["arrival_ns"].to_list() == [3]
    assert list((store.path / "staging").iterdir()) == []


def test_a_write_sweeps_what_others_left(store: Store) -> None:
    stored(store, "t", requests([1]))
    (store.path / "staging" / "dead" / "generation" / "x").mkdir(parents=True)
    (store.path / "traces" / "gone-0" / "g7").mkdir(parents=True)
    orphan = store.trace("t").path.with_name("g9")
    orphan.mkdir()
    (orphan / "lease").touch()
    assert stored(store, "u", requests([1])).rows() == 1
    assert list((store.path / "staging").iterdir()) == []
    assert not orphan.exists()
    assert not (store.path / "traces" / "gone-0").exists()
    assert store.names() == ["t", "u"]


def _rewrite(root: str, worker: int, rounds: int) -> None:
    store = Store(root)
    for i in range(rounds):
        value = worker * 1000 + i
        stored(store, "t", requests([value] * 50), replace=True)


def test_writers_and_readers_in_several_processes(store: Store) -> None:
    """Readers see whole generations only, however fast they are replaced."""
    stored(store, "t", requests([0] * 50))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_rewrite, args=(str(store.path), w, 12)) for w in (1, 2)]
    for w in workers:
        w.start()
    seen, reads = set(), 0
    while any(w.is_alive() for w in workers):
        values = store.trace("t").scan().collect()["arrival_ns"].to_list()
        assert len(values) == 50
        assert len(set(values)) == 1
        seen.add(values[0])
        reads += 1
    for w in workers:
        w.join()
        assert w.exitcode == 0
    assert len(seen) > 2
    assert reads > 5
    store.sweep()
    assert len(list((store.path / "traces").glob("*/g*"))) == 1
    assert list((store.path / "staging").iterdir()) == []


# damage and bad disks


def _damaged(store: Store, part: str, text: str | None) -> str:
    stored(store, "good", requests([1]))
    path = stored(store, "bad", requests([1])).path
    slug = path.parent.name
    target = path / "trace.json" if part == "manifest" else path.parent / "current"
    if part == "generation":
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()
    elif text is None:
        target.unlink()
    else:
        target.write_text(text)
    return slug


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("manifest", None),
        ("manifest", ""),
        ("manifest", "{}"),
        ("manifest", "[1]"),
        ("manifest", '{"schema_version": "x"}'),
        ("manifest", '{"schema_version": 1, "kind": "llm"}'),
        ("pointer", ""),
        ("pointer", "../../../../etc"),
        ("pointer", "g999"),
        ("generation", None),
    ],
)
def test_a_damaged_trace_is_told_and_can_be_removed(
    store: Store, part: str, text: str | None
) -> None:
    slug = _damaged(store, part, text)
    with pytest.raises(StoreError) as error:
        store.trace("bad")
    assert error.value.hint
    assert store.names() == ["good"]
    assert [n.subject for n in store.damaged()] == [slug]
    assert store.sql("SELECT count(*) AS n FROM good").to_pylist() == [{"n": 1}]
    store.remove("bad")
    assert store.damaged() == []


def test_a_missing_part_is_a_store_error(store: Store) -> None:
    trace = stored(store, "t", requests([1]))
    file = trace.files("llm_requests")[0]
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(StoreError):
        trace.query("arrivals/extent")
    file.unlink()
    with pytest.raises(StoreError):
        list(trace.batches())


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_damaged_part_is_a_store_error(
    store: Store, engine: Literal["in-memory", "streaming"]
) -> None:
    trace = stored(store, "t", requests([1]))
    selected = trace.select("row_id = 0")
    file = trace.files("llm_requests")[0]
    file.write_bytes(file.read_bytes()[:50])
    for part in (trace, selected):
        with pytest.raises(StoreError) as error:
            part.scan().collect(engine=engine)
        assert error.value.hint
    file.unlink()
    with pytest.raises(StoreError):
        trace.scan().collect(engine=engine)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"x"])
def test_what_the_manifest_cannot_say(store: Store, value: object) -> None:
    with pytest.raises(ModelError):
        stored(store, "t", requests([1]), provenance={"x": value})
    assert store.names() == []


def test_a_newer_schema(store: Store) -> None:
    path = stored(store, "t", requests([1])).path / "trace.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({**manifest, "schema_version": SCHEMA_VERSION + 1, "tool_version": "9.9"})
    )
    with pytest.raises(StoreError, match=r"9\.9") as error:
        store.trace("t")
    assert "upgrade" in str(error.value.hint)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot"):
        stored(Store(tmp_path / "file" / "below"), "t", requests([1]))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "traces").write_text("x")
    store = Store(tmp_path / "s")
    assert store.traces() == []
    with pytest.raises(StoreError, match="cannot create"):
        stored(store, "t", requests([1]))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["encode", "sync", "pointer"])
def test_the_disk_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, where: str
) -> None:
    stored(store, "t", requests([1]))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "refused")

    from lamina_traces.store import generations

    with monkeypatch.context() as patch:
        if where == "encode":
            patch.setattr(writer.TableWriter, "_encode", refuse)
        elif where == "sync":
            patch.setattr(writer, "sync_tree", refuse)
        else:
            patch.setattr(generations, "replace_text", refuse)
        with pytest.raises(StoreError, match="refused") as error:
            stored(store, "t", requests([2]), replace=True)
        assert "LAMINA_STORE" in str(error.value.hint)
    assert store.trace("t").scan().collect()["arrival_ns"].to_list() == [1]
    store.sweep()
    assert len(list((store.path / "traces").glob("*/g*"))) == 1
    assert list((store.path / "staging").iterdir()) == []


# the manifest


def test_manifest_round_trip() -> None:
    m = Manifest(
        "n ü",
        "llm",
        "synthetic",
        "utc",
        origin_ns=2**62,
        tick_ns=7,
        tables={"llm_requests": TableInfo(3, ("row_id", "status"), 1, 99)},
        arrival_first_ns=0,
        arrival_last_ns=5 * 10**9,
        inputs=(Input("f.csv", "ab", 12), Input("stdin", None, 3)),
        counts={"lines": 1005, "kept": 1000, "rejected": 3, "blank": 1, "header": 1},
        format="azure",
        mapping=(("T", "arrival_ns", "UTC"),),
        dropped_fields=("prompt",),
        notices=(Notice("c", "t", "s"),),
        provenance={"seed": 1, "spec": {"a": [1]}},
        created="2024-01-01T00:00:00Z",
    )
    assert Manifest.from_json(m.to_json(), "x") == m
    assert m.summary_line() == "1,005 lines = 1,000 kept + 3 rejected + 1 blank + 1 header"
    assert m.span_s == 5.0
    assert m.rows == 3


def test_created_can_be_set(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert stored(store, "t", requests([1])).manifest.created == "1970-01-01T00:00:00Z"


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAMINA_STORE", raising=False)
    assert Store().path == tmp_path / "lamina-store"
    monkeypatch.setenv("LAMINA_STORE", str(tmp_path / "x"))
    assert Store().path == tmp_path / "x"
    assert Store("y").path == tmp_path / "y"
    assert Store().traces() == []
    assert Store().sweep() == 0
    assert not (tmp_path / "x").exists()


def test_threads_are_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", threads=1)
    trace = stored(store, "t", requests([1]))
    got: Sequence[dict[str, Any]] = trace.sql("SELECT current_setting('threads') AS n").to_pylist()
    assert [int(r["n"]) for r in got] == [1]


def test_span_is_that_of_the_main_table(store: Store) -> None:
    power = pl.DataFrame(
        {"row_id": [0, 1], "arrival_ns": [0, 900], "device": ["g", "g"], "domain": ["gpu"] * 2}
    )
    with store.writer("t", kind="llm", nature="simulated") as w:
        w.write("llm_requests", requests([30, 50]))
        w.write("power_samples", power)
        m = w.commit().manifest
    assert (m.arrival_first_ns, m.arrival_last_ns, m.span_ns) == (30, 50, 20)


@pytest.mark.parametrize(
    ("arrivals", "origin"),
    [
        ([-(2**62) - 1, 2**62], None),
        ([-(2**62) - 1, 2**62], 0),
        # a reader that takes the origin away in 64 bits wraps around: 1700, then 2190
        ([0, (6_942_672_000 + 8_520_336_000) * 10**9 - 2**64], -8_520_336_000 * 10**9),
    ],
)
def test_times_that_are_centuries_apart(
    store: Store, arrivals: list[int], origin: int | None
) -> None:
    for order in (arrivals, arrivals[::-1]):
        with pytest.raises(DataError, match="292 years") as error:
            stored(store, "t", *(requests([a]) for a in order), origin_ns=origin, clock="utc")
        assert "--time-unit" in str(error.value.hint)
    assert store.names() == []


def test_another_instant_that_is_centuries_away(store: Store) -> None:
    frame = requests([-10, 5]).with_columns(send_ns=pl.lit(2**63 - 5))
    with pytest.raises(DataError, match="292 years") as error:
        stored(store, "t", frame, origin_ns=0, clock="utc")
    assert error.value.hint


def test_damage_names_a_command_that_mends_it(store: Store) -> None:
    slug = _damaged(store, "manifest", "{")
    with pytest.raises(StoreError) as error:
        store.trace("bad")
    assert "lamina-traces rm bad --yes" in str(error.value.hint)
    assert "bad" in store
    assert store.has("bad")
    assert store.has(slug)
    assert not store.has("nobody")
    (store.path / "traces" / slug / "current").write_text("")
    assert "bad" in store
    with pytest.raises(StoreError) as error:
        store.trace("bad")
    assert f"lamina-traces rm {slug} --yes" in str(error.value.hint)
    store.remove(slug)
    assert not store.has("bad")


def test_a_damaged_part_names_its_trace(store: Store) -> None:
    trace = stored(store, "t", requests([1]))
    trace.files("llm_requests")[0].write_bytes(b"PAR1 not any more PAR1")
    for read in (
        lambda: store.sql("SELECT * FROM t"),
        lambda: trace.query("arrivals/extent"),
        lambda: list(trace.batches()),
    ):
        with pytest.raises(StoreError) as error:
            read()
        assert f"lamina-traces rm {trace.path.parent.name} --yes" in str(error.value.hint)


def test_a_bad_condition_is_shown_good_ones(store: Store) -> None:
    trace = stored(store, "t", requests([1]))
    with pytest.raises(UsageError) as error:
        trace.select("input_tokens >")
    assert "input_tokens > 1000" in str(error.value.hint)
    assert ".py" not in str(error.value.hint)

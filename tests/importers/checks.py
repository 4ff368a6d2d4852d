"""What each tool must have read, row by row, against the trace that was exported.

Every check returns what it compared, or raises AssertionError. What a trace should look like in a tool is
worked out here from the frame, not from the exported file.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl

Rows = list[dict[str, Any]]
Check = Callable[[pl.DataFrame, dict[str, Any]], str]
US, MS = 10**3, 10**6


def _since(frame: pl.DataFrame) -> list[int]:
    since: list[int] = (frame["arrival_ns"] - frame["arrival_ns"][0]).to_list()
    return since


def _times(rows: Rows, wanted: list[int], tolerance_ns: float) -> None:
    worst = max(abs(r["time_ms"] * MS - w) for r, w in zip(rows, wanted, strict=True))
    assert worst <= tolerance_ns, f"an arrival is {worst} ns off"


def _lengths(rows: Rows, frame: pl.DataFrame) -> None:
    assert [r["input"] for r in rows] == frame["input_tokens"].to_list()
    assert [r["output"] for r in rows] == frame["output_tokens"].to_list()


def in_order(tolerance_ns: float, rebased: bool = True) -> Check:
    """A tool that reads rows in file order: every arrival and both lengths."""

    def check(frame: pl.DataFrame, told: dict[str, Any]) -> str:
        wanted = _since(frame) if rebased else frame["arrival_ns"].to_list()
        _times(told["rows"], wanted, tolerance_ns)
        _lengths(told["rows"], frame)
        return f"arrivals to {tolerance_ns:g} ns, lengths"

    return check


def _same_blocks(lists: list[list[int] | None], frame: pl.DataFrame, size: int, exact: bool) -> int:
    """Blocks as in the trace, except that a partial last block which occurs elsewhere is private. With
    ``exact`` ids are the same, else they are renamed one to one. Returns how many were private."""
    given = frame["prefix_hashes"].to_list()
    uses = Counter(i for h in given for i in h)
    got_uses = Counter(i for h in lists for i in h or [])
    names: dict[int, int] = {}
    private = 0
    for got, want, n in zip(lists, given, frame["input_tokens"], strict=True):
        assert got is not None
        assert len(got) == len(want) == -(-n // size)
        for place, (g, w) in enumerate(zip(got, want, strict=True)):
            if place == len(want) - 1 and n % size and uses[w] > 1:
                assert got_uses[g] == 1, "a partial block is shared"
                private += 1
            elif exact:
                assert g == w
            else:
                assert names.setdefault(w, g) == g
    assert len(set(names.values())) == len(names)
    return private


def aiperf_mooncake(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    """Sessions in order of their turns: stamp of the first in ms, delays of the others, lengths, blocks."""
    since = [(s + MS // 2) // MS for s in _since(frame)]
    wanted: dict[Any, Rows] = {}
    for i, row in enumerate(frame.iter_rows(named=True)):
        session = row.get("session_id")
        wanted.setdefault(("alone", i) if session is None else session, []).append(
            row | {"at_ms": since[i]}
        )
    for rows in wanted.values():
        rows.sort(key=lambda r: r.get("turn") or 1)
    by: dict[str, Rows] = {}
    for r in told["rows"]:
        by.setdefault(r["session"], []).append(r)
    sessions = {k: v for k, v in wanted.items() if isinstance(k, str)}
    alone = [v[0] for k, v in wanted.items() if not isinstance(k, str)]
    single = [v[0] for k, v in by.items() if k not in sessions]
    assert len(alone) == len(single)
    pairs = list(zip(single, alone, strict=True))  # both in file order
    for name, rows in sessions.items():
        assert len(by[name]) == len(rows)
        pairs += zip(by[name], rows, strict=True)
    for got, want in pairs:
        assert (got["input"], got["output"]) == (want["input_tokens"], want["output_tokens"])
        delay = want.get("delay_after_parent_ns")
        if delay is None:
            assert (got["time_ms"], got["delay_ms"]) == (want["at_ms"], None)
        else:
            assert got["time_ms"] is None
            assert got["delay_ms"] == delay / MS
    assert told["synthesized"] == frame.height
    what = "arrivals to 1 ms, lengths; aiperf's Synthesizer takes all rows"
    if "prefix_hashes" in frame.columns:
        order = {want["row_id"]: got["hash_ids"] for got, want in pairs}
        private = _same_blocks([order[i] for i in frame["row_id"]], frame, 512, exact=True)
        what = f"arrivals to 1 ms, delays, turns, lengths, block ids ({private} private); aiperf's Synthesizer takes all rows"
    return what


def aiperf_bailian(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    by = {r["chat_id"]: r for r in told["rows"]}
    rows = [by[i] for i in frame["row_id"]]
    _times(rows, _since(frame), 1)
    _lengths(rows, frame)
    assert told["synthesized"] == frame.height
    what = "arrivals to 1 ns, lengths; aiperf's Synthesizer takes all rows"
    if "session_id" in frame.columns:
        assert [r["turn"] for r in rows] == frame["turn"].fill_null(1).to_list()
        assert [r["type"] for r in rows] == frame["service"].to_list()
        roots = {
            s: r["session"] for s, r in zip(frame["session_id"], rows, strict=True) if s is not None
        }
        assert all(
            roots.get(s, r["session"]) == r["session"]
            for s, r in zip(frame["session_id"], rows, strict=True)
        )
        assert len({r["session"] for r in rows}) == len(roots) + frame["session_id"].null_count()
        private = _same_blocks([r["hash_ids"] for r in rows], frame, 16, exact=True)
        what = f"arrivals to 1 ns, turns, sessions, lengths, types, block ids ({private} private); aiperf's Synthesizer takes all rows"
    return what


def weka(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    begun: dict[str, int] = {}
    for session, at in frame.select("session_id", "arrival_ns").iter_rows():
        if session is not None:
            begun[session] = min(at, begun.get(session, at))
    by = {(r["session"], r["turn"]): r for r in told["rows"]}
    single = [r for r in told["rows"] if r["session"] not in begun]
    assert len(told["rows"]) == frame.height
    alone = iter(single)
    lists = []
    for row in frame.iter_rows(named=True):
        session = row["session_id"]
        got = next(alone) if session is None else by[session, row["turn"]]
        since = 0 if session is None else row["arrival_ns"] - begun[session]
        assert abs(got["time_ms"] * MS - since) <= 1
        assert (got["input"], got["output"]) == (row["input_tokens"], row["output_tokens"])
        assert got["model"] == row["model"]
        lists.append(got["hash_ids"])
        if row["delay_after_parent_ns"] is not None:
            assert abs(got["think_s"] * 1e9 - row["delay_after_parent_ns"]) <= 1
    private = _same_blocks(lists, frame, 512, exact=True)
    return f"times inside each conversation to 1 ns, turns, think times, lengths, models, block ids ({private} private)"


def guidellm_weka(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    talks: dict[Any, Rows] = {}
    for i, row in enumerate(frame.iter_rows(named=True)):
        talks.setdefault(
            ("alone", i) if row["session_id"] is None else row["session_id"], []
        ).append(row)
    got = iter(told["rows"])
    for number, rows in enumerate(talks.values()):
        rows.sort(key=lambda r: r["turn"] or 1)
        for turn, row in enumerate(rows):
            r = next(got)
            assert (r["session"], r["turn"]) == (number, turn + 1)
            assert (r["input"], r["output"]) == (row["input_tokens"], row["output_tokens"])
            assert abs(r["time_ms"] * MS - (row["arrival_ns"] - rows[0]["arrival_ns"])) <= 1
    assert next(got, None) is None
    return "times inside each conversation to 1 ns, turns, lengths"


def guidellm(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    _times(told["rows"], _since(frame), 1)
    _lengths(told["rows"], frame)
    assert [r["prompt_tokens"] for r in told["rows"]] == frame["input_tokens"].to_list()
    what = "arrivals to 1 ns, lengths, tokens of the prompts it makes"
    if "e2e_s" in frame.columns and any(r["duration"] is not None for r in told["rows"]):
        assert [r["duration"] for r in told["rows"]] == frame["e2e_s"].to_list()
        what += ", durations"
    return what


def rate_series(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    points = told["points"]
    steps = itertools.pairwise(points)
    total = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in steps)
    assert abs(total - frame.height) <= 0.01 * frame.height
    return f"expected arrivals over the series: {total:.1f}"


def vllm(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    _times(told["rows"], _since(frame), 1)
    _lengths(told["rows"], frame)
    if "prefix_hashes" not in frame.columns:
        prompts = {r["prompt"][:1024] for r in told["rows"] if r["input"] >= 64}
        assert len(prompts) == sum(r["input"] >= 64 for r in told["rows"])
        return (
            "arrivals to 1 ns, lengths, tokens of the prompts it makes; no two prompts begin alike"
        )
    blocks: dict[int, str] = {}
    uses = Counter(i for h in frame["prefix_hashes"].to_list() for i in h)
    for row, (hashes, n) in zip(
        told["rows"], frame.select("prefix_hashes", "input_tokens").iter_rows(), strict=True
    ):
        texts = [row["prompt"][i : i + 1024] for i in range(0, 2 * n, 1024)]
        for place, (h, text) in enumerate(zip(hashes, texts, strict=True)):
            if place < len(hashes) - 1 or n % 512 == 0:
                assert blocks.setdefault(h, text) == text
            elif uses[h] > 1:
                assert sum(t["prompt"].endswith(text) for t in told["rows"]) == 1 or len(text) < 32
    assert len(set(blocks.values())) == len(blocks)
    return "arrivals to 1 ns, lengths, and that the prompts it makes share exactly the whole blocks of the trace"


def vllm_burstgpt(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    got = Counter((r["input"], r["output"]) for r in told["rows"])
    assert got == Counter(frame.select("input_tokens", "output_tokens").iter_rows())
    return "lengths as a multiset (it draws rows at random and uses no arrivals)"


def sglang(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    _times(told["rows"], [(s + MS // 2) // MS * MS for s in _since(frame)], 1)
    assert [r["output"] for r in told["rows"]] == frame["output_tokens"].to_list()
    worst = 0.0
    ids = []
    for row, n in zip(told["rows"], frame["input_tokens"], strict=True):
        mine = [int(i) for i in re.findall(r"(\d+)hi", row["prompt"])]
        assert len(mine) == max(1, (n + 64) // 128)
        worst = max(worst, abs(128 * len(mine) - n))
        ids.append(mine)
    assert worst <= 127
    if "prefix_hashes" in frame.columns:
        names: dict[tuple[int, int], int] = {}
        for mine, (hashes, n) in zip(
            ids, frame.select("prefix_hashes", "input_tokens").iter_rows(), strict=True
        ):
            for place, i in enumerate(mine):
                block, part = divmod(place, 4)
                if (block + 1) * 512 <= n:
                    assert names.setdefault((hashes[block], part), i) == i
        assert len(set(names.values())) == len(names)
        return f"arrivals to 1 ms, output lengths, shared blocks; prompts of 128-word blocks, at most {worst:g} words from input_tokens"
    return f"arrivals to 1 ms, output lengths; prompts of 128-word blocks, at most {worst:g} words from input_tokens"


def vidur(frame: pl.DataFrame, told: dict[str, Any]) -> str:
    _times(told["rows"], _since(frame), 1)
    _lengths(told["rows"], frame)
    assert told["lengths"] == [list(r) for r in frame.select("input_tokens", "output_tokens").iter_rows()]  # fmt: skip
    return "arrivals to 1 ns, lengths; also in its generator of lengths"

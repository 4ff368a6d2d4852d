"""Formats that tell conversations: Bailian's chains, Weka's one file a conversation, LLMServingSim's sessions.

Read in aiperf 0.13.0 dataset/loader/models.py (BailianTrace), bailian_trace.py and weka_trace_models.py, and
LLMServingSim serving/core/router.py (a session's later calls are sent when the one before has ended and its
``tool_duration_ns`` has passed).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from ..exporting import REQUEST, Intake, Target, Writing
from ..turns import NO_TURN_BEFORE, Placed, Turns
from .blocks import BlockRule, put_with_ids, with_blocks
from .spool import Spool
from .text import (
    column,
    filled,
    json_text,
    numbers,
    seconds,
    since_first,
    with_lengths,
)

Row = dict[str, Any]
_SENT_AT_ONCE = "delay_after_parent_ns (not recorded: sent at once)"


# --- Bailian: a row a request, chained by parent ---------------------------------------------------


def _bailian(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    frames = (
        frame
        if "row_id" in frame.columns
        else frame.with_columns(numbers(frame.height, state).alias("row_id"))
        for frame in with_blocks(rows, BlockRule("drop", block_tokens=16), state)
    )
    turns = Turns()
    with place.open("wb") as out:
        written = sum(_put_bailian(placed, out, state) for placed in turns.placed(frames))
    if turns.late:
        state.note("turns that arrive before the turn they follow stand at the end of the file")
    return written


def _put_bailian(placed: Placed, out: BinaryIO, state: Writing) -> int:
    frame = placed.frame
    state.skipped.update(placed.skipped)
    turn = column(frame, "turn", pl.Int32).fill_null(placed.turn).fill_null(1)
    fields = {
        "chat_id": frame["row_id"],
        "parent_chat_id": placed.parent.fill_null(-1),
        "timestamp": seconds(since_first(frame, state, "s"), point=True),
        "input_length": frame["input_tokens"],
        "output_length": frame["output_tokens"],
        "type": json_text(filled(frame, "service", "text", state)),
        "turn": turn,
    }
    lists = column(frame, "prefix_hashes", pl.List(pl.UInt64)).fill_null([])
    return put_with_ids(fields, lists, out)


# --- conversations whole ---------------------------------------------------------------------------


def _conversations(rows: Iterator[pl.DataFrame], state: Writing) -> Iterator[list[Row]]:
    """Each conversation's rows in the order of its turns, conversations in order of their beginning.

    Rows of one session, or of one workflow where no session is told, are a conversation; others stand
    alone. The rows lie on disk meanwhile.
    """
    spool = Spool(state, "conversations")
    columns: set[str] = set()
    for frame in rows:
        kept = with_lengths(frame, state)
        spool.add(kept.with_columns(numbers(kept.height, state).alias("place")))
        columns |= set(kept.columns)
    if not spool.files:
        return
    told = [f"'{c} ' || {c}" for c in ("session_id", "workflow_id") if c in columns]
    key = f"coalesce({', '.join(told)}, 'row ' || place)" if told else "'row ' || place"
    turn = "turn" if "turn" in columns else "NULL::INTEGER"
    ordered = f"""
        SELECT *, {key} AS conversation, min(place) OVER (PARTITION BY {key}) AS begins FROM spool
        ORDER BY begins, {turn} NULLS LAST, arrival_ns NULLS LAST, place"""
    flat = (row for frame in spool.query(ordered) for row in frame.iter_rows(named=True))
    for _, group in itertools.groupby(flat, key=lambda r: r["conversation"]):
        yield list(group)


def _count_links(row: Row, follows: list[Any], state: Writing) -> None:
    """A call whose parents are others than those that the file tells by its order."""
    parents = row.get("depends_on")
    if parents and sorted(parents) != sorted(f for f in follows if f is not None):
        state.losses["depends_on (not what its place in the file says)"] += 1


def _wait_ns(before: Row, row: Row, state: Writing) -> int:
    """From the end of one call to the next: as recorded, or from arrivals and the duration."""
    delay: int | None = row.get("delay_after_parent_ns")
    if delay is None and None not in (row["arrival_ns"], before["arrival_ns"], before.get("e2e_s")):
        delay = row["arrival_ns"] - before["arrival_ns"] - round(before["e2e_s"] * 1e9)
    elif row["arrival_ns"] is not None:
        state.losses["arrival_ns (of later turns, which carry their delay instead)"] += 1
    if delay is None:
        state.losses[_SENT_AT_ONCE] += 1
        return 0
    if delay < 0:
        state.losses["delay_after_parent_ns (negative, written as 0)"] += 1
    return max(0, delay)


def _agentic(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    written = 0
    with place.open("w", encoding="utf-8") as out:
        for calls in _conversations(rows, state):
            begins = calls[0]["arrival_ns"]
            if begins is None:
                state.skipped[NO_TURN_BEFORE] += len(calls)
                continue
            subs: list[dict[str, int]] = []
            for i, row in enumerate(calls):
                _count_links(row, [calls[i - 1].get("row_id")] if i else [], state)
                if i:
                    subs[-1]["tool_duration_ns"] = _wait_ns(calls[i - 1], row, state)
                subs.append(
                    {"input_toks": row["input_tokens"], "output_toks": row["output_tokens"]}
                )
            name = calls[0].get("session_id") or calls[0].get("workflow_id")
            line = {
                **({} if name is None else {"session_id": name}),
                "arrival_time_ns": begins - (state.first_ns or 0),
                "sub_requests": subs,
            }
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += len(calls)
    if state.first_ns:
        state.note("times are rebased: the first request is at 0 ns")
    return written


def _weka(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    """One file a conversation; block ids hold inside their conversation only."""
    written = 0
    blocks = with_blocks(rows, BlockRule("drop"), state)
    for number, calls in enumerate(_conversations(blocks, state)):
        if calls[0]["arrival_ns"] is None:
            state.skipped[NO_TURN_BEFORE] += len(calls)
            continue
        document = {
            "id": calls[0].get("session_id") or f"conversation-{number}",
            "models": _models(calls),
            "block_size": state.options.get("block_tokens", 64),
            "hash_id_scope": "local",
            "requests": _weka_entries(calls, state),
        }
        text = json.dumps(document, ensure_ascii=False) + "\n"
        (place / f"{number:08}.json").write_text(text, "utf-8")
        state.losses["arrival_ns (when each conversation begins)"] += 1
        written += len(calls)
    state.note("guidellm wants one conversation a line: cat FOLDER/*.json > FILE.jsonl")
    state.note("each conversation begins at 0 s: when conversations begin is not carried")
    state.note("block ids count inside a conversation only: sharing between conversations is not carried")  # fmt: skip
    return written


def _models(calls: list[Row]) -> list[str]:
    return sorted({c.get("model") or "unknown" for c in calls})


def _weka_entries(calls: list[Row], state: Writing) -> list[Row]:
    """Calls in order; those of a stage beside calls without one are subagents: a chain from where it parts
    from the main line. The main line's next call waits for the chains that it depends on."""
    mixed = any(c.get("stage") is None for c in calls)
    entries: list[Row] = []
    chains: dict[Any, Row] = {}  # by the row_id of the chain's last call
    main: Any = None
    ended: list[Any] = []
    at = 0
    for i, row in enumerate(calls):
        call, at = _weka_call(calls, i, at, state)
        if row.get("stage") is None or not mixed:
            state.losses["stage (of calls beside no main line)"] += row.get("stage") is not None
            awaited = [e for e in ended if e in (row.get("depends_on") or ())]
            _count_links(row, [main, *awaited], state)
            for last in awaited:
                chains[last]["status"] = "completed"
            main, ended = row.get("row_id"), []
            entries.append(call)
            continue
        before = next((p for p in row.get("depends_on") or () if p in chains), None)
        if before is None:
            _count_links(row, [main], state)
            chain = _subagent(len(chains), row, call)
            entries.append(chain)
        else:
            _count_links(row, [before], state)
            chain = chains.pop(before)
            chain["requests"].append(call)
            chain["models"] = sorted({*chain["models"], call["model"]})
            ended = [e for e in ended if e != before]
        chains[row.get("row_id")] = chain
        ended.append(row.get("row_id"))
    return entries


def _subagent(number: int, row: Row, call: Row) -> Row:
    return {
        "t": call["t"],
        "type": "subagent",
        "agent_id": f"agent_{number + 1:03}",
        "subagent_type": row["stage"],
        "status": "async_launched",
        "requests": [call],
        "models": [call["model"]],
    }


def _weka_call(calls: list[Row], i: int, before: int, state: Writing) -> tuple[Row, int]:
    """A call, and when it is sent (ns from the conversation's beginning)."""
    row = calls[i]
    wait = row.get("delay_after_parent_ns")
    if row["arrival_ns"] is not None:
        at = row["arrival_ns"] - calls[0]["arrival_ns"]
    else:
        at = before + round((calls[i - 1].get("e2e_s") or 0) * 1e9) + max(0, wait or 0)
        state.losses["arrival_ns (not recorded: after the turn before and its delay)"] += 1
    streams, ttft = row.get("streaming"), row.get("ttft_s")
    if streams is None:
        streams = ttft is not None
        state.losses["streaming (not recorded: taken from whether there is a first token)"] += 1
    if row.get("model") is None:
        state.note("requests without a model say 'unknown'")
    state.losses["ttft_s (of requests that do not stream)"] += ttft is not None and not streams
    state.losses["delay_after_parent_ns (of the first call)"] += i == 0 and wait is not None
    state.losses["delay_after_parent_ns (negative, written as 0)"] += bool(i and (wait or 0) < 0)
    told = {
        "hash_ids": row.get("prefix_hashes") or None,
        "stop": row.get("finish_reason"),
        "api_time": row.get("e2e_s"),
        "think_time": max(0, wait) / 1e9 if i and wait is not None else None,
        "ttft": ttft if streams else None,
    }
    call: Row = {
        "t": at / 1e9,
        "type": "s" if streams else "n",
        "model": row.get("model") or "unknown",
        "in": row["input_tokens"],
        "out": row["output_tokens"],
    }
    return call | {k: v for k, v in told.items() if v is not None}, at


TARGETS = (
    Target(
        name="bailian",
        title="Bailian JSON lines, seconds, chained by parent_chat_id, 16-token blocks",
        tools="aiperf",
        suffix=".jsonl",
        intakes=(Intake("llm_requests", REQUEST, (*REQUEST, "service", "turn", "prefix_hashes")),),
        resolution_ns=1,
        command=lambda path, _state: (
            f"aiperf profile -m MODEL --url URL --endpoint-type completions --input-file {path} "
            "--custom-dataset-type bailian_trace --fixed-schedule --fixed-schedule-auto-offset"
        ),
        write=_bailian,
        source="aiperf 0.13.0, dataset/loader/bailian_trace.py",
    ),
    Target(
        name="llmservingsim-agentic",
        title="LLMServingSim JSON lines, one session a line, calls one after the other",
        tools="LLMServingSim",
        suffix=".jsonl",
        intakes=(
            Intake(
                "llm_requests",
                REQUEST,
                (
                    "input_tokens",
                    "output_tokens",
                    "session_id",
                    "turn",
                    "delay_after_parent_ns",
                    "depends_on",
                ),
            ),
        ),
        resolution_ns=1,
        command=lambda path, _state: f"python -m serving --dataset {path}",
        write=_agentic,
        source="LLMServingSim 5daddb2, serving/core/router.py",
        unstamped=True,
    ),
    Target(
        name="weka",
        title="Weka agent traces: a folder with one JSON file a conversation",
        tools="aiperf, guidellm",
        suffix="",
        intakes=(
            Intake(
                "llm_requests",
                REQUEST,
                (
                    "input_tokens",
                    "output_tokens",
                    "session_id",
                    "turn",
                    "stage",
                    "model",
                    "streaming",
                    "prefix_hashes",
                    "finish_reason",
                    "e2e_s",
                    "ttft_s",
                    "delay_after_parent_ns",
                    "depends_on",
                ),
            ),
        ),
        resolution_ns=1,
        command=lambda path, _state: (
            f"aiperf profile -m MODEL --url URL --endpoint-type chat --input-file {path} "
            "--custom-dataset-type weka_trace"
        ),
        write=_weka,
        source="aiperf 0.13.0, dataset/loader/weka_trace_models.py",
        unstamped=True,
    ),
)

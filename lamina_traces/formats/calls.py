"""OpenTelemetry spans into requests: one row for each LLM call, whatever number of spans recorded it.

A span is a request when it names a model, token counts or latencies and is no agent or tool span. A
request inside another one is the same request, seen by the client, by a gateway and by the engine: the
engine's span (it has ``gen_ai.latency.*``) gives arrival, latencies and tokens, the outermost one the
status and ``send_ns``. A span that holds several successful requests is a step of a workflow and not one.
A request whose caller ended before it began depends on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from .durations import as_ns, per_token, seconds_between
from .format import ROW_EXTRA, Context
from .redaction import looks_private
from .spans import COUNTS, SECONDS
from .summary import many

_NO_REQUEST = ("invoke_agent", "create_agent", "execute_tool", "invoke_workflow")
_DEEPEST = 64
"""how many callers stand above one another at most"""


def held(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Keep a block of spans to the end, since the spans of a request may be anywhere."""
    if frame.height:
        context.state.setdefault("spans", []).append(frame)
    return _requests(frame.clear(), context, 0)


def merged(context: Context) -> pl.DataFrame:
    """The requests of all spans, by arrival."""
    blocks = context.state.pop("spans", [])
    if not blocks:
        return pl.DataFrame()
    return _requests(pl.concat(blocks), context, context.state.get("rows", 0))


def _parents(spans: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Where the parent of each span is, -1 without one."""
    where = spans.select("trace", pl.col("span").alias("parent")).with_row_index("at")
    found = spans.select("trace", "parent").join(
        where, on=["trace", "parent"], how="left", maintain_order="left"
    )
    return found["at"].cast(pl.Int64).fill_null(-1).to_numpy()


def _nearest(
    parents: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The nearest ancestor of each span that is wanted, -1 without one."""
    at = parents.copy()
    for _ in range(_DEEPEST):
        move = at >= 0
        move[move] = ~wanted[at[move]]
        if not move.any():
            return at
        at[move] = parents[at[move]]
    at[move] = -1  # a circle
    return at


def _calls(
    spans: pl.DataFrame, parents: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which spans are requests, and the nearest request around each.

    A request that holds several successful ones is a step of a workflow and no request itself, unless
    all of them are engine spans and it counted its own output (retries, prefill and decode apart).
    """
    told = pl.any_horizontal(
        pl.col(c).is_not_null() for c in ("model", "response_model", "input", "output", *SECONDS)
    )
    agent = pl.col("op").is_in(_NO_REQUEST).fill_null(False)
    calls = spans.select((told & ~agent).alias("x"))["x"].to_numpy().copy()
    good = ~_failed(spans)
    engine = _engine(spans)
    counted = spans["output"].is_not_null().to_numpy()
    for _ in range(_DEEPEST):
        above = _nearest(parents, calls)
        inner = calls & good & (above >= 0)
        within = np.bincount(above[inner], minlength=len(calls))
        by_engine = np.bincount(above[inner & engine], minlength=len(calls))
        several = calls & (within > 1) & ~((by_engine == within) & counted & ~engine)
        if not several.any():
            break
        calls &= ~several
    return calls, above


def _engine(spans: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which spans are an engine's: it reports latencies."""
    told = pl.any_horizontal(pl.col(c).is_not_null() for c in SECONDS)
    return spans.select(told.alias("x"))["x"].to_numpy()


def _failed(spans: pl.DataFrame) -> npt.NDArray[np.bool_]:
    bad = spans["code"].str.to_uppercase().is_in(["2", "STATUS_CODE_ERROR", "ERROR"])
    return (bad | spans["error"].is_not_null()).fill_null(False).to_numpy()


def _requests(spans: pl.DataFrame, context: Context, first_row: int) -> pl.DataFrame:
    whole = spans.height
    spans = spans.unique(["trace", "span"], keep="first", maintain_order=True)
    parents = _parents(spans)
    calls, above = _calls(spans, parents)
    start, end = (spans[c].to_numpy() for c in ("start", "end"))
    engine = _engine(spans)
    inside = calls & (above >= 0)
    # an engine serves the request around it whatever the clocks say
    inside[inside] = (start[inside] < end[above[inside]]) | (
        engine[inside] & ~engine[above[inside]]
    )
    outer = np.arange(len(calls))
    for _ in range(_DEEPEST):
        move = inside[outer]
        if not move.any():
            break
        outer[move] = above[outer[move]]
    after = np.where(calls & (above >= 0), above, -1)
    table = spans.with_columns(
        pl.Series("at", np.arange(len(calls))),
        pl.Series("outer", outer),
        pl.Series("failed", _failed(spans)),
        pl.Series("above", after[outer] if len(outer) else after),
        pl.Series("engine", engine),
        pl.Series("agents", _agents(spans, parents), dtype=pl.String),
    ).filter(pl.Series(calls))
    out = _merge(table)
    out = out.sort("arrival_ns", "at", maintain_order=True)
    rows = pl.int_range(first_row, first_row + out.height, dtype=pl.Int64, eager=True)
    rows_of = dict(zip(out["at"].to_list(), rows.to_list(), strict=True))
    ids = dict(zip(out["at"].to_list(), out["request_id"].to_list(), strict=True))
    before = [int(outer[a]) if a >= 0 else -1 for a in out["above"].to_list()]
    links = [[rows_of[b]] if b in rows_of else None for b in before]
    several = pl.len().over("trace") > 1
    if whole:
        _say(spans, out, parents, whole, context)
    return out.with_columns(
        pl.Series("depends_on", links, dtype=pl.List(pl.Int64)),
        pl.Series("parent_request_id", [ids.get(b) for b in before], dtype=pl.String),
        pl.when(several).then("trace").alias("workflow_id"),
    ).drop("at", "above", "trace", "attempts", "members")


def _agents(spans: pl.DataFrame, parents: npt.NDArray[np.int64]) -> list[str | None]:
    """The agent that each span works for: its own, else that of the nearest span around it."""
    own = spans["agent"]
    near = _nearest(parents, own.is_not_null().to_numpy())
    names = own.to_list()
    return [n if n is not None else (names[a] if a >= 0 else None) for n, a in zip(names, near.tolist(), strict=True)]  # fmt: skip


def _lasted(start: str, end: str) -> pl.Expr:
    """The duration of a span; null where it ends before it starts."""
    return pl.when(pl.col(end) >= pl.col(start)).then(seconds_between(start, end))


def _merge(table: pl.DataFrame) -> pl.DataFrame:
    """One row for each outermost request, with what the best span inside of it says."""
    is_outer = pl.col("at") == pl.col("outer")
    rank = pl.when("engine").then(pl.lit(0)).when(is_outer).then(pl.lit(1)).otherwise(pl.lit(2))
    ordered = table.with_columns(
        (rank + 4 * (pl.col("failed") & ~is_outer).cast(pl.Int32)).alias("rank")
    ).sort("outer", "rank", pl.col("end") * -1, maintain_order=True)

    def best(name: str) -> pl.Expr:
        return pl.col(name).drop_nulls().first().alias(name)

    one = ordered.group_by("outer", maintain_order=True).agg(
        *(best(c) for c in (*COUNTS, *SECONDS, "model", "response_model", "request", "session", "user", "finish", "agents", "sampled")),
        pl.col("start", "end", "engine").first(),
        *(pl.col(c).filter(is_outer).first().alias(f"outer_{c}") for c in ("start", "end", "failed", "error", "program", "span", "trace", "above")),
        pl.col(ROW_EXTRA).drop_nulls().str.join(",").alias("said"),
        (pl.col("engine") & ~is_outer).sum().alias("attempts"),
        pl.len().alias("spans"),
    )  # fmt: skip
    lasted = _lasted("start", "end")
    merged = pl.col("engine") & (pl.col("spans") > 1)
    kind = pl.col("outer_error").str.to_lowercase()
    status = (
        pl.when(pl.col("outer_failed") & kind.str.contains("timeout|deadline"))
        .then(pl.lit("timeout"))
        .when(pl.col("outer_failed") & kind.str.contains("cancel"))
        .then(pl.lit("cancelled"))
        .when("outer_failed")
        .then(pl.lit("error"))
        .when(pl.col("finish") == "abort")
        .then(pl.lit("cancelled"))
        .otherwise(pl.lit("ok"))
    )
    empty = pl.col("outer_failed") & (pl.col("input") == 0) & (pl.col("output") == 0)
    counted = ~empty.fill_null(False)
    lasted = pl.when(~(pl.col("outer_failed") & (pl.col("end") == pl.col("start")))).then(lasted)
    one = one.with_columns(e2e=pl.coalesce("e2e", lasted)).with_columns(
        first=pl.col("start") + as_ns(pl.col("ttft")),
        last=pl.when(pl.col("engine")).then(pl.col("start") + as_ns(pl.col("e2e"))).otherwise("end"),
    )  # fmt: skip
    return one.select(
        pl.col("outer").alias("at"),
        pl.col("outer_above").alias("above"),
        pl.col("outer_trace").alias("trace"),
        "attempts",
        pl.col("spans").alias("members"),
        pl.coalesce("request", "outer_span").alias("request_id"),
        pl.col("start").alias("arrival_ns"),
        pl.coalesce("model", "response_model").alias("model"),
        pl.coalesce("model", "response_model").alias("model_raw"),
        pl.col("user").alias("user_id"),
        pl.col("outer_program").alias("client_id"),
        pl.col("session").alias("session_id"),
        pl.col("agents").alias("stage"),
        pl.when(counted).then("input").alias("input_tokens"),
        pl.when(counted).then("output").alias("output_tokens"),
        pl.col("cached").alias("cached_input_tokens"),
        pl.col("limit").alias("max_output_tokens"),
        status.alias("status"),
        pl.col("outer_error").alias("error_code"),
        pl.col("finish").alias("finish_reason"),
        pl.when(merged).then("outer_start").alias("send_ns"),
        pl.col("first").alias("first_token_ns"),
        pl.col("last").alias("last_token_ns"),
        pl.col("queue").alias("queue_s"),
        pl.col("ttft").alias("ttft_s"),
        per_token(pl.col("e2e") - pl.col("ttft"), "output").alias("tpot_s"),
        pl.col("e2e").alias("e2e_s"),
        _extra(
            pl.when(pl.col("spans") > 1).then("spans").alias("spans"),
            pl.when(merged).then(_lasted("outer_start", "outer_end")).alias("client_e2e_s"),
            pl.col("sequences"),
            pl.col("sampled").cast(pl.Float64, strict=False).alias("sampling_probability"),
        ).alias("extra"),
    )  # fmt: skip


def _extra(*facts: pl.Expr) -> pl.Expr:
    """Facts that are no nulls as a JSON object, with what was kept of the spans' own text as a list."""
    text = pl.struct(*facts).struct.json_encode().str.replace_all(r'"\w+":null,?', "")
    known = text.str.strip_chars("{,}")
    said = pl.when(pl.col("said") != "").then(pl.format('"recorded":[{}]', "said"))
    inside = pl.concat_str(pl.when(known != "").then(known), said, separator=",", ignore_nulls=True)
    return pl.when(inside != "").then(pl.concat_str(pl.lit("{"), inside, pl.lit("}")))


def _say(
    spans: pl.DataFrame,
    out: pl.DataFrame,
    parents: npt.NDArray[np.int64],
    whole: int,
    context: Context,
) -> None:
    if repeated := whole - spans.height:
        context.note("repeated-spans", f"{many(repeated, 'span was', 'spans were')} exported again under a known id and left out")  # fmt: skip
    others = spans.height - int(out["members"].sum())
    if others:
        context.note("other-spans", f"{many(others, 'span records', 'spans record')} no LLM request of its own (agents, tools, transport)")  # fmt: skip
    if again := int((out["attempts"] > 1).sum()):
        context.note("several-attempts", f"{many(again, 'request has', 'requests have')} several engine spans (retries, or prefill and decode apart): the last successful one was taken", "ttft_s")  # fmt: skip
    context.tally["negative durations"] += int((spans["end"] < spans["start"]).sum())
    child = np.flatnonzero(parents >= 0)
    served = spans["kind"].str.to_uppercase().is_in(["2", "SPAN_KIND_SERVER", "SERVER"])
    # what begins after its parent has ended was not called by it, unless it is a server's answer
    called = (spans["start"].gather(child) < spans["end"].gather(parents[child])) | served.gather(
        child
    )
    child = child[(called.fill_null(False) | pl.Series(_engine(spans)).gather(child)).to_numpy()]
    inner, around = spans[child], spans[parents[child]]
    _note_skew(
        pl.DataFrame(
            {
                "parent_host": around["host"], "child_host": inner["host"],
                "parent_start": around["start"], "parent_end": around["end"],
                "child_start": inner["start"], "child_end": inner["end"],
            }
        ),
        context,
    )  # fmt: skip
    share = spans["sampled"].drop_nulls().unique().sort()
    if len(share) == 1:
        # the reading's, for rates that are corrected by it
        context.state["sampled"] = float(share[0])
    if len(share):
        shown = ", ".join(share.head(3).to_list()) + (", …" if len(share) > 3 else "")
        context.note("sampled", f"spans were sampled with probability {shown} (tracestate): rates are that much lower than the service's", "arrival_ns")  # fmt: skip


def _note_skew(calls: pl.DataFrame, context: Context) -> None:
    """Say which pairs of hosts have stamps that contradict each other.

    A call lies inside the call that made it. Where the two were stamped by different hosts, child - parent
    must be between (end of child - end of parent) and (start of child - start of parent); stamps outside of
    that are evidence of skew, which is estimated and reported.

    ``calls`` has a row for each call across hosts: ``parent_host``, ``child_host``, ``parent_start``,
    ``parent_end``, ``child_start``, ``child_end`` (ns).
    """
    after = pl.col("child_start") - pl.col("parent_start")
    before = pl.col("child_end") - pl.col("parent_end")
    pairs = (
        calls.filter((pl.col("parent_host") != pl.col("child_host")).fill_null(False))
        .group_by("parent_host", "child_host", maintain_order=True)
        .agg(
            pl.len().alias("calls"),
            ((after < 0) | (before > 0)).sum().alias("broken"),
            before.max().alias("least"),
            after.min().alias("most"),
            ((after + before) / 2).median().alias("middle"),
        )
        .filter(pl.col("broken") > 0)
    )
    for row in pairs.iter_rows(named=True):
        context.note("clock-skew", _skew(row), "arrival_ns")


def _skew(row: dict[str, object]) -> str:
    least, most, middle = (float(row[k]) / 1e6 for k in ("least", "most", "middle"))  # type: ignore[arg-type]
    if least <= most:
        size = f"between {least:.3f} and {most:.3f} ms"
    else:
        size = f"about {middle:.3f} ms, and not constant"
    child, parent = _host(row["child_host"]), _host(row["parent_host"])
    return f"the clock of {child} less that of {parent}: {size} ({row['broken']:,} of {row['calls']:,} calls do not lie inside their caller); no stamp was changed"


def _host(name: object) -> str:
    return "a host" if looks_private(str(name)) else str(name)

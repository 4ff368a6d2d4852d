"""Runs: a trace → Requests → lowered spec → serving clock → Run. The only module that knows both wings.

A run is a trace of nature ``simulated``: its requests with their timings, the engine's state on a grid and
its power, and in the manifest the spec, the metrics and what bound. So runs are listed, queried, exported,
compared and reported as traces are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from . import specs, techniques
from .aspects.failure_retries import WITHIN_S
from .errors import ModelError, Notice, UnknownName, UsageError
from .schema import FAILED, TABLES, Requests
from .simulator import ERROR_CODE, Result, Slo, Verdict, by_group, parse_slo
from .simulator import simulate as serve
from .specs import Serving
from .units import NS_PER_S, format_count, format_number, format_seconds

if TYPE_CHECKING:
    from .store import Store, Trace

__all__ = [
    "Run",
    "Slo",
    "deployment",
    "deployment_of_engine",
    "is_run",
    "parse_slo",
    "requests_of",
    "simulate",
]

Replay = Literal["session", "open"]
Failures = Literal["served", "recorded"]
Ints = npt.NDArray[np.int64]

MAIN_METRICS = {
    "requests_completed": "requests completed",
    "requests_failed": "requests failed, as recorded",
    "requests_rejected": "requests rejected",
    "requests_unfinished": "requests unfinished",
    "preemptions": "preemptions",
    "requests_per_s": "requests per second",
    "output_tokens_per_s": "output tokens per second",
    "total_tokens_per_s": "tokens per second, input and output",
    "busy_frac": "time in iterations",
    "batch_mean": "sequences in a mean iteration",
    "kv_tokens": "tokens that the KV cache holds",
    "kv_mean_frac": "KV blocks in use, mean",
    "kv_peak_frac": "KV blocks in use, peak",
    "power_mean_w": "power of all devices, mean (W)",
    "energy_per_output_token_j": "energy per output token (J)",
    "usd_per_hour": "USD per hour",
    "usd_per_m_total_tokens": "USD per million tokens, input and output",
    "usd_per_m_output_tokens": "USD per million output tokens",
    "cached_prompt_tokens": "prompt tokens from the prefix cache",
    "slo_attainment": "requests that meet their limits",
    "goodput_req_s": "goodput (requests per second)",
}
"""what the table of a run shows, in order."""

CONTEXT = (
    "request_id",
    "session_id",
    "turn",
    "workload",
    "service",
    "model",
    "tenant_id",
    "slo_class",
    "priority",
)
"""recorded columns that a run's requests keep."""

MOST_GROUPS = 1000
"""that latencies are told apart by."""

BY = {"tenant": "tenant_id", "class": "slo_class", "session": "session_id"}
"""short names of columns to group by; ``length`` is quartiles of the input tokens."""

_COLUMNS = (
    "row_id",
    "arrival_ns",
    "input_tokens",
    "output_tokens",
    "depends_on",
    "session_id",
    "delay_after_parent_ns",
    "priority",
)


_PREFIXES = ("prefix_hashes", "prefix_block_size")
_OUTCOME = ("status", "error_code", "output_tokens")
"""recorded columns that a request keeps which fails as recorded."""
_SENDERS = ("session_id", "client_id", "user_id")
_ATTEMPT = ("model", "e2e_s", "last_token_ns")


def deployment(path: Path | None, model: str, gpu: str, **flags: Any) -> Serving:
    """The serving spec of a TOML file, or of the command line's flags (those of ``specs.simple``). Checked. A file, which may be a
    stranger's, names no code to run."""
    if path is None:
        return specs.simple(model, gpu, **flags)
    spec = specs.load(path)
    if ".py:" in spec.route or ".py:" in spec.rank:
        raise UsageError(f"{path} names a file of code as its policy", "name it with --route, beside flags that state the deployment")  # fmt: skip
    return spec


def deployment_of_engine(
    text: str, gpu: str, flags: Mapping[str, Any], using: Sequence[str] = ()
) -> tuple[Serving, list[str], tuple[Notice, ...]]:
    """The serving spec of an engine's command line (``vllm serve …``) on that GPU with ``flags`` of
    ``specs.simple`` beside it, the techniques ``using`` with what the line says of them (``using`` goes before), and what
    of the line is assumed or not modelled."""
    read = specs.parse_engine_args(text)
    spec, notices = read.spec(gpu, **flags), read.notices()
    if read.drafts is None:
        return spec, list(using), notices
    name = "speculative-decoding"
    said = [f"{k}={v:g}" for k, v in read.drafts.items()]
    own, rest = next((t for t in using if t.partition(":")[0] == name), ""), list(using)
    if own:
        rest.remove(own)
    text = f"{name}:{','.join([*said, own.partition(':')[2]])}"
    drafting = techniques.parse(text)
    assumed = [f"{k} = {v:g}" for k, v in drafting.params.items() if f"{k}=" not in text]
    if assumed:
        notice = Notice(
            "assumed-drafts",
            f"speculative decoding: {', '.join(assumed)} {'is' if len(assumed) == 1 else 'are'} assumed; give yours with "
            f"--with {name}:{assumed[0].split()[0]}=…",
            "engine-args",
        )
        notices = (*notices, notice)
    return spec, [*rest, str(drafting)], notices


def requests_of(
    trace: Trace,
    *,
    replay: Replay = "session",
    by: str | None = None,
    prefixes: bool = False,
    failures: Failures = "served",
) -> tuple[Requests, str, pl.DataFrame, tuple[Notice, ...]]:
    """The requests of a trace for the simulator, the replay mode that was possible, columns that ride along
    (row for row; ``by`` among them), and what was left out.

    ``session``: a request waits for its recorded parents (``depends_on``), or, where the trace records
    sessions with delays, for the turn before it, and its recorded delay then passes. ``open``: recorded
    arrivals only. ``prefixes``: with the ids of the blocks that prompts begin with. Rows without both lengths are left out
    and counted.

    ``failures``: what becomes of rows that failed. ``served``: they are as the others. ``recorded``: they are as long as they
    were recorded (one token where no output is), ``extra["failed"]`` marks them and the columns have their ``_OUTCOME``; with ``session`` a
    retry waits for the end of the attempt before it (``_retries``).
    """
    if "llm_requests" not in trace.tables:
        raise UsageError(
            f"trace {trace.name!r} holds no LLM requests",
            "simulate a trace of kind llm, or a workload profile",
        )
    missing = [c for c in ("input_tokens", "output_tokens") if not trace.has(c)]
    if missing:
        raise ModelError(
            f"trace {trace.name!r} records no {', '.join(missing)}",
            "ingest it with --map naming these columns",
        )
    if not trace.has("arrival_ns"):
        raise ModelError(
            f"trace {trace.name!r} records no arrival times",
            "supply them with: --arrivals poisson --rate 2/s",
        )
    along = CONTEXT if by is None else tuple(dict.fromkeys((*CONTEXT, by)))
    recorded = failures == "recorded"
    columns = (*_COLUMNS, "status", *along, *(_PREFIXES if prefixes else ()), *((*_OUTCOME, *_SENDERS, *_ATTEMPT) if recorded else ()))  # fmt: skip
    wanted = [c for c in dict.fromkeys(columns) if trace.has(c)]
    frame = trace.scan("llm_requests").select(wanted).collect()
    total, all_failed = frame.height, int(frame["status"].is_in(FAILED).sum())
    failed = pl.col("status").is_in(FAILED)
    some = pl.col("output_tokens") >= 1
    frame = frame.filter((pl.col("input_tokens") >= 1) & (some | failed if recorded else some))
    parents, delay = ([], None) if replay == "open" else _dependencies(frame)
    retries = 0
    # workloads.with_poisson: who followed whom is gone
    drawn = "arrivals" in trace.manifest.provenance
    if recorded and replay == "session" and not drawn:
        frame, parents, delay, retries = _retries(frame, parents, delay)
    if parents:
        frame, parents, delay = _in_order(frame, parents, delay)
    else:
        frame = frame.filter(pl.col("arrival_ns").is_not_null())
    n, lost = frame.height, frame["status"].is_in(FAILED)
    notices = []
    if frame.height < total:
        gone = f", {all_failed - int(lost.sum()):,} of them failed," if all_failed > lost.sum() else ""  # fmt: skip
        notices.append(
            Notice(
                "left-out",
                f"{total - frame.height:,} of {total:,} rows{gone} have no arrival (nor a turn to wait for), no input or no output "
                "tokens and are not simulated",
                "requests",
            )
        )
    if not frame.height:
        raise ModelError(
            f"no row of {trace.name!r} can be simulated: "
            + (f"none of {total:,} has an arrival and both lengths" if total else "there are none"),
            "look at it with: lamina-traces show, and at --where, --from and --to",
        )
    if recorded and retries:
        notices.append(
            Notice(
                "retries",
                f"{retries:,} requests are taken for retries (the same sender, model and prompt length within {format_seconds(WITHIN_S)} of "
                "a failure) and wait for the attempt before them",
                "requests",
            )
        )
    elif lost.any() and not recorded:
        notices.append(
            Notice(
                "failures-served",
                f"{int(lost.sum()):,} of {all_failed:,} requests that failed as recorded are served as if they had not; "
                "--failures recorded lets them fail",
                "requests",
            )
        )
    requests = Requests.make(
        frame["arrival_ns"].to_numpy(),
        frame["input_tokens"].to_numpy(),
        frame["output_tokens"].fill_null(0).clip(lower_bound=1).to_numpy(),
        row_id=frame["row_id"].to_numpy(),
        delay_ns=delay,
        parents=parents or None,
        priority=frame["priority"].fill_null(0).to_numpy()
        if "priority" in frame.columns
        else np.zeros(n, np.int64),
    )
    if "session_id" in frame.columns:
        codes = frame["session_id"].cast(pl.Categorical).to_physical().cast(pl.Int64)
        requests = replace(requests, extra={"session": codes.fill_null(-1).to_numpy()})
    if prefixes:
        requests = _with_prefixes(requests, frame, trace.name)
    context = frame.select(c for c in along if c in frame.columns)
    if recorded:
        requests = replace(requests, extra={**requests.extra, "failed": lost.to_numpy()})
        context = frame.select(c for c in dict.fromkeys((*along, *_OUTCOME)) if c in frame.columns)
    return requests, "session" if parents else "open", context, tuple(notices)


def _has_ids(trace: Trace) -> bool:
    """Whether it records the ids of blocks of one size that prompts begin with."""
    if not all(trace.has(c) for c in _PREFIXES):
        return False
    sizes = trace.scan("llm_requests").select(pl.col("prefix_block_size").drop_nulls().unique())
    return sizes.collect().height == 1


def _with_prefixes(requests: Requests, frame: pl.DataFrame, name: str) -> Requests:
    """With the ids of the full blocks of prompts, and the first of them as ``head``."""
    sizes = frame["prefix_block_size"].drop_nulls().unique() if "prefix_block_size" in frame.columns else pl.Series([], dtype=pl.Int32)  # fmt: skip
    if "prefix_hashes" not in frame.columns or len(sizes) != 1:
        told = "records no prefix_hashes" if "prefix_hashes" not in frame.columns else f"has prefix blocks of {len(sizes)} sizes"  # fmt: skip
        raise ModelError(f"trace {name!r} {told}", "reuse of prefixes needs the ids of blocks of one size; set reuse = 'auto' or 'none', or another --route")  # fmt: skip
    block = int(sizes[0])
    full = frame.select(pl.col("prefix_hashes").list.head(pl.col("input_tokens") // block))["prefix_hashes"]  # fmt: skip
    many = full.list.len().fill_null(0).to_numpy().astype(np.int64)
    head = full.list.first().fill_null(0).to_numpy().astype(np.uint64)
    # policies read whole numbers from 0 on, -1 is none
    heads = np.where(many > 0, (head >> np.uint64(1)).astype(np.int64), -1)
    return replace(
        requests, ids_from=np.concatenate([[0], np.cumsum(many)]), ids=full.explode().drop_nulls().to_numpy().astype(np.uint64),
        id_tokens=block, extra={**requests.extra, "head": heads},
    )  # fmt: skip


def _in_order(
    frame: pl.DataFrame, parents: list[list[int]], delay: Ints | None
) -> tuple[pl.DataFrame, list[list[int]], Ints]:
    """Rows that can be released, in the order of the simulator: a turn without a recorded arrival stands at
    its parent's, parents before children. What waits for a row that is left out is left out."""
    arrival = frame["arrival_ns"].to_list()
    row = frame["row_id"].to_list()
    order = sorted(range(frame.height), key=lambda i: row[i])
    at: dict[int, int] = {}
    for i in order:
        before = [p for p in parents[i] if p in at]
        if len(before) < len(parents[i]) or (arrival[i] is None and not before):
            continue
        at[i] = max([arrival[i] or 0, *(at[p] for p in before)] if before else [arrival[i]])
    kept = sorted(at, key=lambda i: (at[i], row[i]))
    position = {i: n for n, i in enumerate(kept)}
    nominal = pl.Series("arrival_ns", [at[i] for i in kept], dtype=pl.Int64)
    waits = np.zeros(frame.height, np.int64) if delay is None else delay
    return (
        frame[kept].with_columns(nominal),
        [[position[p] for p in parents[i]] for i in kept],
        waits[np.array(kept, dtype=np.int64)],
    )


def _dependencies(frame: pl.DataFrame) -> tuple[list[list[int]], Ints | None]:
    """Parents as positions in the frame, and delays; ([], None) where the trace records neither."""
    delay = np.zeros(frame.height, np.int64)
    if "delay_after_parent_ns" in frame.columns:
        delay = frame["delay_after_parent_ns"].fill_null(0).to_numpy().astype(np.int64)
    if "depends_on" in frame.columns:
        position = {int(r): i for i, r in enumerate(frame["row_id"].to_list())}
        depends = frame["depends_on"].to_list()
        return [[position[p] for p in (d or []) if p in position] for d in depends], delay
    if "session_id" in frame.columns and "delay_after_parent_ns" in frame.columns:
        before: dict[str, int] = {}
        parents: list[list[int]] = [[] for _ in range(frame.height)]
        follows = frame["delay_after_parent_ns"].is_not_null().to_list()
        sessions = frame["session_id"].to_list()
        row = frame["row_id"].to_list()
        for i in sorted(
            range(frame.height), key=lambda i: row[i]
        ):  # a session's turns are in source order
            session = sessions[i]
            if session is None:
                continue
            if follows[i] and session in before:
                parents[i] = [before[session]]
            before[session] = i
        return (parents, delay) if any(parents) else ([], None)
    return [], None


def _retries(
    frame: pl.DataFrame, parents: list[list[int]], delay: Ints | None
) -> tuple[pl.DataFrame, list[list[int]], Ints, int]:
    """Retries wait for the end of the failed attempt and then as long as they did: for requests without a recorded parent
    that attempt is one, and their own arrival is none. Also how many they are.

    A retry is what the same sender asks next of the same model with a prompt of the same length, within ``WITHIN_S`` of a
    failure (aspects.failure_retries). It keeps its arrival where the attempt's duration is not recorded, or where it came before
    the attempt had ended.
    """
    waits = np.zeros(frame.height, np.int64) if delay is None else delay.copy()
    own = parents or [[] for _ in range(frame.height)]
    senders = [c for c in _SENDERS if c in frame.columns]
    known = [
        x
        for c, x in (
            ("e2e_s", (pl.col("e2e_s") * NS_PER_S).round().cast(pl.Int64)),
            ("last_token_ns", pl.col("last_token_ns") - pl.col("arrival_ns")),
        )
        if c in frame.columns
    ]
    if not senders or not known:
        return frame, parents, waits, 0
    model = pl.col("model").fill_null("") if "model" in frame.columns else pl.lit("")
    sent = frame.with_row_index("at").select(
        "at", "row_id", "arrival_ns", "status", pl.coalesce(known).alias("took_ns"),
        pl.struct(pl.coalesce(senders).alias("sender"), model.alias("model"), "input_tokens").alias("like"), pl.coalesce(senders).alias("sender"),
    )  # fmt: skip
    sent = sent.filter(
        pl.col("arrival_ns").is_not_null()
        & pl.col("sender").is_not_null()
        & (pl.col("status") != "unknown")
    ).sort("arrival_ns", "row_id")
    before = {c: pl.col(c).shift(1).over("like") for c in ("at", "row_id", "arrival_ns", "status", "took_ns")}  # fmt: skip
    pause = pl.col("arrival_ns") - before["arrival_ns"] - before["took_ns"]
    found = sent.select(
        "at", before["at"].alias("attempt"), pause.alias("pause"),
        (before["status"].is_in(FAILED) & (before["row_id"] < pl.col("row_id")) & (before["took_ns"] >= 0) & (pause >= 0)
        & (pl.col("arrival_ns") - before["arrival_ns"] <= round(WITHIN_S * NS_PER_S))).alias("retry"),
    ).filter(pl.col("retry"))  # fmt: skip
    waiting = []
    for at, attempt, pause_ns in zip(found["at"], found["attempt"], found["pause"], strict=True):
        if not own[at]:
            own[at], waits[at] = [attempt], pause_ns
            waiting.append(at)
    if waiting:
        gone = pl.Series(np.isin(np.arange(frame.height), waiting))
        frame = frame.with_columns(arrival_ns=pl.when(~gone).then(pl.col("arrival_ns")))
    return frame, own if parents or waiting else [], waits, len(waiting)


def simulate(
    trace: Trace,
    spec: Serving,
    *,
    replay: Replay = "session",
    failures: Failures = "served",
    slo: Slo | None = None,
    using: Sequence[techniques.Applied] = (),
    warmup_s: float = 0.0,
    cooldown_s: float = 0.0,
    by: str | None = None,
    faster: float = 1.0,
    concurrency: int | None = None,
    name: str | None = None,
) -> Run:
    """Replay a trace on a spec, with techniques applied in order.

    ``warmup_s``, ``cooldown_s``: what is served and not measured at both ends. ``by``: a column of the
    requests (or one of ``BY``, or ``length``) whose values get latencies and attainment of their own. ``failures``: as in
    ``requests_of``; what fails as recorded meets no limit, has no latency and counts in ``requests_failed``.
    ``faster``: arrivals and delays between turns are divided by it. ``concurrency``: a closed loop, in which one that waits
    for no other is sent when fewer than so many are under way. Raises ModelError where the trace or the spec
    cannot be simulated, UsageError where ``by`` names no column that the trace has.
    """
    column = None if by is None or by == "length" else _column(trace, by)
    techniques.check(using)
    spec = techniques.apply_spec(using, spec)
    prefixes = spec.reuse == "prefix" or spec.route == "prefix-affinity" or (spec.reuse == "auto" and _has_ids(trace))  # fmt: skip
    requests, mode, context, left_out = requests_of(
        trace, replay=replay, by=column, prefixes=prefixes, failures=failures
    )
    if concurrency is not None:
        mode = f"{mode}, {concurrency} at a time"
    if spec.rank == "least-slack":
        due = next((x.limit_s for x in slo.limits if x.latency == "ttft"), None) if slo else None
        if due is None:
            raise UsageError("least slack needs a limit on the first token", "give one: --slo ttft.p99=2s")  # fmt: skip
        deadline = np.full(len(requests), round(due * NS_PER_S))
        requests = replace(requests, extra={**requests.extra, "deadline_ns": deadline})
    if faster != 1.0:
        requests = replace(
            requests,
            arrival_ns=np.floor(requests.arrival_ns / faster).astype(np.int64),
            delay_ns=np.floor(requests.delay_ns / faster).astype(np.int64),
        )
    requests = techniques.apply_requests(using, requests)
    steps = [
        techniques.apply_step(using, specs.step_model(spec, i)) for i in range(len(spec.pools))
    ]
    result = serve(
        requests, spec, steps, slo=slo, warmup_s=warmup_s, cooldown_s=cooldown_s, concurrency=concurrency
    )  # fmt: skip
    span_s = requests.span_ns / NS_PER_S
    return Run(
        name=name or f"{trace.name} on {spec.model}",
        workload={
            "name": trace.name,
            "source": trace.manifest.nature,
            "requests": len(requests),
            "rate_per_s": len(requests) / span_s if span_s > 0 else None,
            "span_s": span_s,
            "replay": mode,
            "failures": failures,
            "selection": trace.selection,
            "row_hash": trace.manifest.row_hash,
            "input_sha256": [i.sha256 for i in trace.manifest.inputs],
        },
        deployment=_deployment(spec),
        spec=specs.dumps(spec),
        techniques=tuple(str(a) for a in using),
        metrics=_metrics(result),
        slo=tuple(map(_verdict, result.verdicts)),
        target=slo.target if slo else None,
        rows=_joined(_requests_frame(requests, result), context, requests.extra.get("failed")),
        windows=_windows_frame(result),
        power=_power_frame(result),
        explain=_explain(result),
        binding=result.binding,
        notices=(*left_out, *result.metrics.notices),
        by=by,
        groups=() if by is None else _groups(requests, result, context, column, slo),
    )


def _column(trace: Trace, by: str) -> str:
    """The column that --by names. Raises UsageError where the trace has none of it."""
    table = TABLES["llm_requests"]
    name = BY.get(by, by)
    known = [c for c in table.names if trace.has(c)]
    if name not in table.names:
        raise UnknownName("column to group by", by, ["length", *BY, *known])
    if name not in known:
        raise UsageError(
            f"trace {trace.name!r} records no {name} to group by",
            f"it has: length, {', '.join(c for c in CONTEXT if c in known) or 'no other column of groups'}",
        )
    if table[name].type.endswith("[]"):
        raise UsageError(f"{name} holds lists, which are no groups", "group by another column")
    return name


def _groups(
    requests: Requests, result: Result, context: pl.DataFrame, column: str | None, slo: Slo | None
) -> tuple[dict[str, Any], ...]:
    """Metrics by group; requests without a value are a group of their own."""
    names: list[str] = []
    if column is None:
        tokens = requests.input_tokens
        edges = np.unique(np.percentile(tokens, [25, 50, 75], method="lower"))
        bins = np.searchsorted(edges, tokens, side="left")
        for i in range(len(edges) + 1):
            own = tokens[bins == i]
            names.append(f"{own.min():,} to {own.max():,} input tokens" if len(own) else "")
        labels = np.array(names)[bins]
    else:
        labels = (
            context[column].cast(pl.String).fill_null("not recorded").to_numpy().astype(np.str_)
        )
        n = context[column].n_unique()
        if n > MOST_GROUPS:
            raise UsageError(
                f"{column} has {n:,} values: too many groups to tell apart",
                f"group by a column of at most {MOST_GROUPS:,} values, or read Run.requests()",
            )
    found = by_group(
        result.rows, result.output_tokens, result.measured, labels, slo=slo, saturated=result.metrics.saturated
    )  # fmt: skip
    if column is None:
        found.sort(key=lambda g: names.index(str(g["group"])))
    return tuple(found)


@dataclass(frozen=True)
class Run:
    """One simulated run. Frames have the canonical columns of ``llm_requests`` (with timings),
    ``batch_windows`` and ``power_samples``; ``metrics`` carry their unit in the key, None with
    ``<key>_why`` where undefined; ``explain`` has one row per operator of a mean busy iteration of each ``pool``.
    """

    name: str
    workload: Mapping[str, Any]
    deployment: Mapping[str, Any]
    spec: str
    """the serving spec as TOML."""
    techniques: tuple[str, ...]
    metrics: Mapping[str, Any]
    slo: tuple[Mapping[str, Any], ...]
    rows: pl.DataFrame
    """what ``requests()`` gives."""
    windows: pl.DataFrame
    power: pl.DataFrame
    explain: list[dict[str, Any]]
    binding: str | None
    notices: tuple[Notice, ...]
    target: float | None = None
    """of the requests that have to meet limits without a statistic."""
    by: str | None = None
    """what ``groups`` are by: each has ``group``, ``requests``, ``completed``, latencies and attainment."""
    groups: tuple[Mapping[str, Any], ...] = ()

    def requests(self) -> pl.DataFrame:
        """One row per request, in the workload's order: ``llm_requests`` with simulated timings (``queue_s``, ``ttft_s``,
        ``tpot_s``, ``e2e_s``, instants in ns, ``replica``, ``preemptions``) and the recorded columns that ride along."""
        return self.rows

    @property
    def slo_met(self) -> bool:
        """Whether every limit held, and enough requests met those without a statistic at once; a limit whose metric is undefined
        did not."""
        return all(v["ok"] for v in self.slo) and not self._too_few

    @property
    def _too_few(self) -> bool:
        share = self.metrics.get("slo_attainment")
        return any(v["each"] for v in self.slo) and (share is None or share < (self.target or 1.0))

    @property
    def slo_text(self) -> str:
        """The limits that were missed."""
        missed = [f"{v['limit']} ({self._observed(v)})" for v in self.slo if not v["ok"]]
        if self._too_few and all(v["ok"] for v in self.slo if v["each"]):
            missed.append(f"{self.metrics['slo_attainment']:.1%} of the requests meet all limits at once, not {self.target:.1%}")  # fmt: skip
        return "; ".join(missed)

    def _observed(self, v: Mapping[str, Any]) -> str:
        if v["observed_s"] is not None:
            return f"observed {format_seconds(v['observed_s'])}"
        if v["each"] and v.get("share") is not None:
            return f"{v['share']:.1%} of the requests"
        return "not observed: the metric is undefined"

    @property
    def mode(self) -> str:
        """How the workload was replayed, for people."""
        failures = ", failures as recorded" if self.workload.get("failures") == "recorded" else ""
        return f"replay {self.workload['replay']}{failures}"

    def headline(self) -> str:
        """The run in one sentence."""
        d, m = self.deployment, self.metrics
        n = self.workload["requests"]
        text = f"{_counted(n, 'request')} of {self.workload['name']} ({self.mode}) on {d['text']}: "
        if m.get("requests_rejected"):
            text += f"{format_count(m['requests_rejected'])} can never fit and are rejected; "
        if m.get("saturated"):
            return text + "more arrive than it can serve, so there is no steady state."
        p50, p99 = m.get("ttft_p50_s"), m.get("ttft_p99_s")
        first = (
            "too few for percentiles"
            if p50 is None
            else f"half see their first token within {format_seconds(p50)}"
        )
        last = "" if p99 is None else f", 99% within {format_seconds(p99)}"
        busy = (
            f"; the engine is busy {m['busy_frac']:.0%} of the time"
            if m.get("busy_frac") is not None
            else ""
        )
        bound = f" and bound by {self.binding}" if self.binding and busy else ""
        return f"{text}{first}{last}{busy}{bound}."

    def latency_rows(self) -> list[dict[str, str]]:
        """Latencies as a matrix for people: one row each for ttft, tpot, itl, e2e, queue."""
        stats = ("mean", "p50", "p90", "p95", "p99", "p99.9")
        rows = []
        for name in ("ttft", "tpot", "itl", "e2e", "queue"):
            cells = {s: format_seconds(self.metrics.get(f"{name}_{s}_s")) for s in stats}
            rows.append({"latency": name, **cells})
        return rows

    def metric_rows(self) -> list[dict[str, str]]:
        """The main metrics beside the latencies, for people; ``metrics`` holds all."""
        rows = []
        for key, label in MAIN_METRICS.items():
            none_failed = key == "requests_failed" and not self.metrics.get(key)
            if key not in self.metrics or none_failed:
                continue
            why = self.metrics.get(f"{key}_why")
            rows.append(
                {"metric": label, "value": shown(key, self.metrics[key]), "note": str(why or "")}
            )
        rows += [
            {
                "metric": f"slo {v['limit']}",
                "value": format_seconds(v["observed_s"]),
                "note": ("met" if v["ok"] else "missed")
                + ("" if v["ok"] and not v["each"] else f": {self._observed(v)}"),
            }
            for v in self.slo
        ]
        return rows

    def explain_rows(self) -> list[dict[str, str]]:
        """``explain`` for people: operators of a mean busy iteration, of each pool where there are several."""
        several = len(self.deployment.get("pools", ())) > 1
        return [
            {
                **({"pool": self.deployment["pools"][r["pool"]]["text"]} if several else {}),
                "operator": str(r["op"]),
                "about": str(r["about"]),
                "binds": str(r["binds"]),
                "GFLOP": format_number(r["gflop"]),
                "GB": format_number(r["gb"]),
                "network GB": format_number(r["net_gb"]),
                "ms": format_number(r["ms"]),
                "of busy time": f"{r['share']:.1%}",
            }
            for r in self.explain
        ]

    def group_rows(self) -> list[dict[str, str]]:
        """``groups`` for people: the main latencies and attainment of each."""
        keys = {
            "ttft_mean_s": "ttft mean", "ttft_p50_s": "ttft p50", "ttft_p99_s": "ttft p99", "tpot_mean_s": "tpot mean",
            "tpot_p99_s": "tpot p99", "e2e_p50_s": "e2e p50", "e2e_p99_s": "e2e p99",
            "slo_attainment": "meet their limits", "goodput_req_s": "goodput (1/s)",
        }  # fmt: skip
        lost = any(g.get("failed") for g in self.groups)
        return [
            {
                str(self.by): str(g["group"]),
                "requests": format_count(g["requests"]),
                **({"failed": format_count(g["failed"])} if lost else {}),
                **{label: shown(key, g[key]) for key, label in keys.items() if key in g},
            }
            for g in self.groups
        ]

    def missing(self) -> list[str]:
        """Why latencies are missing: one sentence for each reason."""
        out: dict[str, tuple[list[str], list[str]]] = {}
        for name in ("ttft", "tpot", "e2e", "queue"):
            for stat in ("mean", "p50", "p90", "p95", "p99", "p99.9"):
                why = self.metrics.get(f"{name}_{stat}_s_why")
                if why is not None:
                    stats, names = out.setdefault(str(why), ([], []))
                    stats += [stat] * (stat not in stats)
                    names += [name] * (name not in names)
        return [f"no {', '.join(s)} of {', '.join(n)}: {why}" for why, (s, n) in out.items()]

    def facts(self) -> dict[str, Any]:
        """What goes into the manifest: everything but the frames."""
        return {
            "name": self.name,
            "workload": dict(self.workload),
            "deployment": dict(self.deployment),
            "spec": self.spec,
            "techniques": list(self.techniques),
            "metrics": dict(self.metrics),
            "slo": [dict(v) for v in self.slo],
            "target": self.target,
            "explain": self.explain,
            "binding": self.binding,
            "notices": [n.to_dict() for n in self.notices],
            "by": self.by,
            "groups": [dict(g) for g in self.groups],
        }

    def to_dict(self) -> dict[str, Any]:
        """Flat for scripts: the metrics at the top level, the rest beside them."""
        facts = self.facts()
        return {**facts.pop("metrics"), **facts}

    def save(self, store: Store, name: str, *, replace: bool = False) -> Trace:
        """Store the run as a trace of nature ``simulated``."""
        with store.writer(name, kind="llm", nature="simulated", replace=replace) as writer:
            writer.write("llm_requests", self.rows)
            if self.windows.height:
                writer.write("batch_windows", self.windows)
            if self.power.height:
                writer.write("power_samples", self.power)
            return writer.commit(
                clock="relative",
                format="lamina",
                notices=self.notices,
                provenance={"run": self.facts()},
            )

    @classmethod
    def load(cls, trace: Trace) -> Run:
        """A run that was saved. Raises UsageError when the trace is none."""
        if not is_run(trace):
            raise UsageError(
                f"trace {trace.name!r} is not a run",
                "make one with: lamina-traces simulate TRACE --save NAME",
            )
        d = trace.manifest.provenance["run"]

        def frame(table: str) -> pl.DataFrame:
            return trace.scan(table).collect() if table in trace.tables else pl.DataFrame()

        return cls(
            name=d["name"],
            workload=d["workload"],
            deployment=d["deployment"],
            spec=d["spec"],
            techniques=tuple(d["techniques"]),
            metrics=d["metrics"],
            slo=tuple(d["slo"]),
            rows=frame("llm_requests"),
            windows=frame("batch_windows"),
            power=frame("power_samples"),
            explain=d["explain"],
            binding=d["binding"],
            notices=tuple(Notice.from_dict(n) for n in d["notices"]),
            target=d.get("target"),
            by=d.get("by"),
            groups=tuple(d.get("groups", ())),
        )


COMPARED = (
    *(
        f"{name}_{stat}_s"
        for name in ("ttft", "tpot", "e2e", "queue")
        for stat in ("mean", "p50", "p99")
    ),
    *MAIN_METRICS,
)
"""metrics that ``side_by_side`` shows, in order."""


def side_by_side(a: Run, b: Run) -> list[dict[str, Any]]:
    """Metrics of two runs: values, and b over a where both are positive numbers."""
    rows = []
    for key in COMPARED:
        if key not in a.metrics and key not in b.metrics:
            continue
        x, y = a.metrics.get(key), b.metrics.get(key)
        rows.append(
            {"metric": key, "a": x, "b": y, "b_over_a": y / x if x and y is not None else None}
        )
    return rows


def is_run(trace: Trace) -> bool:
    """Whether a trace is a saved run."""
    return "run" in trace.manifest.provenance


# --- results as frames -----------------------------------------------------------------------------


_DOING = {"prefill": "to prefill", "decode": "to decode"}


def _deployment(spec: Serving) -> dict[str, Any]:
    group = specs.main_group(spec.pools[0])
    count = spec.replicas
    pools = []
    for p in spec.pools:
        g = specs.main_group(p)
        shape = f"tp {g.tp}, " if g.tp > 1 else ""
        doing = f", {_DOING[p.role]}" if p.role != "both" else ""
        away = specs.attention_group(p)
        for_attention = (
            "" if away is None else f" and {p.count * away.n} × {away.gpu} for attention"
        )
        text = f"{p.count * g.n} × {g.gpu}{for_attention} ({shape}{p.count} replica{'s' if p.count != 1 else ''}{doing})"
        n = p.count * sum(x.n for x in p.replica.groups)
        pools.append({"text": text, "role": p.role, "gpu": g.gpu, "tp": g.tp, "replicas": p.count, "devices": n})  # fmt: skip
    return {
        "text": f"{' and '.join(str(p['text']) for p in pools)} serving {spec.model}"
        + (f", scaled from {spec.scale.least} to {count}" if spec.control == "scale" else ""),
        "model": spec.model,
        "gpu": group.gpu,
        "tp": group.tp,
        "replicas": count,
        "devices": spec.devices,
        "pools": pools,
        "dtype": spec.dtype,
        "route": spec.route,
        "software_era": spec.era,
    }


def _metrics(result: Result) -> dict[str, Any]:
    out: dict[str, Any] = {"saturated": result.metrics.saturated}
    for key, value in result.metrics.values.items():
        out[key] = value
        if value is None and key in result.metrics.reasons:
            out[f"{key}_why"] = result.metrics.reasons[key]
    return out


def _verdict(v: Verdict) -> dict[str, Any]:
    return {
        "limit": str(v.limit),
        "limit_s": v.limit.limit_s,
        "each": v.limit.stat is None,
        "observed_s": v.observed_s,
        "share": v.share,
        "ok": bool(v.ok),
    }


def _counted(n: int, noun: str) -> str:
    return f"{format_count(n)} {noun}{'' if n == 1 else 's'}"


def _joined(timed: pl.DataFrame, context: pl.DataFrame, failed: Any = None) -> pl.DataFrame:
    """The requests of a run beside the recorded columns that ride along; a simulated column hides a recorded one, but for
    ``failed`` [requests], which keep how they ended as recorded and have no latencies."""
    along = [c for c in context.columns if c not in timed.columns]
    if failed is not None:
        mask = pl.lit(pl.Series(failed))
        timed = timed.with_columns(
            *(pl.when(mask).then(pl.lit(context[c])).otherwise(pl.col(c)).alias(c) for c in _OUTCOME if c in context.columns),
            *(pl.when(~mask).then(pl.col(c)).alias(c) for c in ("queue_s", "ttft_s", "tpot_s", "e2e_s")),
        )  # fmt: skip
    return pl.concat([timed, context.select(along)], how="horizontal")


def _requests_frame(requests: Requests, result: Result) -> pl.DataFrame:
    rows = result.rows

    def instant(ns: Ints) -> pl.Series:
        return pl.select(
            pl.when(pl.lit(pl.Series(ns)) >= 0).then(pl.lit(pl.Series(ns)))
        ).to_series()

    released, first, last, scheduled = (
        rows.release_ns,
        rows.first_token_ns,
        rows.last_token_ns,
        rows.scheduled_ns,
    )

    def seconds(a: Ints, b: Ints, ok: npt.NDArray[np.bool_]) -> pl.Series:
        s = pl.Series((a - b) / NS_PER_S)
        return pl.select(pl.when(pl.lit(pl.Series(ok))).then(pl.lit(s))).to_series()

    done = (last >= 0) & (first >= 0)
    many = done & (requests.output_tokens > 1)
    tpot = (last - first) / np.maximum(requests.output_tokens - 1, 1) / NS_PER_S
    codes = [ERROR_CODE.get(s) for s in rows.status.tolist()]
    return pl.DataFrame(
        {
            "row_id": requests.row_id,
            "arrival_ns": np.where(released >= 0, released, requests.arrival_ns),
            "input_tokens": requests.input_tokens,
            "output_tokens": requests.output_tokens,
            "status": pl.Series(result.status(), dtype=pl.String),
            "error_code": pl.Series(codes, dtype=pl.String),
            "scheduled_ns": instant(scheduled),
            "first_token_ns": instant(first),
            "last_token_ns": instant(last),
            "queue_s": seconds(scheduled, released, (scheduled >= 0) & (released >= 0)),
            "ttft_s": seconds(first, released, first >= 0),
            "tpot_s": pl.select(
                pl.when(pl.lit(pl.Series(many))).then(pl.lit(pl.Series(tpot)))
            ).to_series(),
            "e2e_s": seconds(last, released, done),
            "replica": rows.replica,
            "preemptions": rows.preemptions,
        }
    ).with_columns(
        pl.col("input_tokens", "output_tokens", "preemptions").cast(pl.Int32),
        pl.when(pl.col("replica") >= 0).then(pl.col("replica")).cast(pl.Int32),
    )


def _windows_frame(result: Result) -> pl.DataFrame:
    return pl.DataFrame(dict(result.batch_windows())).with_columns(pl.col("replica").cast(pl.Int32))


def _power_frame(result: Result) -> pl.DataFrame:
    w = result.windows
    return pl.DataFrame(
        {
            "row_id": np.arange(len(w)),
            "arrival_ns": w.start_ns,
            "device": pl.Series([f"replica{r}" for r in w.replica.tolist()], dtype=pl.String),
            "domain": pl.Series(["gpu"] * len(w), dtype=pl.String),
            "power_w": result.power_w,
            "is_average": np.ones(len(w), dtype=bool),
        }
    )


def _explain(result: Result) -> list[dict[str, Any]]:
    """Operators of the mean busy iteration of each pool, with each one's share of all busy time."""
    return [
        {
            "pool": i,
            "op": c.op,
            "about": c.resource,
            "binds": c.binds,
            "gflop": c.flops / 1e9,
            "gb": c.bytes / 1e9,
            "net_gb": c.net_bytes / 1e9,
            "ms": c.seconds * 1e3,
            "share": result.op_shares[i].get(c.op, 0.0),
        }
        for i in range(len(result.spec.pools))
        for c in result.explain(i)
    ]


def shown(key: str, value: Any) -> str:
    """A metric for people, with the unit that its name says."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith(("_per_s", "_req_s")) or "_per_" in key:
        return format_number(float(value))
    if key.endswith("_s"):
        return format_seconds(float(value))
    if (
        key.endswith("_frac")
        or key == "slo_attainment"
        or (key.endswith("_mean") and key.startswith(("mfu", "mbu")))
    ):
        return f"{float(value):.1%}"
    if isinstance(value, int):
        return format_count(value)
    return format_number(float(value))

"""The canonical tables, and Requests: the bridge between the two wings.

Rules that hold for every table:

- instants are int64 nanoseconds from the trace's origin (``*_ns``), durations that the source reports
  are DOUBLE seconds (``*_s``); the unit is in every name; null means "not recorded", never 0, -1 or '';
- ``row_id`` keeps source order and true duplicates, unique in a trace;
- a trace's files hold only the columns that its source recorded; views add the others as nulls;
- what has no column of its own is kept in ``extra`` (a JSON object as text), except text and secrets.

Types are DuckDB's names. A table is sorted by its ``time`` column, ties by ``row_id``; rows without a
time come last, in source order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import SCHEMA_VERSION as SCHEMA_VERSION
from .errors import UnknownName

Kind = Literal["llm", "serverless", "power", "failures", "kernel", "metrics"]
Nature = Literal["real", "synthetic", "measured", "simulated", "derived"]
Clock = Literal["utc", "local", "relative", "session", "none"]
KINDS: tuple[str, ...] = ("llm", "serverless", "power", "failures", "kernel", "metrics")

STATUSES: dict[str, str] = {
    "ok": "completed",
    "error": "failed with an error that the source names",
    "timeout": "gave up waiting",
    "cancelled": "the client went away",
    "incomplete": "stopped early",
    "unknown-failure": "failed, the source does not say how (BurstGPT: no response tokens)",
    "unknown": "the source does not record whether it failed",
}
FAILED: tuple[str, ...] = ("error", "timeout", "cancelled", "incomplete", "unknown-failure")
"""statuses that count as failures; ``unknown`` is neither a success nor a failure."""


@dataclass(frozen=True, slots=True)
class Column:
    """``name``, DuckDB ``type``, ``unit`` ('' where none), and one line of meaning."""

    name: str
    type: str
    unit: str = ""
    doc: str = ""
    required: bool = False

    @property
    def is_instant(self) -> bool:
        """Whether it is a time on the trace's clock; the other ``*_ns`` columns are durations (``delay_…``)."""
        return self.unit == "ns" and not self.name.startswith("delay_")


@dataclass(frozen=True)
class Table:
    """``time`` is the column the table is sorted by, None for tables without a clock."""

    name: str
    kind: Kind
    time: str | None
    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def instants(self) -> tuple[str, ...]:
        """The columns that move together when a trace gets another origin."""
        return tuple(c.name for c in self.columns if c.is_instant)

    def __getitem__(self, name: str) -> Column:
        for c in self.columns:
            if c.name == name:
                return c
        raise UnknownName(f"column of {self.name}", name, self.names)

    def __contains__(self, name: str) -> bool:
        return any(c.name == name for c in self.columns)


def _columns(text: str) -> tuple[Column, ...]:
    """Rows ``name type unit doc…``; ``-`` is no unit; a ``*`` after the name marks it required."""
    out = []
    for line in text.strip().splitlines():
        name, type_, unit, doc = line.split(None, 3)
        out.append(
            Column(name.rstrip("*"), type_, "" if unit == "-" else unit, doc, name.endswith("*"))
        )
    return tuple(out)


_LLM = _columns("""
row_id*               BIGINT      -      source order, from 0
request_id            VARCHAR     -      the source's own id
arrival_ns            BIGINT      ns     arrival at the server, from the trace's origin
workload              VARCHAR     -      code, conversation, toolagent…
service               VARCHAR     -      conversation, api, text, search…
model                 VARCHAR     -      canonical model name
model_raw             VARCHAR     -      model name as recorded
adapter               VARCHAR     -      LoRA adapter
tenant_id             VARCHAR     -      who pays
user_id               VARCHAR     -      who asks
client_id             VARCHAR     -      which program asks
session_id            VARCHAR     -      conversation
parent_request_id     VARCHAR     -      the request before it in the conversation
turn                  INTEGER     -      from 1
workflow_id           VARCHAR     -      agent workflow
stage                 VARCHAR     -      step name in the workflow
step_index            INTEGER     -      step number in the workflow
depends_on            BIGINT[]    -      row_ids it waits for; null unknown, [] none
delay_after_parent_ns BIGINT      ns     time after the last parent's end
delay_kind            VARCHAR     -      think or tool
input_tokens          INTEGER     tokens full prompt as served
output_tokens         INTEGER     tokens generated, reasoning included
total_tokens          INTEGER     tokens as reported
text_tokens           INTEGER     tokens of the input
image_tokens          INTEGER     tokens of the input
audio_tokens          INTEGER     tokens of the input
video_tokens          INTEGER     tokens of the input
image_count           INTEGER     -      images in the input
audio_count           INTEGER     -      audio clips in the input
video_count           INTEGER     -      videos in the input
reasoning_tokens      INTEGER     tokens of the output
cached_input_tokens   INTEGER     tokens of the input, found in the engine's cache
max_output_tokens     INTEGER     tokens the request's own limit
prefix_block_size     INTEGER     tokens per prefix block
prefix_hashes         UBIGINT[]   -      block ids in prompt order
output_hashes         UBIGINT[]   -      block ids of the output
status*               VARCHAR     -      ok, error, timeout, cancelled, incomplete, unknown-failure, unknown
error_code            VARCHAR     -      as recorded
error_message         VARCHAR     -      as recorded, redacted
finish_reason         VARCHAR     -      stop, length…
send_ns               BIGINT      ns     sent by the client
queued_ns             BIGINT      ns     entered the engine's queue
scheduled_ns          BIGINT      ns     first scheduled
first_token_ns        BIGINT      ns     first token left the engine
last_token_ns         BIGINT      ns     last token left the engine
queue_s               DOUBLE      s      arrival to first scheduled
ttft_s                DOUBLE      s      arrival to first token, queue included
tpot_s                DOUBLE      s      (e2e - ttft) / (output - 1); null for one token
e2e_s                 DOUBLE      s      arrival to last token
streaming             BOOLEAN     -      tokens were streamed
priority              INTEGER     -      lower is more urgent
slo_class             VARCHAR     -      service class
slo_ttft_s            DOUBLE      s      limit on ttft_s
slo_tpot_s            DOUBLE      s      limit on tpot_s
slo_e2e_s             DOUBLE      s      limit on e2e_s
deadline_ns           BIGINT      ns     from the trace's origin
replica               INTEGER     -      which replica served it (simulated or recorded)
preemptions           INTEGER     -      times it lost its memory and had to start over
extra                 VARCHAR     -      JSON object of unmapped fields
""")

_COLD = _columns("""
row_id*            BIGINT    -    source order, from 0
request_id         VARCHAR   -    not unique: one request may start several pods
func_id*           VARCHAR   -    function
app_id             VARCHAR   -    application
owner_id           VARCHAR   -    customer
region             VARCHAR   -    from the path for Huawei traces
cluster            VARCHAR   -    cluster in the region
pod_id             VARCHAR   -    pod
pool               VARCHAR   -    pool of pre-warmed pods
runtime            VARCHAR   -    language runtime
arrival_ns         BIGINT    ns   start of the cold start, from the trace's origin
runtime_version    VARCHAR   -    version of the runtime, image or model
trigger            VARCHAR   -    what started it
synchronous        BOOLEAN   -    the caller waited
total_s            DOUBLE    s    whole cold start as reported
pod_alloc_s        DOUBLE    s    finding or making a pod
deploy_code_s      DOUBLE    s    fetching the code
deploy_dep_s       DOUBLE    s    fetching dependencies; 0 for functions without layers
scheduling_s       DOUBLE    s    scheduling
init_s             DOUBLE    s    runtime init only (AWS Lambda's Init Duration)
model_load_s       DOUBLE    s    loading model weights
residual_s         DOUBLE    s    total minus the sum of the known components
cpu_limit_mcore    INTEGER   mcore limit of the pod
memory_limit_mb    INTEGER   MB   limit of the pod
arch               VARCHAR   -    x86_64, arm64…
package_type       VARCHAR   -    zip, image…
extra              VARCHAR   -    JSON object of unmapped fields
""")

_INVOCATIONS = _columns("""
row_id*            BIGINT    -     source order, from 0
request_id         VARCHAR   -     the source's own id
func_id*           VARCHAR   -     function
app_id             VARCHAR   -     application
owner_id           VARCHAR   -     customer
region             VARCHAR   -     from the path for Huawei traces
cluster            VARCHAR   -     cluster in the region
pod_id             VARCHAR   -     pod or container
trigger            VARCHAR   -     http, timer, queue…
synchronous        BOOLEAN   -     the caller waited
runtime            VARCHAR   -     language runtime
arrival_ns         BIGINT    ns    start of the invocation, from the trace's origin
duration_s         DOUBLE    s     execution of the function
e2e_s              DOUBLE    s     whole request as its caller saw it
queue_s            DOUBLE    s     waiting before the execution
init_s             DOUBLE    s     runtime init of a cold start
is_cold            BOOLEAN   -     it started a new pod
cpu_cores          DOUBLE    cores used, mean over the request
memory_mb          DOUBLE    MB    used
cpu_limit_mcore    INTEGER   mcore limit of the pod
memory_limit_mb    INTEGER   MB    limit of the pod
request_bytes      BIGINT    B     size of the request's body
status*            VARCHAR   -     ok, error, timeout, cancelled, incomplete, unknown-failure, unknown
error_code         VARCHAR   -     as recorded
extra              VARCHAR   -     JSON object of unmapped fields
""")

_INVOCATION_COUNTS = _columns("""
row_id*            BIGINT    -     source order, from 0
func_id*           VARCHAR   -     function
app_id             VARCHAR   -     application
owner_id           VARCHAR   -     customer
region             VARCHAR   -     from the path for Huawei traces
trigger            VARCHAR   -     http, timer, queue…
arrival_ns*        BIGINT    ns    start of the bin, from the trace's origin
bin_s*             DOUBLE    s     width of the bin
invocations*       BIGINT    -     in the bin; bins without a row held none (or were not observed: see the notices)
""")

_FUNCTIONS = _columns("""
row_id*            BIGINT    -     source order, from 0
func_id*           VARCHAR   -     function
app_id             VARCHAR   -     application
owner_id           VARCHAR   -     customer
region             VARCHAR   -     from the path for Huawei traces
pool               VARCHAR   -     pool of pre-warmed pods
runtime            VARCHAR   -     language runtime
triggers           VARCHAR[] -     what starts it
arrival_ns         BIGINT    ns    from when this holds, from the trace's origin
cpu_request_mcore  INTEGER   mcore asked for
cpu_limit_mcore    INTEGER   mcore limit of a pod
memory_limit_mb    INTEGER   MB    limit of a pod
min_scale          INTEGER   -     pods kept at least
concurrency        INTEGER   -     requests that a pod takes at once
extra              VARCHAR   -     JSON object of unmapped fields
""")

_FUNCTION_STATS = _columns("""
row_id*            BIGINT    -     source order, from 0
func_id            VARCHAR   -     function; null where the statistic is of an application
app_id             VARCHAR   -     application
owner_id           VARCHAR   -     customer
region             VARCHAR   -     from the path for Huawei traces
arrival_ns         BIGINT    ns    start of the window that it is of, from the trace's origin
metric*            VARCHAR   -     duration_s, memory_mb…; the unit is in the name
stat*              VARCHAR   -     mean, min, max, p0 to p100
value*             DOUBLE    -     in the metric's unit
samples            BIGINT    -     how many values it sums up
""")

_CLIENT_WINDOWS = _columns("""
row_id*            BIGINT    -     source order, from 0
category           VARCHAR   -     language, reason, multimodal
model              VARCHAR   -     model that the client asks
client_id*         VARCHAR   -     client
arrival_ns*        BIGINT    ns    start of the window, from the trace's origin
window_s*          DOUBLE    s     width of the window
rate_rps*          DOUBLE    1/s   mean arrival rate; 0 is idle
gap_cv             DOUBLE    -     coefficient of variation of the gaps
law                VARCHAR   -     gamma or weibull; null when idle
shape              DOUBLE    -     shape of the law of gaps
scale_s            DOUBLE    s     scale of the law of gaps, as recorded (its mean need not fit rate_rps)
""")

_CLIENT_PMF = _columns("""
row_id*            BIGINT    -     source order, from 0
category           VARCHAR   -     language, reason, multimodal
model              VARCHAR   -     model that the client asks
client_id*         VARCHAR   -     client
arrival_ns*        BIGINT    ns    start of the window, from the trace's origin
field*             VARCHAR   -     input_tokens, output_tokens, reason_ratio, image_count…
value*             DOUBLE    -     in the field's unit
prob*              DOUBLE    -     probability of the value
""")

_POWER = _columns("""
row_id*          BIGINT    -    source order, from 0
arrival_ns       BIGINT    ns   instant of the sample, from the trace's origin
host             VARCHAR   -    machine
device*          VARCHAR   -    gpu0, psu1, ch2…
device_name      VARCHAR   -    product name
domain*          VARCHAR   -    gpu, cpu, dram, server, psu, rack, row
power_w          DOUBLE    W    power drawn; see is_average
energy_j         DOUBLE    J    counter since some start
util_frac        DOUBLE    -    0 to 1
mem_util_frac    DOUBLE    -    0 to 1
mem_used_mb      DOUBLE    MB   memory in use
sm_clock_mhz     DOUBLE    MHz  core clock
mem_clock_mhz    DOUBLE    MHz  memory clock
temp_c           DOUBLE    °C   temperature
power_limit_w    DOUBLE    W    enforced limit
phase            VARCHAR   -    idle, prompt, token, mixed
is_average       BOOLEAN   -    the reading is an average over a window, not an instant
extra            VARCHAR   -    JSON object of unmapped fields
""")

_POWER_WINDOWS = _columns("""
row_id*          BIGINT    -      source order, from 0
arrival_ns       BIGINT    ns     start of the window, from the trace's origin
label            VARCHAR   -      what ran in it
host             VARCHAR   -      machine
device*          VARCHAR   -      gpu0, cpu, all…
device_name      VARCHAR   -      product name
domain*          VARCHAR   -      gpu, cpu, dram, server…
duration_s       DOUBLE    s      width of the window
energy_j         DOUBLE    J      used in the window
mean_power_w     DOUBLE    W      over the window, as recorded or defined by the format
peak_power_w     DOUBLE    W      highest reading in the window
samples          BIGINT    -      readings in the window
tokens           BIGINT    tokens generated in the window
requests         BIGINT    -      served in the window
emissions_kg     DOUBLE    kg     CO2 equivalent, as recorded
extra            VARCHAR   -      JSON object of unmapped fields
""")

_OPERATING_POINTS = _columns("""
row_id*            BIGINT    -        source order, from 0
device_name        VARCHAR   -        product name
devices            INTEGER   -        how many of them
model              VARCHAR   -        model or program that ran
workload           VARCHAR   -        task or data set
tensor_parallel    INTEGER   -        devices that share a layer
batch_size         INTEGER   -        sequences at once
input_tokens       DOUBLE    tokens   per request, mean
output_tokens      DOUBLE    tokens   per request, mean
power_limit_w      DOUBLE    W        limit that was set
mean_power_w       DOUBLE    W        of all devices
peak_power_w       DOUBLE    W        of all devices
mean_power_frac    DOUBLE    -        of the rated power
peak_power_frac    DOUBLE    -        of the rated power
energy_j           DOUBLE    J        of the whole run
energy_per_token_j DOUBLE    J/token  per output token
throughput_tps     DOUBLE    tokens/s output tokens
duration_s         DOUBLE    s        of the run (an epoch for training)
ttft_s             DOUBLE    s        prompt phase
tpot_s             DOUBLE    s        per output token after the first
itl_p50_s          DOUBLE    s        median time between tokens
e2e_s              DOUBLE    s        whole request
extra              VARCHAR   -        JSON object of unmapped fields
""")

_JOBS = _columns("""
row_id*            BIGINT    -     source order, from 0
job_id             VARCHAR   -     job
user_id            VARCHAR   -     who submitted it
group_id           VARCHAR   -     virtual cluster, queue or group
cluster            VARCHAR   -     cluster
job_type           VARCHAR   -     as recorded
arrival_ns         BIGINT    ns    submission, from the trace's origin
start_ns           BIGINT    ns    start of the last attempt
end_ns             BIGINT    ns    end
duration_s         DOUBLE    s     start to end; null where either is not recorded
queue_s            DOUBLE    s     submission to start
gpus               DOUBLE    -     accelerators, shares of one included
cpus               DOUBLE    cores asked for
nodes              INTEGER   -     machines
memory_gb          DOUBLE    GB    asked for
gpu_type           VARCHAR   -     product name
gpu_s              DOUBLE    s     accelerator seconds: gpus times duration
attempts           INTEGER   -     times it was started
state*             VARCHAR   -     completed, failed, timeout, node_fail, cancelled, evicted, censored, unknown
state_raw          VARCHAR   -     as recorded
extra              VARCHAR   -     JSON object of unmapped fields
""")

_INCIDENTS = _columns("""
row_id*            BIGINT    -     source order, from 0
arrival_ns         BIGINT    ns    start, from the trace's origin
end_ns             BIGINT    ns    end
entity_type*       VARCHAR   -     request, job, attempt, node, gpu, service
entity_id          VARCHAR   -     which
kind*              VARCHAR   -     failed, timeout, node_fail, cancelled, evicted, hw_error, unknown
code               VARCHAR   -     exit code, Xid, HTTP status…
component          VARCHAR   -     what broke
user_id            VARCHAR   -     whose it was
group_id           VARCHAR   -     virtual cluster, queue or group
gpus               DOUBLE    -     accelerators held
nodes              INTEGER   -     machines held
lost_gpu_s         DOUBLE    s     accelerator seconds spent in vain
censored           BOOLEAN   -     the end lies outside the trace
extra              VARCHAR   -     JSON object of unmapped fields
""")

_CDF_POINTS = _columns("""
row_id*            BIGINT    -     source order, from 0
figure             VARCHAR   -     where the curve stands
quantity*          VARCHAR   -     what is distributed; the unit is in the name
series*            VARCHAR   -     which curve
x*                 DOUBLE    -     in the quantity's unit
cdf*               DOUBLE    -     share of values up to x, 0 to 1
""")

_METRIC_SERIES = _columns("""
row_id*            BIGINT    -     source order, from 0
arrival_ns         BIGINT    ns    scrape, from the trace's origin
metric*            VARCHAR   -     name as exported, its unit in the name
type               VARCHAR   -     counter, gauge, histogram, summary, untyped
labels             VARCHAR   -     JSON object of labels, keys sorted
host               VARCHAR   -     instance or host label
device             VARCHAR   -     gpu0…
model              VARCHAR   -     model label
le                 DOUBLE    -     upper bound of a histogram's bucket; null for +Inf and other samples
value              DOUBLE    -     null where the exporter had none
""")

_BATCH = _columns("""
row_id*           BIGINT   -       window number
arrival_ns        BIGINT   ns      start of the window
replica           INTEGER  -       replica
window_s          DOUBLE   s       width of the window
iterations        BIGINT   -       engine iterations that ended in the window
busy_s            DOUBLE   s       time spent in iterations
decode_tokens     BIGINT   tokens  generated
prefill_tokens    BIGINT   tokens  prompt tokens processed
mean_batch        DOUBLE   -       sequences per iteration, weighted by time
mean_kv_frac      DOUBLE   -       KV blocks in use, weighted by time
""")

TABLES: Mapping[str, Table] = {
    t.name: t
    for t in (
        Table("llm_requests", "llm", "arrival_ns", "one row per LLM call", _LLM),
        Table("client_windows", "llm", "arrival_ns", "arrival law of each client, by window", _CLIENT_WINDOWS),
        Table("client_pmf", "llm", "arrival_ns", "what each client asks for, by window", _CLIENT_PMF),
        Table("batch_windows", "llm", "arrival_ns", "engine state on a fixed grid (simulated runs)", _BATCH),
        Table("cold_starts", "serverless", "arrival_ns", "one row per started pod", _COLD),
        Table("invocations", "serverless", "arrival_ns", "one row per function call", _INVOCATIONS),
        Table("invocation_counts", "serverless", "arrival_ns", "calls per function and bin", _INVOCATION_COUNTS),
        Table("functions", "serverless", "arrival_ns", "one row per function and configuration", _FUNCTIONS),
        Table("function_stats", "serverless", "arrival_ns", "statistics that the source publishes instead of rows", _FUNCTION_STATS),
        Table("power_samples", "power", "arrival_ns", "one row per reading and device", _POWER),
        Table("power_windows", "power", "arrival_ns", "energy of named windows", _POWER_WINDOWS),
        Table("operating_points", "power", None, "measured power and speed of configurations", _OPERATING_POINTS),
        Table("jobs", "failures", "arrival_ns", "one row per job", _JOBS),
        Table("incidents", "failures", "arrival_ns", "one row per failure", _INCIDENTS),
        Table("metric_series", "metrics", "arrival_ns", "scraped samples", _METRIC_SERIES),
        Table("cdf_points", "metrics", None, "sources that exist only as curves", _CDF_POINTS),
    )
}  # fmt: skip
"""tables by name, the main ones of a kind first. A table joins here when a format or a run first writes it."""


FITTED_TABLES = (
    "llm_requests", "cold_starts", "power_samples", "power_windows", "operating_points", "cdf_points", "metric_series",
    "invocations", "invocation_counts", "jobs", "incidents",
)  # fmt: skip
"""tables that some aspect describes."""


def main_table(kind: str, present: Iterable[str]) -> str:
    """The table that a trace's own name stands for: the first of its kind, in the order above, that it has;
    '' for a trace without tables."""
    have = list(present)
    ranked = [t for t in TABLES if t in have and TABLES[t].kind == kind]
    return (ranked or have or [""])[0]


@dataclass(frozen=True)
class Requests:
    """What the simulator is given: columns of equal length, one entry per request, and the bridge
    between the two wings.

    Sorted by (``arrival_ns``, ``row_id``). A request is released at
    max(``arrival_ns``, end of its last parent + ``delay_ns``). Parents stand before their children in
    this order. ``steps`` is the number of decode iterations it needs; it equals ``output_tokens`` unless
    a technique (speculative decoding) emits several tokens an iteration; the first step is the one that
    ends the prefill, so 1 ≤ steps ≤ output_tokens.
    """

    row_id: npt.NDArray[np.int64]
    arrival_ns: npt.NDArray[np.int64]
    input_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    delay_ns: npt.NDArray[np.int64]
    parents_from: npt.NDArray[np.int64]
    """[n + 1] where each request's parents begin in ``parents``."""
    parents: npt.NDArray[np.int64]
    """positions (not row_ids) of the parents in these arrays."""
    priority: npt.NDArray[np.int64]
    """lower is more urgent; 0 where the source has none."""
    ids_from: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    """[n + 1] where the ids of each request's prompt begin in ``ids``, which is cut there by chunks."""
    ids: npt.NDArray[np.uint64] | None = None
    """of the full blocks of prompts, each for its content and all before it; None where they are not known."""
    id_tokens: int | None = None
    """of each block with an id."""
    extra: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """columns that ride along for grouping (service, tenant…), one entry per request."""

    @classmethod
    def make(
        cls,
        arrival_ns: Any,
        input_tokens: Any,
        output_tokens: Any,
        *,
        row_id: Any = None,
        steps: Any = None,
        delay_ns: Any = None,
        parents: list[list[int]] | None = None,
        priority: Any = None,
    ) -> Requests:
        """Build from plain sequences already in order; ``parents`` lists positions for each request."""
        arrival = np.ascontiguousarray(arrival_ns, dtype=np.int64)
        n = len(arrival)

        def column(x: Any, default: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            return default if x is None else np.ascontiguousarray(x, dtype=np.int64)

        output = column(output_tokens, np.zeros(n, np.int64))
        indptr = np.zeros(n + 1, dtype=np.int64)
        flat = np.zeros(0, dtype=np.int64)
        if parents is not None:
            np.cumsum([len(p) for p in parents], out=indptr[1:])
            flat = np.array([i for p in parents for i in p], dtype=np.int64)
        return cls(
            row_id=column(row_id, np.arange(n, dtype=np.int64)),
            arrival_ns=arrival,
            input_tokens=column(input_tokens, np.zeros(n, np.int64)),
            output_tokens=output,
            steps=column(steps, output),
            delay_ns=column(delay_ns, np.zeros(n, np.int64)),
            parents_from=indptr,
            parents=flat,
            priority=column(priority, np.zeros(n, np.int64)),
        )

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def span_ns(self) -> int:
        """First arrival to last arrival, ns; 0 for fewer than two."""
        return int(self.arrival_ns[-1] - self.arrival_ns[0]) if len(self) else 0

"""Jobs and incidents on the page: run and waiting times, sizes, failures by two definitions, times between failures."""

from __future__ import annotations

from lamina_traces.aspects.incidents import Incidents
from lamina_traces.aspects.jobs import Jobs, Share
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Method, Section, Table, Tile, percent
from .durations import laws, quantiles, survival_figure

METHODS = (
    Method(
        "Jobs",
        "Jobs that still ran or waited when the log ended are right-censored. The rate of failures by jobs counts jobs that ended; by GPU time "
        "it weighs each by the GPU seconds that it used. Failed, timeout, node_fail and evicted are failures; cancelled is not.",
    ),
    Method(
        "Time between failures",
        "The mean time between failures of a system is the time observed over the incidents. Its interval is Garwood's for a Poisson count, by blocks of "
        "time where incidents cluster. Of one node the stretches before its first and after its last failure are right-censored.",
        "MTBF = T / n",
        "Garwood, Biometrika 28, 1936; Kaplan and Meier, JASA 53, 1958",
    ),
)


def section(j: Jobs, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    for d, name, what in (
        (j.duration, "Run times", "run times"),
        (j.queue, "Waiting times", "waiting times"),
    ):
        drawn = survival_figure(d, f"{id_}-{name.split(' ')[0].lower()}", name, what) if d else None
        blocks += [drawn] if drawn else []
    blocks.append(_numbers(j))
    beside: list[Table] = []
    if j.states:
        rows = tuple((k, percent(a), percent(b)) for k, (a, b) in j.states.items())
        beside.append(Table(("state", "jobs", "GPU time"), rows, "lrr", "How jobs ended"))
    if j.sizes:
        beside.append(_sizes(j))
    if len(j.attempts) > 1:
        rows_ = tuple((k, percent(v)) for k, v in j.attempts.items())
        beside.append(Table(("attempts", "jobs"), rows_, "lr", "How often jobs were started"))
    if beside:
        blocks.append(tuple(beside))
    times = {"run": j.duration, "wait": j.queue, "between submissions": j.gaps}
    known = {k: d for k, d in times.items() if d is not None}
    if known:
        blocks.append(quantiles(known, "Times of jobs", "time"))
    if j.duration is not None and j.duration.families:
        blocks.append(laws("Laws of the run time, in seconds", j.duration.families))
    if j.gaps_apart:
        blocks.append(
            laws("Laws of the time between submissions, zeros left out, in seconds", j.gaps_apart)
        )
    return Section(id_, "Jobs", (), tuple(blocks), subtitle)


def _share(s: Share | None) -> str:
    if s is None:
        return NOTHING
    ends = f" [{percent(s.interval.low, 2)}, {percent(s.interval.high, 2)}]" if s.interval else ""
    return f"{percent(s.value, 2)}{ends}"


def _numbers(j: Jobs) -> Table:
    rows = [
        ("jobs", format_count(j.jobs)),
        ("jobs that ended in a known way", format_count(j.ended)),
        ("failed, by jobs", _share(j.failed_by_jobs)),
        ("failed, by GPU time", _share(j.failed_by_gpu_time)),
    ]
    for what, each in (("GPU", j.gpu_hours_per_failure), ("node", j.node_hours_per_failure)):
        if each is not None:
            i = each[1]
            ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
            rows.append((f"{what} hours per failure", f"{format_number(each[0])}{ends}"))
    if j.attempts_mean is not None:
        rows.append(("attempts per job", format_number(j.attempts_mean)))
    return Table(("", ""), tuple(rows), "lr", "Jobs in numbers", plain=True)


def _sizes(j: Jobs) -> Table:
    rows = tuple(
        (s.label, percent(s.jobs_share), percent(s.gpu_time_share), _share(s.failed))
        for s in j.sizes
    )
    return Table(("GPUs", "jobs", "GPU time", "failed"), rows, "lrrr", "Jobs by size")


def tiles(j: Jobs) -> list[Tile]:
    """Key numbers of jobs."""
    out = [Tile("jobs", format_count(j.jobs), f"in {format_seconds(j.span_s)}")]
    if j.duration is not None:
        out.append(Tile("median run", format_seconds(j.duration.quantiles_s.get("p50")), f"mean {format_seconds(j.duration.mean_s)}"))  # fmt: skip
    if j.queue is not None:
        out.append(Tile("median wait", format_seconds(j.queue.quantiles_s.get("p50"))))
    if j.failed_by_jobs is not None:
        out.append(Tile("failed, by jobs", percent(j.failed_by_jobs.value), f"of {j.ended:,} that ended"))  # fmt: skip
    if j.failed_by_gpu_time is not None:
        out.append(Tile("failed, by GPU time", percent(j.failed_by_gpu_time.value)))
    return out


def incidents_section(i: Incidents, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    for d, key, title, what in (
        (i.between, "between", "Time between incidents of the system", "times between incidents"),
        (i.between_own, "own", "Time between failures of one node, GPU or service", "times between failures"),
        (i.repair, "repair", "How long incidents last", "incidents"),
    ):  # fmt: skip
        drawn = survival_figure(d, f"{id_}-{key}", title, what) if d else None
        blocks += [drawn] if drawn else []
    ends = i.all.interval
    rows = [
        ("incidents", format_count(i.all.incidents)),
        ("time observed", format_seconds(i.observed_s)),
        ("mean time between failures", format_seconds(i.all.mtbf_s) + (f" [{format_seconds(ends.low)}, {format_seconds(ends.high)}]" if ends else "")),
    ]  # fmt: skip
    if i.lost_gpu_hours is not None:
        rows.append(("GPU hours spent in vain", format_number(i.lost_gpu_hours)))
    blocks.append(Table(("", ""), tuple(rows), "lr", "Incidents in numbers", plain=True))
    kinds = tuple(
        (
            fig.plain(k),
            format_count(r.incidents),
            format_seconds(r.mtbf_s),
            f"{format_seconds(r.interval.low)} – {format_seconds(r.interval.high)}"
            if r.interval
            else NOTHING,
        )
        for k, r in i.kinds.items()
    )
    beside = [Table(("kind", "incidents", "one every", "95 %"), kinds, "lrrr", "Kinds of incident")]
    if i.components:
        named = tuple(
            (k, format_count(n), percent(n / i.all.incidents)) for k, n in i.components.items()
        )
        beside.append(Table(("component", "incidents", "share"), named, "lrr", "What broke"))
    blocks.append(tuple(beside))
    times = {"between, system": i.between, "between, own": i.between_own, "repair": i.repair}
    known = {k: d for k, d in times.items() if d is not None}
    if known:
        blocks.append(quantiles(known, "Times of incidents", "time"))
    for d, text in (
        (i.between, "between incidents of the system"),
        (i.repair, "that an incident lasts"),
    ):
        if d is not None and d.families:
            blocks.append(laws(f"Laws of the time {text}, in seconds", d.families))
    return Section(id_, "Incidents", (), tuple(blocks), subtitle)


def incident_tiles(i: Incidents) -> list[Tile]:
    """Key numbers of incidents."""
    return [
        Tile("incidents", format_count(i.all.incidents), f"in {format_seconds(i.observed_s)}"),
        Tile("time between failures", format_seconds(i.all.mtbf_s), "mean, whole system"),
    ]

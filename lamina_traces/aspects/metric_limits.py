"""What metrics do not say of a workload, what is assumed in its place, and the warnings that come with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Notice
from ..units import format_number, format_seconds
from .metric_laws import Histogram
from .metric_names import Found
from .metric_scrapes import Clock, Counted

if TYPE_CHECKING:
    from .metrics import Metrics

NAME = "metrics"

BURSTY = 1.25
"""dispersion between neighbouring scrapes from which arrivals within one are not taken for Poisson."""


@dataclass(frozen=True)
class Unknowable:
    """What metrics do not say, why, and the assumption that is put in its place."""

    what: str
    why: str
    assumption: str

    def to_dict(self) -> dict[str, str]:
        return dict(self.__dict__)


def unknowable(m: Metrics, by: str) -> list[Unknowable]:
    """What the metrics do not say, and what is assumed."""
    scrape = format_seconds(m.scrape_s)
    local = m.local_dispersion
    bursty = local is not None and local >= BURSTY
    out = []
    if m.rate_per_s is None:
        out.append(
            Unknowable("the request rate", "no counter of requests was scraped", "none: give a rate")
        )  # fmt: skip
    else:
        out.append(
            Unknowable(
                f"burstiness below {scrape}",
                "counters are read once a scrape",
                f"a renewal process with the dispersion between neighbouring scrapes, {format_number(local)}"
                if bursty
                else "a Poisson process within a scrape interval",
            )
        )
    if by and by != "arrivals":
        late = "their first token left" if by == "ttft" else "they finished"
        out.append(
            Unknowable(
                "when requests arrived",
                f"they are counted when {late}, and those that never got there are not",
                "counts stand for arrivals",
            )
        )
    for side, found, mean in (
        ("input", m.input, m.mean_input),
        ("output", m.output, m.mean_output),
    ):
        if found is None:
            out.append(
                Unknowable(
                    f"the law of {side} lengths",
                    "no histogram of them was scraped",
                    f"exponential with the recorded mean of {format_number(mean)} tokens"
                    if mean
                    else "none: give a law",
                )
            )
        else:
            out.append(
                Unknowable(
                    f"spikes and caps of {side} lengths",
                    "a bucket does not say where in it a value lay",
                    f"the shape of the {found.families[0].family} within each bucket"
                    if found.families
                    else "a straight line within each bucket",
                )
            )
    out += [
        Unknowable(
            "how input and output lengths depend on each other",
            "each has a histogram of its own",
            "independent",
        ),
        Unknowable(
            "how lengths change with load",
            "a histogram is a sum over all requests",
            "the same law at all times",
        ),
        Unknowable(
            "sessions and workflows", "metrics hold no request's id", "each request stands alone"
        ),
        Unknowable("shares of clients", "metrics hold no client", "one client"),
        Unknowable(
            "which prefixes are shared",
            "hits are counted, not named",
            f"the measured hit ratio of {m.hit_ratio:.1%}"
            if m.hit_ratio is not None
            else "no reuse",
        ),
    ]
    return out


def warn(
    m: Metrics,
    found: Mapping[str, Found],
    histograms: Mapping[str, Histogram],
    requests: Counted | None,
    clock: Clock,
    notices: list[Notice],
) -> None:
    notices.append(
        Notice("metrics-only", f"fitted to metrics alone: {len(m.unknowable)} things are assumed, see 'unknowable'", NAME)
    )  # fmt: skip
    if m.resets:
        text = f"counters were reset {m.resets} times: what they counted between the last scrape before and the reset is lost"
        notices.append(Notice("counter-resets", text, NAME))
    engines = sorted({f.name.engine for f in found.values()})
    if len(engines) > 1:
        text = f"metrics of {', '.join(engines)} are mixed: each figure is of one of them, see 'sources'"
        notices.append(Notice("several-exporters", text, NAME))
    memory = sorted(f.metric for f in found.values() if not f.name.read)
    if memory:
        text = f"what {', '.join(memory)} means is from memory, not from its documents"
        notices.append(Notice("unread-name", text, NAME))
    odd = sorted(r for r, h in histograms.items() if h.inconsistent)
    if odd:
        text = (
            f"buckets of {', '.join(odd)} are lower than those below them, and were taken for empty"
        )
        notices.append(Notice("inconsistent-buckets", text, NAME))
    if requests is not None and not requests.seen.all():
        missing = int((~requests.seen[1:]).sum())
        if missing:
            text = f"{missing:,} of {clock.cells - 1:,} scrape intervals are incomplete (gap, reset or a silent source) and are left out of dispersion and curves"
            notices.append(Notice("scrape-gaps", text, NAME))
    beyond = [
        f"{r} {q.name}"
        for r, x in (("input", m.input), ("output", m.output), *m.latencies.items())
        if x is not None
        for q in x.quantiles
        if q.high is None
    ]
    if beyond:
        text = f"{', '.join(beyond)} lie beyond the last bucket: only a lower bound is known"
        notices.append(Notice("beyond-buckets", text, NAME))

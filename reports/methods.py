"""Method notes: how the numbers on the page are computed, with formula and source."""

from __future__ import annotations

from . import (
    cold_starts,
    failures,
    invocations,
    jobs,
    metrics,
    operating_points,
    power,
    prefixes,
    sessions,
    workflows,
)
from .blocks import Method

WORKLOAD = {
    "arrivals": (
        Method(
            "Index of dispersion of counts (IDC)",
            "Full windows of equal width from the first arrival, empty ones included. With K windows its standard error is about "
            "IDC·√(2/K), so fewer than 30 are marked as uncertain. The coefficient of variation of gaps alone misleads: a few idle gaps rule it, and drift hides from it.",
            "IDC(w) = var N(w) / mean N(w)",
            "Cox and Lewis, The Statistical Analysis of Series of Events, 1966; Gusella, IEEE JSAC 9(2), 1991",
        ),
        Method(
            "Laws",
            "Maximum likelihood on all rows, location fixed at 0. Gaps below ten ticks of the clock enter as intervals. Laws are ordered by AIC. "
            "KS D is the largest distance between the two cumulative curves, W1 the mean distance between the quantile curves in powers of ten. "
            "No p-values: with this many rows every law is rejected, and what matters is by how much.",
            "D = max |F̂(x) − F(x)|,   W1 = ∫ |log₁₀ Q̂(u) − log₁₀ Q(u)| du,   AIC = 2k − 2 ln L",
            "Akaike, IEEE TAC 19(6), 1974",
        ),
    ),
    "lengths": (
        Method(
            "Length curves",
            "The measured curve is the quantile grid that the workload profile stores: its ends are the tenth extremes, and every step holds at least ten rows, so no single request can be read from it.",
        ),
        Method(
            "Rank map",
            "Requests are sorted by input and by output length, and both ranks are cut into equal cells; a cell is coloured by its share of requests over what independent lengths would give. "
            "Cells with fewer than ten requests get the mean of such cells.",
            "c(u, v) = share(u, v) · cells²",
            "Nelsen, An Introduction to Copulas, 2006, section 2; Spearman, American Journal of Psychology 15, 1904",
        ),
    ),
    "sessions": sessions.METHODS,
    "workflows": workflows.METHODS,
    "prefixes": prefixes.METHODS,
    "failures": failures.METHODS,
    "cold_starts": cold_starts.METHODS,
    "invocations": invocations.METHODS,
    "jobs": jobs.METHODS[:1],
    "incidents": jobs.METHODS[1:],
    "power": power.METHODS,
    "operating_points": operating_points.METHODS,
    "metrics": metrics.METHODS,
}

SIMULATION = (
    Method(
        "Latencies",
        "Time to first token runs from arrival to the first token that leaves the engine, queue included. Time per output token is undefined for one token. "
        "A percentile with fewer than ten samples beyond it is not given, and none is when the run is saturated.",
        "TPOT = (e2e − TTFT) / (output tokens − 1)",
    ),
    Method(
        "Time of an iteration",
        "Each operator of the model takes the longest of its times on compute, memory and network at the measured efficiency of the device; operators run one after the other unless a technique overlaps them, and each layer and each iteration adds a fixed overhead. "
        "The batch is continuous, with chunked prefill and paged KV blocks.",
        "t(op) = max(FLOPs / F, bytes / B, network bytes / N)",
        "Williams, Waterman and Patterson, CACM 52(4), 2009 (roofline); Yu et al., OSDI 2022 (continuous batching); Kwon et al., SOSP 2023 (paged KV); Agrawal et al., OSDI 2024 (chunked prefill)",
    ),
    Method(
        "Money and energy",
        "Over the device-hours provisioned for the run, idle ones included, and not over the hours used.",
        "$ per million tokens = 10⁶ · devices · hours · price / tokens",
    ),
)

FIDELITY = (
    Method(
        "Score card",
        "Rates by relative difference, laws by the largest distance between cumulative curves, burstiness by the mean over window widths of the absolute log ratio of the two IDC curves.",
        "mean over w of |ln IDC_b(w) / IDC_a(w)|",
    ),
)

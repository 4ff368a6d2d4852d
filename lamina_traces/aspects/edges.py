"""The edges of logs that are written as requests end.

Such a log begins with requests that arrived before it did, and lacks those that were still running when it ended: by
arrival its rate ramps up and falls off, which is neither load nor burstiness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..counts import Counts
from ..errors import Notice
from ..units import NS_PER_S, format_seconds

if TYPE_CHECKING:
    from ..store import Trace

STILL_RUNNING = 0.99
"""quantile of the durations that the end is cut by."""
BACK = 0.001
"""a log in order steps back in at most this share of its rows."""


def trimmed(trace: Trace, notices: list[Notice]) -> Trace:
    """The trace without its edges, where its source wrote rows in the order of their ends and not of their arrivals;
    else the trace. What is cut is said (``completion-log``)."""
    if (
        trace.main_table != "llm_requests"
        or not trace.manifest.sorted_by_us
        or not trace.has("e2e_s")
    ):
        return trace
    order = trace.query("arrivals/completion_order").to_pylist()[0]
    pairs = int(order["pairs"])
    by_end = order["end_back"] <= BACK * pairs and order["arrival_back"] > 10 * max(
        order["end_back"], BACK * pairs
    )
    if pairs < 100 or not by_end:
        return trace
    t = trace.query("arrivals/duration_counts")
    durations = Counts.exact(t["ms"].to_numpy() / 1000, t["n"].to_numpy(), "s")
    longest_s = float(durations.quantile(np.array([STILL_RUNNING]))[0])
    start, end = int(order["first_end_ns"]), int(order["last_end_ns"]) - round(longest_s * NS_PER_S)
    first, last = trace.manifest.arrival_first_ns or 0, trace.manifest.arrival_last_ns or 0
    if end - start < 0.5 * (last - first):
        text = f"rows are in the order of their ends; requests last up to {format_seconds(longest_s)}, so the edges are most of the trace and are left in"
        notices.append(Notice("completion-log", text, "arrivals"))
        return trace
    text = (
        f"rows are in the order of their ends: the first {format_seconds(max(start - first, 0) / NS_PER_S)} of arrivals and the "
        f"last {format_seconds(max(last - end, 0) / NS_PER_S)} lack requests that ended before or after the log, and are left out"
    )
    notices.append(Notice("completion-log", text, "arrivals"))
    return trace.select(start_ns=start, end_ns=end + 1)

"""What serving costs, as pure functions: seconds per iteration, memory, watts, money."""

from __future__ import annotations

from .efficiency import ERAS, Efficiency, era, ideal, is_share
from .memory import KvMemory, attention_memory, kv_memory
from .money import Bill, bill
from .operators import (
    Parallel,
    all_reduce_latency,
    check_tp,
    compute_dtype,
    offloaded,
    rates,
    transformer,
)
from .power import FITTED_POWER, POWERED, PowerModel, throttled, time_shares
from .step import (
    AWAY,
    RESOURCES,
    Coverage,
    Form,
    Lanes,
    Op,
    OpCost,
    Rates,
    Resource,
    Rows,
    State,
    StepModel,
)

__all__ = [
    "AWAY",
    "ERAS",
    "FITTED_POWER",
    "POWERED",
    "RESOURCES",
    "Bill",
    "Coverage",
    "Efficiency",
    "Form",
    "KvMemory",
    "Lanes",
    "Op",
    "OpCost",
    "Parallel",
    "PowerModel",
    "Rates",
    "Resource",
    "Rows",
    "State",
    "StepModel",
    "all_reduce_latency",
    "attention_memory",
    "bill",
    "check_tp",
    "compute_dtype",
    "era",
    "ideal",
    "is_share",
    "kv_memory",
    "offloaded",
    "rates",
    "throttled",
    "time_shares",
    "transformer",
]

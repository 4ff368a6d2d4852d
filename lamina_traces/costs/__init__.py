"""What serving costs, as pure functions: seconds per iteration, memory, watts, money."""

from __future__ import annotations

from .efficiency import ERAS, Efficiency, era, ideal
from .memory import KvMemory, kv_memory
from .money import Bill, bill
from .operators import check_tp, rates, transformer
from .power import FITTED_POWER, PowerModel
from .step import RESOURCES, Coverage, Form, Op, OpCost, Rates, Resource, Rows, State, StepModel

__all__ = [
    "ERAS",
    "FITTED_POWER",
    "RESOURCES",
    "Bill",
    "Coverage",
    "Efficiency",
    "Form",
    "KvMemory",
    "Op",
    "OpCost",
    "PowerModel",
    "Rates",
    "Resource",
    "Rows",
    "State",
    "StepModel",
    "bill",
    "check_tp",
    "era",
    "ideal",
    "kv_memory",
    "rates",
    "transformer",
]

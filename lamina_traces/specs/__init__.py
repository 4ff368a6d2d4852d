"""What is simulated: frozen specs that can be TOML files."""

from __future__ import annotations

from .calibration import Calibration, deployment_name, load_calibration
from .engine_args import EngineArgs
from .engine_args import parse as parse_engine_args
from .files import dumps, load, loads
from .serving import (
    Batch,
    Group,
    Kv,
    Link,
    Pool,
    Replica,
    Scale,
    Serving,
    attention_group,
    check,
    efficiency,
    group_device,
    hand_over_s,
    kv_of,
    main_group,
    simple,
    stated_link,
    step_model,
    swap_s_per_token,
)

__all__ = [
    "Batch",
    "Calibration",
    "EngineArgs",
    "Group",
    "Kv",
    "Link",
    "Pool",
    "Replica",
    "Scale",
    "Serving",
    "attention_group",
    "check",
    "deployment_name",
    "dumps",
    "efficiency",
    "group_device",
    "hand_over_s",
    "kv_of",
    "load",
    "load_calibration",
    "loads",
    "main_group",
    "parse_engine_args",
    "simple",
    "stated_link",
    "step_model",
    "swap_s_per_token",
]

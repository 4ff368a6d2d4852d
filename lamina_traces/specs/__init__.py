"""What is simulated: frozen specs that can be TOML files."""

from __future__ import annotations

from .calibration import Calibration, deployment_name, load_calibration
from .files import dumps, load, loads
from .serving import (
    Batch,
    Group,
    Kv,
    Link,
    Pool,
    Replica,
    Serving,
    check,
    efficiency,
    kv_of,
    main_group,
    pool_device,
    simple,
    step_model,
)

__all__ = [
    "Batch",
    "Calibration",
    "Group",
    "Kv",
    "Link",
    "Pool",
    "Replica",
    "Serving",
    "check",
    "deployment_name",
    "dumps",
    "efficiency",
    "kv_of",
    "load",
    "load_calibration",
    "loads",
    "main_group",
    "pool_device",
    "simple",
    "step_model",
]

"""What is simulated: frozen specs that can be TOML files."""

from __future__ import annotations

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
    check,
    efficiency,
    hand_over_s,
    kv_of,
    main_group,
    pool_device,
    simple,
    step_model,
    swap_s_per_token,
)

__all__ = [
    "Batch",
    "Group",
    "Kv",
    "Link",
    "Pool",
    "Replica",
    "Scale",
    "Serving",
    "check",
    "dumps",
    "efficiency",
    "hand_over_s",
    "kv_of",
    "load",
    "loads",
    "main_group",
    "pool_device",
    "simple",
    "step_model",
    "swap_s_per_token",
]

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
    "Group",
    "Kv",
    "Link",
    "Pool",
    "Replica",
    "Serving",
    "check",
    "dumps",
    "efficiency",
    "kv_of",
    "load",
    "loads",
    "main_group",
    "pool_device",
    "simple",
    "step_model",
]

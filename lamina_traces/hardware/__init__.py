"""What runs and what is run: accelerators, links, model shapes, price files. Every number says where it is from."""

from __future__ import annotations

from .configs import ARCHITECTURES, read_config
from .devices import Device, all_devices, device
from .links import Link, all_links, link
from .models import BYTES, Model, all_models, model
from .prices import Prices, load_prices

__all__ = [
    "ARCHITECTURES",
    "BYTES",
    "Device",
    "Link",
    "Model",
    "Prices",
    "all_devices",
    "all_links",
    "all_models",
    "device",
    "link",
    "load_prices",
    "model",
    "read_config",
]

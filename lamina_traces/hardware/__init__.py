"""What runs and what is run: accelerators, model shapes, price files. Every number says where it is from."""

from __future__ import annotations

from .devices import Device, all_devices, device
from .models import BYTES, Model, all_models, model
from .prices import Prices, load_prices

__all__ = [
    "BYTES",
    "Device",
    "Model",
    "Prices",
    "all_devices",
    "all_models",
    "device",
    "load_prices",
    "model",
]

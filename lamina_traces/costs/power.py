"""Power of an accelerator from what it spends its time on, and what limits on power or clock do to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..hardware import Device
from ..units import Quantity
from .step import Resource, State, StepModel

Floats = npt.NDArray[np.float64]

_FIT = "fitted on ML.ENERGY leaderboard points, H100 SXM: make accuracy"

CLOCK_EXPONENT = Quantity(
    2.0,
    "",
    "fitted on V100 trainings under six power caps (Zeus, NSDI 2023); RTX 6000 confirms",
    "fitted",
)
"""power above idle goes with this power of the clock."""
POWERED: tuple[tuple[Resource, ...], ...] = (("compute",), ("memory", "overhead"))
"""the resources whose shares of the time say the power."""
_SLOWEST = 0.1
"""of the highest clock: no device runs slower."""


@dataclass(frozen=True)
class PowerModel:
    """P/TDP = clip(compute·√c + other·m, idle/TDP, cap/TDP) while busy, c the share of the time in which arithmetic
    works, m that of memory and overheads; the rest waits for the network. Idle power otherwise. A locked clock f
    scales what is above idle by f². The root makes power concave in c: applied to a window's
    mean it is an upper bound on the mean over its iterations.
    """

    compute: Quantity
    other: Quantity

    def busy_w(self, device: Device, compute: Floats, other: Floats) -> Floats:
        """Watts of one busy device that spends these shares of its time on compute, and on memory and overheads."""
        tdp, idle = device.tdp_w.value, device.idle_w.value
        share = self.compute.value * np.sqrt(compute) + self.other.value * other
        watts = np.clip(share * tdp, idle, tdp)
        watts = idle + (watts - idle) * device.clock**CLOCK_EXPONENT.value
        return np.asarray(watts if device.cap_w is None else np.minimum(watts, device.cap_w))

    def mean_w(self, device: Device, busy: Floats, compute: Floats, other: Floats) -> Floats:
        """Mean watts of one device over windows of which the share ``busy`` is worked."""
        return busy * self.busy_w(device, compute, other) + (1.0 - busy) * device.idle_w.value


FITTED_POWER = PowerModel(
    compute=Quantity(1.02, "", _FIT, "fitted"),
    other=Quantity(0.54, "", _FIT, "fitted"),
)
"""the default coefficients."""


def time_shares(step: StepModel, state: State) -> tuple[float, float]:
    """Shares of an iteration's time that go to arithmetic, and to memory and overheads."""
    rows = step.explain(state)
    total = sum(r.seconds for r in rows)
    compute, other = (
        sum(getattr(r, f"{name}_s") for r in rows for name in names) / total for names in POWERED
    )
    return compute, other


def throttled(device: Device, step: StepModel, power: PowerModel = FITTED_POWER) -> Device:
    """The device at the clock that keeps prefills under its power cap; itself where it has none or needs none.

    ``step``: the model's step at the device's own clock. A whole prefill chunk draws most, so decode, which is bound by
    memory, is left with more clock than it needs.
    """
    if device.cap_w is None:
        return device
    c, m = time_shares(step, State.prefill(2048))
    free = power.busy_w(replace(device, cap_w=None), np.array([c]), np.array([m]))[0]
    idle = device.idle_w.value
    room = max(0.0, device.cap_w - idle) / max(1e-9, free - idle)
    share = room ** (1.0 / CLOCK_EXPONENT.value)
    return replace(device, clock=max(_SLOWEST, device.clock * min(1.0, float(share))))

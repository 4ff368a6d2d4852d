"""Power of an accelerator from how hard it works."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..hardware import Device
from ..units import Quantity

_FIT = "fitted on ML.ENERGY leaderboard points, H100 SXM"


@dataclass(frozen=True)
class PowerModel:
    """P/TDP = clip(base + compute·√MFU + memory·MBU, idle/TDP, 1) while busy; idle power otherwise.

    The square root makes power concave in MFU: applied to a window's mean it is an upper
    bound on the mean over its iterations.
    """

    base: Quantity
    compute: Quantity
    memory: Quantity

    def busy_w(
        self, device: Device, mfu: npt.NDArray[np.float64], mbu: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Watts of one busy device at shares of peak FLOP rate (``mfu``) and bandwidth (``mbu``)."""
        tdp = device.tdp_w.value
        share = self.base.value + self.compute.value * np.sqrt(mfu) + self.memory.value * mbu
        return np.clip(share * tdp, device.idle_w.value, tdp)

    def mean_w(
        self,
        device: Device,
        busy: npt.NDArray[np.float64],
        mfu: npt.NDArray[np.float64],
        mbu: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Mean watts of one device over windows of which the share ``busy`` is worked."""
        return busy * self.busy_w(device, mfu, mbu) + (1.0 - busy) * device.idle_w.value


FITTED_POWER = PowerModel(
    base=Quantity(0.486, "", _FIT, "fitted"),
    compute=Quantity(0.815, "", _FIT, "fitted"),
    memory=Quantity(0.130, "", _FIT, "fitted"),
)
"""the default coefficients."""

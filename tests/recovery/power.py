"""Power that moves between levels with an AR(1) beside them: its mean and quantiles, its levels, its memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from lamina_traces.aspects.phases import Level, Phases, sample
from lamina_traces.aspects.power_groups import Group, autocorrelation, measure
from lamina_traces.aspects.power_sources import Aligned
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against

Array = npt.NDArray[np.float64]
S = 10**9

STEPS = ((0.98, 0.01, 0.01), (0.01, 0.95, 0.04), (0.02, 0.08, 0.90))
TRUTH = Phases(
    1.0, 0,
    (Level(80.0, 5.0, 0.0, 50.0), Level(250.0, 20.0, 0.0, 20.0), Level(400.0, 30.0, 0.0, 10.0)),
    STEPS, 0.5, 0.0,
)  # fmt: skip
SHARES = np.linalg.matrix_power(np.array(STEPS), 5000)[0]
MEAN_W = float(SHARES @ [x.mean_w for x in TRUTH.levels])


def watched(x: Array) -> Group:
    """A device that is read once a second, through the regular grid."""
    n = len(x)
    level = np.concatenate([[0], np.rint(x * 1000).astype(np.int64), [0]])
    milliwatts = level[1:] - level[:-1]
    present = np.zeros(n + 1, dtype=np.int32)
    present[0] = 1
    grid = Aligned(np.ones(1, dtype=bool), S // 2, S, milliwatts, present)
    width = max(5, n // 300)
    timeline = Timeline(n, n, 0, (n - 1) * S, width * S, -(-n // width))
    found = measure(
        grid, scope="all", name="", reading="instant", peaks_w=np.array([x.max()]), energy_j=float(x.sum()), timeline=timeline,
    )  # fmt: skip
    assert found is not None
    return found


def _figure(name: str) -> Callable[[Group], tuple[float, Interval | None]]:
    def of(g: Group) -> tuple[float, Interval | None]:
        assert g.course is not None
        value = g.mean_w if name == "mean" else g.course.quantiles_w[name]
        return value, g.course.intervals.get(name)

    return of


def _levels(i: int, what: str) -> Callable[[Group], tuple[float, Interval | None]]:
    def of(g: Group) -> tuple[float, Interval | None]:
        found = g.course.phases if g.course else None
        if found is None or len(found.levels) != len(TRUTH.levels):
            return float("nan"), None
        return found.phi if what == "phi" else float(getattr(found.levels[i], what)), None

    return of


def recovery(replications: int) -> list[Recovered]:
    rng = np.random.default_rng(11)
    first = Phases(1.0, 0, tuple(Level(x.mean_w, x.sd_w, float(p), x.dwell_s) for x, p in zip(TRUTH.levels, SHARES, strict=True)), STEPS, 0.5, 0.0)  # fmt: skip
    made = [watched(sample(first, rng, 3600)) for _ in range(replications)]
    # quantiles of the mixture of normals, by bisection
    grid = np.linspace(0, 600, 600_001)
    cdf = sum(p * stats.norm.cdf(grid, x.mean_w, x.sd_w) for p, x in zip(SHARES, TRUTH.levels, strict=True))  # fmt: skip
    p90 = float(np.interp(0.9, np.asarray(cdf), grid))
    setting = "an hour at 1 Hz, three levels, AR(1) 0.5"
    estimators: list[Estimator[Group]] = [
        Estimator("mean power, W", MEAN_W, _figure("mean")),
        Estimator("p90 of power, W", p90, _figure("p90")),
        Estimator("power of the lowest level, W", 80.0, _levels(0, "mean_w")),
        Estimator("power of the highest level, W", 400.0, _levels(2, "mean_w")),
        Estimator("spread of the middle level, W", 20.0, _levels(1, "sd_w")),
        Estimator("stay at the middle level, s", 20.0, _levels(1, "dwell_s")),
        Estimator("residual AR(1)", 0.5, _levels(0, "phi")),
    ]
    out = held_against(setting, estimators, made)
    noise = []
    for _ in range(replications):
        x = np.empty(3600)
        x[0] = rng.standard_normal() / np.sqrt(1 - 0.8**2)
        for i in range(1, 3600):
            x[i] = 0.8 * x[i - 1] + rng.standard_normal()
        noise.append(300 + 10 * x)
    memory = Estimator[Array](
        "ACF(1) of power", 0.8, lambda x: (float(autocorrelation(x, [1])[0]), None)
    )
    return out + held_against("an hour at 1 Hz, AR(1) 0.8", [memory], noise)

"""Laws: families fitted by maximum likelihood on Counts, atoms and caps, mixtures, the empirical quantile grid.

Parametric laws describe; the quantile grid generates (one family misses real lengths by KS 0.03–0.16, a 257-knot
grid by less than 0.003).
"""

from .atoms import NO_ATOMS, Atoms, find_atoms
from .families import (
    Family,
    gamma_by_moments,
    lognormal_by_moments,
    weibull_by_moments,
)
from .fitting import (
    FAMILIES,
    POSITIVE,
    Fitted,
    fit_families,
    ks_distance,
    w1_log10,
    with_intervals,
)
from .grid import GRID_KNOTS, K_ANONYMITY, Grid, QuantileCurve
from .mixing import Mixing
from .rounded import fit_jittered, fit_triangular

__all__ = [
    "FAMILIES",
    "GRID_KNOTS",
    "K_ANONYMITY",
    "NO_ATOMS",
    "POSITIVE",
    "Atoms",
    "Family",
    "Fitted",
    "Grid",
    "Mixing",
    "QuantileCurve",
    "find_atoms",
    "fit_families",
    "fit_jittered",
    "fit_triangular",
    "gamma_by_moments",
    "ks_distance",
    "lognormal_by_moments",
    "w1_log10",
    "weibull_by_moments",
    "with_intervals",
]

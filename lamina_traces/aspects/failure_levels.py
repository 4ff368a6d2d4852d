"""How the chance of failing swings over time: outages, and hours that are worse than others.

A request fails with chance p = m·o/(1 + m·o): o the odds of the fitted rate (at its load, where failures follow it), m a
multiplier of the odds that is constant on windows of ``window_s``. m follows one law on all windows, found by maximum
likelihood among all laws on a grid (see ``distributions.mixing``) from failures k among n requests per window, which are
binomial at a known level. Where they vary D times as much as that inside windows, told by the halves of each, the
log-likelihood is divided by D. Levels depend over time as those of the rate of arrivals do (see ``modulation``):
m = Q(Φ(z)), z the sum of parts that stay for 1, 4, 16… windows in the mean.

Q is a step function, so the covariance of p at two instants is a sum over pairs of its steps of bivariate normal
chances, whose derivative in the correlation of z is the bivariate density (Plackett 1954): no series that would have to
be long where an outage is one window in a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import significant
from ..distributions import K_ANONYMITY
from ..distributions.mixing import mixed
from ..errors import ModelError
from ..units import NS_PER_S, short
from .failure_windows import FineWindows
from .level_dependence import lag_steps, part_lengths, simplex
from .modulation import FACTOR, rising_solution, staying
from .rate_levels import FEWEST_WINDOWS, LEAST_AT_ALL, LEAST_SIGNAL, ROWS_PER_WINDOW, SURELY

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 300
"""of EM."""
GRID = 128
MOST_LEVELS = 24
ALIKE = 1e-4
"""share of the variance of outcomes that levels lose by being joined."""
FEWEST_FAILURES = 5 * K_ANONYMITY
"""fewer tell no law of levels."""
ANGLES = 400
"""steps of the arc sine of the correlation."""
WIDE = 0.01
"""share of all windows, beyond which sums over so many tell less."""
LEAST_ODDS = 1e-9
"""so that a level, or a load, at which nothing failed can be made to fail."""


@dataclass(frozen=True)
class OddsLevels:
    """``levels`` [atoms], rising: multipliers of the odds; ``shares`` [atoms] of the windows. ``parts[k]``: share of the variance
    of z that stays for FACTOR**k windows in the mean; they sum to 1. ``shared``: correlation of z with that of the other streams
    of the profile; copies of a stream have the same z."""

    window_s: float
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    parts: tuple[float, ...]
    shared: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "levels": list(self.levels),
            "shares": list(self.shares),
            "parts": list(self.parts),
            "shared": self.shared,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> OddsLevels | None:
        """None where there is none; ModelError where it is no law."""
        if d is None:
            return None
        out = cls(
            float(d["window_s"]), tuple(map(float, d["levels"])), tuple(map(float, d["shares"])),
            tuple(map(float, d["parts"])), float(d["shared"]),
        )  # fmt: skip
        sane = (
            0 < out.window_s < math.inf
            and len(out.levels) == len(out.shares) >= 2
            and all(0 <= m < math.inf for m in out.levels)
            and all(a < b for a, b in zip(out.levels, out.levels[1:], strict=False))
            and all(0 < s < 1 for s in out.shares)
            and all(0 <= s <= 1 for s in (*out.parts, out.shared))
            and abs(sum(out.shares) - 1) < 1e-3
            and abs(sum(out.parts) - 1) < 0.01
        )
        if not sane:
            raise ModelError(
                "modulation of failures in the profile: levels must rise from 0 on, shares must sum to 1",
                "fit the profile again",
            )
        return out

    def at(self, u: Array) -> Array:
        """Levels at ranks u in [0, 1]."""
        upto = np.cumsum(self.shares)[:-1]
        return np.asarray(np.array(self.levels)[np.searchsorted(upto, u, side="right")])

    def chances(self, rates: Array, weights: Array, rate: float) -> tuple[float, Array]:
        """(factor of the odds by which the mean chance is ``rate`` in (0, 1); [atoms, rates] the chances). ``rates``: at each
        load, ``weights``: their shares of the requests."""
        odds = np.maximum(np.outer(self.levels, odds_of(rates)), LEAST_ODDS)
        share = np.outer(np.array(self.shares) / sum(self.shares), weights / weights.sum())
        scale = scaled_to(odds, share, rate)
        return scale, odds * scale / (1 + odds * scale)

    def split(self, rate: float) -> tuple[float, float, float]:
        """(share of the windows that are bad, chance of failing in them, and in the others): cut between the two levels
        where most variance lies between both sides."""
        _, p = self.chances(np.array([rate]), np.ones(1), rate)
        upto, sums = np.cumsum(self.shares), np.cumsum(np.array(self.shares) * p[:, 0])
        share = 1 - upto[:-1]
        low, high = sums[:-1] / upto[:-1], (sums[-1] - sums[:-1]) / np.maximum(share, 1e-12)
        at = int(np.argmax(share * upto[:-1] * (high - low) ** 2))
        return float(share[at]), float(high[at]), float(low[at])

    def lasting_s(self, rate: float) -> float:
        """How long an outage would last, all being as long, by the sum of the chances' covariances over all lags."""
        r, known = covariances(*steps(self, rate))
        upto = np.append(np.cumsum(self.parts[::-1])[::-1], 0.0)
        share = -np.diff(np.interp(upto, r, known / known[-1]))
        return float(share @ FACTOR ** np.arange(len(share))) * self.window_s


def odds_of(p: Any) -> Any:
    """p/(1 − p), of a number or an array."""
    p = np.clip(p, LEAST_ODDS, 1 - LEAST_ODDS)
    return p / (1 - p)


def scaled_to(odds: Array, share: Array, rate: float) -> float:
    """s with Σ share·s·odds/(1 + s·odds) = ``rate`` in (0, 1), by bisection of its logarithm."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        made = math.exp(middle) * odds
        if float((share * (made / (1 + made))).sum()) < rate:
            low = middle
        else:
            high = middle
    return math.exp(high)


# --- measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Windows of one width that hold requests or none: ``n`` requests, ``k`` failures, ``p`` the rate that is expected of
    them whatever the level."""

    n: Array
    k: Array
    p: Array

    @property
    def off(self) -> Array:
        """Failures beyond the expected."""
        return np.asarray(self.k - self.n * self.p)

    @property
    def binomial(self) -> Array:
        return np.asarray(self.n * self.p * (1 - self.p))


def fit(
    fine: FineWindows, runs: int, rate_at: Callable[[int], Array], bits: int | None = None
) -> OddsLevels | None:
    """From counts of fine windows and the runs of failures. ``rate_at``: [windows] the rate to expect in windows of 2**bits
    ns; ``bits``: the width where it is known, None: the finest whose failures are mostly level. None where failures are
    as even as a two-state chain with these runs."""
    if fine.k.sum() < FEWEST_FAILURES or fine.n.sum() - fine.k.sum() < K_ANONYMITY:
        return None
    if bits is None:
        bits = window(fine, runs, rate_at)
    if bits is None:
        return None
    s = Seen(*fine.wider(bits), rate_at(bits))
    noise = max(unevenness(*fine.halves(bits)), 1.0)
    n, off = s.n, s.off
    variance = float((off**2 - noise * s.binomial).sum() / max((n**2 - noise * n).sum(), 1e-9))
    rate = float(s.k.sum() / n.sum())
    variance = min(variance, 0.95 * rate * (1 - rate))
    if variance <= 0:
        return None
    levels, shares = _law(s, noise)
    levels, shares = _merged(levels, shares, rate, float(n.sum()))
    levels = significant(_spread(levels, shares, rate, variance), 5)
    if len(levels) < 2 or np.diff(levels).min() <= 0:
        return None
    found = OddsLevels(
        (1 << bits) / NS_PER_S, tuple(levels.tolist()), tuple(short(x, 6) for x in shares), (1.0,)
    )  # fmt: skip
    return replace(found, parts=tuple(short(x, 4) for x in _parts(found, s, rate)))


def window(fine: FineWindows, runs: int, rate_at: Callable[[int], Array]) -> int | None:
    """Binary logarithm of the width in ns of the finest windows whose failures are mostly level; None where they vary no
    more than their halves, or than a two-state chain's would."""
    requests, failed = float(fine.n.sum()), float(fine.k.sum())
    rho = 1 - runs / requests / (failed / requests * (1 - failed / requests))
    best: tuple[float, int] | None = None
    bits = fine.bits + 1
    while True:
        s = Seen(*fine.wider(bits), rate_at(bits))
        used = s.n > 0
        many = int(used.sum())
        if many < FEWEST_WINDOWS:
            break
        if s.n.sum() >= ROWS_PER_WINDOW * many:
            binomial, square = s.binomial[used], s.off[used] ** 2
            own = max(unevenness(*fine.halves(bits)), 1.0)
            beyond = square - np.maximum(own, _chain_noise(rho, s.n[used])) * binomial
            share = float(beyond.sum() / max(square.sum(), 1e-300))
            sure = float(beyond.mean()) > SURELY * float(beyond.std()) / math.sqrt(many)
            if sure and share >= LEAST_SIGNAL:
                return bits
            if sure and share >= LEAST_AT_ALL and (best is None or share > best[0]):
                best = (share, bits)
        bits += 1
    return best[1] if best else None


def _chain_noise(rho: float, n: Array) -> Array:
    """Variance of failures among n requests of a two-state chain over the binomial one."""
    if rho <= 0:
        return np.ones(len(n))
    rho = min(rho, 1 - 1e-9)
    return np.asarray((1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2))


def unevenness(n: Array, k: Array) -> float:
    """How much more failures vary between the halves of windows than if they came in any order: both halves share a level.
    ``n``, ``k``: [windows, 2]."""
    (n1, n2), (k1, k2) = n.T, k.T
    both, whole = n1 + n2, k1 + k2
    told = (n1 > 0) & (n2 > 0) & (whole > 0)
    n1, n2, k1, k2, both, whole = (x[told] for x in (n1, n2, k1, k2, both, whole))
    by_chance = float((whole * (both - whole) / (both - 1)).sum())
    if by_chance <= 0:
        return 1.0
    ratio = float(((k1 * n2 - k2 * n1) ** 2 / (n1 * n2)).sum()) / by_chance
    size = float(both @ whole) / float(whole.sum())
    return ratio * size / (size - 1 + ratio)


def _law(s: Seen, noise: float) -> tuple[Array, Array]:
    """(levels, shares) by maximum likelihood."""
    used = s.n > 0
    n, k, odds = s.n[used], s.k[used], odds_of(s.p[used])
    high = float(((k + 0.5) / (n - k + 0.5) / odds).max())
    low = min(float(odds_of(1e-3 / n.mean()) / odds.max()), 0.5, high / 2)
    levels = np.geomspace(low, high, GRID)
    # windows alike are taken together: the log-likelihood is linear in both counts
    cell = np.stack([np.rint(8 * np.log1p(n)), np.where(k < 16, k, np.rint(16 + 8 * np.log(np.maximum(k, 16) / 16))), np.rint(20 * np.log(odds))])  # fmt: skip
    _, at, times = np.unique(cell, axis=1, return_inverse=True, return_counts=True)
    at = at.reshape(-1)
    mean_n, mean_k, mean_odds = (np.bincount(at, x) / times for x in (n, k, odds))
    made = mean_odds[:, None] * levels
    likely = (mean_k[:, None] * np.log(made) - mean_n[:, None] * np.log1p(made)) / noise
    kernel = np.exp(likely - likely.max(axis=1, keepdims=True))
    return levels, mixed(kernel, times / times.sum(), ROUNDS)


def _merged(levels: Array, shares: Array, rate: float, requests: float) -> tuple[Array, Array]:
    """At most MOST_LEVELS levels, each of ten requests or more: neighbours whose joining changes the chances least are joined."""
    odds = levels * odds_of(rate)
    p, w = odds / (1 + odds), shares.copy()
    few = w * requests < 1e-3
    p, w = p[~few], w[~few] / w[~few].sum()
    while len(w) > 1:
        loss = w[1:] * w[:-1] / (w[1:] + w[:-1]) * np.diff(p) ** 2
        rare = w * requests < K_ANONYMITY
        if rare.any():
            loss = np.where(rare[1:] | rare[:-1], loss, np.inf)
        elif len(w) <= MOST_LEVELS and loss.min() > ALIKE * rate * (1 - rate):
            break
        i = int(np.argmin(loss))
        both = w[i] + w[i + 1]
        p[i] = (p[i] * w[i] + p[i + 1] * w[i + 1]) / both
        w[i] = both
        p, w = np.delete(p, i + 1), np.delete(w, i + 1)
    return odds_of(p) / odds_of(rate), w


def _spread(levels: Array, shares: Array, rate: float, variance: float) -> Array:
    """Levels to the power by which chances have this variance, their mean the rate."""

    def raised(power: float) -> Array:
        made = levels**power
        return made * scaled_to(made * odds_of(rate), shares, rate)

    def of(power: float) -> float:
        odds = raised(power) * odds_of(rate)
        return float(shares @ (odds / (1 + odds) - rate) ** 2)

    power = rising_solution(of, variance, 4.0)
    return raised(1.0 if power is None else power)


def steps(found: OddsLevels, rate: float) -> tuple[Array, Array]:
    """(z at which the chance of failing rises, by how much)."""
    from scipy.special import ndtri

    _, p = found.chances(np.array([rate]), np.ones(1), rate)
    upto = np.cumsum(found.shares)
    return ndtri(upto[:-1] / upto[-1]), np.diff(p[:, 0])


def covariances(at: Array, rise: Array) -> tuple[Array, Array]:
    """(correlations of z from 0 to 1; covariance of the chances at two instants whose z are so correlated). ``rise``: [steps],
    or [steps, steps] the weight of each pair."""
    width = math.pi / 2 / ANGLES
    weight = np.outer(rise, rise) if rise.ndim == 1 else rise
    squares, products = at[:, None] ** 2 + at**2, 2 * np.outer(at, at)
    angle = (np.arange(ANGLES) + 0.5) * width
    density = [
        float((weight * np.exp(-(squares - products * math.sin(x)) / (2 * math.cos(x) ** 2))).sum())
        for x in angle
    ]
    upto = np.concatenate([[0.0], np.cumsum(density)]) * width / (2 * math.pi)
    return np.sin(np.arange(ANGLES + 1) * width), upto


def _parts(found: OddsLevels, s: Seen, rate: float) -> Array:
    """Shares of z's parts, by the covariances of failures at positive lags and what these sum up to over windows of every
    width. Two windows have a part in common or not, and where they have one they have the longer ones (nearly: parts
    begin where they like). So covariances are sums of a share of each length times the chance to have that length in
    common, and the shares of all longer lengths together are the covariance at the correlation that these parts make."""
    r, known = covariances(*steps(found, rate))
    many = len(s.n)
    covariance = _products(s.off) / np.maximum(_products(s.n), 0.5) / known[-1]
    wide, lags = np.array(lag_steps(many)), np.arange(many)
    lengths = part_lengths(many)

    def summed(x: Array) -> Array:
        """Over the pairs of windows of each width, per window."""
        upto, moments = np.cumsum(x), np.cumsum(x * lags)
        return np.asarray(1 + 2 * (upto[wide - 1] - upto[0]) - 2 * moments[wide - 1] / wide)

    told = summed(covariance)
    stays = [staying(n, lags) for n in lengths]
    made = np.stack([summed(x) for x in stays], axis=1)
    weight = 1 / (np.maximum(told, 1.0) * np.sqrt(1 + wide / many / WIDE))
    same = np.stack([x[wide] for x in stays], axis=1)
    rows = np.concatenate([same, made * weight[:, None]])
    longer = np.cumsum(simplex(rows, np.concatenate([covariance[wide], told * weight]))[::-1])
    return np.diff(np.interp(longer, known / known[-1], r), prepend=0.0)[::-1]


def _products(x: Array) -> Array:
    """[lags] sums of the products of windows that are so many windows apart."""
    size = 1 << (2 * len(x) - 1).bit_length()
    f = np.fft.rfft(x, size)
    return np.asarray(np.fft.irfft(f * f.conj(), size)[: len(x)])


def together(
    streams: Sequence[tuple[float, OddsLevels, FineWindows, Array]], number: Ints, bits: int
) -> list[OddsLevels]:
    """Levels of several streams, each with its rate, its windows and the rates [windows] that are expected in them; ``number``
    numbers the windows of 2**``bits`` ns of all of them. ``shared`` is the correlation of z by which their failures have the covariances
    that they have; the more z is shared, the more its parts are too."""
    if len(streams) < 2:
        return [s for _, s, _, _ in streams]
    n, off = np.zeros((len(streams), len(number))), np.zeros((len(streams), len(number)))
    for i, (_, _, w, p) in enumerate(streams):
        at = w.number(bits) - number[0]
        n[i, at], k = w.wider(bits)
        off[i, at] = k - n[i, at] * p
    wanted = float((off.sum(axis=0) ** 2 - (off**2).sum(axis=0)).sum())
    both = n @ n.T
    np.fill_diagonal(both, 0.0)
    rises = [steps(found, rate) for rate, found, _, _ in streams]
    of = np.repeat(np.arange(len(streams)), [len(z) for z, _ in rises])
    at, rise = (np.concatenate(x) for x in zip(*rises, strict=True))
    r, known = covariances(at, np.outer(rise, rise) * both[np.ix_(of, of)])
    shared = float(np.interp(wanted, known, r))
    parts = np.zeros((len(streams), max(len(found.parts) for _, found, _, _ in streams)))
    for i, (_, found, _, _) in enumerate(streams):
        parts[i, : len(found.parts)] = found.parts
    parts += shared * (parts.mean(axis=0) - parts)
    return [
        replace(found, shared=short(shared, 4), parts=tuple(short(x, 4) for x in own))
        for (_, found, _, _), own in zip(streams, parts, strict=True)
    ]

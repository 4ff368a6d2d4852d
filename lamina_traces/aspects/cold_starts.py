"""Cold starts: how long a pod takes to become ready, and which step takes the time.

Two definitions of a component's share rank the components differently, so both are given: the share of the
summed time, and the mean over cold starts of the share in each. Scopes are never pooled: the platform's
whole cold start (total), runtime init only (init) and model loading (model_load) are separate components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import Fitted, Grid, fit_families
from ..errors import ModelError, Notice
from ..units import format_seconds
from . import Finding, Line
from .arrivals import two_sample_ks

if TYPE_CHECKING:
    from ..store import Trace

NAME = "cold_starts"
VERSION = 1
TABLES = ("cold_starts",)

PARTS = ("pod_alloc", "deploy_code", "deploy_dep", "scheduling")
WHOLES = ("total", "init", "model_load")
"""what a trace can say of a cold start as one figure, best first; the later ones are of their scope alone."""


@dataclass(frozen=True)
class Component:
    """Seconds. ``zero_share``: cold starts that skip this step; quantiles are of all, families of the others."""

    rows: float
    mean_s: float
    zero_share: float
    quantiles_s: dict[str, float]
    grid: Grid | None
    families: tuple[Fitted, ...]
    share_of_sum: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "mean_s": self.mean_s,
            "zero_share": self.zero_share,
            "quantiles_s": self.quantiles_s,
            "grid": self.grid.to_dict() if self.grid else None,
            "families": [f.to_dict() for f in self.families],
            "share_of_sum": self.share_of_sum,
        }


@dataclass(frozen=True)
class ColdStarts:
    """Components by name; one of ``WHOLES`` is always there."""

    components: dict[str, Component]

    @property
    def main(self) -> str:
        """The component that stands for the cold start: the whole one, else the widest that is recorded."""
        return next(name for name in WHOLES if name in self.components)

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "components": {k: c.to_dict() for k, c in self.components.items()},
        }

    def findings(self) -> list[Finding]:
        total = self.components[self.main]
        q = total.quantiles_s
        scope = "" if self.main == "total" else f" ({self.main.replace('_', ' ')} alone)"
        best = total.families[0] if total.families else None
        out = [
            Finding(
                NAME,
                f"{total.rows:,.0f} cold starts{scope}: median {format_seconds(q['p50'])}, mean {format_seconds(total.mean_s)}"
                + (f", p99 {format_seconds(q['p99'])}." if "p99" in q else "."),
                model=best.family if best else "",
                effect=f"KS D {best.ks_d:.3f}, W1 {best.w1_log10:.3f} decades" if best else "",
            )
        ]
        shares = sorted(
            ((c.share_of_sum, k) for k, c in self.components.items() if c.share_of_sum is not None),
            reverse=True,
        )
        if shares:
            out.append(
                Finding(
                    NAME,
                    "Of the summed time, "
                    + ", ".join(f"{s:.0%} is {k.replace('_', ' ')}" for s, k in shares)
                    + ".",
                )
            )
        return out


def from_dict(d: dict[str, Any]) -> ColdStarts:
    """Inverse of ``ColdStarts.to_dict``."""
    found = ColdStarts(
        {
            str(k): Component(
                float(c["rows"]), float(c["mean_s"]), float(c["zero_share"]),
                {str(a): float(b) for a, b in c["quantiles_s"].items()},
                Grid.from_dict(c["grid"]) if c["grid"] else None,
                tuple(Fitted.from_dict(f) for f in c["families"]),
                None if c["share_of_sum"] is None else float(c["share_of_sum"]),
            )
            for k, c in d["components"].items()
        }
    )  # fmt: skip
    if not any(name in found.components for name in WHOLES):
        raise ModelError("cold starts of the profile have no duration", "fit the profile again")
    return found


def component_counts(trace: Trace) -> dict[str, Counts]:
    """Counts of each recorded component, in seconds on a microsecond grid."""
    t = trace.query("cold_starts/component_counts").to_pydict()
    name, us, n = (
        np.array(t["component"]),
        np.array(t["us"], dtype=np.float64),
        np.array(t["n"], dtype=np.float64),
    )
    return {
        str(k): Counts.exact(us[name == k] * 1e-6, n[name == k], "s")
        for k in dict.fromkeys(t["component"])
    }


def fit(trace: Trace, notices: list[Notice]) -> ColdStarts | None:
    """Fit ``cold_starts``: quantiles, families and shares of the total and of each recorded component."""
    counts = component_counts(trace)
    main = next((name for name in WHOLES if name in counts), None)
    if main is None:
        notices.append(Notice("not-recorded", "no cold start carries a duration", NAME))
        return None
    rows = counts[main].rows
    if rows < 20:
        notices.append(
            Notice(
                "too-few-rows",
                f"{rows:.0f} cold starts: quantiles are shown, laws are not fitted",
                NAME,
            )
        )
    whole = sum(counts[p].sum for p in PARTS if p in counts)
    components = {}
    for name, c in counts.items():
        probabilities = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
        if c.rows * 0.01 < 10:  # fewer than ten samples beyond it
            del probabilities["p99"]
        q = c.quantile(np.array(list(probabilities.values())))
        positive = c.where(c.x > 0)
        components[name] = Component(
            rows=c.rows,
            mean_s=c.mean,
            zero_share=float(c.n[c.x == 0].sum() / c.rows),
            quantiles_s=dict(zip(probabilities, map(float, q), strict=True)),
            grid=Grid.of(c) if c.rows >= 20 else None,
            families=tuple(fit_families(positive, tick=1e-6)) if c.rows >= 20 else (),
            share_of_sum=c.sum / whole if name in PARTS and whole > 0 else None,
        )
    return ColdStarts(components)


def score(a: Trace, b: Trace) -> list[Line]:
    """KS D of the total and of each component that both record."""
    ca, cb = component_counts(a), component_counts(b)
    return [Line(NAME, f"{k} KS D", two_sample_ks(ca[k], cb[k]), None) for k in ca if k in cb]

"""Aspects of a workload: one file each, answering its aspect whole (queries, fit, sample, score, to_dict).

An aspect module offers:

- ``NAME``, ``VERSION`` (bumped when its dictionary changes), ``TABLES`` it applies to;
- ``NEEDS``: the columns without which it cannot be fitted, and ``RECORD``: the setting of a server, client or
  logger that would record them. They are how ``fit`` and ``show`` say what a trace cannot answer;
- a frozen dataclass with ``to_dict`` / ``from_dict`` and ``findings()``: what it says, in sentences;
- ``fit(trace, notices, seen=None) -> aspect | None``: None, with a Notice, when the trace cannot answer;
- a class ``Pass(trace)`` where it reads rows in time order (see ``timeline``): one scan feeds the passes of all
  aspects, and ``fit`` gets its own as ``seen``; without it ``fit`` scans by itself;
- ``sample(…)`` where the generator can make it: a pure function of the aspect and a random stream;
- ``score(a, b) -> list[Line]``: how far two traces differ in this aspect; or, where rows in time order say it all,
  ``distances(a, b) -> list[Line]`` of two ``Rows``, which judges bootstraps and generators just as well.

The order of ``ASPECTS`` is the order in which the generator folds them: what one gives, a later one may need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from .. import profile_schema
from ..errors import ModelError


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a workload with the numbers it rests on."""

    aspect: str
    text: str
    model: str = ""
    """best model, short: a family's name, "two-state"."""
    parameters: str = ""
    """its parameters, each with its interval: ``shape 0.42 [0.40, 0.44]``."""
    effect: str = ""
    """effect size of the model against the data, short."""
    warning: str = ""
    """code of the notice that limits the finding."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a score card: a distance between two traces, 0 when they agree.

    ``limit`` is the largest value that passes a gate; None means informative only. ``floor``: the value that a block
    bootstrap of the first trace has (median of its draws), ``floor_range`` its lowest and highest; ``seed_range``: lowest
    and highest value over the seeds of a generated second trace, whose median is then ``value``.
    """

    aspect: str
    metric: str
    value: float | None
    limit: float | None
    unit: str = ""
    note: str = ""
    floor: float | None = None
    floor_range: tuple[float, float] | None = None
    seed_range: tuple[float, float] | None = None

    @property
    def passed(self) -> bool | None:
        """None when the line is informative or could not be computed."""
        if self.limit is None or self.value is None:
            return None
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What a trace cannot say: the ``aspect``, the columns it ``needs`` that are not recorded, and the setting
    that would ``record`` them."""

    aspect: str
    needs: tuple[str, ...]
    record: str

    def to_dict(self) -> dict[str, Any]:
        return {"aspect": self.aspect, "needs": list(self.needs), "record": self.record}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Unanswered:
        return cls(str(d["aspect"]), tuple(map(str, d["needs"])), str(d["record"]))


class Aspect(Protocol):
    """What every fitted aspect offers."""

    def to_dict(self) -> dict[str, Any]: ...

    def findings(self) -> list[Finding]: ...


_MODULES = (
    "arrivals",
    "lengths",
    "sessions",
    "workflows",
    "prefixes",
    "failures",
    "cold_starts",
    "power",
    "operating_points",
    "metrics",
    "invocations",
    "jobs",
    "incidents",
)
ASPECTS: dict[str, ModuleType] = {}
"""aspect modules by name, in folding order; filled at the end of this file."""


def from_dict(name: str, d: dict[str, Any]) -> Aspect:
    """An aspect from its dictionary in a profile. Raises ModelError on a version from the future."""
    module = ASPECTS[name]
    if not isinstance(d, dict):
        raise ModelError(
            f"aspect {name!r} of the profile is {d!r:.40}, not an object", "fit the profile again"
        )
    version = d.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelError(f"aspect {name!r} of the profile has no version", "fit the profile again")
    if version > module.VERSION:
        raise ModelError(
            f"aspect {name!r} of the profile has version {version}, this tool reads up to {module.VERSION}",
            "install a newer lamina-traces",
        )

    def place() -> str | None:
        return profile_schema.fault(d, name) if version == module.VERSION else None

    read: Callable[[dict[str, Any]], Aspect] = module.from_dict
    try:
        return read(d)
    except ModelError as e:
        where = place()
        raise ModelError(f"{e.message}: {where}" if where else e.message, e.hint) from e
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
        raise ModelError(
            f"aspect {name!r} of the profile is damaged: {place() or repr(e)}",
            "mend that place, or fit the profile again",
        ) from e


for _name in _MODULES:
    _module = import_module(f".{_name}", __name__)
    ASPECTS[_module.NAME] = _module

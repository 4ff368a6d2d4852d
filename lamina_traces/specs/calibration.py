"""Calibrations as files: efficiencies of one machine, with where they are from, as TOML that a spec takes.

format = "lamina-calibration/1"
basis = "fitted"                     # or "measured": on a device, by calibrate --device
date = "2026-11-24"
era = "2025"
points = 12
deployments = ["llama-3.1-8b on l40s, bf16"]

[[inputs]]
name = "run.json"
sha256 = "…"

[efficiency]
memory = 0.78
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..costs import era as known_era
from ..errors import DataError, UsageError
from .serving import Serving, check, main_group

FORMAT = "lamina-calibration/1"
_TEXTS = ("date", "era", "about")


@dataclass(frozen=True)
class Calibration:
    """``efficiency``: values of costs.Efficiency by name. ``deployments``: what they are of, as ``model on gpu, dtype``.
    ``errors``: mean |relative error| by name (``before``, ``left_out``). ``inputs``: (file, sha256).
    ``measured``: figures of a device in their own units (basis measured)."""

    efficiency: Mapping[str, float]
    basis: Literal["fitted", "measured"]
    date: str
    era: str = "2025"
    points: int = 0
    deployments: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[tuple[str, str], ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    about: str = ""
    """driver, versions: what else is to be known."""

    @property
    def source(self) -> str:
        """What the spec says of its efficiencies: ``fitted: 12 points of …, 2026-11-24, sha256 …``."""
        said = [f"{self.points} points" if self.basis == "fitted" else "on the device"]
        said += [" and ".join(self.deployments) or "no deployment stated", self.date]
        said += [f"sha256 {digest[:16]}" for _, digest in self.inputs[:3]]
        return f"{self.basis}: " + ", ".join(said)

    def dumps(self) -> str:
        """The TOML file."""
        head: dict[str, Any] = {"format": FORMAT, "basis": self.basis, "date": self.date}
        head |= {"era": self.era, "points": self.points, "deployments": list(self.deployments)}
        head |= {"about": self.about} if self.about else {}
        # JSON's strings, numbers and lists of text are TOML's
        lines = [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in head.items()]
        for name, digest in self.inputs:
            lines += ["", "[[inputs]]", f"name = {json.dumps(name, ensure_ascii=False)}"]
            lines += [f'sha256 = "{digest}"']
        for title in ("efficiency", "errors", "measured"):
            values: Mapping[str, float] = getattr(self, title)
            if values:
                lines += ["", f"[{title}]", *(f"{k} = {v:.6g}" for k, v in values.items())]
        return "\n".join(lines) + "\n"

    def apply(self, spec: Serving) -> Serving:
        """The spec with these efficiencies. UsageError where it has its own, or states another era."""
        if not self.efficiency:
            raise UsageError(
                "the calibration has no efficiency: its device is not in the catalogue",
                "measure with --gpu NAME, one of: lamina-traces catalog gpus",
            )
        if spec.efficiency:
            raise UsageError(
                f"the spec states {', '.join(spec.efficiency)} and so does the calibration",
                "take [efficiency] out of the spec, or leave --calibration out",
            )
        if spec.era not in ("2025", self.era):
            raise UsageError(
                f"the spec is of era {spec.era}, the calibration of {self.era}",
                f"leave the era out, or calibrate with --era {spec.era}",
            )
        return check(
            replace(spec, era=self.era, efficiency=dict(self.efficiency), calibration=self.source)
        )

    def is_of(self, spec: Serving) -> bool:
        """Whether the spec's first pool is one of the deployments that this is of."""
        gpu = main_group(spec.pools[0]).gpu
        names = {
            deployment_name(spec.model, gpu, spec.dtype),
            deployment_name("any model", gpu, "any type"),
        }
        return not names.isdisjoint(self.deployments)


def deployment_name(model: str, gpu: str, dtype: str) -> str:
    """How a calibration names what it is of."""
    return f"{model} on {gpu}, {dtype}"


def load_calibration(path: Path) -> Calibration:
    """Read a calibration. DataError where it is none."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise DataError(
            f"cannot be read: {why}", "write one with: lamina-traces calibrate … -o FILE", path=path
        ) from e
    hint = "write one with: lamina-traces calibrate … -o FILE"
    if data.get("format") != FORMAT:
        raise DataError(f"is no calibration (format = {FORMAT!r} is not in it)", hint, path=path)
    if data.get("basis") not in ("fitted", "measured"):
        raise DataError(f"basis = {data.get('basis')!r} is neither fitted nor measured", hint, path=path)  # fmt: skip
    tables = {}
    for title in ("efficiency", "errors", "measured"):
        table = data.get(title, {})
        if not isinstance(table, dict) or any(
            isinstance(v, bool) or not isinstance(v, int | float) for v in table.values()
        ):
            raise DataError(f"[{title}] is not a table of numbers", hint, path=path)
        tables[title] = {str(k): float(v) for k, v in table.items()}
    for name in _TEXTS:
        if not isinstance(data.get(name, ""), str):
            raise DataError(f"{name} = {data[name]!r} is not text", hint, path=path)
    inputs, points, of = data.get("inputs", []), data.get("points", 0), data.get("deployments", [])
    if (
        not isinstance(points, int)
        or not isinstance(of, list)
        or not isinstance(inputs, list)
        or not all(isinstance(i, dict) and {"name", "sha256"} <= set(i) for i in inputs)
    ):
        raise DataError("points, deployments or inputs are not as they are written", hint, path=path)  # fmt: skip
    era = str(data.get("era", "2025"))
    known_era(era)
    return Calibration(
        basis=data["basis"],
        date=str(data.get("date", "")),
        era=era,
        points=points,
        deployments=tuple(map(str, of)),
        inputs=tuple((str(i["name"]), str(i["sha256"])) for i in inputs),
        about=str(data.get("about", "")),
        **tables,
    )

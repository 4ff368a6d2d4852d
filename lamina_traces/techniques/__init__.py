"""Serving techniques: one file per published idea, a pure change of requests, spec or step model.

A technique has up to three phases, run in this order over all techniques in the order they were given:

    requests → requests          spec → spec          step model → step model

With its neutral setting a technique changes nothing (tested), and techniques that touch different fields
commute (tested).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..costs import StepModel
from ..errors import UnknownName, UsageError
from ..schema import Requests
from ..specs import Serving
from ..units import Quantity

Params = Mapping[str, Any]
"""a number for each of a technique's parameters, a name for each of its choices."""


@dataclass(frozen=True)
class Choice:
    """A parameter that is a name. ``named`` gives the canonical one, or raises UnknownName."""

    default: str
    what: str
    named: Callable[[str], str]


@dataclass(frozen=True)
class Technique:
    """``parameters``: defaults, each with unit, source and basis. ``bounds``: (lowest, highest) allowed. ``choices``:
    parameters that are names. ``neutral``: the setting that changes nothing, for all parameters that matter to that.
    ``excludes``: techniques that cannot be combined with it. ``limits``: what the model leaves out, for people.
    """

    name: str
    paper: str
    what: str
    parameters: Mapping[str, Quantity]
    bounds: Mapping[str, tuple[float, float]]
    neutral: Params
    limits: str
    choices: Mapping[str, Choice] = field(default_factory=dict)
    excludes: frozenset[str] = frozenset()
    requests: Callable[[Requests, Params], Requests] | None = None
    spec: Callable[[Serving, Params], Serving] | None = None
    step: Callable[[StepModel, Params], StepModel] | None = None


@dataclass(frozen=True)
class Applied:
    """A technique with its parameters set."""

    technique: Technique
    params: Params

    def __str__(self) -> str:
        said = (
            f"{k}={v if isinstance(v, str) else format(v, 'g')}" for k, v in self.params.items()
        )
        return f"{self.technique.name}:{','.join(said)}"


def named(name: str) -> Technique:
    """Raises UnknownName."""
    if name not in TECHNIQUES:
        raise UnknownName("technique", name, TECHNIQUES, "lamina-traces catalog techniques")
    return TECHNIQUES[name]


def parse(text: str) -> Applied:
    """``"speculative-decoding:acceptance=0.7"`` → Applied; what is not named keeps its default.

    Raises UnknownName (technique, parameter), UsageError (not a number, out of bounds).
    """
    name, _, rest = text.partition(":")
    technique = named(name)
    params: dict[str, Any] = {k: float(q.value) for k, q in technique.parameters.items()}
    params |= {k: c.default for k, c in technique.choices.items()}
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        if key not in params:
            raise UnknownName(f"parameter of {name}", key, params)
        if key in technique.choices:
            params[key] = technique.choices[key].named(value)
            continue
        try:
            params[key] = float(value)
        except ValueError as e:
            raise UsageError(
                f"{name}: {key}={value!r} is not a number", f"write it like {name}:{key}=0.5"
            ) from e
        low, high = technique.bounds[key]
        if not (math.isfinite(params[key]) and low <= params[key] <= high):
            raise UsageError(f"{name}: {key}={value} is out of bounds", f"{low:g} to {high:g}")
    return Applied(technique, params)


def check(applied: Sequence[Applied]) -> None:
    """Raises UsageError when two techniques exclude each other or one is named twice."""
    names = [a.technique.name for a in applied]
    for i, a in enumerate(applied):
        for other in names[:i]:
            if other == a.technique.name or other in a.technique.excludes:
                raise UsageError(
                    f"{a.technique.name} cannot be combined with {other}", "name one of them"
                )


def apply_requests(applied: Sequence[Applied], requests: Requests) -> Requests:
    for a in applied:
        if a.technique.requests:
            requests = a.technique.requests(requests, a.params)
    return requests


def apply_spec(applied: Sequence[Applied], spec: Serving) -> Serving:
    for a in applied:
        if a.technique.spec:
            spec = a.technique.spec(spec, a.params)
    return spec


def apply_step(applied: Sequence[Applied], model: StepModel) -> StepModel:
    for a in applied:
        if a.technique.step:
            model = a.technique.step(model, a.params)
    return model


from . import (  # noqa: E402 - they need the types above
    attention_offload,
    global_prefix_sharing,
    intra_device_overlap,
    speculative_decoding,
    virtual_memory_kv,
)

TECHNIQUES: Mapping[str, Technique] = {
    m.TECHNIQUE.name: m.TECHNIQUE
    for m in (
        attention_offload,
        intra_device_overlap,
        virtual_memory_kv,
        global_prefix_sharing,
        speculative_decoding,
    )
}

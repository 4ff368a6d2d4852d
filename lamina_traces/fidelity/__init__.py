"""Fidelity: how far a second workload is from a first, and how far it could be expected to be."""

from __future__ import annotations

from .card import ScoreCard, compare

__all__ = ["ScoreCard", "compare"]

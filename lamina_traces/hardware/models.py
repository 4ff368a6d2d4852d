"""Model shapes: the dimensions of decoder-only transformers, and what follows from them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..errors import DataError
from ..units import Quantity
from .catalogue import find, quantities, read_toml

_UNITS = {
    "layers": "",
    "hidden": "",
    "heads": "",
    "kv_heads": "",
    "head_dim": "",
    "ffn": "",
    "vocab": "tokens",
    "experts": "",
    "experts_per_token": "",
    "max_context": "tokens",
}

BYTES = {"fp16": 2.0, "bf16": 2.0, "fp8": 1.0}
"""bytes of one element by dtype."""


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer with gated feed-forward layers (dense, or a mixture of experts).

    ``experts`` = 1 for a dense model. ``ffn`` is the width of one expert. Embedding and output matrix are
    separate (as in every model of the catalogue).
    """

    name: str
    names: tuple[str, ...]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_context: int
    experts: int
    experts_per_token: int
    sources: tuple[tuple[str, Quantity], ...] = ()

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of K (and of V) per token and layer."""
        return self.kv_heads * self.head_dim

    @property
    def attention_params(self) -> int:
        """Q, K, V and output projections, all layers."""
        return self.layers * self.hidden * (2 * self.q_width + 2 * self.kv_width)

    @property
    def expert_params(self) -> int:
        """Up, gate and down of one expert, all layers."""
        return self.layers * 3 * self.hidden * self.ffn

    @property
    def router_params(self) -> int:
        return self.layers * self.hidden * self.experts if self.experts > 1 else 0

    @property
    def head_params(self) -> int:
        return self.vocab * self.hidden

    @property
    def params(self) -> int:
        """All parameters held in memory (norms, which are negligible, left out)."""
        return (
            self.attention_params
            + self.experts * self.expert_params
            + self.router_params
            + 2 * self.head_params
        )

    @property
    def active_params(self) -> int:
        """Parameters that one token is multiplied with (embedding left out)."""
        used = self.experts_per_token * self.expert_params
        return self.attention_params + used + self.router_params + self.head_params

    def weight_bytes(self, dtype: str) -> float:
        return self.params * BYTES[dtype]

    def kv_bytes_per_token(self, dtype: str, tp: int = 1) -> float:
        """K and V of one token, all layers, over the whole group; heads are replicated where tp > kv_heads."""
        return 2.0 * self.layers * max(self.kv_heads, tp) * self.head_dim * BYTES[dtype]

    def quantities(self) -> dict[str, Quantity]:
        return dict(self.sources)


@functools.cache
def all_models() -> dict[str, Model]:
    """All model shapes of the catalogue by canonical name."""
    data, where = read_toml(None, "models.toml")
    out = {}
    for name, row in data.items():
        q = quantities(row, _UNITS, f"{where} [{name}]")
        missing = set(_UNITS) - {"experts", "experts_per_token"} - set(q)
        if missing:
            raise DataError(
                f"{where} [{name}] lacks {', '.join(sorted(missing))}", "complete the row"
            )
        n = {k: int(v.value) for k, v in q.items()}
        n.setdefault("experts", 1)
        n.setdefault("experts_per_token", 1)
        out[name] = Model(
            name=name, names=tuple(row.get("names", ())), sources=tuple(q.items()), **n
        )
    return out


def model(name: str) -> Model:
    """By canonical name or Hugging Face id, in any case. Raises UnknownName."""
    rows = all_models()
    return rows[
        find("model", name, {k: m.names for k, m in rows.items()}, "lamina-traces catalog models")
    ]

"""Model shapes: the dimensions of decoder-only transformers, and what follows from them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownName, UsageError
from ..units import Quantity
from .catalogue import closest, fold, quantities, rows

_NEEDED = {
    "layers": "",
    "hidden": "",
    "heads": "",
    "kv_heads": "",
    "head_dim": "",
    "ffn": "",
    "vocab": "tokens",
    "max_context": "tokens",
}
_SHAPE = {
    **_NEEDED,
    "experts": "",
    "experts_per_token": "",
    "shared_ffn": "",
    "dense_layers": "",
    "dense_ffn": "",
    "kv_lora_rank": "",
    "q_lora_rank": "",
    "qk_rope_dim": "",
    "qk_nope_dim": "",
    "v_head_dim": "",
    "window": "tokens",
    "full_layers": "",
    "linear_layers": "",
    "linear_key_width": "",
    "linear_value_width": "",
    "linear_head_dim": "",
    "positions": "tokens",
}
_FLAGS = ("tied", "plain-ffn", "gated-attention", "mtp", "qk-norm", "post-norm")

BYTES = {
    "fp32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5625,
    "mxfp4": 0.53125,
    "int4": 0.53125,
}
"""bytes of one element by dtype, block scales included: fp4 (NVFP4) one byte per 16 elements, mxfp4 one per 32, int4
(AWQ, GPTQ) 4 bytes of scale and zero per 128."""


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer, dense or a mixture of experts; the fields are described in models.toml.

    ``experts`` = 1 for a dense model, whose feed-forward width is ``ffn``; else ``ffn`` is the width of one
    expert. ``native``: dtype of the published weights; ``quantized``: the part that has it ("experts", or
    "all" matrices but embedding and output).
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
    experts: int = 1
    experts_per_token: int = 1
    shared_ffn: int = 0
    dense_layers: int = 0
    dense_ffn: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    qk_rope_dim: int = 0
    qk_nope_dim: int = 0
    v_head_dim: int = 0
    window: int = 0
    full_layers: int = 0
    linear_layers: int = 0
    linear_key_width: int = 0
    linear_value_width: int = 0
    linear_head_dim: int = 0
    positions: int = 0
    flags: tuple[str, ...] = ()
    native: str = "bf16"
    quantized: str = "all"
    kv_native: str | None = None
    """dtype of the KV cache that the weights' publisher states; None: two bytes."""
    sources: tuple[tuple[str, Quantity], ...] = ()

    @property
    def tied(self) -> bool:
        return "tied" in self.flags

    @property
    def matrices(self) -> int:
        """Matrices of a feed-forward layer: up, gate, down; or up and down."""
        return 2 if "plain-ffn" in self.flags else 3

    @property
    def mla(self) -> bool:
        """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one latent per token."""
        return self.kv_lora_rank > 0

    @property
    def attention_layers(self) -> int:
        """Layers that hold keys and values."""
        return self.layers - self.linear_layers

    @property
    def window_layers(self) -> int:
        return self.attention_layers - self.full_layers if self.window else 0

    @property
    def moe_layers(self) -> int:
        return self.layers - self.dense_layers if self.experts > 1 else 0

    @property
    def q_width(self) -> int:
        """Width of all query heads, as multiplied with the keys."""
        return self.heads * ((self.qk_nope_dim + self.qk_rope_dim) if self.mla else self.head_dim)

    @property
    def o_width(self) -> int:
        """Width that the output projection reads."""
        return self.heads * (self.v_head_dim if self.mla else self.head_dim)

    @property
    def kv_width(self) -> int:
        """Width of K (and of V) per token and layer; of the latent and its rotary key under MLA."""
        return self.kv_lora_rank + self.qk_rope_dim if self.mla else self.kv_heads * self.head_dim

    @property
    def attention_gemms(self) -> list[tuple[str, int, int, int]]:
        """Projections of attention: (name, inputs, outputs, layers)."""
        h, n = self.hidden, self.attention_layers
        if self.mla:
            up = self.heads * (self.qk_nope_dim + self.v_head_dim)
            down = self.q_lora_rank + self.kv_lora_rank + self.qk_rope_dim
            if self.q_lora_rank:
                gemms = [("qkv_down", h, down, n), ("q_up", self.q_lora_rank, self.q_width, n)]
            else:
                gemms = [("qkv_down", h, self.q_width + down, n)]
            return [*gemms, ("kv_up", self.kv_lora_rank, up, n), ("o", self.o_width, h, n)]
        q = self.q_width * (2 if "gated-attention" in self.flags else 1)
        gemms = [("qkv", h, q + 2 * self.kv_width, n), ("o", self.q_width, h, n)]
        if self.linear_layers:
            k, v = self.linear_key_width, self.linear_value_width
            gemms += [
                ("linear_in", h, 2 * k + 2 * v, self.linear_layers),
                ("linear_out", v, h, self.linear_layers),
            ]
        return gemms

    @property
    def attention_params(self) -> int:
        """Projections of attention, all layers."""
        return sum(n * k * layers for _, n, k, layers in self.attention_gemms)

    @property
    def expert_params(self) -> int:
        """One expert (or the feed-forward layer of a dense model), all layers that have experts."""
        layers = self.moe_layers or self.layers
        return layers * self.matrices * self.hidden * self.ffn

    @property
    def plain_ffn_params(self) -> int:
        """Feed-forward weights of a mixture of experts that every token uses: shared experts, dense layers."""
        shared = self.moe_layers * self.shared_ffn + self.dense_layers * self.dense_ffn
        return self.matrices * self.hidden * shared

    @property
    def router_params(self) -> int:
        return self.moe_layers * self.hidden * self.experts

    @property
    def head_params(self) -> int:
        return self.vocab * self.hidden

    @property
    def embedding_params(self) -> int:
        """Token and position embeddings that are not the output matrix."""
        return (0 if self.tied else self.head_params) + self.positions * self.hidden

    @property
    def params(self) -> int:
        """All parameters held in memory (norms and biases, which are negligible, left out)."""
        return (
            self.attention_params
            + self.experts * self.expert_params
            + self.plain_ffn_params
            + self.router_params
            + self.head_params
            + self.embedding_params
        )

    @property
    def active_params(self) -> int:
        """Parameters that one token is multiplied with (embedding left out)."""
        used = self.experts_per_token * self.expert_params + self.plain_ffn_params
        return self.attention_params + used + self.router_params + self.head_params

    def part_dtypes(self, dtype: str) -> dict[str, str]:
        """The dtype of each part's weights in a checkpoint of ``dtype``: attention, ffn (what every token uses),
        experts, head (output matrix and embedding). Quantized checkpoints keep the head at two bytes; those of
        models with latent attention have no 4-bit attention (eight bits at least)."""
        if BYTES[dtype] >= 2.0:
            return dict.fromkeys(("attention", "ffn", "experts", "head"), dtype)
        if self.quantized == "experts":
            return {"attention": "bf16", "ffn": "bf16", "experts": dtype, "head": "bf16"}
        attention = "fp8" if self.mla and BYTES[dtype] < 1.0 else dtype
        return {"attention": attention, "ffn": dtype, "experts": dtype, "head": "bf16"}

    def weight_bytes(self, dtype: str) -> float:
        d = {part: BYTES[t] for part, t in self.part_dtypes(dtype).items()}
        return (
            self.attention_params * d["attention"]
            + self.experts * self.expert_params * (d["experts"] if self.experts > 1 else d["ffn"])
            + self.plain_ffn_params * d["ffn"]
            + self.router_params * 2.0
            + (self.head_params + self.embedding_params) * d["head"]
        )

    def kv_bytes_per_token(self, dtype: str, tp: int = 1) -> float:
        """KV cache of one token, all layers that hold one, over ``tp`` devices; heads are replicated where tp >
        kv_heads, and the latent of MLA on every device."""
        if self.mla:
            return float(self.attention_layers * self.kv_width * tp) * BYTES[dtype]
        heads = max(self.kv_heads, tp)
        return 2.0 * self.attention_layers * heads * self.head_dim * BYTES[dtype]

    @property
    def state_bytes(self) -> float:
        """State of the linear layers, per sequence: one matrix of key × value a head, 32-bit."""
        return 4.0 * self.linear_layers * self.linear_value_width * self.linear_head_dim

    def quantities(self) -> dict[str, Quantity]:
        return dict(self.sources)


@functools.cache
def all_models() -> dict[str, Model]:
    """All model shapes of the catalogue by canonical name."""
    data, where = rows("models.toml")
    out = {}
    for name, row in data.items():
        shape = row.get("shape", {})
        unknown = [k for k in shape if k not in _SHAPE]
        unknown += [f for f in row.get("flags", ()) if f not in _FLAGS]
        zeros = {k: v for k, v in shape.items() if v == 0}
        stated = {k: v for k, v in shape.items() if v != 0}
        about: dict[str, Any] = {k: row[k] for k in ("source", "basis", "sources") if k in row}
        q = quantities({**stated, **about}, _SHAPE, f"{where} [{name}]")
        missing = set(_NEEDED) - set(q)
        if missing or unknown:
            raise DataError(
                f"{where} [{name}] lacks {sorted(missing)} and has unknown {unknown}",
                "compare the row with another",
            )
        out[name] = Model(
            name=name,
            names=tuple(row.get("names", ())),
            flags=tuple(row.get("flags", ())),
            native=row.get("native", "bf16"),
            quantized=row.get("quantized", "all"),
            sources=tuple(q.items()),
            **{**{k: int(v.value) for k, v in q.items()}, **zeros},
        )
    return out


@functools.cache
def _from_file(path: str, _changed_ns: int) -> Model:
    from .configs import read_config

    return read_config(Path(path))


_TYPES = {
    "fp8": "fp8", "nvfp4": "fp4", "fp4": "fp4", "mxfp4": "mxfp4",
    "int8": "int8", "8bit": "int8", "w8a8": "int8", "w8a16": "int8",
    "int4": "int4", "4bit": "int4", "w4a16": "int4", "awq": "int4", "gptq": "int4",
    "bf16": "bf16", "fp16": "fp16",
}  # fmt: skip
"""types of weights by what ends a checkpoint's name; of several the first here holds (GPTQ-Int8 is int8, FP8-W8A8 fp8)."""
_END = re.compile(rf"[-_.\s]({'|'.join(_TYPES)}|quantized|dynamic|block|kv|g128)$", re.IGNORECASE)


def _checkpoint(name: str) -> tuple[str, str | None, str | None]:
    """The name without what it says of types at its end; the type of the weights, and of the KV cache, None where unsaid."""
    said: set[str] = set()
    while end := _END.search(name):
        said.add(end[1].casefold())
        name = name[: end.start()]
    dtype = next((t for word, t in _TYPES.items() if word in said), None)
    return name, dtype, dtype if "kv" in said else None


@functools.cache
def _keys() -> dict[str, str]:
    """Canonical names by folded spelling: whole names, and then the last parts of Hugging Face ids."""
    whole = {fold(n): k for k, m in all_models().items() for n in (k, *m.names)}
    parts = {_part(n): k for k, m in all_models().items() for n in m.names}
    return {**parts, **whole}


def _part(name: str) -> str:
    return fold(name.rpartition("/")[2].removesuffix("-hf"))


def model(name: str) -> Model:
    """By canonical name, Hugging Face id (in any spelling), or path of a ``config.json`` or its folder.

    Of an id that is not listed the organisation does not count, and what its end says of its quantization (-FP8, -NVFP4,
    -AWQ, -GPTQ-Int4, -quantized.w8a8, …) becomes ``native``. Raises UnknownName; for a file, what
    ``configs.read_config`` raises.
    """
    if name.endswith(".json") or (name.startswith((".", "/", "~")) and name):
        path = Path(name).expanduser()
        path = path / "config.json" if path.is_dir() else path
        if not path.is_file():
            raise UsageError(f"model file {name} does not exist", "give the path of a config.json")
        return _from_file(str(path.resolve()), path.stat().st_mtime_ns)
    known, keys = all_models(), _keys()
    base, dtype, kv = _checkpoint(name)
    for spelling in (name, base) if dtype else (name,):
        key = keys.get(fold(spelling)) or keys.get(_part(spelling))
        if key is not None and spelling is name:
            return known[key]
        if key is not None and dtype is not None:
            return replace(known[key], native=dtype, kv_native=kv)
    names = {k: m.names for k, m in known.items()}
    listing = "lamina-traces catalog models, or give the path of its config.json"
    raise UnknownName("model", name, names, listing, closest(base, names))


def model_of_shape(name: str, source: str, values: dict[str, Any], **about: Any) -> Model:
    """A model whose numbers all come from one file (basis datasheet: its publisher's own statement)."""
    sources = tuple(
        (k, Quantity(float(v), _SHAPE[k], source, "datasheet")) for k, v in values.items() if v
    )
    return Model(name=name, names=(), sources=sources, **values, **about)

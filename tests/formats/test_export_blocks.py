"""Hash lists in exports against plain Python: shared partial blocks, ids of other sizes, text of long lists."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import DataError
from lamina_traces.formats.targets import blocks

SPREADS = {
    "dense": lambda i: i,
    "strided": lambda i: i << 40,
    "mixed": lambda i: (i * 0xD1342543DE82EF95 + 1) % 2**64,
    "top": lambda i: 2**64 - 1 - i,
}


def trace(lists: list[list[int]], tails: list[int], size: int = 512) -> pl.DataFrame:
    """Prompts that their lists cover, the last block of each holding so many tokens."""
    return pl.DataFrame(
        {
            "arrival_ns": range(len(lists)),
            "input_tokens": [
                (len(h) - 1) * size + t if h else 0 for h, t in zip(lists, tails, strict=True)
            ],
            "output_tokens": [1] * len(lists),
            "prefix_block_size": [size] * len(lists),
            "prefix_hashes": lists,
        },
        schema={
            "arrival_ns": pl.Int64,
            "input_tokens": pl.Int32,
            "output_tokens": pl.Int32,
            "prefix_block_size": pl.Int32,
            "prefix_hashes": pl.List(pl.UInt64),
        },
    )


def ids_of(path: Path) -> list[list[int] | None]:
    return [json.loads(line).get("hash_ids") for line in path.read_text().splitlines()]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prompts=st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), min_size=1, max_size=5), st.sampled_from([1, 300, 512])
        ),
        min_size=1,
        max_size=12,
    ),
    spread=st.sampled_from(sorted(SPREADS)),
    cells=st.sampled_from([2, 8, 1 << 20]),
    frames=st.integers(1, 4),
)
def test_partial_last_blocks_that_occur_elsewhere_get_private_ids(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompts: list[tuple[list[int], int]],
    spread: str,
    cells: int,
    frames: int,
) -> None:
    """Whatever the ids, however many of them share a cell, and wherever a frame ends."""
    monkeypatch.setattr(blocks, "CELLS", cells)
    lists = [[SPREADS[spread](i) for i in h] for h, _ in prompts]
    frame = trace(lists, [t for _, t in prompts])
    step = -(-len(lists) // frames)
    formats.export(
        (frame[i : i + step] for i in range(0, frame.height, step)), "mooncake", tmp_path / "m"
    )
    got = ids_of(tmp_path / "m")
    uses = Counter(i for h in lists for i in h)
    private = []
    for h, (_, tail), g in zip(lists, prompts, got, strict=True):
        assert g is not None
        if tail % 512 and uses[h[-1]] > 1:
            assert g[:-1] == h[:-1]
            private.append(g[-1])
        else:
            assert g == h
    assert len(set(private)) == len(private)
    assert not set(private) & set(uses)


def test_the_block_size_of_most_rows_counts_not_that_of_the_first(tmp_path: Path) -> None:
    few, many = trace([[1, 2], [1, 2]], [5, 5], 16), trace([[7, 8], [7, 8], [7, 9]], [5, 5, 5])
    many = many.with_columns(pl.col("arrival_ns") + 2)
    done = formats.export([few, many], "mooncake", tmp_path / "two")
    formats.export([pl.concat([few, many])], "mooncake", tmp_path / "one")
    assert ids_of(tmp_path / "two") == ids_of(tmp_path / "one")
    assert ids_of(tmp_path / "two") == [None, None, [7, 10], [7, 11], [7, 9]]
    assert "--isl-block-size" not in done.command


def test_an_id_that_is_null_is_an_error(tmp_path: Path) -> None:
    frame = trace([[1, 2]], [5]).with_columns(
        pl.Series("prefix_hashes", [[1, None]], dtype=pl.List(pl.UInt64))
    )
    with pytest.raises(DataError, match="null"):
        formats.export([frame], "mooncake", tmp_path / "m")


@pytest.mark.parametrize("target", ["mooncake", "mooncake-vllm", "bailian"])
def test_text_of_many_ids_is_joined_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    frame = trace([[1, 2**64 - 1, 3], [], [4], [5, 6], []], [1, 0, 1, 1, 0], 16)
    formats.export([frame], target, tmp_path / "whole")
    monkeypatch.setattr(blocks, "JOINED_IDS", 1)
    formats.export([frame], target, tmp_path / "parts")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert [h for h in ids_of(tmp_path / "whole") if h] == [[1, 2**64 - 1, 3], [4], [5, 6]]


@given(
    lists=st.lists(
        st.one_of(st.none(), st.lists(st.integers(0, 2**31), max_size=9)), min_size=1, max_size=9
    ),
    n=st.integers(1, 5),
    data=st.data(),
)
def test_ids_of_other_block_sizes(
    lists: list[list[int] | None], n: int, data: st.DataObject
) -> None:
    size = len(lists)
    most = data.draw(st.lists(st.integers(0, 30), min_size=size, max_size=size))
    given_, cut = pl.Series(lists, dtype=pl.List(pl.UInt64)), np.array(most)
    small = [[n * i + j for i in h or [] for j in range(n)] for h in lists]
    large = [[(h or [])[k : k + n][-1] for k in range(0, len(h or []), n)] for h in lists]
    assert blocks.split(given_, n, cut).to_list() == [
        h[:k] for h, k in zip(small, most, strict=True)
    ]
    assert blocks.grouped(given_, n, cut).to_list() == [
        h[:k] for h, k in zip(large, most, strict=True)
    ]

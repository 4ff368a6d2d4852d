"""The fast readers of JSON lines give what the exact one gives, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import LaminaError
from lamina_traces.formats import jsonlines
from tests.formats.reads import write

whole = st.one_of(
    st.integers(0, 5), st.sampled_from([2**31 - 1, 2**31, 2**63, 2**64 - 1, 2**64, -1, 10**25])
)
odd: st.SearchStrategy[Any] = st.one_of(
    whole,
    st.sampled_from([0.5, 1.0, 1e3, True, None, "7", "x", "", [], [1], [[1]], {}, {"a": 1}]),
)
ids = st.one_of(st.lists(whole, max_size=4), odd)
KEYS = ["timestamp", "input_length", "output_length", "hash_ids"]


@st.composite
def sources(draw: st.DrawFn) -> bytes:
    """Mooncake lines: mostly whole numbers in one layout, sometimes something else."""
    calm = draw(st.booleans())
    small = st.integers(0, 2000)
    spaced = draw(st.sampled_from([(", ", ": "), (",", ":"), (" , ", " :  ")]))
    lines = []
    for i in range(draw(st.integers(1, 6))):
        row: dict[str, Any] = {k: draw(small if calm else odd) for k in KEYS[:3]}
        row["hash_ids"] = draw(st.lists(st.integers(0, 2**64 - 1), max_size=4) if calm else ids)
        if not calm and draw(st.booleans()):
            row = {k: row[k] for k in draw(st.permutations(KEYS))}
            row.pop(draw(st.sampled_from(KEYS)))
        if not calm and draw(st.integers(0, 3)) == 0:
            row[f"more{i}"] = draw(odd)
        lines.append(json.dumps(row, separators=spaced))
    text = draw(st.sampled_from(["\n", "\r\n", "\n\n", ""])).join(lines)
    if not calm and draw(st.booleans()):
        text = text.replace(
            draw(st.sampled_from([",", "]", "1", "{", '"'])),
            draw(st.sampled_from(["", ",", "01", " ", "}"])),
            1,
        )
    return (text + draw(st.sampled_from(["", "\n"]))).encode()


def outcome(path: Path) -> object:
    try:
        reading = formats.open_reading([path], as_format="mooncake")
        blocks = list(reading)
    except LaminaError as e:
        return type(e), e.message
    frame = pl.concat([b.frame for b in blocks])
    return (
        frame.to_dicts(),
        pl.concat([b.rejects for b in blocks]).to_dicts(),
        reading.finish().to_dict(),
    )


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(source=sources())
def test_fast_and_exact_agree(tmp_path: Path, source: bytes) -> None:
    path = write(tmp_path / "m.jsonl", source)
    fast = outcome(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonlines, "read_block", lambda *_: None)
        assert outcome(path) == fast


@pytest.mark.parametrize(
    ("line", "quick"),
    [
        ('{"timestamp": 5, "input_length": 1, "output_length": 2, "hash_ids": [3, 18446744073709551615]}', True),
        ('{"timestamp": 5.25, "input_length": 1, "output_length": 2}', True),
        ('{"timestamp": 5, "input_length": 1.5, "output_length": 2}', False),
        ('{"timestamp": 5, "input_length": 1, "output_length": 2, "unknown": 1}', False),
        ('{"timestamp": true, "input_length": 1, "output_length": 2}', False),
        ('{"timestamp": 5, "input_length": 1, "output_length": 2, "hash_ids": [1.5]}', False),
    ],
)  # fmt: skip
def test_which_lines_are_read_at_once(line: str, quick: bool) -> None:
    from lamina_traces.formats.format import Context, Request
    from lamina_traces.formats.jsonfast import read_block

    head = formats.detection.head_of((line + "\n").encode())[0]
    binding = formats.FORMATS["mooncake"].binds(head, Request())
    block = (line + "\n").encode() * 50
    assert (read_block(block, binding, Context("", Request())) is not None) == quick

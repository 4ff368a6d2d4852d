"""Prefixes: an LRU cache that is played through block by block, ratios counted by hand, aiperf's figure."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import block_references, prefixes, stack_distances
from lamina_traces.aspects.block_references import References
from lamina_traces.aspects.block_reuse import RATIOS, Reuse, measure
from lamina_traces.errors import ModelError, Notice
from lamina_traces.reports import prefixes as report
from lamina_traces.reports.blocks import Figure, Table
from lamina_traces.reports.figures import points
from lamina_traces.store import Store, Trace

from .tables import stored

GOLDEN = Path(__file__).parents[1] / "golden"

Prompts = Sequence[Sequence[int]]


def lru(prompts: Prompts, capacity: int) -> list[int]:
    """Hit blocks of each prompt: a cache of whole prefixes, played through. The longest leading run of cached
    blocks is the hit; then all blocks are touched, the deepest first."""
    cache: OrderedDict[tuple[int, ...], None] = OrderedDict()
    out = []
    for ids in prompts:
        keys = [tuple(ids[: i + 1]) for i in range(len(ids))]
        hit = next((i for i, k in enumerate(keys) if k not in cache), len(keys))
        out.append(hit)
        for key in reversed(keys):
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return out


def prompts(rng: np.random.Generator, kind: str, n: int) -> list[list[int]]:
    """``single``: ids of single blocks, which come back at other places; ``chained``: prompts that go on from
    earlier ones, with new ids; ``flat``: the same few prompts again and again."""
    made: list[list[int]] = []
    for _ in range(n):
        if kind == "single":
            made.append(rng.integers(0, 4, rng.integers(0, 7)).tolist())
        elif kind == "flat":
            which = int(rng.integers(0, 5))
            made.append([10 * which + i for i in range(3)])
        else:
            before = made[rng.integers(0, len(made))] if made and rng.random() < 0.7 else []
            kept = before[: rng.integers(0, len(before) + 1)]
            made.append(kept + rng.integers(10, 1 << 60, rng.integers(0, 4)).tolist())
    return made


def columns(made: Prompts) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([i for p in made for i in p], dtype=np.uint64)
    return ids, np.array([len(p) for p in made], dtype=np.int64)


def depths(made: Prompts) -> stack_distances.Depths:
    ids, sizes = columns(made)
    keys = stack_distances.prefix_keys(ids, sizes)
    return stack_distances.depths(*stack_distances.previous(keys), sizes)


@pytest.mark.parametrize("kind", ["chained", "single", "flat"])
@pytest.mark.parametrize("seed", range(12))
def test_every_capacity_hits_what_a_played_lru_cache_hits(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = prompts(rng, kind, int(rng.integers(2, 70)))
    found = depths(made)
    for capacity in range(1, found.deepest + 3):
        hits = np.bincount(found.request, found.hits(capacity), len(made))
        assert hits.tolist() == lru(made, capacity), capacity


def test_no_blocks_have_no_depths() -> None:
    found = depths([[], []])
    assert (len(found.request), found.deepest) == (0, 0)
    assert len(depths([[1, 2], [], [3]]).request) == 0


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 100, 1000])
def test_pairs_out_of_order_are_counted_with_their_weights(n: int) -> None:
    rng = np.random.default_rng(n)
    rank = rng.permutation(n).astype(np.int32)
    weight = rng.integers(0, 50, n).astype(np.int32)
    before = np.tri(n, k=-1, dtype=bool) & (rank[None, :] < rank[:, None])
    found = stack_distances.smaller_before(rank, weight)
    assert found.tolist() == (before @ weight.astype(np.int64)).tolist()


def test_keys_that_share_their_leading_bits_stay_apart() -> None:
    rng = np.random.default_rng(5)
    low = rng.integers(0, 6, 3000).astype(np.uint64)
    keys = (rng.integers(0, 4, 3000).astype(np.uint64) << np.uint64(60)) | low
    before, times = stack_distances.previous(keys)
    last: dict[int, int] = {}
    for i, key in enumerate(keys.tolist()):
        assert before[i] == last.get(key, -1)
        last[key] = i
    assert times.tolist() == [int((keys == k).sum()) for k in keys]


def test_a_prefix_key_is_of_all_ids_before_it_and_of_their_order() -> None:
    made = [[1, 2, 3], [1, 2, 3], [2, 1, 3], [9, 2, 3], [1, 2], []]
    ids, sizes = columns(made)
    keys = np.split(stack_distances.prefix_keys(ids, sizes), np.cumsum(sizes)[:-1])
    seen: dict[int, tuple[int, ...]] = {}
    for one, row in zip(made, keys, strict=True):
        for i, key in enumerate(row.tolist()):
            assert seen.setdefault(key, tuple(one[: i + 1])) == tuple(one[: i + 1])
    assert len(seen) == len({tuple(p[: i + 1]) for p in made for i in range(len(p))})
    assert keys[0].tolist() == keys[1].tolist()


# --- ratios ----------------------------------------------------------------------------------------


def counted(made: Prompts, tokens: Sequence[int], block: int) -> dict[str, float]:
    """The five ratios, with sets."""
    known: set[tuple[int, ...]] = set()
    ids_seen: set[int] = set()
    lead, anywhere = [], []
    for p in made:
        keys = [tuple(p[: i + 1]) for i in range(len(p))]
        lead.append(next((i for i, k in enumerate(keys) if k not in known), len(keys)))
        anywhere.append(sum(i in ids_seen for i in p))
        known.update(keys)
        ids_seen.update(p)
    full = [min(h, t // block) for h, t in zip(lead, tokens, strict=True)]
    blocks = sum(map(len, made))
    shares = [h / len(p) for h, p in zip(lead, made, strict=True) if p]
    return {
        "prefix_hit_ratio": block * sum(full) / sum(tokens),
        "block_hit_ratio": sum(lead) / blocks,
        "mean_request_hit_ratio": float(np.mean(shares)),
        "request_hit_ratio": float(np.mean([h > 0 for h in lead])),
        "any_block_hit_ratio": sum(anywhere) / blocks,
    }


def references(
    made: Prompts,
    tokens: Sequence[int],
    most: int = block_references.MOST,
    most_ids: int = block_references.MOST_IDS,
) -> References:
    out = References(most, most_ids)
    for at in range(0, len(made), 17):
        ids, sizes = columns(made[at : at + 17])
        arrival = np.arange(at, at + len(sizes), dtype=np.int64) * 10**9
        out.add(ids, sizes, np.array(tokens[at : at + 17], dtype=np.int64), arrival)
    return out


@pytest.mark.parametrize("kind", ["chained", "single", "flat"])
@pytest.mark.parametrize("seed", range(4))
def test_ratios_equal_those_counted_with_sets(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = prompts(rng, kind, 150)
    # the last block of most prompts is partial
    tokens = [max(1, 16 * len(p) - int(rng.integers(0, 16))) for p in made]
    found = measure(references(made, tokens), 16, None)
    want = counted(made, tokens, 16)
    assert set(found.ratios) == set(RATIOS) == set(want)
    for name, value in want.items():
        assert found.ratios[name].value == pytest.approx(value, abs=1e-6), name
    assert found.chained == (kind != "single")
    assert found.distinct == len({tuple(p[: i + 1]) for p in made for i in range(len(p))})
    assert found.roots == len({p[0] for p in made if p})


def test_the_curve_is_of_full_blocks_and_ends_at_the_infinite_cache() -> None:
    rng = np.random.default_rng(3)
    made = prompts(rng, "flat", 400)
    # a prompt of 40 tokens has two full blocks of 16, whatever its ids say of the third
    found = measure(references(made, [40] * 400), 16, None)
    assert found.lru[-1].hit_ratio.value == found.ratios["prefix_hit_ratio"].value
    for point in found.lru:
        played = lru([p[:2] for p in made], point.blocks)
        assert point.hit_ratio.value == pytest.approx(16 * sum(played) / (40 * 400), abs=1e-6)
    assert found.working_sets["0.99"] <= 10


def test_a_block_that_is_full_in_one_request_and_partial_in_another_is_cached_where_it_is_full() -> None:  # fmt: skip
    made = [[1, 2], [1, 2], [1, 2], [1], [1, 2]] * 8
    tokens = [32, 20, 32, 16, 32] * 8
    found = measure(references(made, tokens), 16, None)
    full = [p[: t // 16] for p, t in zip(made, tokens, strict=True)]
    for point in found.lru:
        assert point.hit_ratio.value == pytest.approx(
            16 * sum(lru(full, point.blocks)) / sum(tokens), abs=1e-6
        )


def test_too_many_blocks_are_looked_at_as_larger_ones() -> None:
    """Every second block is what a cache of blocks twice the size holds."""
    rng = np.random.default_rng(4)
    made = prompts(rng, "chained", 600)
    tokens = [16 * len(p) for p in made]
    coarse = measure(references(made, tokens, most=600), 16, None)
    assert coarse.every == 2
    pairs = [[p[i + 1] for i in range(0, len(p) - 1, 2)] for p in made]
    want = counted(pairs, tokens, 32)
    fine = counted(made, tokens, 16)
    assert coarse.ratios["prefix_hit_ratio"].value == pytest.approx(
        want["prefix_hit_ratio"], abs=1e-6
    )
    assert coarse.ratios["prefix_hit_ratio"].value < fine["prefix_hit_ratio"]
    assert coarse.blocks == sum(map(len, made))


def test_too_many_ids_are_sampled_whole() -> None:
    rng = np.random.default_rng(6)
    made = [rng.integers(0, 5000, 12).tolist() for _ in range(3000)]
    refs = references(made, [192] * 3000, most_ids=8000)
    found = measure(refs, 16, None)
    want = counted(made, [192] * 3000, 16)["any_block_hit_ratio"]
    assert 0.1 < refs.ids_share < 0.3
    assert found.ratios["any_block_hit_ratio"].value == pytest.approx(want, abs=0.01)


def test_popularity_recovers_zipf() -> None:
    rng = np.random.default_rng(7)
    share = np.arange(1, 2001.0) ** -0.9
    made = [[int(i)] for i in rng.choice(2000, 40_000, p=share / share.sum())]
    found = measure(references(made, [16] * len(made)), 16, None).popularity
    assert found.zipf is not None
    assert found.zipf.params["a"] == pytest.approx(0.9, abs=0.02)
    counts = np.sort(np.unique([p[0] for p in made], return_counts=True)[1])[::-1]
    assert all(n == counts[r - 1] for r, n in found.curve)
    assert all(n >= 10 or (counts == n).sum() >= 10 for _, n in found.curve)
    assert found.curve[-1][0] > 1000
    assert found.once == pytest.approx((counts == 1).mean(), abs=1e-6)


# --- through the store -----------------------------------------------------------------------------


def frame(made: Prompts, block: int | None = 16, **more: list[int]) -> pl.DataFrame:
    n = len(made)
    size = [] if block is None else [pl.Series("prefix_block_size", [block] * n, dtype=pl.Int32)]
    return pl.DataFrame(
        [
            pl.Series("arrival_ns", np.arange(n) * 10**9),
            pl.Series("prefix_hashes", list(made), dtype=pl.List(pl.UInt64)),
            pl.Series("input_tokens", [16 * len(p) for p in made], dtype=pl.Int32),
            pl.Series("status", ["ok"] * n),
            *size,
            *(pl.Series(k, v) for k, v in more.items()),
        ]
    )


def fitted(trace: Trace) -> tuple[prefixes.Prefixes | None, list[str]]:
    notices: list[Notice] = []
    return prefixes.fit(trace, notices), [n.code for n in notices if n.subject == "prefixes"]


def blocks(found: prefixes.Prefixes | None) -> Reuse:
    assert found is not None
    assert found.blocks is not None
    return found.blocks


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[int]], Trace]:
    made = prompts(np.random.default_rng(8), "chained", 3000)
    return made, stored(tmp_path_factory.mktemp("chained"), "llm_requests", frame(made))


def test_through_the_store(chained: tuple[list[list[int]], Trace]) -> None:
    made, trace = chained
    found, codes = fitted(trace)
    assert codes == []
    b = blocks(found)
    want = counted(made, [max(16 * len(p), 0) for p in made], 16)
    assert b.ratios["prefix_hit_ratio"].value == pytest.approx(want["prefix_hit_ratio"], abs=1e-6)
    interval = b.ratios["prefix_hit_ratio"].interval
    assert interval is not None
    assert interval.low < b.ratios["prefix_hit_ratio"].value < interval.high
    text = json.dumps(found.to_dict())  # type: ignore[union-attr]
    assert len(text) < 10_000
    assert prefixes.from_dict(json.loads(text)).to_dict() == found.to_dict()  # type: ignore[union-attr]
    brief = found.brief().to_dict()  # type: ignore[union-attr]
    assert len(json.dumps(brief)) < 0.7 * len(text)
    assert prefixes.from_dict(json.loads(json.dumps(brief))).to_dict() == brief
    # reuse times, by a second route
    last: dict[tuple[int, ...], int] = {}
    gaps = []
    for i, p in enumerate(made):
        for k in range(len(p)):
            key = tuple(p[: k + 1])
            if key in last:
                gaps.append(i - last[key])
            last[key] = i
    assert b.reuse is not None
    assert b.reuse.rows == len(gaps)
    assert b.reuse.mean_s == pytest.approx(np.mean(gaps), rel=1e-6)
    assert b.reuse.quantiles_s["p50"] == pytest.approx(np.median(gaps), rel=0.02)


def test_reuse_across_a_mask_has_no_time(tmp_path: Path) -> None:
    made = [[1, 2, 3]] * 100
    trace = stored(tmp_path, "llm_requests", frame(made)).mask(20 * 10**9, 70 * 10**9)
    b = blocks(fitted(trace)[0])
    assert b.requests == 50
    assert b.reuse is not None
    assert b.reuse.rows == 3 * 48
    assert b.reuse.mean_s == pytest.approx(1)
    assert b.ratios["request_hit_ratio"].value == pytest.approx(49 / 50)


def test_what_cannot_be_seen_is_said(tmp_path: Path) -> None:
    made = [[1, 2, 3]] * 50
    plain = stored(tmp_path / "a", "llm_requests", frame(made).drop("prefix_hashes"))
    assert fitted(plain) == (None, ["not-recorded"])
    assert prefixes.score(plain, plain) == []
    one = prefixes.score(plain, stored(tmp_path / "g", "llm_requests", frame(made)))
    assert [(x.value, x.passed) for x in one] == [(None, None)]
    few = stored(tmp_path / "b", "llm_requests", frame(made[:5]))
    assert fitted(few) == (None, ["too-few-rows"])
    empty = stored(tmp_path / "c", "llm_requests", frame([[]] * 50))
    assert fitted(empty) == (None, ["no-blocks"])
    with Store(tmp_path / "d").writer("t", kind="llm", nature="synthetic") as w:
        w.write("llm_requests", frame(made).with_row_index("row_id").cast({"row_id": pl.Int64}))
        sampled = w.commit(clock="relative", format="test", sampled=0.1)
    assert fitted(sampled) == (None, ["sampled-trace"])
    unsized = stored(tmp_path / "e", "llm_requests", frame(made, None))
    found, codes = fitted(unsized)
    assert codes == ["no-block-size"]
    assert "prefix_hit_ratio" not in blocks(found).ratios
    assert blocks(found).lru[-1].hit_ratio.value == pytest.approx(49 / 50)
    mixed = frame(made).with_columns(
        prefix_block_size=pl.Series([16] * 40 + [64] * 10, dtype=pl.Int32)
    )
    found, codes = fitted(stored(tmp_path / "f", "llm_requests", mixed))
    assert codes == ["left-out"]
    assert blocks(found).requests == 40


def test_sessions_with_clocks_of_their_own_have_no_curve(tmp_path: Path) -> None:
    rows = frame([[1, 2, 3]] * 50).with_row_index("row_id").cast({"row_id": pl.Int64})
    with Store(tmp_path).writer("t", kind="llm", nature="synthetic") as w:
        w.write("llm_requests", rows)
        trace = w.commit(clock="session", format="test")
    found, codes = fitted(trace)
    assert codes == ["session-clock"]
    assert blocks(found).lru == ()
    assert blocks(found).ratios["prefix_hit_ratio"].value == pytest.approx(49 / 50)


def test_what_the_engine_reports_is_a_figure_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    cached = rng.integers(0, 40, 4000)
    rows = frame([[1, 2, 3]] * 4000, cached_input_tokens=cached.tolist()).cast(
        {"cached_input_tokens": pl.Int32}
    )
    trace = stored(tmp_path, "llm_requests", rows)
    found, _ = fitted(trace)
    assert found is not None
    assert found.recorded is not None
    ratio = found.recorded.ratio
    assert ratio.value == pytest.approx(cached.sum() / (48 * 4000), abs=1e-6)
    assert ratio.interval is not None
    assert ratio.interval.low < ratio.value < ratio.interval.high
    assert "reported 41.1% of" in found.findings()[-1].text
    alone = stored(tmp_path / "b", "llm_requests", rows.drop("prefix_hashes"))
    assert blocks(found).requests == 4000
    only, codes = fitted(alone)
    assert codes == []
    assert only is not None
    assert only.blocks is None
    assert only.recorded == found.recorded


def test_score_is_zero_for_itself_and_fails_on_less_reuse(
    chained: tuple[list[list[int]], Trace], tmp_path: Path
) -> None:
    made, trace = chained
    assert {x.value for x in prefixes.score(trace, trace)} == {0}
    fresh = [[1000 * i + k for k in range(len(p))] for i, p in enumerate(made)]
    lines = prefixes.score(trace, stored(tmp_path, "llm_requests", frame(fresh)))
    limited = {x.metric: x.passed for x in lines if x.limit is not None}
    # without any reuse there is no curve to compare
    assert limited == {"prefix hit ratio difference": False, "LRU curve distance": None}


def test_version_1_is_read() -> None:
    d = json.loads((GOLDEN / "prefixes-1.json").read_text(encoding="utf-8"))
    assert prefixes.from_dict(d).to_dict() == d


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("ratios", "prefix_hit_ratio", "value"), 1.2),
        (("later_half",), float("nan")),
        (("blocks",), -1),
        (("every",), 0),
        (("lru", 0, "blocks"), 10**9),
        (("lru", 0, "value"), -0.1),
        (("popularity", "once"), 2),
        (("popularity", "curve", 0, 0), 0),
    ],
)
def test_damaged_prefixes_are_refused(
    chained: tuple[list[list[int]], Trace], where: tuple[str | int, ...], value: float
) -> None:
    found, _ = fitted(chained[1])
    d = json.loads(json.dumps(found.to_dict()))  # type: ignore[union-attr]
    at = d["blocks"]
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    with pytest.raises(ModelError):
        prefixes.from_dict(d)


def test_the_page_shows_the_curve_and_every_ratio_by_name(
    chained: tuple[list[list[int]], Trace],
) -> None:
    found, _ = fitted(chained[1])
    assert found is not None
    section = report.section(found, "prefixes", "")
    figures = [b for b in section.blocks if isinstance(b, Figure)]
    assert [f.id for f in figures] == [
        f"prefixes-{k}" for k in ("lru", "popularity", "depth", "reuse")
    ]
    assert all(0 < points(f.data) < 3000 for f in figures)
    text = json.dumps([(f.data, f.layout) for f in figures], allow_nan=False)
    assert "infinite cache" in text
    named = next(b for b in section.blocks if isinstance(b, Table))
    assert [r[0] for r in named.rows] == list(RATIOS)
    only = prefixes.Prefixes(None, prefixes.Recorded(100, 1000, blocks(found).ratios["block_hit_ratio"]))  # fmt: skip
    assert len(report.section(only, "prefixes", "").blocks) == 1


# --- the real trace --------------------------------------------------------------------------------


@pytest.mark.real_data
def test_mooncake_has_the_published_ratios(real_data: Path, tmp_path: Path) -> None:
    """The project's notes: 288,500 blocks, 182,790 of them different, block ratio 0.366412, LRU share of the most
    hits at 1, 3, 10, 50 M tokens 0.1454, 0.3714, 0.7783, 0.9921; aiperf 0.13.0 prints a hit rate of 0.3843, which is
    the mean over requests; Mooncake's own paper a cache ratio of 40 %."""
    path = real_data / "llm" / "mooncake_conversation_trace.jsonl"
    trace = Store(tmp_path).ingest([path], "mooncake")
    b = blocks(fitted(trace)[0])
    assert (b.requests, b.blocks, b.distinct, b.chained) == (12_031, 288_500, 182_790, True)
    assert b.ratios["block_hit_ratio"].value == pytest.approx(0.366412, abs=1e-6)
    assert b.ratios["any_block_hit_ratio"] == b.ratios["block_hit_ratio"]
    assert round(b.ratios["mean_request_hit_ratio"].value, 4) == 0.3843
    assert b.ratios["request_hit_ratio"].value == pytest.approx(0.999917, abs=1e-6)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    made, tokens = [r["hash_ids"] for r in rows], [r["input_length"] for r in rows]
    want = counted(made, tokens, 512)
    for name, value in want.items():
        assert b.ratios[name].value == pytest.approx(value, abs=1e-6), name
    # the notes' LRU cache takes partial blocks too
    refs = References()
    ids, sizes = columns(made)
    refs.add(ids, sizes, 512 * sizes, np.zeros(len(sizes), dtype=np.int64))
    stack = stack_distances.depths(*stack_distances.previous(refs.keys()), sizes)
    most = stack.hits(stack.deepest).sum()
    for tokens_held, share in ((1e6, 0.1454), (3e6, 0.3714), (10e6, 0.7783), (50e6, 0.9921)):
        assert stack.hits(round(tokens_held / 512)).sum() / most == pytest.approx(share, abs=2e-4)
    # and a played cache agrees at one capacity on the whole trace
    full = [p[: t // 512] for p, t in zip(made, tokens, strict=True)]
    at = next(p for p in b.lru if p.blocks == 8192)
    assert at.hit_ratio.value == pytest.approx(512 * played(full, 8192) / sum(tokens), abs=1e-6)


def played(made: Prompts, capacity: int) -> int:
    """``lru`` for ids that are chained already: the ids are the keys."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for ids in made:
        hits += next((i for i, k in enumerate(ids) if k not in cache), len(ids))
        for key in reversed(ids):
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits


def test_the_limits_are_what_the_memory_of_a_server_allows() -> None:
    assert block_references.MOST * 8 <= 512 * 2**20


def test_depths_by_size_are_of_the_prompts_of_that_size(tmp_path: Path) -> None:
    """Two sizes: prompts of 4 blocks share 3, prompts of 40 blocks share 10."""
    rng = np.random.default_rng(3)
    made = []
    for i in range(600):
        size, known = (4, 3) if i % 2 else (40, 10)
        made.append([size * 1000 + k for k in range(known)] + rng.integers(10**6, 1 << 60, size - known).tolist())  # fmt: skip
    refs = References()
    sizes = np.array([len(p) for p in made])
    refs.add(np.concatenate(made).astype(np.uint64), sizes, 16 * sizes, np.arange(600))
    found = measure(refs, 16, None)
    assert [n for n, _ in found.depth_by_size] == [5, 44]
    assert [set(g.values) for _, g in found.depth_by_size] == [{3.0}, {10.0}]
    assert Reuse.from_dict(found.to_dict()).to_dict() == found.to_dict()

"""Published LLM traces without a real file here: their traps, on format-true fixtures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from lamina_traces import formats
from lamina_traces.errors import UnknownFormat
from lamina_traces.formats.inputs import Limits
from lamina_traces.formats.servegen import pairs
from lamina_traces.formats.weka import scoped
from lamina_traces.store import Store
from tests.formats.fixtures_llm import BLIS_HEADER, FIXTURES, WEKA, document, lines
from tests.formats.reads import Whole, read, write


def fixture(tmp_path: Path, name: str) -> Whole:
    return read(write(tmp_path / f"{name}.dat", FIXTURES[name]))


def test_azure_2024_mixed_fractions_and_lmm(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "a.csv",
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,5,1\n2024-05-10 00:00:00+00:00,6,2\n2024-05-10 00:00:01+00:00,7,0\n",
        )
    )
    assert got.summary.format == "azure"
    assert got.column("arrival_ns") == [0, -9_930_000, 990_070_000]
    assert got.summary.notices == ()
    images = fixture(tmp_path, "azure_lmm")
    assert images.summary.format == "azure_lmm"
    assert images.column("image_count") == [2, 0]
    assert images.column("arrival_ns") == [0, 231_000_000]


def test_bailian_sessions(tmp_path: Path) -> None:
    got = fixture(tmp_path, "bailian")
    assert got.column("arrival_ns")[0] == 61_114_000_000
    assert got.column("session_id") == ["159", "160", "159", "159", "5"]
    assert got.column("depends_on") == [[], [], [0], [2], None]
    assert got.column("parent_request_id") == [None, None, "159", "161", "5"]
    assert got.column("prefix_hashes")[2][2] == 2**64 - 1
    assert set(got.column("prefix_block_size")) == {16}
    assert got.column("input_tokens")[2] == 50  # the whole prompt, not the turn's part of it
    assert [n.code for n in got.summary.notices] == ["hashes-independent"]


@pytest.mark.parametrize("block", [200, 1000, 1 << 20])
def test_bailian_parents_stand_in_earlier_blocks(tmp_path: Path, block: int) -> None:
    """Chains of 50 turns, interleaved, over many blocks."""
    rows, n = [], 20
    for turn in range(50):
        for chat in range(n):
            me = 1 + turn * n + chat
            rows.append({"chat_id": me, "parent_chat_id": me - n if turn else -1, "timestamp": turn, "input_length": 3, "output_length": 1, "type": "text", "turn": turn + 1, "hash_ids": [1]})  # fmt: skip
    reading = formats.open_reading(write(tmp_path / "b.jsonl", lines(*rows)), limits=Limits(block_bytes=block))  # fmt: skip
    blocks = [b.frame for b in reading]
    sessions = list(itertools.chain.from_iterable(b["session_id"].to_list() for b in blocks))
    assert sessions == [str(1 + i % n) for i in range(50 * n)]
    links = list(itertools.chain.from_iterable(b["depends_on"].to_list() for b in blocks))
    assert links == [[]] * n + [[i] for i in range(49 * n)]


def test_bailian_circles_end(tmp_path: Path) -> None:
    rows = [{"chat_id": a, "parent_chat_id": b, "timestamp": 1, "input_length": 3, "output_length": 1} for a, b in ((1, 2), (2, 1), (3, 3))]  # fmt: skip
    got = read(write(tmp_path / "b.jsonl", lines(*rows)))
    assert got.frame.height == 3
    assert got.column("depends_on")[2] is None


def test_mooncake_in_seconds_and_not_its_look_alikes(tmp_path: Path) -> None:
    rows = [{"timestamp": t, "input_length": 5, "output_length": 2, "hash_ids": [1]} for t in (0.0, 0.2, 0.4)]  # fmt: skip
    got = read(write(tmp_path / "m.jsonl", lines(*rows)))
    assert got.summary.format == "mooncake"
    assert got.column("arrival_ns") == [0, 200_000_000, 400_000_000]
    assert fixture(tmp_path, "bailian").summary.format == "bailian"
    assert fixture(tmp_path, "ragpulse").summary.format == "ragpulse"


def test_ragpulse_with_and_without_its_side_files(tmp_path: Path) -> None:
    alone = fixture(tmp_path, "ragpulse")
    assert alone.column("arrival_ns") == [27 * 10**9, 26 * 10**9]
    assert "tokens" not in alone.column("extra")[0]
    assert alone.summary.reconciles
    folder = tmp_path / "data"
    write(folder / "0_trace.jsonl", FIXTURES["ragpulse"])
    write(folder / "2_passages.jsonl", FIXTURES["ragpulse_parts"])
    got = read(folder)
    parts = json.loads(got.column("extra")[0])
    assert parts["parts.passage_ids"] == [3, 4]
    assert (parts["parts.system_tokens"], parts["parts.passage_tokens"], parts["parts.history_tokens"]) == (30, 70, 0)  # fmt: skip
    assert "parts.user_tokens" not in json.loads(
        got.column("extra")[1]
    )  # part 7 is not in the side file


def test_weka_subagents_and_scopes(tmp_path: Path) -> None:
    got = fixture(tmp_path, "weka")
    assert got.summary.clock == "session"
    assert got.column("arrival_ns") == [0, 3_600_000_000, 4_000_000_000, 5_000_000_000]
    assert got.column("depends_on") == [[], [0], [1], [0, 2]]
    assert got.column("streaming") == [True, False, False, False]
    assert got.column("ttft_s") == [1.0, None, None, None]
    assert got.column("delay_after_parent_ns") == [None, None, None, 250_000_000]
    assert got.column("stage") == [None, "Explore", "Explore", None]
    hashes = got.column("prefix_hashes")
    assert hashes[3][:3] == hashes[0]
    assert hashes[2][0] == hashes[1][0]


def test_weka_sessions_share_no_ids(tmp_path: Path) -> None:
    other = {**WEKA, "id": "c2"}
    got = read(write(tmp_path / "w.jsonl", lines(WEKA, other)))
    ids = [set(itertools.chain(*g)) for g in (got.column("prefix_hashes")[:4], got.column("prefix_hashes")[4:])]  # fmt: skip
    assert not ids[0] & ids[1]
    assert got.column("depends_on")[4:] == [[], [4], [5], [4, 6]]
    assert len(set(scoped(list(range(10_000)), "x"))) == 10_000
    everywhere = {**WEKA, "hash_id_scope": "global"}
    assert read(write(tmp_path / "g.json", document(everywhere))).column("prefix_hashes")[0] == [
        1,
        2,
        3,
    ]


def test_weka_async_subagents_hold_nobody_up(tmp_path: Path) -> None:
    requests = [WEKA["requests"][0], {**WEKA["requests"][1], "status": "async_launched"}, WEKA["requests"][2]]  # fmt: skip
    got = read(write(tmp_path / "w.json", document({**WEKA, "requests": requests})))
    assert got.column("depends_on") == [[], [0], [1], [0]]


def test_a_rejected_parent_is_an_unknown_one(tmp_path: Path) -> None:
    requests = [{**WEKA["requests"][0], "in": -1}, WEKA["requests"][2]]
    got = read(write(tmp_path / "w.json", document({**WEKA, "requests": requests})))
    assert got.summary.rejected == 1
    assert got.column("depends_on") == [None]


def test_weka_flat(tmp_path: Path) -> None:
    got = fixture(tmp_path, "weka_flat")
    assert got.column("turn") == [1, 2]
    assert got.column("delay_after_parent_ns") == [None, 250_000_000]
    assert got.column("tpot_s")[0] == pytest.approx(0.1)
    few = read(write(tmp_path / "f.csv", "session_id,request_arrival_delta_s,input_tokens,output_tokens,api_time_s\na,1.5,3,4,2\n"))  # fmt: skip
    assert few.column("arrival_ns") == [1_500_000_000]
    assert "ttft_s" not in few.frame.columns


def test_llmservingsim_sessions(tmp_path: Path) -> None:
    got = fixture(tmp_path, "llmservingsim")
    assert got.column("arrival_ns") == [46_926_808, 50, None, None, 2**53 + 1]
    assert got.column("depends_on") == [None, [], [1], [2], None]
    assert got.column("delay_after_parent_ns") == [None, None, 700, 0, None]
    assert got.column("delay_kind") == [None, None, "tool", "tool", None]
    assert got.summary.other == 1  # the line without sub-requests
    first, last = got.column("prefix_hashes")[0], got.column("prefix_hashes")[4]
    assert last[0] == first[0]
    assert len(last) == 2


def test_hexgen_chains(tmp_path: Path) -> None:
    got = fixture(tmp_path, "hexgen")
    assert got.summary.clock == "none"
    assert got.column("workflow_id") == ["1", "1", "2"]
    assert got.column("depends_on") == [[], [0], []]
    assert got.column("stage")[0] == "Information Retriever"
    assert [n.code for n in got.summary.notices] == ["chain-assumed"]


def test_blis_zeros_are_nulls(tmp_path: Path) -> None:
    got = fixture(tmp_path, "blis_v2")
    assert got.column("arrival_ns") == [1_000_000, 100_000_000]
    assert got.column("first_token_ns") == [501_000_000, None]
    assert (got.column("ttft_s"), got.column("e2e_s")) == ([0.5, None], [0.9, None])
    assert got.column("deadline_ns") == [None, 90_000_000_000]
    assert got.column("turn") == [1, 2]
    assert got.column("reasoning_tokens") == [2, None]
    assert got.column("status") == ["ok", "timeout"]
    assert json.loads(got.column("extra")[1])["prefix_group"] == "g"
    assert got.summary.dropped_fields == ("error_message",)
    odd = FIXTURES["blis_v2"].replace(b",0.4,", b",1e300,").replace(b"s1,1,", b"s1,2147483647,")
    far = read(write(tmp_path / "odd.csv", odd))
    assert far.column("reasoning_tokens") == [None, None]  # no share
    assert far.column("turn") == [1, None]
    names = BLIS_HEADER.replace("prefix_length,", "").replace(",model,deadline_us,server_input_tokens", "").replace(",finish_reason", "")  # fmt: skip
    old = read(
        write(tmp_path / "old.csv", names + "\n0,,,,,0,,true,10,5,10,0,0,0,0.0,0,0,0,0,0,ok,\n")
    )
    assert old.column("arrival_ns") == [0]
    assert old.column("session_id") == old.column("turn") == [None]


def test_swissai_minus_one_is_null(tmp_path: Path) -> None:
    got = fixture(tmp_path, "swissai")
    assert got.column("input_tokens") == [23, None]
    assert got.column("output_tokens") == [38, None]
    assert got.column("status") == ["ok", "error"]
    assert got.column("e2e_s") == [1.128, 0.0]
    assert got.column("max_output_tokens") == [256, None]
    low = FIXTURES["swissai"].replace(b": -1", b": -2")
    assert read(write(tmp_path / "l.jsonl", low)).summary.rejected == 1


def test_aibrix_many_requests_a_line(tmp_path: Path) -> None:
    got = fixture(tmp_path, "aibrix")
    assert got.column("arrival_ns") == [0, 0, 1_500_000_000]
    assert got.column("input_tokens") == [5, 7, 6]
    assert got.column("output_tokens") == [2, None, 3]
    assert got.column("turn") == [1, None, 2]


def test_splitwise_sim(tmp_path: Path) -> None:
    got = fixture(tmp_path, "splitwise_sim")
    assert got.column("arrival_ns") == [0, 300_000_000]  # 0.3 s exactly
    assert json.loads(got.column("extra")[0]) == {"request_type": "2", "batch_size": "1"}


def test_servegen_pairs_are_matched_and_never_evaluated() -> None:
    assert list(pairs("{39: 0.0003, 40: 1e-05,}")) == [("39", "0.0003"), ("40", "1e-05")]
    assert list(pairs(" {} ")) == []
    for text in (
        "{__import__('os'): 1}",
        "{1: 2",
        "[1]",
        "{1: nan}",
        "{1: 2 3: 4}",
        "{1}",
        "{1: 2}; x",
    ):
        with pytest.raises(ValueError, match="not a dictionary"):
            list(pairs(text))


def test_servegen_idle_windows_and_bad_distributions(tmp_path: Path) -> None:
    got = read(write(tmp_path / "reason/r1/chunk-7-trace.csv", FIXTURES["servegen"]))
    assert got.column("law") == ["gamma", None, "weibull"]
    assert got.column("gap_cv") == [1.03, None, 8.0]
    assert got.column("category") == ["reason"] * 3
    assert got.column("model") == ["r1"] * 3
    assert set(got.column("window_s")) == {600.0}
    bad = document({"0": {"input_tokens": "{1: evil()}", "output_tokens": "{1: 1.0}"}})
    pmf = read(write(tmp_path / "chunk-8-dataset.json", bad))
    assert (pmf.summary.kept, pmf.summary.rejected) == (1, 1)
    assert pmf.column("client_id") == ["8"]
    with pytest.raises(UnknownFormat):
        read(write(tmp_path / "u.csv", "0,1,2,Pareto,3,4\n600,1,2,Pareto,3,4\n"))


def test_vidur_by_name_in_any_order(tmp_path: Path) -> None:
    got = read(
        write(tmp_path / "v.csv", "num_decode_tokens,arrived_at,num_prefill_tokens\n8,0.3,3\n")
    )
    assert got.column("arrival_ns") == [300_000_000]
    lengths = read(write(tmp_path / "l.csv", "num_prefill_tokens,num_decode_tokens\n3,4\n"))
    assert lengths.summary.clock == "none"


def test_keys_that_only_later_lines_have(tmp_path: Path) -> None:
    first = {
        "chat_id": 1,
        "parent_chat_id": -1,
        "timestamp": 1,
        "input_length": 3,
        "output_length": 1,
    }
    later = [
        {**first, "chat_id": 2, "hash_ids": [5], "turn": 1, "type": "text", "extra_key": 7}
    ] * 300
    got = read(write(tmp_path / "b.jsonl", lines(*[first] * 300, *later)))
    assert got.summary.format == "bailian"
    assert got.column("prefix_hashes")[-1] == [5]
    assert got.column("turn")[0] is None
    assert got.column("extra")[-1] == '{"extra_key":7}'


def test_bailian_chats_go_on_over_the_seam(tmp_path: Path) -> None:
    def chat(i: int, parent: int, turn: int) -> str:
        row = {
            "chat_id": i,
            "parent_chat_id": parent,
            "timestamp": float(i),
            "input_length": 20,
            "output_length": 2,
            "type": "text",
            "turn": turn,
            "hash_ids": [1, 2],
        }
        return json.dumps(row) + "\n"

    one = write(tmp_path / "1", chat(1, -1, 1) + chat(2, 1, 2))
    two = write(tmp_path / "2", chat(3, 2, 3) + chat(4, -1, 1))
    store = Store(tmp_path / "s")
    whole = store.ingest([one, two], "whole").scan().collect()
    store.ingest(one, "parts")
    parts = store.ingest(two, "parts", append=True).scan().collect()
    assert parts.equals(whole)
    assert parts["session_id"].to_list() == ["1", "1", "1", "4"]
    assert parts["depends_on"].to_list() == [[], [0], [1], []]

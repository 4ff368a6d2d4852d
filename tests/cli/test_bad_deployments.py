"""What simulate says to those who ask for the impossible: exit code, what is wrong, what to do; never a traceback, never NaN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HEADER = "arrival_ns,input_tokens,output_tokens,status"
FILES = {
    "few.csv": [f"{i * 10**9},{100 + i},5,ok" for i in range(30)],
    "one.csv": ["0,100,5,ok"],
    "long.csv": ["0,1000000,5,ok", f"{10**9},2000000,5,ok"],
    "lost.csv": ["0,100,5,error", f"{10**9},200,5,error"],
    "same.csv": ["0,100,5,ok", "0,200,5,ok"],
}
VLLM = "vllm serve meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def asked(lamina: Any, tmp_path: Path) -> Any:
    for name, rows in FILES.items():
        (tmp_path / name).write_text("\n".join([HEADER, *rows]) + "\n")
    pools = '[[pools]]\nrole = "{}"\n[[pools.replica.groups]]\ngpu = "h100-sxm"\n'
    both = 'model = "llama-3.1-8b"\n' + pools.format("prefill") + pools.format("decode")
    for gb_s in ("0", "nan", "inf", "1e-300"):
        link = f'[[links]]\nsource = "prefill"\ntarget = "decode"\ngb_s = {gb_s}\n'
        (tmp_path / f"link-{gb_s}.toml").write_text(both + link)
    (tmp_path / "no.toml").write_text("not toml [")
    return lamina


def number(text: str) -> float:
    raise AssertionError(f"{text} in a result")


@pytest.mark.parametrize(
    ("argv", "code", "said", "hint"),
    [
        # does not fit, cannot be divided
        (("few.csv", "--model", "llama-3.1-70b"), 1, "55.6 GB short", "tp=2 would fit"),
        (("few.csv", "--tp", "3"), 1, "tp = 3 does not divide the 32 heads", "--tp 1, 2, 4, 8"),
        (("few.csv", "--replicas", "2", "--prefill", "apart:2"), 2, "2 of 2 replicas cannot prefill", "--replicas"),
        (("few.csv", "--max-num-seqs", "4096"), 2, "exceeds max_num_batched_tokens", "one token of the budget"),
        (("few.csv", "--scale", "1..99999999999"), 2, "99,999,999,999 replicas", "10,000 at most"),
        (("few.csv", "--scale", "4"), 2, "is not MIN..MAX", "1..4:load=30s"),
        # bandwidth
        (("few.csv", "--spec", "link-0.toml"), 2, "a link of 0 GB/s", "0.001 to 1e6 GB/s"),
        (("few.csv", "--spec", "link-1e-300.toml"), 2, "a link of 1e-300 GB/s", "0.001 to 1e6 GB/s"),
        (("few.csv", "--spec", "link-nan.toml"), 1, "gb_s = nan is not finite", "give a number"),
        (("few.csv", "--spec", "link-inf.toml"), 1, "gb_s = inf is not finite", "give a number"),
        (("few.csv", "--spec", "no.toml"), 1, "is not TOML", "lamina-traces show RUN"),
        (("few.csv", "--spec", "absent.toml"), 1, "No such file", "TOML file"),
        # limits
        (("few.csv", "--slo", "ttft.p98=2s"), 2, "unknown statistic 'p98'", "p99"),
        (("few.csv", "--slo", "tftt.p99=2s"), 2, "unknown latency 'tftt'", "did you mean ttft"),
        (("few.csv", "--slo", "ttft.p99=2"), 2, "has no unit", "500ms"),
        (("few.csv", "--slo", ""), 2, "is not LATENCY", "ttft.p99=2s"),
        (("one.csv", "--slo", "ttft.p99=1s"), 3, "the metric is undefined", "simulate more requests"),
        (("long.csv", "--slo", "ttft=1s"), 3, "0.0% of the requests", "more replicas"),
        # nothing to simulate, to measure or to scale
        (("few.csv", "--where", "input_tokens > 1000"), 1, "there are none", "--where"),
        (("few.csv", "--warmup", "1h"), 2, "leave no request", "shorten them"),
        (("one.csv", "--cooldown", "1s"), 2, "leave no request", "shorten them"),
        (("long.csv", "--capacity", "--slo", "ttft=1s"), 1, "nothing of 'long", "context of the model"),
        (("lost.csv", "--failures", "recorded", "--capacity", "--slo", "ttft=1s"), 1, "2 fail as recorded", "context"),
        (("same.csv", "--capacity", "--slo", "ttft=1s"), 1, "no rate to scale", "two requests"),
        (("few.csv", "--capacity", "--slo", "ttft=1ms"), 3, "out of reach whatever the load", "loosen the limits"),
        # numbers
        (("few.csv", "--concurrency", "0"), 2, "greater than or equal to 1", "--help"),
        (("few.csv", "--arrivals", "poisson", "--rate", "0/s"), 2, "rate '0/s' is not positive", "12.5/s"),
        (("few.csv", "--capacity", "--slo", "ttft=1s", "--target", "nan"), 2, "target nan is no share", "up to 1"),
        (("few.csv", "--with", "speculative-decoding:acceptance=nan"), 2, "out of bounds", "0 to 1"),
        # engines
        (("few.csv", "--engine-args", f"{VLLM} --max-num-seqs infk"), 2, "no whole number", "--max-num-seqs 8"),
        (("few.csv", "--engine-args", f"{VLLM} --num-speculative-tokens 100"), 2, "draft_tokens=100 is out of bounds", "0 to 64"),
        (("few.csv", "--engine-args", f"{VLLM} --max-num-seqs 8", "--max-num-seqs", "8"), 2, "and so does --max-num-seqs", "one place"),
        # names
        (("few.csv", "--by", "tenants"), 2, "unknown column to group by 'tenants'", "tenant"),
        (("mooncake-conversation", "--by", "prefix_hashes"), 2, "prefix_hashes holds lists", "another column"),
        (("few.csv", "--save", "azure-code"), 2, "'azure-code' is a library profile", "azure-code-1"),
        # policies without what they need
        (("few.csv", "--reuse", "prefix"), 1, "records no prefix_hashes", "auto"),
        (("few.csv", "--rank", "least-slack"), 2, "needs a limit on the first token", "--slo"),
        (("few.csv", "--backtest", "--failures", "recorded"), 2, "--backtest does not go with --failures", "leave these out"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_what_to_do(
    asked: Any, argv: tuple[str, ...], code: int, said: str, hint: str
) -> None:
    done = asked("simulate", *argv)
    assert done.code == code, done.err
    last = done.err.strip().splitlines()[-2:]
    assert last[0].startswith("error: ")
    assert said in last[0]
    assert last[1].startswith("hint: ")
    assert hint in last[1]
    assert "Traceback" not in done.err
    assert "a defect of" not in done.err


@pytest.mark.parametrize(
    "argv",
    [
        ("one.csv",),
        ("one.csv", "--by", "length", "--concurrency", "1", "--slo", "e2e=1h"),
        ("long.csv", "--by", "length", "--warmup", "1s"),
        ("long.csv", "--by", "length"),
        ("lost.csv", "--failures", "recorded", "--by", "length"),
        ("same.csv", "--scale", "1..3:requests=1,load=0s"),
        ("same.csv", "--replicas", "2", "--prefill", "apart:1"),
    ],
)
def test_next_to_nothing_has_no_nan_and_says_why(asked: Any, argv: tuple[str, ...]) -> None:
    done = asked("simulate", *argv, "--format", "json")
    assert done.code == 0, done.err
    told = json.loads(done.out, parse_constant=number)
    for record in (told, *told["groups"]):
        none = {k for k, v in record.items() if v is None} - {"binding", "by", "target"}
        assert none
        assert none == {k.removesuffix("_why") for k in record if k.endswith("_why")}


def test_requests_beyond_context_or_memory_are_rejected_and_counted(asked: Any) -> None:
    told = json.loads(asked("simulate", "long.csv", "--slo", "ttft=1h", "--format", "json").out)
    assert (told["requests_rejected_context"], told["slo_attainment"]) == (2, 0)
    done = asked("simulate", "long.csv")
    assert "2 requests can never fit: 2 exceed the context, 0 the KV memory" in done.err
    assert "2 can never fit and are rejected" in done.out

"""OpenTelemetry spans: several spans of a request, failures, clocks of several hosts, sampling."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lamina_traces.formats.spans import sampling_probability
from lamina_traces.store import Store
from tests.formats.fixtures_llm import (
    CLIENT,
    FIXTURES,
    T0,
    document,
    engine,
    lines,
    resource,
    span,
)
from tests.formats.reads import Whole, read, write


def otlp(tmp_path: Path, *groups: dict[str, Any], together: bool = True) -> Whole:
    data = document({"resourceSpans": list(groups)}) if together else lines(*({"resourceSpans": [g]} for g in groups))  # fmt: skip
    return read(write(tmp_path / "spans.json", data))


def codes(got: Whole) -> list[str]:
    return [n.code for n in got.summary.notices]


def test_client_gateway_and_engine_are_one_request(tmp_path: Path) -> None:
    got = read(write(tmp_path / "o.jsonl", FIXTURES["otlp"]))
    assert got.frame.height == 2
    row = got.frame.row(0, named=True)
    assert got.summary.origin_ns == T0 + 100_000_000  # the engine's start
    assert (row["request_id"], row["client_id"], row["model"]) == ("cmpl-1", "shop", "m")
    assert (row["input_tokens"], row["output_tokens"], row["max_output_tokens"]) == (100, 11, 64)
    assert (row["send_ns"], row["first_token_ns"], row["last_token_ns"]) == (-100_000_000, 250_000_000, 1_250_000_000)  # fmt: skip
    assert (row["queue_s"], row["ttft_s"], row["e2e_s"]) == (0.05, 0.25, 1.25)
    assert row["tpot_s"] == pytest.approx(0.1)
    assert (row["status"], row["finish_reason"], row["workflow_id"]) == ("ok", "stop", None)
    failed = got.frame.row(1, named=True)
    assert (failed["status"], failed["error_code"], failed["ttft_s"]) == ("timeout", "TimeoutError", None)  # fmt: skip
    assert codes(got) == ["other-spans"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_spans_come_in_any_order(tmp_path: Path, together: bool, reverse: bool) -> None:
    groups = [
        resource("app", "shop", span("t", "a", "", 0, 1400, **CLIENT)),
        resource("gw", "router", span("t", "b", "a", 10, 1390)),
        resource("g", "vllm", span("t", "c", "b", 100, 1360, **engine())),
    ]
    got = otlp(tmp_path, *(groups[::-1] if reverse else groups), together=together)
    assert got.column("request_id") == ["cmpl-1"]
    assert got.column("send_ns") == [-100_000_000]
    assert got.summary.kept == 3


def test_both_generations_of_names(tmp_path: Path) -> None:
    old: dict[str, Any] = {
        "gen_ai__request__model": "m",
        "gen_ai__usage__prompt_tokens": 7,
        "gen_ai__usage__completion_tokens": 3,
    }
    new: dict[str, Any] = {
        "gen_ai__request__model": "m",
        "gen_ai__usage__input_tokens": 7,
        "gen_ai__usage__output_tokens": 3,
    }
    got = otlp(tmp_path, resource("h", "s", span("a", "1", "", 0, 5, **old), span("b", "2", "", 1, 6, **new)))  # fmt: skip
    assert got.column("input_tokens") == [7, 7]
    assert got.column("output_tokens") == [3, 3]


def test_numbers_are_strings_and_keep_every_digit(tmp_path: Path) -> None:
    one = span("t", "a", "", 0, 1, **CLIENT)
    one["startTimeUnixNano"], one["endTimeUnixNano"] = "1772000000123456789", 1772000000123456790
    got = otlp(tmp_path, resource("h", "s", one))
    assert got.summary.origin_ns == 1_772_000_000_123_456_789
    assert got.column("last_token_ns") == [1]
    assert got.column("e2e_s") == [1e-9]


def test_a_retry_is_one_request(tmp_path: Path) -> None:
    got = otlp(
        tmp_path,
        resource(
            "h", "s",
            span("t", "a", "", 0, 3000, **CLIENT),
            span("t", "b", "a", 10, 900, code=2, **engine(gen_ai__request__id="first", gen_ai__usage__completion_tokens=0)),
            span("t", "c", "a", 1000, 2900, **engine(gen_ai__request__id="second")),
        ),
    )  # fmt: skip
    assert got.column("request_id") == ["second"]
    assert got.column("status") == ["ok"]
    assert codes(got) == ["several-attempts"]


def test_an_agent_with_several_calls_is_no_request(tmp_path: Path) -> None:
    agent: dict[str, Any] = {
        "gen_ai__request__model": "m",
        "gen_ai__agent__name": "planner",
        "gen_ai__usage__input_tokens": 999,
    }
    got = otlp(
        tmp_path,
        resource(
            "h", "s",
            span("t", "r", "", 0, 9000, gen_ai__operation__name="invoke_agent", **agent),
            span("t", "w", "r", 5, 8000, **agent),
            span("t", "a", "w", 10, 1000, **CLIENT),
            span("t", "x", "w", 1100, 1200, gen_ai__operation__name="execute_tool"),
            span("t", "b", "w", 1300, 2000, **CLIENT),
        ),
    )  # fmt: skip
    assert got.column("request_id") == ["a", "b"]
    assert got.column("stage") == ["planner", "planner"]
    assert got.column("workflow_id") == ["t", "t"]
    assert got.column("depends_on") == [None, None]  # siblings: no one says who waits for whom


def test_what_follows_its_caller_depends_on_it(tmp_path: Path) -> None:
    got = read(write(tmp_path / "o.json", FIXTURES["otel"]))
    assert got.column("depends_on") == [None, [0], None]
    assert got.column("parent_request_id") == [None, "s1", None]
    assert got.column("arrival_ns") == [0, 3_500_000_000, 6_000_000_000]  # one stamp has an offset
    failed = got.frame.row(2, named=True)
    assert (failed["status"], failed["input_tokens"], failed["output_tokens"], failed["e2e_s"]) == ("error", None, None, None)  # fmt: skip
    assert codes(got) == ["naive-utc", "text-dropped"]


def test_skew_is_estimated_and_changes_nothing(tmp_path: Path) -> None:
    """The engine's clock is 300 ms behind: it seems to begin before it is called."""
    calls = []
    for i in range(5):
        at = 10_000 * i
        calls.append(resource("app", "shop", span(f"t{i}", "a", "", at, at + 1000, **CLIENT)))
        begin, end = at + 50 + 10 * i - 300, at + 950 - 10 * i - 300
        calls.append(
            resource("gpu", "vllm", span(f"t{i}", "b", "a", begin, end, kind=2, **engine()))
        )
    got = otlp(tmp_path, *calls)
    assert got.frame.height == 5
    text = next(n.text for n in got.summary.notices if n.code == "clock-skew")
    assert "clock of gpu less that of app: between -350.000 and -250.000 ms" in text
    assert "5 of 5" in text
    assert got.column("send_ns")[0] - got.column("arrival_ns")[0] == 250_000_000


def test_hosts_that_agree_give_no_notice(tmp_path: Path) -> None:
    assert "clock-skew" not in codes(read(write(tmp_path / "o.jsonl", FIXTURES["otlp"])))


def test_negative_durations_are_counted_and_kept(tmp_path: Path) -> None:
    got = otlp(tmp_path, resource("h", "s", span("t", "a", "", 10, 4, **CLIENT)))
    assert codes(got) == ["negative-durations"]
    assert got.column("last_token_ns") == [-6_000_000]
    assert got.column("e2e_s") == [None]


def test_text_of_spans_is_kept_on_request(tmp_path: Path) -> None:
    message = {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "WORDS"}}]}}
    said = {"key": "gen_ai.input.messages", "value": {"arrayValue": {"values": [message]}}}
    event = {
        "name": "NAME",
        "attributes": [{"key": "gen_ai.prompt", "value": {"stringValue": "EVENT"}}],
    }
    client = span("t", "a", "", 0, 40, **CLIENT)
    client |= {"events": [event, event], "status": {"code": 2, "message": "STATUS"}}
    client["attributes"] = [*client["attributes"], said]
    server = span(
        "t", "b", "a", 1, 39, gen_ai__latency__e2e=0.03, gen_ai__prompt="ENGINE", **CLIENT
    )
    path = write(
        tmp_path / "s.jsonl", lines({"resourceSpans": [resource("h", "s", client, server)]})
    )
    bare, kept = read(path), read(path, keep_text=True)
    assert set(bare.summary.dropped_fields) == {
        "gen_ai.input.messages", "gen_ai.prompt", "events.gen_ai.prompt", "status.message",
    }  # fmt: skip
    for word in ("WORDS", "NAME", "EVENT", "STATUS", "ENGINE"):
        assert word not in repr(bare)
    extra = json.loads(kept.column("extra")[0])
    assert extra.pop("recorded") == [
        {"text": {"gen_ai.prompt": "ENGINE"}},
        {"text": {"status.message": "STATUS", "gen_ai.input.messages": [{"content": "WORDS"}], "events.gen_ai.prompt": ["EVENT", "EVENT"]}},
    ]  # fmt: skip
    assert extra == json.loads(bare.column("extra")[0])


def test_repeated_spans_count_once(tmp_path: Path) -> None:
    one = resource("h", "s", span("t", "a", "", 10, 40, **CLIENT))
    got = otlp(tmp_path, one, one, together=False)
    assert got.frame.height == 1
    assert codes(got) == ["repeated-spans"]


def test_circles_of_parents_end(tmp_path: Path) -> None:
    got = otlp(
        tmp_path,
        resource(
            "h", "s", span("t", "a", "b", 0, 9, **CLIENT), span("t", "b", "a", 1, 8, **CLIENT)
        ),
    )
    assert got.frame.height >= 1


@pytest.mark.parametrize(
    ("state", "probability"),
    [
        ("ot=th:8", 0.5),
        ("ot=th:c", 0.25),
        ("vendor=1,ot=rv:abc;th:e", 0.125),
        ("ot=th:0", 1.0),
        ("ot=rv:1", None),
        ("other=th:8", None),
        (None, None),
    ],
)
def test_sampling(state: str | None, probability: float | None, tmp_path: Path) -> None:
    text = sampling_probability(state)
    assert (None if text is None else float(text)) == probability
    got = otlp(tmp_path, resource("h", "s", span("t", "a", "", 0, 9, state=state or "", **CLIENT)))
    assert ("sampled" in codes(got)) == (probability is not None)
    assert ("sampling_probability" in str(got.column("extra"))) == (probability is not None)


def test_other_signals_in_a_collectors_file(tmp_path: Path) -> None:
    data = FIXTURES["otlp"] + lines({"resourceMetrics": []}, {"nothing": 1})
    got = read(write(tmp_path / "o.jsonl", data))
    assert got.frame.height == 2
    assert (got.summary.other, got.summary.rejected) == (1, 1)


def test_stored_with_its_origin(tmp_path: Path) -> None:
    trace = Store(tmp_path / "s").ingest(write(tmp_path / "o.jsonl", FIXTURES["otlp"]), "o")
    assert trace.manifest.origin_ns == T0 + 100_000_000
    assert trace.scan().collect()["arrival_ns"].to_list() == [0, 2_900_000_000]


@pytest.mark.parametrize("seed", range(5))
def test_requests_built_of_random_layers_come_back(seed: int, tmp_path: Path) -> None:
    """200 requests, each recorded by some of client, gateway, router and engine (and retries), shuffled."""
    rnd = random.Random(seed)
    groups: list[dict[str, Any]] = []
    expected: dict[str, tuple[int, str, float | None, int]] = {}
    for i in range(200):
        start, length = rnd.randrange(1_000_000), rnd.randrange(500, 5000)
        layers = rnd.randrange(4)
        has_engine = layers == 0 or rnd.random() < 0.7
        parent, at, end = "", start, start + length
        trace, failed = f"t{rnd.randrange(150)}", rnd.random() < 0.2
        name = f"r{i}"
        for depth in range(layers):
            attributes = CLIENT if depth in (0, 2) else {}
            code = 2 if failed and depth == 0 else 0
            me = f"{name}-{depth}"
            groups.append(resource(f"h{depth}", "s", span(trace, me, parent, at, end, code=code, **attributes)))  # fmt: skip
            parent, at, end = me, at + 10, end - 10
        if has_engine:
            if layers and rnd.random() < 0.3:
                groups.append(resource("e", "v", span(trace, f"{name}-try", parent, at + 1, at + 5, code=2, **engine())))  # fmt: skip
            more = engine(gen_ai__request__id=name, gen_ai__usage__prompt_tokens=i)
            code = 2 if failed and not layers else 0
            groups.append(resource("e", "v", span(trace, f"{name}-e", parent, at + 20, end - 20, code=code, **more)))  # fmt: skip
        status = "error" if failed else "ok"
        expected[name if has_engine else f"{name}-0"] = (
            (at + 20 if has_engine else start) * 10**6,
            status,
            0.25 if has_engine else None,
            i if has_engine else 98,
        )
    rnd.shuffle(groups)
    got = otlp(tmp_path, *groups, together=False)
    origin = (got.summary.origin_ns or 0) - T0
    found = {
        r["request_id"]: (r["arrival_ns"] + origin, r["status"], r["ttft_s"], r["input_tokens"])
        for r in got.frame.iter_rows(named=True)
    }
    assert found == expected
    assert got.frame["arrival_ns"].is_sorted()
    assert set(got.column("depends_on")) == {None}


def test_a_clock_that_drifts_is_said_to(tmp_path: Path) -> None:
    calls = []
    for i, ahead in enumerate((-400, 500)):
        at = 10_000 * i
        calls.append(resource("app", "shop", span(f"t{i}", "a", "", at, at + 1000, **CLIENT)))
        calls.append(resource("gpu", "v", span(f"t{i}", "b", "a", at + 50 + ahead, at + 950 + ahead, kind=2, **engine())))  # fmt: skip
    text = next(n.text for n in otlp(tmp_path, *calls).summary.notices if n.code == "clock-skew")
    assert "about 50.000 ms, and not constant" in text


def test_older_and_odder_spellings(tmp_path: Path) -> None:
    """OTLP before 0.15, enumerations by name, values that are objects, spans without attributes."""
    one = span("t", "a", "", 0, 5, **CLIENT)
    one["status"], one["kind"] = {"code": "STATUS_CODE_ERROR", "message": "x"}, "SPAN_KIND_CLIENT"
    one["attributes"].append({"key": "session.id", "value": {"kvlistValue": {"values": []}}})
    one["attributes"].append({"key": "user.id", "value": {}})
    bare = {k: v for k, v in span("t", "b", "a", 1, 2).items() if k not in ("attributes", "status")}
    group = resource("h", "s", one, bare)
    group["instrumentationLibrarySpans"] = group.pop("scopeSpans")
    got = otlp(tmp_path, group, {"scopeSpans": [{}]})
    assert got.column("status") == ["error"]
    assert got.column("session_id") == got.column("user_id") == [None]
    assert got.summary.kept == 2


def test_prefill_and_decode_apart_are_one_request(tmp_path: Path) -> None:
    """Two engine spans that both succeed, under a gateway that counted the output itself."""
    got = otlp(
        tmp_path,
        resource("gw", "router", span("t", "a", "", 0, 2000, **CLIENT)),
        resource("p", "vllm", span("t", "p", "a", 10, 300, **engine(gen_ai__usage__completion_tokens=1))),
        resource("d", "vllm", span("t", "d", "a", 310, 1900, **engine(gen_ai__request__id="decode"))),
    )  # fmt: skip
    assert got.column("request_id") == ["decode"]
    assert got.column("output_tokens") == [11]
    assert codes(got) == ["several-attempts"]

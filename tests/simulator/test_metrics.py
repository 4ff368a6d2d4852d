"""Metrics against hand-made rows, and what is left undefined."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lamina_traces import specs
from lamina_traces.costs import FITTED_POWER, State, time_shares
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.hardware import device
from lamina_traces.schema import Requests
from lamina_traces.simulator import Finished, judge, parse_slo, simulate
from lamina_traces.simulator import metrics as m
from lamina_traces.specs import Serving

S = 1_000_000_000


def rows(**columns: list[float]) -> Finished:
    """Finished rows from seconds; what is not given is 0."""
    n = len(next(iter(columns.values())))
    made = {}
    for name in Finished.__dataclass_fields__:
        given = columns.get(name.removesuffix("_ns"), [0] * n)
        made[name] = np.array(
            [round(v * S) if name.endswith("_ns") and v >= 0 else v for v in given], np.int64
        )
    made["position"] = np.arange(n)
    return Finished(**made)


def poisson(n: int, rate: float, seed: int = 0, tokens: tuple[int, int] = (1000, 50)) -> Requests:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(S / rate, n)).astype(np.int64)
    return Requests.make(arrival, np.full(n, tokens[0]), np.full(n, tokens[1]))


SPEC = specs.simple("llama-3.1-8b", "h100-sxm")


def test_definitions() -> None:
    done = rows(release=[1, 2], scheduled=[1.5, 2], first_token=[2, 2.5], last_token=[4, 2.5])
    got = m.latencies(done, np.array([5, 1]))
    assert got["ttft"].tolist() == [1.0, 0.5]
    assert got["queue"].tolist() == [0.5, 0.0]
    assert got["e2e"].tolist() == [3.0, 0.5]
    assert got["tpot"].tolist() == [0.5]  # none for the request of one token


def test_percentiles_need_ten_samples_beyond_them() -> None:
    for n, there, absent in (
        (20, "p50", "p90"),
        (100, "p90", "p95"),
        (200, "p95", "p99"),
        (1000, "p99", "p99.9"),
    ):
        done = rows(release=[0] * n, first_token=[i + 1 for i in range(n)], last_token=[n + 1] * n)
        values, reasons = m.latency_metrics(done, np.full(n, 2), saturated=False)
        q = float(there[1:])
        assert values[f"ttft_{there}_s"] == pytest.approx(np.percentile(np.arange(1, n + 1), q))
        assert values[f"ttft_{absent}_s"] is None
        assert f"{n} completed requests: fewer than 10" in reasons[f"ttft_{absent}_s"]
        assert "ttft_mean_s" not in reasons
    values, reasons = m.latency_metrics(done, np.full(n, 2), saturated=True)
    assert values["ttft_p50_s"] is None
    assert "saturated" in reasons["ttft_p50_s"]
    assert values["ttft_mean_s"] == pytest.approx((n + 1) / 2)
    values, reasons = m.latency_metrics(rows(status=[1.0]), np.array([3]), saturated=False)
    assert values["tpot_mean_s"] is None
    assert "no requests with two tokens" in reasons["tpot_mean_s"]


def test_attainment_counts_everything_offered() -> None:
    done = rows(
        release=[0, 0, 0, 0, 0],
        scheduled=[0, 0, 0, -1, -1],
        first_token=[1, 3, 1, -1, -1],
        last_token=[2, 4, 9, -1, -1],
        status=[0, 0, 0, 1, 3],
    )
    output = np.array([3, 3, 3, 3, 3])
    assert m.attains(done, output, parse_slo("ttft=2s")).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert m.attains(done, output, parse_slo("ttft=2s,tpot=500ms")).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
    values, _ = m.attainment(done, output, parse_slo("ttft=2s"), span_s=10.0)
    assert values == {"slo_attainment": 0.4, "goodput_req_s": 0.2}
    # a limit is met at equality, and one token has no TPOT to miss
    assert m.attains(done, output, parse_slo("e2e.p99=2s")).tolist() == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert m.attains(done, np.ones(5, np.int64), parse_slo("tpot=1us")).tolist() == [
        False,
        False,
        False,
        False,
        False,
    ]


def test_one_token_cannot_miss_a_tpot_limit() -> None:
    done = rows(release=[0], scheduled=[0], first_token=[5], last_token=[5])
    assert m.attains(done, np.array([1]), parse_slo("tpot=1us")).tolist() == [True]


def test_slo_text() -> None:
    slo = parse_slo("ttft.p99=2s, tpot.p99.9=100ms,E2E=1m")
    assert [(x.latency, x.stat, x.limit_s, x.key) for x in slo.limits] == [
        ("ttft", "p99", 2.0, "ttft_p99_s"),
        ("tpot", "p99.9", 0.1, "tpot_p99.9_s"),
        ("e2e", None, 60.0, ""),
    ]
    assert parse_slo(str(slo)) == slo
    for text, error in (
        ("", UsageError),
        ("ttft", UsageError),
        ("ttft.p99=2", UsageError),
        ("ttft.p99=-2s", UsageError),
        ("ttft=1s,ttft=2s", UsageError),
        ("tftt.p99=2s", UnknownName),
        ("ttft.p98=2s", UnknownName),
    ):
        with pytest.raises(error):
            parse_slo(text)


def test_a_steady_run_has_percentiles_and_no_nan() -> None:
    run = simulate(poisson(3000, rate=10), SPEC, slo=parse_slo("ttft.p99=2s,tpot.p99=100ms"))
    got = run.metrics
    assert not got.saturated
    assert got["requests_completed"] == got["requests_offered"] == 3000
    assert got["ttft_p99_s"] is not None
    assert got["ttft_p99.9_s"] is None
    for name, v in got.values.items():
        assert v is None or math.isfinite(v), name
        assert (v is None) == (name in got.reasons), name
    assert got["slo_attainment"] == 1.0
    assert got["goodput_req_s"] == got["requests_per_s"]
    told = judge(parse_slo("ttft.p99=2s,ttft.p99.9=2s,tpot.mean=1ms"), got, run.rows, run.output_tokens)  # fmt: skip
    assert [v.ok for v in told] == [True, None, False]
    text = json.dumps(got.to_dict(), allow_nan=False)
    assert json.loads(text)["measured"] == "simulated"


def test_latency_of_a_lone_request_is_the_step_model_added_up() -> None:
    run = simulate(Requests.make([0], [3000], [4]), SPEC)
    step = run.step_models[0]
    from lamina_traces.costs import State

    prefill = step.seconds(State.prefill(2048)) + step.seconds(State.prefill(952, 2048))
    decode = [step.seconds(State.decode(1, 3000 + i)) for i in (1, 2, 3)]
    assert run.rows.first_token_ns[0] / S == pytest.approx(prefill, abs=3e-9)
    assert run.rows.last_token_ns[0] / S == pytest.approx(prefill + sum(decode), abs=9e-9)
    assert run.metrics["tpot_mean_s"] == pytest.approx(sum(decode) / 3, abs=1e-8)
    assert run.metrics["iterations"] == 5


def test_arrivals_beyond_capacity_are_found_out() -> None:
    # capacity is near 40 requests/s of this shape; both sides of it
    assert not simulate(poisson(4000, rate=20), SPEC).metrics.saturated
    over = simulate(poisson(4000, rate=60), SPEC)
    assert over.metrics.saturated
    assert over.metrics["ttft_p50_s"] is None
    assert over.metrics["requests_completed"] == 4000
    slo = parse_slo("ttft.p50=100s")
    assert judge(slo, over.metrics, over.rows, over.output_tokens)[0].ok is False
    # twice the replicas carry it
    assert not simulate(
        poisson(4000, rate=40), specs.simple("llama-3.1-8b", "h100-sxm", replicas=2)
    ).metrics.saturated


def test_energy_and_money_are_over_provisioned_hours() -> None:
    load = poisson(500, rate=2)
    one, three = (
        simulate(load, specs.simple("llama-3.1-8b", "h100-sxm", replicas=n)) for n in (1, 3)
    )
    span_h = one.metrics["span_s"] / 3600  # type: ignore[operator]
    assert one.metrics["device_hours"] == pytest.approx(span_h)
    assert one.metrics["usd"] == pytest.approx(2.0 * span_h)
    tokens = 500 * 1050
    assert one.metrics["usd_per_m_total_tokens"] == pytest.approx(1e6 * 2.0 * span_h / tokens)
    assert one.metrics["usd_per_m_output_tokens"] == pytest.approx(1e6 * 2.0 * span_h / 25_000)
    assert three.metrics["usd_per_hour"] == 6.0
    # idle devices draw 75 W, busy ones 340 to 700
    watts = one.metrics["power_mean_w"]
    assert watts is not None
    assert 75 < watts < 700
    idle = 75 * (1 - one.metrics["busy_frac"])  # type: ignore[operator]
    assert watts - idle > 0.486 * 700 * one.metrics["busy_frac"]  # type: ignore[operator]
    assert one.metrics["energy_j"] == pytest.approx(watts * one.metrics["span_s"])  # type: ignore[operator]
    # windows and total agree where the windows cover the run
    width = one.windows.window_ns / S
    covered = float(one.power_w.sum()) * width
    assert covered == pytest.approx(one.metrics["energy_j"], rel=0.02)
    assert three.metrics["power_mean_w"] > 3 * 75  # type: ignore[operator]


def pooled(*kinds: tuple[str, int, int, str]) -> Serving:
    """Pools of (GPU, devices of a replica, replicas, role)."""
    pools = tuple(
        specs.Pool(specs.Replica((specs.Group(gpu, n=n, tp=n),)), count, role)  # type: ignore[arg-type]
        for gpu, n, count, role in kinds
    )
    prices = {"h100-sxm": 4.0, "l40s": 1.5, "a100-80-sxm": 2.5}
    return specs.check(replace(SPEC, pools=pools, prices=prices))


def test_pools_of_other_devices_have_their_own_price_and_power() -> None:
    """The first request goes to the first replica: what the second pool adds is idle and paid for."""
    lone = Requests.make([0], [1000], [200])
    h100, l40s = ("h100-sxm", 1, 1, "both"), ("l40s", 2, 1, "both")
    idle = {"h100-sxm": 1 * 75.0, "l40s": 2 * device("l40s").idle_w.value}
    for first, other in ((h100, l40s), (l40s, h100)):
        alone, both = (simulate(lone, pooled(*kinds)).metrics for kinds in ((first,), (first, other)))  # fmt: skip
        span = both["span_s"]
        assert span == alone["span_s"]
        assert both["energy_j"] == pytest.approx(alone["energy_j"] + idle[other[0]] * span)  # type: ignore[operator]
        assert both["usd_per_hour"] == pytest.approx(4.0 + 2 * 1.5)
        assert both["usd"] == pytest.approx((4.0 + 2 * 1.5) * span / 3600)  # type: ignore[operator]
        assert both["device_hours"] == pytest.approx(3 * span / 3600)  # type: ignore[operator]


def test_energy_of_prefill_and_decode_pools_added_up() -> None:
    """A prompt and two tokens: one iteration on each of two kinds of devices, one of them idle while the other works."""
    run = simulate(
        Requests.make([0], [1000], [2]),
        pooled(("h100-sxm", 1, 1, "prefill"), ("a100-80-sxm", 1, 1, "decode")),
    )
    span = float(run.metrics["span_s"] or 0)
    states = (State.prefill(1000), State.decode(1, 1001))
    expected = 0.0
    for step, state, name in zip(run.step_models, states, ("h100-sxm", "a100-80-sxm"), strict=True):
        took, card = step.seconds(state), device(name)
        shares = (np.array([x]) for x in time_shares(step, state))
        watts = float(FITTED_POWER.busy_w(card, *shares)[0])
        assert card.idle_w.value < watts <= card.tdp_w.value
        expected += watts * took + card.idle_w.value * (span - took)
    assert run.metrics["energy_j"] == pytest.approx(expected, rel=1e-6)
    assert run.metrics["usd"] == pytest.approx((4.0 + 2.5) * span / 3600)
    # each pool's power is its own device's
    assert {r: round(b, 6) for r, b in zip(run.windows.replica.tolist(), run.windows.busy_s.tolist(), strict=True)} == {
        i: round(step.seconds(state), 6) for i, (step, state) in enumerate(zip(run.step_models, states, strict=True))
    }  # fmt: skip
    # its operators, of each pool: what only one of them does is of that one
    for i, (step, state) in enumerate(zip(run.step_models, states, strict=True)):
        parts = {r.op: r.seconds for r in step.explain(state)}
        assert {r.op: r.seconds for r in run.explain(i)} == pytest.approx(parts)
        busy = float(run.windows.busy_s.sum())
        assert run.op_shares[i] == pytest.approx(
            {op: s / busy for op, s in parts.items()}, abs=1e-6
        )


def test_prices_come_from_the_spec_before_the_example() -> None:
    load = poisson(50, rate=2)
    run = simulate(load, SPEC)
    assert "example-prices" in [n.code for n in run.metrics.notices]
    run = simulate(load, replace(SPEC, prices={"NVIDIA H100 80GB HBM3": 10.0}))
    assert run.metrics["usd_per_hour"] == 10.0
    assert "example-prices" not in [n.code for n in run.metrics.notices]
    run = simulate(load, specs.simple("llama-3.1-8b", "h100-pcie"))
    assert run.metrics["usd_per_m_total_tokens"] is None
    assert run.metrics.reasons["usd_per_m_total_tokens"] == "no price for h100-pcie"


def test_a_cut_run_leaves_requests_unfinished() -> None:
    load = poisson(1000, rate=10)
    run = simulate(load, SPEC, until_s=30.0, slo=parse_slo("ttft=10s"))
    got = run.metrics
    assert run.rows.last_token_ns.max() <= 30 * S
    assert got["requests_offered"] == int((load.arrival_ns <= 30 * S).sum())
    assert got["requests_unfinished"] > 0  # type: ignore[operator]
    assert got["requests_completed"] + got["requests_unfinished"] == got["requests_offered"]  # type: ignore[operator]
    assert set(run.status()) == {"ok", "incomplete"}
    assert got["slo_attainment"] < 1  # type: ignore[operator]
    assert got["span_s"] == pytest.approx(30.0 - load.arrival_ns[0] / S)
    whole = simulate(load, SPEC)
    same = run.rows.status == 0
    assert (run.rows.last_token_ns[same] == whole.rows.last_token_ns[same]).all()


def test_warm_up_and_cool_down_are_served_and_not_measured() -> None:
    done = rows(
        release=[1, 2, 3, 4, 5],
        scheduled=[1, 2, 3, 4, 5],
        first_token=[9, 3, 4, 9, 9],
        last_token=[10, 4, 5, 10, 10],
        status=[0, 0, 0, 2, 3],
    )
    found = m.measured(done, 9.0, warmup_s=1.0, cooldown_s=1.0)
    # released from 2 s to 4 s - the last release is at 5 s - by hand
    assert found.mask.tolist() == [False, True, True, True, False]
    assert (found.warmup, found.cooldown, found.span_s) == (1, 1, 2.0)
    assert m.measured(done, 9.0, warmup_s=1.0).span_s == 8.0
    assert m.measured(done, 9.0).whole
    with pytest.raises(UsageError, match="leave no request"):
        m.measured(done, 9.0, warmup_s=3.0, cooldown_s=3.0)


def test_what_is_not_measured_still_loads_the_engine() -> None:
    load = poisson(2000, rate=10)
    slo = parse_slo("ttft=30ms")
    whole, part = (simulate(load, SPEC, slo=slo, warmup_s=w, cooldown_s=w) for w in (0.0, 30.0))
    first, last = load.arrival_ns[0] + 30 * S, load.arrival_ns[-1] - 30 * S
    mask = (load.arrival_ns >= first) & (load.arrival_ns <= last)
    ttft = (whole.rows.first_token_ns - whole.rows.release_ns)[mask] / S
    assert part.metrics["requests_measured"] == mask.sum()
    assert part.metrics["requests_warmup"] == (load.arrival_ns < first).sum()
    assert part.metrics["ttft_mean_s"] == pytest.approx(ttft.mean())
    assert part.metrics["slo_attainment"] == pytest.approx((ttft <= 0.03).mean())
    assert part.metrics["goodput_req_s"] == pytest.approx(
        (ttft <= 0.03).sum() / ((last - first) / S)
    )
    assert part.metrics["usd"] == whole.metrics["usd"]
    assert part.metrics["requests_per_s"] == whole.metrics["requests_per_s"]
    assert "not-measured" in [n.code for n in part.metrics.notices]
    assert "not-measured" not in [n.code for n in whole.metrics.notices]


def test_groups_add_up_to_the_whole() -> None:
    load = poisson(3000, rate=20)
    run = simulate(load, SPEC, slo=parse_slo("ttft=40ms"))
    labels = np.where(np.arange(3000) % 3 == 0, "a", "b")
    got = m.by_group(
        run.rows,
        run.output_tokens,
        run.measured,
        labels,
        slo=parse_slo("ttft=40ms"),
        saturated=False,
    )
    assert [(g["group"], g["requests"]) for g in got] == [("b", 2000), ("a", 1000)]
    ttft = (run.rows.first_token_ns - run.rows.release_ns) / S
    for g in got:
        own = ttft[labels == g["group"]]
        assert g["ttft_p50_s"] == pytest.approx(np.percentile(own, 50))
        assert g["slo_attainment"] == pytest.approx((own <= 0.04).mean())
    for key in ("goodput_req_s",):
        assert sum(g[key] for g in got) == pytest.approx(run.metrics[key])  # type: ignore[misc]
    assert got[1]["ttft_p99.9_s"] is None


def test_requests_that_never_fit_are_counted() -> None:
    load = Requests.make([0, 1, 2], [100, 200_000, 100], [10, 10, 10])
    run = simulate(load, SPEC)
    assert run.status() == ["ok", "error", "ok"]
    assert run.metrics["requests_rejected_context"] == 1
    assert "rejected" in [n.code for n in run.metrics.notices]
    assert run.rows.last_token_ns[1] == -1


def test_time_is_shared_out_whole() -> None:
    for combine in ("sum", "max"):
        run = simulate(poisson(300, rate=10), replace(SPEC, combine=combine))
        assert sum(run.time_shares.values()) == pytest.approx(1)
        assert sum(run.op_shares[0].values()) == pytest.approx(1)
        # the shares rebuild the busy time: nothing that binds is left out
        seconds = float(run.windows.busy_s.sum())
        assert seconds > 0
        assert run.binding in run.time_shares
        if combine == "sum":  # affine: the mean iteration takes the mean time
            mean_s = sum(r.seconds for r in run.explain())
            assert mean_s == pytest.approx(seconds / run.metrics["iterations"], rel=1e-6)  # type: ignore[operator]
            by_op = {r.op: r.seconds / mean_s for r in run.explain()}
            assert by_op == pytest.approx(run.op_shares[0], rel=1e-6)
    fp8 = specs.simple("llama-3.1-70b", "h100-sxm", tp=4)
    assert simulate(poisson(100, rate=2), fp8).time_shares["network"] > 0


def test_windows_are_the_canonical_table() -> None:
    from lamina_traces.schema import TABLES

    run = simulate(
        poisson(300, rate=10), specs.simple("llama-3.1-8b", "h100-sxm", replicas=2), window_s=1.0
    )
    table = run.batch_windows()
    assert list(table) == list(TABLES["batch_windows"].names)
    assert all(len(c) == len(run.windows) for c in table.values())
    assert all(np.isfinite(c).all() for c in table.values())
    assert table["decode_tokens"].sum() == 300 * 50
    assert table["prefill_tokens"].sum() == 300 * 1000
    assert (table["busy_s"] <= 1.0 + 1e-9).all()
    assert (table["mean_kv_frac"] <= 1.0).all()
    assert (np.diff(run.windows.start_ns[::2]) == S).all()
    assert run.power_w.min() >= 75
    assert run.power_w.max() <= 700


def test_what_cannot_be_simulated_is_named() -> None:
    for load, said in (
        (Requests.make([0, 5], [1, 0], [1, 1]), "row_id 1 has no input tokens"),
        (Requests.make([0, 5], [1, 1], [0, 1]), "row_id 0 has no output tokens"),
        (Requests.make([0, 5], [1, 1], [2, 2], steps=[2, 3]), "steps between 1 and its output"),
        (Requests.make([5, 0], [1, 1], [1, 1]), "not sorted"),
        (Requests.make([5, 5], [1, 1], [1, 1], row_id=[1, 1]), "not sorted"),
        (Requests.make([0, 5], [1, 1], [1, 1], delay_ns=[0, -1]), "negative delay"),
        (Requests.make([-1, 5], [1, 1], [1, 1]), "before the origin"),
        (
            Requests.make([0, 5], [1, 1], [1, 1], parents=[[], [1]]),
            "position 1 waits for position 1",
        ),
        (Requests.make([], [], []), "no requests"),
    ):
        with pytest.raises(ModelError, match=said):
            simulate(load, SPEC)
    with pytest.raises(UnknownName, match="route policy"):
        simulate(poisson(3, 1), replace(SPEC, route="round-robbin"))
    with pytest.raises(ModelError, match="2 step models for 1 pools"):
        simulate(poisson(3, 1), SPEC, [specs.step_model(SPEC)] * 2)
    with pytest.raises(ModelError, match="window"):
        simulate(poisson(3, 1), SPEC, window_s=0)


def test_limits_without_a_statistic_are_shares_and_each_is_told_apart() -> None:
    load = poisson(1000, rate=5)
    first = np.sort(simulate(load, SPEC).rows.first_token_ns - load.arrival_ns) / S
    half = f"{1000 * (first[499] + first[500]) / 2:.6f}ms"  # half of the first tokens are within it
    slo = parse_slo(f"ttft={half},e2e=1h", 0.4)
    run = simulate(load, SPEC, slo=slo)
    told = judge(slo, run.metrics, run.rows, run.output_tokens)
    assert [(v.share, v.ok) for v in told] == [(0.5, True), (1.0, True)]
    assert run.metrics["slo_attainment"] == 0.5
    strict = parse_slo(f"ttft={half},e2e=1h")
    assert [v.ok for v in judge(strict, run.metrics, run.rows, run.output_tokens)] == [False, True]
    # beside them a statistic is a matter of its metric, not of each request
    mixed = simulate(load, SPEC, slo=parse_slo(f"ttft.p50={half},e2e=1h"))
    assert mixed.metrics["slo_attainment"] == 1.0


def test_the_mean_gap_between_tokens_is_exact() -> None:
    run = simulate(Requests.make([0], [1000], [101]), SPEC)
    assert run.metrics["itl_mean_s"] == pytest.approx(run.metrics["tpot_mean_s"], rel=1e-12)
    held = sum(e.tokens for e in (specs.kv_of(SPEC),))
    assert run.metrics["kv_tokens"] == held

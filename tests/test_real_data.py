"""The measured values of three real traces, as published in the project's research notes, to 1e-6.

Rates are rows / span; CV is population sd / mean of the gaps; IDC is sample variance / mean of counts in full
windows from the first arrival; percentiles are linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lamina_traces.characterization import characterize
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace

from .aspects.tables import gap_counts, token_counts

pytestmark = pytest.mark.real_data


@dataclass(frozen=True)
class Published:
    """``digits``: the notes print this many significant digits of the figure."""

    file: str
    rows: int
    span_s: float
    rate: float
    cv: float
    idc: dict[float, float]
    inputs: tuple[float, float, float, float]
    outputs: tuple[float, float, float, float]
    pearson: float


TRACES = {
    "azure-code": Published(
        "AzureLLMInferenceTrace_code.csv", 8819, 3435.948056, 2.56669, 13.1513, {1: 13.190, 10: 71.851, 60: 166.893, 120: 214, 300: 152},
        (2047.85, 1469, 5187.6, 7436), (27.88, 13, 55, 251.46), 0.0012,
    ),
    "mooncake": Published(
        "mooncake_conversation_trace.jsonl", 12031, 3536.999, 3.40147, 3.03374, {1: 7.8999, 10: 2.1048, 60: 2.9458},
        (12035.06, 6909, 27367, 85400.4), (342.62, 350, 597, 1118.5), 0.0719,
    ),
    "burstgpt": Published(
        "BurstGPT_1.head400.csv", 400, 37269, 0.010733, 4.56119, {1: 1.0044, 10: 1.2263, 60: 2.7833},
        (520.47, 314, 1417.9, 1958.02), (276.53, 229.5, 570.7, 1421.21), 0.2444,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=TRACES)
def loaded(
    request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Published, Trace, Profile]:
    want = TRACES[request.param]
    trace = Store(tmp_path_factory.mktemp("real")).ingest(
        [real_data / "llm" / want.file], request.param
    )
    return want, trace, characterize(trace)


def printed(value: float, figure: float) -> bool:
    """Whether ``value`` prints as ``figure`` does: equal to half a unit of its last digit."""
    text = f"{figure!r}"
    places = len(text.split(".")[1]) if "." in text else 0
    return abs(value - figure) <= 0.5 * 10.0**-places + 1e-9


def test_rows_span_and_rate(loaded: tuple[Published, Trace, Profile]) -> None:
    want, trace, profile = loaded
    a = profile.aspect("arrivals")
    assert trace.manifest.counts["kept"] == a.events == want.rows
    assert a.span_s == pytest.approx(want.span_s, abs=1e-6)
    assert printed(a.rate_per_s, want.rate)
    assert a.rate_per_s == pytest.approx(want.rows / want.span_s, rel=1e-12)


def test_dispersion(loaded: tuple[Published, Trace, Profile]) -> None:
    want, trace, profile = loaded
    a = profile.aspect("arrivals")
    assert printed(a.cv, want.cv)
    for width, figure in want.idc.items():
        assert printed(a.idc(width), figure), (width, a.idc(width))
    # a second route, from the rows themselves
    t = trace.scan().select("arrival_ns").collect()["arrival_ns"].to_numpy()
    gaps = np.diff(t) / 1e9
    assert a.cv == pytest.approx(gaps.std() / gaps.mean(), rel=1e-9)
    for width in (1.0, 10.0, 60.0):
        k = int((t[-1] - t[0]) // (width * 1e9))
        counts = np.bincount(((t - t[0]) // int(width * 1e9)).astype(int), minlength=k)[:k]
        assert a.idc(width) == pytest.approx(counts.var(ddof=1) / counts.mean(), rel=1e-9)


def test_lengths(loaded: tuple[Published, Trace, Profile]) -> None:
    want, trace, profile = loaded
    frame = trace.scan().select("input_tokens", "output_tokens").collect()
    for column, figures in (("input_tokens", want.inputs), ("output_tokens", want.outputs)):
        # the notes count the failed rows of BurstGPT as zeros; the store keeps them as not recorded
        x = frame[column].fill_null(0).to_numpy()
        mine = (x.mean(), *np.percentile(x, [50, 90, 99]))
        assert all(printed(float(v), f) for v, f in zip(mine, figures, strict=True)), (column, mine)
    counts = token_counts(trace)
    recorded = frame["input_tokens"].drop_nulls().to_numpy()
    np.testing.assert_allclose(
        counts["input"].quantile(np.array([0.5, 0.9, 0.99])),
        np.percentile(recorded, [50, 90, 99]),
        rtol=1e-12,
    )
    zeros = frame.fill_null(0)
    pearson = float(np.corrcoef(zeros["input_tokens"], zeros["output_tokens"])[0, 1])
    assert printed(pearson, want.pearson)
    if frame["input_tokens"].null_count() == 0:
        assert profile.aspect("lengths").pearson == pytest.approx(pearson, rel=1e-9)


@pytest.mark.parametrize("loaded", ["azure-code"], indirect=True)
def test_gap_law_of_azure_code(loaded: tuple[Published, Trace, Profile]) -> None:
    _, _, profile = loaded
    hyper, best = profile.aspect("arrivals").families[:2]
    assert (
        hyper.family == "hyperexponential"
    )  # three components; of single families the Weibull leads
    assert hyper.ks_d < 0.1
    assert best.family == "weibull"
    assert best.params["shape"] == pytest.approx(0.419, abs=5e-4)
    assert best.ks_d == pytest.approx(0.140, abs=5e-4)


@pytest.mark.parametrize("loaded", ["mooncake"], indirect=True)
def test_mooncake_clock_is_seen_through(loaded: tuple[Published, Trace, Profile]) -> None:
    _, trace, profile = loaded
    a = profile.aspect("arrivals")
    assert a.zero_gap_share == pytest.approx(
        (12031 - 1180) / 12030, rel=1e-12
    )  # 1,180 distinct stamps
    assert a.families == ()
    assert "quantised-clock" in [n.code for n in profile.notices]
    ids = trace.scan().select("prefix_hashes").collect()["prefix_hashes"]
    assert ids.list.len().sum() == 288_500
    assert ids.explode().n_unique() == 182_790


def test_failures_of_burstgpt(loaded: tuple[Published, Trace, Profile]) -> None:
    want, _, profile = loaded
    f = profile.aspect("failures")
    if not want.file.startswith("BurstGPT"):
        assert f is None
        assert "not-recorded" in [n.code for n in profile.notices]
        return
    assert (f.requests, f.failed) == (400, 17)
    assert f.rate == pytest.approx(0.0425)
    assert set(f.kinds) == {"unknown-failure"}


def test_streams_by_model(real_data: Path, tmp_path: Path) -> None:
    trace = Store(tmp_path).ingest([real_data / "llm" / "BurstGPT_1.head400.csv"], "b")
    part = characterize(trace, by="model").part("llm_requests")
    assert sum(s.weight for s in part.streams) == pytest.approx(1.0)
    chatgpt = part.streams[0]
    assert chatgpt.where == {"model": "ChatGPT"}
    failures = chatgpt.aspects["failures"].to_dict()
    assert failures["rate"] == pytest.approx(0.04375)


def test_every_row_is_kept_in_order(real_data: Path, tmp_path: Path) -> None:
    """Arrivals to the nanosecond and lengths, row by row, against a reading with Python's own csv."""
    import csv
    from datetime import datetime

    path = real_data / "llm" / "AzureLLMInferenceTrace_code.csv"
    trace = Store(tmp_path).ingest([path], "a")
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    epoch = datetime(1970, 1, 1)
    unix_ns = [
        int((datetime.fromisoformat(r["TIMESTAMP"][:26]) - epoch).total_seconds()) * 10**9
        + int(r["TIMESTAMP"][20:27]) * 100
        for r in rows
    ]
    frame = trace.scan().collect()
    origin = trace.manifest.origin_ns
    assert origin == unix_ns[0]
    assert (frame["arrival_ns"] + origin).to_list() == unix_ns
    assert frame["input_tokens"].to_list() == [int(r["ContextTokens"]) for r in rows]
    assert frame["output_tokens"].to_list() == [int(r["GeneratedTokens"]) for r in rows]
    assert gap_counts(trace).rows == len(rows) - 1

"""The workload profile: round trip, evolution rules, and what damaged or hostile files do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina_traces.errors import DataError, LaminaError, ModelError, UnknownName
from lamina_traces.generator import generate, row_hash
from lamina_traces.profile import Profile, library_names

GOLDEN = Path(__file__).parent / "golden" / "profile-1.json"


def damaged(change: Callable[[dict[str, Any]], None]) -> str:
    d = json.loads(GOLDEN.read_text())
    change(d)
    return json.dumps(d)


def aspects(d: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = d["parts"]["llm_requests"]["streams"][0]["aspects"]
    return found


def test_a_file_of_version_1_is_read() -> None:
    """The fixture was written by 0.1.0 with aspects of version 1; it is read, and generates the same rows as long as the generator has this version."""
    profile = Profile.loads(GOLDEN.read_text())
    again = Profile.loads(profile.dumps())
    assert again.dumps() == profile.dumps()
    assert row_hash(generate(profile, rows=2000)) == (2000, "2be8dbb145a36659")
    assert list(profile.part("llm_requests").streams[0].aspects) == [
        "arrivals",
        "lengths",
        "failures",
    ]


def test_a_profile_and_its_file_generate_the_same_rows(sample_store: Path) -> None:
    from lamina_traces.characterization import characterize
    from lamina_traces.store import Store

    fitted = characterize(Store(sample_store).trace("sample"))
    read = Profile.loads(fitted.dumps())
    assert row_hash(generate(fitted, rows=2000)) == row_hash(generate(read, rows=2000))


def test_library() -> None:
    """Its contents are the subject of ``test_library.py``."""
    assert {"azure-code", "mooncake-conversation"} <= set(library_names())
    p = Profile.library("azure-code")
    assert p.name == "azure-code"
    assert p.source["licence"]
    with pytest.raises(UnknownName, match="azure-cod"):
        Profile.library("azure-cod")


def test_an_unknown_aspect_is_kept_and_said() -> None:
    text = damaged(lambda d: aspects(d).update(telepathy={"version": 3, "x": [1, 2]}))
    p = Profile.loads(text)
    assert "unknown-aspect" in [n.code for n in p.notices]
    assert aspects(p.to_dict())["telepathy"] == {"version": 3, "x": [1, 2]}
    assert row_hash(generate(p, rows=500)) == row_hash(generate(Profile.load(GOLDEN), rows=500))


def test_an_aspect_may_be_absent() -> None:
    p = Profile.loads(damaged(lambda d: aspects(d).pop("failures")))
    assert next(generate(p, rows=50))["status"].unique().to_list() == ["unknown"]
    with pytest.raises(ModelError, match="no lengths"):
        next(generate(Profile.loads(damaged(lambda d: aspects(d).pop("lengths")))))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(format="lamina-profile/2"), "lamina-profile/2"),
        (lambda d: d.update(format="other/1"), "other/1"),
        (lambda d: d.pop("format"), "no 'format'"),
        (lambda d: d.pop("parts"), "damaged"),
        (lambda d: aspects(d)["arrivals"].update(version=99), "version 99"),
        (lambda d: aspects(d)["arrivals"].pop("version"), "no version"),
        (lambda d: aspects(d)["arrivals"].update(rate_per_s=-1), "positive"),
        (lambda d: aspects(d)["arrivals"].update(rate_per_s="fast"), "damaged"),
        (lambda d: aspects(d)["arrivals"]["rate_curve"].update(multiple_of_mean=[]), "positive"),
        (lambda d: aspects(d)["arrivals"]["rate_curve"].update(multiple_of_mean=[0.0, 0.0]), "positive"),
        (lambda d: aspects(d)["arrivals"]["unit_gaps"].update(values=[3, 1]), "increasing"),
        (lambda d: aspects(d)["arrivals"]["unit_gaps"].update(values=[0, 0]), "positive"),
        (lambda d: aspects(d)["arrivals"].update(quantum_s=-1), "positive"),
        (lambda d: aspects(d)["arrivals"]["rate_curve"].update(signal=2), "positive"),
        (lambda d: aspects(d)["arrivals"]["families"][0]["params"].update(scale=-2), "positive"),
        (lambda d: aspects(d)["arrivals"]["families"][0].update(family="cauchy"), "cauchy"),
        (lambda d: d["parts"]["llm_requests"].update(tail=3), "tail"),
        (lambda d: aspects(d)["lengths"].update(copula=[[1, 2]]), "square"),
        (lambda d: aspects(d)["lengths"].update(copula=[[-1]]), "square"),
        (lambda d: aspects(d)["lengths"]["input"]["grid"].update(values=[-5, 5]), "negative"),
        (lambda d: aspects(d)["failures"].update(p_fail_after_ok=1.5), "outside"),
        (lambda d: aspects(d)["failures"]["kinds"].update(gremlins={"share": 0.5, "without_lengths": 0}), "gremlins"),
        (lambda d: d["parts"]["llm_requests"]["streams"][0].update(weight=0), "weight"),
    ],
)  # fmt: skip
def test_damage_is_named(change: Callable[[dict[str, Any]], None], match: str) -> None:
    with pytest.raises(LaminaError, match=match) as e:
        Profile.loads(damaged(change))
    assert e.value.hint


PLACES: dict[str, tuple[list[Any], Any]] = {
    r"stream 'all': .*arrivals.* damaged: rate_curve\.window_s is missing": (["arrivals", "rate_curve", "window_s"], None),
    r"events is \"many\", not a whole number": (["arrivals", "events"], "many"),
    r"rate_per_s is -1, not from 0": (["arrivals", "rate_per_s"], -1),
    r"modulation\.levels\[3\] is null, not a number": (["arrivals", "modulation", "levels", 3], []),
    r"input\.grid\.values is 3, not a list": (["lengths", "input", "grid", "values"], 3),
    r"is \[\], not an object": (["lengths"], []),
}  # fmt: skip
"""what is said → where a library profile is changed, and to what (None: it is taken out, []: nulls)"""


@pytest.mark.parametrize("said", PLACES)
def test_the_place_of_damage_is_named(said: str) -> None:
    d = Profile.library("azure-code").to_dict()
    at, value = PLACES[said]
    x: Any = aspects(d)
    for k in at[:-1]:
        x = x[k]
    if value is None:
        del x[at[-1]]
    else:
        x[at[-1]] = None if isinstance(at[-1], int) else value
    with pytest.raises(LaminaError, match=said) as e:
        Profile.from_dict(d)
    assert e.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "lamina-profile/1", "x": NaN}',
        '{"format": "lamina-profile/1", "x": 1e999}',
        '{"format": "lamina-profile/1", "x": 1' + "0" * 400 + "}",
        "[" * 100_000,
    ],
)
def test_what_is_no_profile(text: str) -> None:
    with pytest.raises(DataError):
        Profile.loads(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "none.json", tmp_path / "x.json"):
        with pytest.raises(DataError):
            Profile.load(path)


def test_nothing_rarer_than_ten_rows_is_stored() -> None:
    """No extreme value of the source stands in its profile."""
    p = Profile.load(GOLDEN).to_dict()
    pairs = aspects(p)["lengths"]["pairs"]
    copula = [x for row in aspects(p)["lengths"]["copula"] for x in row]
    smallest = min(copula) * pairs
    shared = [x for x in copula if x == min(copula)]
    assert smallest >= 10 or smallest * len(shared) >= 10 or smallest == 0
    assert len(aspects(p)["lengths"]["input"]["grid"]["values"]) <= pairs / 10 + 1

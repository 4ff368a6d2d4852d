"""Bad input, as a user meets it: one error line, one hint, the right exit code, nothing half-written, no traceback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Ran

Lamina = Callable[..., Ran]
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROWS = [
    "2023-11-16 18:17:03.9799600,4808,10",
    "2023-11-16 18:17:04.0319600,3180,8",
    "2023-11-16 18:17:04.0781490,110,27",
]
GOOD = "\r\n".join([HEADER, *ROWS])


def refused(done: Ran, code: int, *said: str) -> None:
    assert done.code == code, done.err
    lines = done.err.splitlines()
    assert lines[0].startswith("error: "), done.err
    assert any(line.startswith("hint: ") for line in lines), done.err
    assert "Traceback" not in done.err
    for text in said:
        assert text in done.err
    assert done.out == ""


def nothing_stored(lamina: Lamina) -> None:
    assert json.loads(lamina("ls", "--format", "json").out) == []


def kept(done: Ran) -> dict[str, int]:
    assert done.code == 0, done.err
    counts: dict[str, int] = json.loads(done.out)["counts"]
    assert (
        counts["lines"] == counts["kept"] + counts["rejected"] + counts["blank"] + counts["header"]
    )
    return counts


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("empty.csv", b"", 1, "empty"),
        ("header.csv", HEADER.encode() + b"\n", 1, "header.csv"),
        ("noise.csv", bytes(range(256)) * 40, 1, "noise.csv"),
        ("other.csv", b"when,who,what\n1,2,3\n4,5,6\n", 2, "when, who, what"),
        (
            "cut.csv.gz",
            gzip.compress(("\n".join([HEADER, *ROWS * 3000])).encode())[:-400],
            1,
            "cut.csv.gz",
        ),
        ("text.txt", b"Dear diary,\n\ntoday nothing happened.\n", 2, "text.txt"),
        ("all-bad.csv", (HEADER + "\nx,y,z\nu,v,w\n").encode(), 1, "all-bad.csv"),
    ],
)
def test_files_that_are_refused(
    lamina: Lamina, tmp_path: Path, name: str, content: bytes, code: int, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lamina("ingest", name), code, said)
    nothing_stored(lamina)


def test_missing_file_and_directory(lamina: Lamina, tmp_path: Path) -> None:
    refused(lamina("ingest", "none.csv"), 2, "none.csv")
    (tmp_path / "folder").mkdir()
    refused(lamina("ingest", "folder"), 2, "folder")
    nothing_stored(lamina)


def test_unknown_file_gets_a_complete_command(lamina: Lamina, tmp_path: Path) -> None:
    """The guessed line of the hint works as it stands."""
    (tmp_path / "log.csv").write_text(
        "req_time,prompt_len,gen_len,api_key\n"
        + "".join(f"{i * 0.5},{100 + i},{i + 1},sk-secret\n" for i in range(40))
    )
    done = lamina("ingest", "log.csv")
    refused(done, 2, "req_time, prompt_len, gen_len")
    assert "sk-secret" not in done.err
    guess = next(line for line in done.err.splitlines() if "lamina-traces ingest" in line)
    words = guess.split("lamina-traces ", 1)[1].split()
    again = lamina(*words, "--format", "json")
    assert kept(again)["kept"] == 40
    assert "sk-secret" not in again.out + again.err
    facts = json.loads(
        lamina(
            "sql",
            "select max(arrival_ns) as t, max(input_tokens) as i, max(output_tokens) as o from llm_requests",
            "--format",
            "json",
        ).out
    )
    assert facts == [{"t": 19_500_000_000, "i": 139, "o": 40}]


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\r\n", "\n"),
        "\ufeff" + GOOD,
        GOOD + "\r\n",
        GOOD + "\r\n\r\n\r\n",
        "\n".join(
            [
                "GeneratedTokens,TIMESTAMP,ContextTokens",
                *(",".join([r.split(",")[2], r.split(",")[0], r.split(",")[1]]) for r in ROWS),
            ]
        ),
        GOOD.replace("4808", "4808.0"),
        GOOD.replace(".9799600", ".97996"),
        GOOD.replace(".9799600,", ".979960+00:00,"),
    ],
    ids=[
        "crlf",
        "lf",
        "bom",
        "final newline",
        "blank lines",
        "swapped header",
        "472.0",
        "5 digits",
        "offset",
    ],
)
def test_the_same_rows_in_other_clothes(lamina: Lamina, tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert kept(lamina("ingest", "a.csv", "--format", "json"))["kept"] == 3
    rows = json.loads(
        lamina(
            "sql",
            "select arrival_ns, input_tokens, output_tokens from a order by arrival_ns",
            "--format",
            "json",
        ).out
    )
    assert rows == [
        {"arrival_ns": 0, "input_tokens": 4808, "output_tokens": 10},
        {"arrival_ns": 52_000_000, "input_tokens": 3180, "output_tokens": 8},
        {"arrival_ns": 98_189_000, "input_tokens": 110, "output_tokens": 27},
    ]


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        ("2023-11-16 18:17:05.0,many,3", "ContextTokens"),
        ("2023-11-16 18:17:05.0,NaN,3", "ContextTokens"),
        ("2023-11-16 18:17:05.0,-4,3", "ContextTokens"),
        ("2023-11-16 18:17:05.0,1.5,3", "ContextTokens"),
        ("2023-11-16 18:17:05.0,5,", "GeneratedTokens"),
        ("yesterday,5,3", "TIMESTAMP"),
        ("2023-13-16 18:17:05.0,5,3", "TIMESTAMP"),
        ("2023-11-16 18:17:05.0,99999999999,3", "ContextTokens"),
        ("1600-11-16 18:17:05.0,5,3", "TIMESTAMP"),
        ("2500-11-16 18:17:05.0,5,3", "TIMESTAMP"),
    ],
)
def test_bad_lines_are_kept_apart_with_their_place(
    lamina: Lamina, tmp_path: Path, bad: str, column: str
) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *ROWS, bad, *ROWS]) + "\n")
    counts = kept(lamina("ingest", "a.csv", "--format", "json"))
    assert (counts["kept"], counts["rejected"]) == (6, 1)
    shown = lamina("show", "a").out
    assert "rejected lines (1)" in shown
    line = next(x for x in shown.splitlines() if column in x and "a.csv" in x)
    assert "5" in line.split()


def test_unsorted_input_is_sorted_and_said(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *reversed(ROWS)]) + "\n")
    done = lamina("ingest", "a.csv")
    assert "[sorted]" in done.err
    rows = json.loads(lamina("sql", "select row_id, arrival_ns from a", "--format", "json").out)
    assert rows == [
        {"row_id": 2, "arrival_ns": 0},
        {"row_id": 1, "arrival_ns": 52_000_000},
        {"row_id": 0, "arrival_ns": 98_189_000},
    ]


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_compressed_several_files_and_standard_input(
    lamina: Lamina, tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    import zstandard

    data = GOOD.encode()
    packed = gzip.compress(data) if pack == "gz" else zstandard.ZstdCompressor().compress(data)
    (tmp_path / "misnamed.csv").write_bytes(packed)  # told by content, not by extension
    (tmp_path / "b.csv").write_bytes(data)
    assert kept(lamina("ingest", "misnamed.csv", "b.csv", "--name", "two", "--format", "json")) == {
        "lines": 8,
        "kept": 6,
        "rejected": 0,
        "blank": 0,
        "header": 2,
        "other": 0,
    }
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert kept(lamina("ingest", "-", "--name", "piped", "--format", "json"))["kept"] == 3


def test_names_cannot_escape_and_are_shown_harmlessly(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *ROWS]))
    for name in ("../../escape", 'x"; drop table y; --', "a/b", "ünï ☃", "\u202eevil"):
        assert lamina("ingest", "a.csv", "--name", name).code == 0, name
    assert {p.name for p in tmp_path.iterdir()} == {"a.csv", "lamina-store"}
    listed = lamina("ls").out
    assert "\u202e" not in listed
    for name in ("", "x\x00y", "x\x1b[31my"):
        refused(lamina("ingest", "a.csv", "--name", name), 2)


def test_unreadable_store(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused(lamina("ls", "--store", "file"), 1, "file")
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *ROWS]))
    assert lamina("ingest", "a.csv").code == 0
    manifest = next((tmp_path / "lamina-store").rglob("trace.json"))
    manifest.write_text("{ not json")
    refused(lamina("fit", "a"), 1, "a")
    manifest.write_text(json.dumps({"schema_version": 99}))
    refused(lamina("fit", "a"), 1, "99")


def test_too_few_rows_say_so(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *ROWS]))
    assert lamina("ingest", "a.csv").code == 0
    refused(lamina("fit", "a"), 1, "too few")
    done = lamina("simulate", "a")
    assert done.code == 0
    assert "–" in done.out  # percentiles of three requests are not numbers


def test_output_that_cannot_be_written(lamina: Lamina, sample_store: Path) -> None:
    at = ["--store", str(sample_store)]
    refused(lamina("generate", "azure-code", "-n", "100", "-o", "no/such/x.parquet"), 1, "no/such")
    refused(lamina("export", "sample", "--to", "azure", "-o", "no/such/x.csv", *at), 2, "no/such")
    refused(lamina("export", "sample", "--to", "azur", "-o", "x.csv", *at), 2, "azure")
    done = lamina("fit", "sample", "-o", "no/such/p.json", *at)
    assert done.code == 1
    assert "no/such" in done.err


def test_limits_can_be_raised(lamina: Lamina, tmp_path: Path) -> None:
    long = json.dumps(
        {"timestamp": 0, "input_length": 1, "output_length": 1, "pad": "x" * 17_000_000}
    )
    (tmp_path / "long.jsonl").write_text(long + "\n" + long + "\n")
    ran = lamina("ingest", "long.jsonl", "--as", "mooncake")
    refused(ran, 1, "line")
    assert "--limits" in ran.err
    ran = lamina("ingest", "long.jsonl", "--as", "mooncake", "--limits", "line=64MB")
    assert ran.code == 0, ran.err
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=9) as out:
        out.write(HEADER.encode() + b"\n")
        for _ in range(300):
            out.write(b" " * 999_999 + b"\n")
        out.write((ROWS[0] + "\n").encode())
    ran = lamina("ingest", "bomb.csv.gz")
    refused(ran, 1, "grows")
    for wrong in ("lines=3", "line", "line=", "line=-1MB", "growth=0"):
        refused(lamina("ingest", "long.jsonl", "--limits", wrong), 2, "limit")

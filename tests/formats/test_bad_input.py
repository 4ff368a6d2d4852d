"""Every bad input ends in the right error, with its place and the next thing to do."""

from __future__ import annotations

import ast
import gzip
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
import zstandard

from lamina_traces import formats
from lamina_traces.errors import DataError, LaminaError, UnknownFormat, UnknownName, UsageError
from tests.formats.reads import read, write

HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
GOOD = "5,ChatGPT,472,18,490,Conversation log\n"


def refused(error: type[LaminaError], *paths: Path | str, **options: object) -> LaminaError:
    with pytest.raises(error) as caught:
        read(*paths, **options)
    assert caught.value.message
    assert caught.value.hint, "an error says what to do next"
    return caught.value


@pytest.mark.parametrize(
    ("column", "cells", "reason"),
    [
        ("Request tokens", "5,ChatGPT,abc,18,490,API log", "not a number: 'xxx'"),
        ("Request tokens", "5,ChatGPT,NaN,18,490,API log", "not a finite number: NaN"),
        ("Request tokens", "5,ChatGPT,-472,18,490,API log", "negative: '-472'"),
        ("Request tokens", "5,ChatGPT,1.5,18,490,API log", "not a whole number: '1.5'"),
        ("Request tokens", "5,ChatGPT,,18,490,API log", "empty, and this column is needed"),
        ("Response tokens", "5,ChatGPT,1,99999999999,490,API log", "too large: '99999999999'"),
        ("Total tokens", "5,ChatGPT,1,2,0x10,API log", "not a number: '#x##'"),
        ("Timestamp", "soon,ChatGPT,1,2,3,API log", "not a number: 'xxxx'"),
        ("Timestamp", "-1,ChatGPT,1,2,3,API log", "negative: '-1'"),
        ("Timestamp", "1e40,ChatGPT,1,2,3,API log", "too large: '1e40'"),
        ("Timestamp", "99999999999,ChatGPT,1,2,3,API log", "too large: '99999999999'"),
        ("Timestamp", "inf,ChatGPT,1,2,3,API log", "not a finite number: inf"),
        ("Model", "5,,1,2,3,API log", "empty, and this column is needed"),
        (None, "5,ChatGPT,1,2,3", "fewer cells than the header: 5, not 6"),
        (None, "5,ChatGPT,1,2,3,API log,more", "more cells than the header: 7, not 6"),
        (None, '5,"ChatGPT,1,2,3,API log', "a quote out of place or never closed"),
        (None, "5,Chat\0GPT,1,2,3,API log", "a NUL byte"),
    ],
)
def test_bad_rows_are_rejected_with_line_column_and_reason(
    tmp_path: Path, column: str | None, cells: str, reason: str
) -> None:
    got = read(write(tmp_path / "b.csv", HEADER + GOOD + cells + "\n" + GOOD))
    assert got.column("row_id") == [0, 1]
    assert got.rejects.rows() == [
        (str(tmp_path / "b.csv"), 3, column, reason, got.rejects["text"][0])
    ]
    assert got.summary.line() == "4 lines = 2 kept + 1 rejected + 0 blank + 1 header"
    assert [n.code for n in got.summary.notices] == ["rejected"]


def test_a_file_of_bad_rows_only_is_an_error_at_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", HEADER + "\n5,ChatGPT,x,18,490,API log\n" * 3)
    e = refused(DataError, path)
    assert isinstance(e, DataError)
    assert (e.path, e.line, e.column) == (str(path), 3, "Request tokens")
    assert "all 3 lines were rejected" in e.message


def test_a_hopeless_file_is_given_up_early(tmp_path: Path) -> None:
    path = write(tmp_path / "b.csv", HEADER + "5,ChatGPT,x,18,490,API log\n" * 150_000)
    seen: list[int] = []
    e = refused(
        DataError,
        path,
        limits=formats.Limits(block_bytes=1 << 20),
        progress=lambda n, of: seen.append(n),
    )
    assert "line 2" in e.message
    assert len(seen) < 4


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    got = read(
        write(tmp_path / "b.csv", (HEADER + GOOD).encode() + b"5,Chat\xffGPT,1,2,3,API log\n")
    )
    assert got.rejects["reason"].to_list() == ["not UTF-8 text"]
    e = refused(DataError, write(tmp_path / "h.csv", b"\xff" + (HEADER + GOOD).encode()))
    assert "UTF-8" in e.message


def test_layout_variations_give_the_same_rows(tmp_path: Path) -> None:
    plain = read(write(tmp_path / "a.csv", HEADER + GOOD * 3)).frame
    shuffled = "Log Type,Total tokens,Model,Timestamp,Response tokens,Request tokens\n" + "Conversation log,490,ChatGPT,5,18,472\n" * 3  # fmt: skip
    text = HEADER + GOOD * 3
    variants = {
        "crlf": text.replace("\n", "\r\n"),
        "bom": "\ufeff" + text,
        "no newline at the end": text.rstrip("\n"),
        "blank lines": text.replace("\n", "\n\n"),
        "blank above the header": "\n\n" + text,
        "swapped columns": shuffled,
        "quoted": text.replace("ChatGPT", '"ChatGPT"'),
        "decimal points": text.replace(",472,", ",472.0,").replace("5,Chat", "5.000,Chat"),
        "spaces": text.replace(",18,", ", 18 ,"),
        "another case": text.replace("Request tokens", "REQUEST TOKENS"),
        "header again": HEADER + GOOD + HEADER + GOOD * 2,
        "semicolons": text.replace(",", ";"),
        "tabs": text.replace(",", "\t"),
        "exponent": text.replace("5,Chat", "5e0,Chat"),
    }
    for what, content in variants.items():
        got = read(write(tmp_path / "v.csv", content))
        assert got.frame.equals(plain), what
        assert got.rejects.height == 0, what


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    got = read(write(tmp_path / "b.csv", "\n" + HEADER + "\n" + GOOD + "  \n" + GOOD + "\r\n"))
    assert got.summary.line() == "7 lines = 2 kept + 0 rejected + 4 blank + 1 header"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"\n\n  \n", "the file is empty"),
        (HEADER.encode(), "a header and no rows"),
        (HEADER.encode() + b"\n\n", "a header and no rows"),
        (bytes(range(256)) * 50, "binary file"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        ((HEADER + GOOD).encode("utf-16"), "UTF-16"),
        (b"BZh91AY&SY" + bytes(40), "bzip2"),
        (b"PAR1" + bytes(100) + b"PAR1", "damaged Parquet"),
        (b"a,b,a\n1,2,3\n", "names 'a' twice"),
        (b"x" * 3000, "no rows"),
    ],
)
def test_files_that_are_no_traces(tmp_path: Path, content: bytes, what: str) -> None:
    e = refused(DataError, write(tmp_path / "f", content))
    assert what in e.message
    assert str(tmp_path / "f") in e.message


def test_places_that_are_no_files(tmp_path: Path) -> None:
    assert "holds no trace file" in refused(UsageError, tmp_path).message
    write(tmp_path / "requests.csv", HEADER + GOOD)
    e = refused(UsageError, tmp_path / "request.csv")
    assert "no such file" in e.message
    assert "requests.csv" in str(e.hint)
    refused(UsageError)
    refused(UsageError, "-", "-")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_compressed_files(tmp_path: Path, suffix: str, share: float) -> None:
    text = (
        HEADER + "".join(f"{i},ChatGPT,{i * 7919 % 1000},18,{i},API log\n" for i in range(20_000))
    ).encode()
    data = gzip.compress(text) if suffix == "gz" else zstandard.compress(text)
    path = write(tmp_path / "t", data[: int(len(data) * share)])
    seen: list[int] = []

    def read_out() -> None:
        for block in formats.open_reading([path], limits=formats.Limits(block_bytes=4096)):
            seen.append(block.frame.height)  # noqa: PERF401 - kept when the reading breaks off

    with pytest.raises(DataError) as caught:
        read_out()
    assert "truncated" in caught.value.message or "damaged" in caught.value.message
    assert "lines were readable" in caught.value.message
    assert "nothing was stored" in str(caught.value.hint)
    assert sum(seen) < 20_000


def test_damaged_gzip_and_bytes_after_it(tmp_path: Path) -> None:
    data = bytearray(gzip.compress((HEADER + GOOD * 5000).encode()))
    data[len(data) // 2] ^= 0xFF
    refused(DataError, write(tmp_path / "d.gz", bytes(data)))
    refused(DataError, write(tmp_path / "e.gz", gzip.compress((HEADER + GOOD).encode()) + b"tail"))


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    text = (HEADER + GOOD * 5).encode()
    plain = read(write(tmp_path / "plain.csv.gz", text))  # the name lies
    assert plain.summary.inputs[0].compression is None
    two = gzip.compress(text[:100]) + gzip.compress(text[100:]) + b"\0" * 10
    for name, data, kind in (("a.csv", two, "gz"), ("b.csv", zstandard.compress(text), "zst")):
        got = read(write(tmp_path / name, data))
        assert got.frame.equals(plain.frame)
        assert got.summary.inputs[0].compression == kind
        assert got.summary.inputs[0].bytes == len(data)


def test_sha256_is_of_the_stored_bytes(tmp_path: Path) -> None:
    import hashlib

    data = gzip.compress((HEADER + GOOD * 5).encode())
    path = write(tmp_path / "a", data)
    assert read(path).summary.inputs[0].sha256 == hashlib.sha256(data).hexdigest()
    assert read(path, hashed=False).summary.inputs[0].sha256 is None


def test_a_line_that_never_ends(tmp_path: Path) -> None:
    small = formats.Limits(line_bytes=1000, block_bytes=4000)
    path = write(tmp_path / "l.csv", HEADER + GOOD + "5,Chat" + "T" * 20_000)
    assert refused(DataError, path, limits=small).message.startswith(f"{path}, line 3: ")
    middle = write(
        tmp_path / "m.csv", HEADER + GOOD + "5,Chat" + "T" * 1500 + ",1,2,3,API log\n" + GOOD
    )
    got = read(middle, limits=formats.Limits(line_bytes=1000))
    # a long cell is no harm while the line can be read whole
    assert got.summary.kept + got.summary.rejected == 3


def test_decompression_bomb(tmp_path: Path) -> None:
    bomb = write(
        tmp_path / "bomb.csv", gzip.compress((HEADER + GOOD).encode() + b"\n" * 20_000_000)
    )
    tight = formats.Limits(growth_from_bytes=1 << 20)
    assert "grows more than" in refused(DataError, bomb, limits=tight).message


def test_several_files(tmp_path: Path) -> None:
    a = write(tmp_path / "a.csv", HEADER + GOOD * 2)
    b = write(tmp_path / "b.csv", HEADER + GOOD + "6,ChatGPT,x,2,3,API log\n" + GOOD)
    got = read(a, b)
    assert got.column("row_id") == [0, 1, 2, 3]
    assert [(i.lines, i.kept, i.rejected) for i in got.summary.inputs] == [(3, 2, 0), (4, 2, 1)]
    assert got.rejects["file"].to_list() == [str(b)]
    other = write(
        tmp_path / "c.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 00:00:00,1,2\n"
    )
    assert "azure" in refused(UsageError, a, other).message


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    data = gzip.compress((HEADER + GOOD * 3).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    got = read("-")
    assert got.frame.height == 3
    assert got.summary.inputs[0].name == "-"


def test_wrong_options(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + GOOD)
    e = refused(UnknownName, path, as_format="burstgtp")
    assert "burstgpt" in str(e.hint)
    assert "time unit" in refused(UsageError, path, time_unit="minutes").message
    assert "NAME=COLUMN" in refused(UsageError, path, mapping="arrival").message
    assert "--map" in refused(UsageError, path, as_format="columns").message
    refused(
        UnknownName, path, mapping="arrival=Timestmap,input=Request tokens,output=Response tokens"
    )
    refused(UnknownName, path, mapping="arival=Timestamp")
    refused(UsageError, path, kind="power")
    assert "'ContextTokens'" in refused(DataError, path, as_format="azure").message
    assert "power.draw" in refused(DataError, path, as_format="nvidia_smi").message
    assert "canonical" in refused(DataError, path, as_format="lamina").message
    refused(UsageError, path, as_format="mooncake")
    zoned = write(
        tmp_path / "z.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 00:00:00,1,2\n"
    )
    assert "time zone" in refused(UsageError, zoned, tz="Mars/Olympus").message


def test_unknown_file_shows_columns_rows_and_a_line_to_try(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        "request_time,prompt_tokens,completion_tokens,user_email,note\n"
        + "".join(
            f"{1_700_000_000 + i}.5,{100 + i},{i},joe@example.com,hello Bob\n" for i in range(5)
        ),
    )
    e = refused(UnknownFormat, path)
    hint = str(e.hint)
    assert "columns: request_time, prompt_tokens, completion_tokens, user_email, note" in hint
    assert hint.count("row ") == 3
    assert "joe" not in hint
    assert "Bob" not in hint
    assert (
        "--map arrival=request_time,input=prompt_tokens,output=completion_tokens --time-unit s"
        in hint
    )
    # what it proposes works
    got = read(
        path,
        mapping="arrival=request_time,input=prompt_tokens,output=completion_tokens",
        time_unit="s",
    )
    assert got.frame.height == 5
    assert got.summary.clock == "utc"
    assert got.summary.dropped_fields == ("user_email", "note")


def guess(tmp_path: Path, text: str, name: str = "g.csv") -> tuple[dict[str, str], str, Path]:
    """(mapping of the proposed line, the hint, the file)."""
    path = write(tmp_path / name, text)
    hint = str(refused(UnknownFormat, path).hint)
    proposed = next(line for line in hint.splitlines() if "lamina-traces ingest" in line)
    words = shlex.split(proposed[proposed.index("lamina-traces") :])
    return dict(p.split("=") for p in words[words.index("--map") + 1].split(",")), hint, path


ISO = "2024-05-10T00:00:0{i}.5Z"


@pytest.mark.parametrize(
    ("header", "row", "mapping"),
    [
        ("arr;in;out", "{i};1{i};2{i}", "arrival=arr,input=in,output=out"),
        ("when,prompt,completion", ISO + ",5,6", "arrival=when,input=prompt,output=completion"),
        ("ts,isl,osl", "170000000{i}123,5,6", "arrival=ts,input=isl,output=osl"),
        ("datetime,ctx,gen", "2024/05/10 00:00:0{i},5,6", "arrival=datetime,input=ctx,output=gen"),
        ("created,promptTokens,completionTokens", "170000000{i},5,6", "arrival=created,input=promptTokens,output=completionTokens"),
        ("date,start,in_tok,out_tok", "2024-05-10,{i}.25,5,6", "arrival=start,input=in_tok,output=out_tok"),
        ("id,time,response_time,ContextLen,GeneratedLen,prompt_ms", "{i},1{i},3.5,5,6,7", "arrival=time,input=ContextLen,output=GeneratedLen"),
        ("time,in,out,chat_id,state", "170000000{i}123456,5,6,c{i},done", "arrival=time,input=in,output=out,session=chat_id,status=state"),
        ("output,input", "5,6", "input=input,output=output"),
        ("latency,num_prefill_tokens,num_decode_tokens", "1.5,5,6", "input=num_prefill_tokens,output=num_decode_tokens"),
        ("time,cached_input_tokens,input_tokens,output_cost,output_tokens", "{i},1,5,2,6", "arrival=time,input=input_tokens,output=output_tokens"),
    ],
)  # fmt: skip
def test_the_guessed_line_works_as_typed(
    tmp_path: Path, header: str, row: str, mapping: str
) -> None:
    text = header + "\n" + "".join(row.replace("{i}", str(i)) + "\n" for i in range(1, 5))
    got, hint, path = guess(tmp_path, text)
    assert got == dict(p.split("=") for p in mapping.split(","))
    assert ("no column looks like arrival times" in hint) == ("arrival" not in got)
    unit = hint.split("--time-unit ")[1].split()[0] if "--time-unit" in hint else None
    whole = read(path, mapping=mapping, time_unit=unit)
    assert (whole.frame.height, whole.summary.rejected) == (4, 0)
    if "arrival" in got:
        assert max(whole.column("arrival_ns")) - min(whole.column("arrival_ns")) >= 3000


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ("timestamp,ram_power,cpu_power\n1,100,50\n2,110,60\n", "arrival=timestamp,input=COL,output=COL"),
        ("a,b,c\n1,2,3\n", "arrival=COL,input=COL,output=COL"),
        ("x,in,model\n1,2,m\n", "arrival=COL,input=in,output=COL,model=model"),
        ("prompt,completion\nhello,you\n", "arrival=COL,input=COL,output=COL"),
    ],
)  # fmt: skip
def test_what_cannot_be_guessed_is_left_to_the_user(
    tmp_path: Path, text: str, mapping: str
) -> None:
    got, hint, _ = guess(tmp_path, text)
    assert got == dict(p.split("=") for p in mapping.split(","))
    assert "no column looks like counts of" in hint
    assert "try:" not in hint


def test_a_guess_survives_a_few_bad_values(tmp_path: Path) -> None:
    text = "when;in;out\n2024-05-10 00:00:01;1;2\n-;1;2\n2024-05-10 00:00:03;x;2\n2024-05-10 00:00:04;3;4\n"
    got, _, path = guess(tmp_path, text)
    assert got == {"arrival": "when", "input": "in", "output": "out"}
    whole = read(path, mapping=got)
    assert whole.column("arrival_ns") == [0, 3 * 10**9]
    assert whole.rejects.select("line", "column").rows() == [(3, "when"), (4, "in")]


def test_sample_rows_show_masks_as_masks(tmp_path: Path) -> None:
    _, hint, _ = guess(tmp_path, "prompt_tok,prompt,who\n5,7,bob9\n")
    assert "row 1: prompt_tok=5, prompt=#, who=xxx#" in hint


def test_reasons_are_counted_to_the_last(tmp_path: Path) -> None:
    bad = ["x,A,1,2,3,l", "-1,A,1,2,3,l", "5,A,x,2,3,l", "5,A,-1,2,3,l", "5,A,1,x,3,l", "5,A,1,-2,3,l", "5,A,1", "5,A,1,2", "5,A,1,2,3,4,5"]  # fmt: skip
    (notice,) = read(
        write(tmp_path / "b.csv", HEADER + GOOD + "\n".join(bad) + "\n")
    ).summary.notices
    assert notice.text.startswith("9 lines were rejected: line: fewer cells than the header (2), ")
    assert notice.text.endswith(", 4 other reasons (4)")
    named = [int(n) for n in re.findall(r"\((\d)\)", notice.text)]
    assert sum(named) == 9
    assert " N " not in notice.text
    one = read(write(tmp_path / "o.csv", HEADER + GOOD + bad[0] + "\n")).summary
    assert one.notices[0].text == "1 line was rejected: Timestamp: not a number (1)"
    assert "the only line was rejected" in refused(DataError, write(tmp_path / "n.csv", HEADER + bad[0] + "\n")).message  # fmt: skip
    stamp = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 00:00:00,1,2\n"
    (naive,) = read(write(tmp_path / "s.csv", stamp)).summary.notices
    assert naive.text.startswith("1 stamp carries no zone and was read")


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]})[:0].write_parquet(tmp_path / "e.parquet")
    assert "empty query" in str(refused(DataError, tmp_path / "e.parquet").hint)


def test_every_error_of_the_readers_says_what_to_do() -> None:
    """An error that is raised without a second argument has no hint (UnknownName makes its own)."""
    plain = {"DataError", "UsageError", "UnknownFormat", "LaminaError"}
    folder = Path(formats.__file__).parent
    seen = 0
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in plain:
                seen += 1
                assert len(node.args) == 2, f"{path.name}, line {node.lineno}"
    assert seen > 40


def test_json_of_no_known_layout(tmp_path: Path) -> None:
    for text in ('[{"a": {"b": 1}}]', '{\n  "a": {"b": 1}\n}\n', '{"a": {"b": 1}}'):
        e = refused(UnknownFormat, write(tmp_path / "j", text))
        assert "columns: a" in str(e.hint), text


def test_detection_looks_at_names_alone(tmp_path: Path) -> None:
    assert formats.detect((HEADER + GOOD).encode()).name == "burstgpt"
    assert formats.detect(write(tmp_path / "x.parquet", HEADER + GOOD)).name == "burstgpt"
    assert (
        formats.detect(b'{"output_length": 1, "input_length": 2, "timestamp": 3}\n').name
        == "mooncake"
    )
    with pytest.raises(UnknownFormat):  # azure is exactly its three columns
        formats.detect(b"TIMESTAMP,ContextTokens,GeneratedTokens,More\n2023-11-16 00:00:00,1,2,3\n")


def test_an_ambiguous_header_lists_the_candidates(tmp_path: Path) -> None:
    both = HEADER.strip() + ",power.draw [W]\n" + GOOD.strip() + ",5 W\n"
    e = refused(UnknownFormat, write(tmp_path / "both.csv", both))
    assert "could be any of: burstgpt, nvidia_smi" in e.message
    assert "--as burstgpt" in str(e.hint)


def test_a_file_without_a_header(tmp_path: Path) -> None:
    e = refused(UnknownFormat, write(tmp_path / "n.csv", "0,5,6\n1,6,7\n"))
    assert "looks like data" in str(e.hint)


def test_pipes_are_read_once(tmp_path: Path) -> None:
    import os
    import threading

    reader, writer = os.pipe()

    def fill() -> None:
        with os.fdopen(writer, "wb") as f:
            f.write((HEADER + GOOD * 20_000).encode())

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        got = read(f"/dev/fd/{reader}")
    finally:
        thread.join()
        os.close(reader)
    assert got.frame.height == 20_000

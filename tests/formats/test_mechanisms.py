"""What a format can be made of: documents, log lines, several tables, side files, headless CSV, folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces import formats
from lamina_traces.errors import DataError, UnknownFormat, UsageError
from lamina_traces.formats.format import Context, Field, Format, Frames
from lamina_traces.formats.inputs import Limits
from lamina_traces.formats.reading import Reading, open_reading
from tests.formats.reads import write

TOKENS = (
    Field("in", "tokens", "tokens", "input_tokens"),
    Field("out", "tokens", "tokens", "output_tokens"),
)


def rows_of(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if "runs" not in value:
        raise ValueError("no runs in it")
    for run in value["runs"]:
        yield {"in": run["in"], "out": run["out"], **run.get("more", {})}


def lengths(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("in").alias("input_tokens"),
        pl.col("out").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


def nested(**changes: Any) -> Format:
    given: dict[str, Any] = {
        "name": "nested", "title": "", "table": "llm_requests", "syntax": ("json",), "fields": TOKENS,
        "canonical": lengths, "clock": "none", "source": "", "evidence": "documentation",
        "matches": lambda head: {"runs.in", "runs.out"} <= head.keys, "unfold": rows_of,
    }  # fmt: skip
    return Format(**(given | changes))


def read(
    paths: Sequence[Path], *formats: Format, **options: Any
) -> tuple[dict[str, list[pl.DataFrame]], list[dict[str, Any]], Reading]:
    reading = open_reading(list(paths), formats={f.name: f for f in formats}, **options)
    frames: dict[str, list[pl.DataFrame]] = {}
    rejects: list[dict[str, Any]] = []
    for block in reading:
        frames.setdefault(block.table, []).append(block.frame)
        rejects += block.rejects.to_dicts()
    return frames, rejects, reading


DOCUMENT: dict[str, Any] = {
    "meta": {"by": "me"},
    "runs": [
        {"in": 3, "out": 1, "more": {"gpu": "a"}},
        {"in": -1, "out": 2},
        {"in": 5, "out": 4, "more": {"prompt": "SECRET words"}},
    ],
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("listed", [False, True])
def test_a_document_however_it_is_spread(tmp_path: Path, indent: int | None, listed: bool) -> None:
    text = json.dumps([DOCUMENT, DOCUMENT] if listed else DOCUMENT, indent=indent)
    frames, rejects, reading = read([write(tmp_path / "d.json", text)], nested())
    copies = 2 if listed else 1
    got = pl.concat(frames["llm_requests"])
    assert got["input_tokens"].to_list() == [3, 5] * copies
    assert got["row_id"].to_list() == list(range(2 * copies))
    assert got["extra"].to_list() == ['{"gpu":"a"}', None] * copies
    summary = reading.finish()
    assert (summary.lines, summary.kept, summary.rejected) == (3 * copies, 2 * copies, copies)
    assert summary.line().startswith(f"{3 * copies} records = {2 * copies} kept")
    assert [r["column"] for r in rejects] == ["in"] * copies
    assert "SECRET" not in str(rejects) + str(got.to_dicts())
    assert summary.dropped_fields == ("prompt",)


def test_a_document_a_line(tmp_path: Path) -> None:
    text = json.dumps(DOCUMENT) + "\n" + json.dumps({"other": 1}) + "\n\n" + json.dumps(DOCUMENT)
    _frames, rejects, reading = read([write(tmp_path / "d.jsonl", text)], nested())
    summary = reading.finish()
    assert (summary.lines, summary.kept, summary.rejected) == (7, 4, 3)
    assert [(r["line"], r["reason"]) for r in rejects][1] == (2, "no runs in it")
    assert summary.reconciles


def test_a_document_that_breaks_off(tmp_path: Path) -> None:
    text = json.dumps([DOCUMENT, DOCUMENT], indent=1)
    whole = read([write(tmp_path / "a.json", text[: text.rindex('"meta"') + 4])], nested())
    assert pl.concat(whole[0]["llm_requests"])["input_tokens"].to_list() == [3, 5]
    assert "not JSON" in whole[1][-1]["reason"]
    assert "line 28" in whole[1][-1]["reason"]
    with pytest.raises(DataError, match="not JSON"):
        read([write(tmp_path / "b.json", json.dumps(DOCUMENT, indent=1)[:-4])], nested())


def test_a_large_document_is_recognised_by_its_beginning_and_has_a_limit(tmp_path: Path) -> None:
    big = {"runs": [{"in": i, "out": 1} for i in range(60_000)]}
    path = write(tmp_path / "big.json", json.dumps(big, indent=1))
    frames, _, _reading = read([path], nested())
    assert sum(f.height for f in frames["llm_requests"]) == 60_000
    with pytest.raises(DataError, match="more than"):
        read([path], nested(), limits=Limits(document_bytes=1 << 20))


def test_rows_of_a_plain_format_may_stand_in_a_list(tmp_path: Path) -> None:
    plain = nested(syntax=("jsonl",), matches=None, unfold=None)
    text = json.dumps([{"in": 1, "out": 2}, 7, {"in": 3, "out": 4}], indent=2)
    frames, rejects, _reading = read([write(tmp_path / "l.json", text)], plain)
    assert pl.concat(frames["llm_requests"])["output_tokens"].to_list() == [2, 4]
    assert [r["reason"] for r in rejects] == ["not a JSON object"]


def test_log_lines(tmp_path: Path) -> None:
    def line(value: str, context: Context) -> Iterator[Mapping[str, Any]]:
        if value.startswith("USED "):
            _, n_in, n_out = value.split()
            yield {"in": n_in, "out": n_out}

    log = nested(
        syntax=("text",), unfold=line, matches=lambda head: head.lines[0].startswith("LOG")
    )
    text = "LOG of a day\r\nUSED 3 4\r\n\nnoise\nUSED x 4\nUSED 5\nUSED 6 1"
    frames, rejects, reading = read([write(tmp_path / "a.log", text)], log)
    summary = reading.finish()
    assert pl.concat(frames["llm_requests"])["input_tokens"].to_list() == [3, 6]
    assert [(r["line"], r["column"]) for r in rejects] == [(5, "in"), (6, None)]
    assert (summary.lines, summary.kept, summary.rejected, summary.blank, summary.other) == (
        7,
        2,
        2,
        1,
        2,
    )
    assert summary.reconciles
    assert summary.line() == "7 lines = 2 kept + 2 rejected + 1 blank + 0 header + 2 other"


def test_several_tables_and_a_rest(tmp_path: Path) -> None:
    def canonical(frame: pl.DataFrame, context: Context) -> Frames:
        context.state["seen"] = context.state.get("seen", 0) + frame.height
        windows = frame.select(
            pl.lit("c").alias("client_id"), pl.lit(0).alias("arrival_ns"), pl.lit(1.0).alias("window_s"),
            pl.col("in").cast(pl.Float64).alias("rate_rps"),
        )  # fmt: skip
        return {"llm_requests": lengths(frame, context), "client_windows": windows}

    def rest(context: Context) -> Frames:
        n = context.state["seen"]
        return pl.DataFrame({"input_tokens": [n], "output_tokens": [0], "status": ["ok"]})

    both = nested(canonical=canonical, rest=rest)
    frames, _, _reading = read([write(tmp_path / "d.json", json.dumps(DOCUMENT))], both)
    requests = pl.concat(frames["llm_requests"], how="diagonal")
    assert requests["input_tokens"].to_list() == [3, 5, 2]
    assert requests["row_id"].to_list() == [0, 1, 2]
    assert pl.concat(frames["client_windows"])["row_id"].to_list() == [0, 1]


def test_side_files_are_read_first_and_folders_are_walked(tmp_path: Path) -> None:
    def side(frame: pl.DataFrame, context: Context) -> Frames:
        context.state["factor"] = frame["factor"].sum()
        return {}

    def scaled(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        factor = context.state.get("factor", 1)
        return lengths(frame.with_columns(pl.col("in") * factor), context)

    main = nested(canonical=scaled, family="pair")
    extra = nested(
        name="side", fields=(Field("factor", "integer"),), canonical=side, matches=None, unfold=None,
        family="pair", rank=-1,
    )  # fmt: skip
    write(tmp_path / "in" / "a_main.json", json.dumps(DOCUMENT))
    write(tmp_path / "in" / "deep" / "z_side.jsonl", '{"factor": 10}')
    write(tmp_path / "in" / "README.md", "not a trace")
    write(tmp_path / "in" / ".hidden", "not a trace")
    frames, _, reading = read([tmp_path / "in"], main, extra)
    assert pl.concat(frames["llm_requests"])["input_tokens"].to_list() == [30, 50]
    assert reading.finish().format == "nested"
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="holds no trace file"):
        read([tmp_path / "none"], main)
    with pytest.raises(UsageError, match="the files before it"):
        read(
            [tmp_path / "in"],
            nested(),
            nested(name="side", fields=extra.fields, matches=None, unfold=None),
        )


def test_a_csv_without_a_header(tmp_path: Path) -> None:
    def names(cells: Sequence[str], path: str) -> Sequence[str] | None:
        return ("in", "out") if len(cells) == 2 and path.endswith("-t.csv") else None

    bare = nested(syntax=("csv",), matches=None, unfold=None, headless=names)
    frames, rejects, reading = read([write(tmp_path / "1-t.csv", "3,4\n3,4\nx,1\n5,6")], bare)
    assert pl.concat(frames["llm_requests"])["input_tokens"].to_list() == [3, 3, 5]
    assert [r["line"] for r in rejects] == [3]
    assert reading.finish().lines == 4
    with pytest.raises(UnknownFormat):
        read([write(tmp_path / "u.csv", "3,4\n5,6")], bare)
    frames, _, _ = read([write(tmp_path / "h.csv", "in,out\n3,4\n")], bare)
    assert pl.concat(frames["llm_requests"])["output_tokens"].to_list() == [4]


def test_keys_inside_keys_can_be_mapped(tmp_path: Path) -> None:
    rows = [
        {"when": 1700000000.5, "usage": {"prompt_tokens": 7, "detail": {"out": 3}}, "kind": "a"},
        {
            "when": 1700000001,
            "usage": {"prompt_tokens": 8, "detail": {"out": None}},
            "prompt": "SECRET",
        },
    ]
    path = write(tmp_path / "n.jsonl", "\n".join(json.dumps(r) for r in rows))
    mapping = "arrival=when,input=usage.prompt_tokens,output=usage.detail.out,status='ok'"
    reading = formats.open_reading([path], mapping=mapping)
    got = pl.concat(b.frame for b in reading)
    assert got["input_tokens"].to_list() == [7, 8]
    assert got["output_tokens"].to_list() == [3, None]
    assert got["arrival_ns"].to_list() == [0, 500_000_000]
    assert got["extra"].to_list() == ['{"kind":"a"}', None]


def test_what_lies_beside_traces_in_a_folder_is_passed_over_and_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.json", json.dumps(DOCUMENT))
    write(tmp_path / "in" / "meta.json", '{"by": "me"}')
    frames, _, reading = read([tmp_path / "in"], nested())
    assert sum(f.height for f in frames["llm_requests"]) == 2
    said = [n.text for n in reading.finish().notices if n.code == "passed-over"]
    assert said == [
        "1 file of the folder was passed over (empty, a link, or of no known format): meta.json"
    ]
    with pytest.raises(UnknownFormat):  # a file that was named is never passed over
        read([tmp_path / "in" / "a.json", tmp_path / "in" / "meta.json"], nested())
    write(tmp_path / "none" / "meta.json", '{"by": "me"}')
    with pytest.raises(UnknownFormat, match="none of 1 file"):
        read([tmp_path / "none"], nested())


def test_values_beyond_all_numbers_are_null_and_counted(tmp_path: Path) -> None:
    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        return lengths(frame, context).with_columns(
            (1 / (pl.col("input_tokens") - 3)).alias("e2e_s")
        )

    frames, _, reading = read(
        [write(tmp_path / "d.json", json.dumps(DOCUMENT))], nested(canonical=canonical)
    )
    assert frames["llm_requests"][0]["e2e_s"].to_list() == [None, 0.5]
    assert [n.code for n in reading.finish().notices if n.code == "not-finite"] == ["not-finite"]


def test_links_and_empty_files_of_a_folder_are_named(tmp_path: Path) -> None:
    real = write(tmp_path / "elsewhere.json", json.dumps(DOCUMENT))
    write(tmp_path / "in" / "a.json", json.dumps(DOCUMENT))
    write(tmp_path / "in" / "_SUCCESS", "")
    write(tmp_path / "in" / "junk.bin", bytes(range(256)) * 40)
    (tmp_path / "in" / "link.json").symlink_to(real)
    frames, _, reading = read([tmp_path / "in"], nested())
    assert sum(f.height for f in frames["llm_requests"]) == 2
    text = next(n.text for n in reading.finish().notices if n.code == "passed-over")
    assert all(name in text for name in ("_SUCCESS", "junk.bin", "link.json"))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.json").symlink_to(real)
    with pytest.raises(UsageError, match="holds only links"):
        read([tmp_path / "links"], nested())
    assert read([tmp_path / "links" / "link.json"], nested())[0]  # named, it is read

"""Each format's own rules, on small fixtures with the answer beside them."""

from __future__ import annotations

import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamina_traces import formats
from lamina_traces.errors import DataError, UnknownFormat, UsageError
from lamina_traces.store import Store
from tests.formats.reads import Whole, read, write


def codes(summary: formats.Summary) -> list[str]:
    return [n.code for n in summary.notices]


def unix_ns(text: str) -> int:
    whole, _, fraction = text.partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def test_burstgpt_release_3(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "b.csv",
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "19440110.0,0a1b,7,GPT-4,10,20,30,Conversation log\n"
            "19440110.000000001,,0,ChatGPT,5,0,5,API log\n"
            "28943983.123456789,,3,ChatGPT,0,0,0,Other Log\n",
        )
    )
    assert got.summary.version == "3"
    assert got.column("arrival_ns") == [19440110 * 10**9, 19440110 * 10**9 + 1, 28943983123456789]
    assert got.column("session_id") == ["0a1b", None, None]
    assert got.column("e2e_s") == [7.0, 0.0, 3.0]
    assert got.column("status") == ["ok", "unknown-failure", "unknown-failure"]
    assert got.column("input_tokens") == [10, 5, None]
    assert got.column("output_tokens") == [20, 0, None]
    assert got.column("service") == ["conversation", "api", "other log"]
    assert got.column("model") == got.column("model_raw") == ["GPT-4", "ChatGPT", "ChatGPT"]
    assert got.frame.schema["input_tokens"] == pl.Int32


def test_burstgpt_releases_mix(tmp_path: Path) -> None:
    old = write(tmp_path / "1.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,1,2,3,API log\n")  # fmt: skip
    new = write(tmp_path / "3.csv", "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n6,s,4,GPT-4,1,2,3,API log\n")  # fmt: skip
    got = read(old, new)
    assert got.column("session_id") == [None, "s"]
    assert got.summary.version == "1-2, 3"


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03.97996"),
        ("2023-11-16 18:17:03", "2023-11-16T18:17:03"),
        ("2023-11-16T18:17:03.123456789Z", "2023-11-16T18:17:03.123456789"),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10T00:00:00.00993"),
        ("2024-05-10 00:00:00+00:00", "2024-05-10T00:00:00"),
        ("2024-05-10 00:30:00.5-0130", "2024-05-10T02:00:00.5"),
        ("2024-05-10 02:00:00+05:45", "2024-05-09T20:15:00"),
        ("2024-02-29 23:59:59.999999999", "2024-02-29T23:59:59.999999999"),
        ("1969-12-31 23:59:59.9Z", "1969-12-31T23:59:59.9"),
    ],
)
def test_azure_stamps_are_exact(tmp_path: Path, text: str, utc: str) -> None:
    got = read(write(tmp_path / "a.csv", f"TIMESTAMP,ContextTokens,GeneratedTokens\n{text},1,2\n"))
    assert got.summary.origin_ns == unix_ns(utc)
    assert got.column("arrival_ns") == [0]


@pytest.mark.parametrize(
    "text",
    ["2023-02-29 00:00:00", "2023-11-16", "16/11/2023 10:00:00", "2023-11-16 25:00:00", "2023-11-16 18:17:03.1234567891", "NaN", "1700000000"],
)  # fmt: skip
def test_azure_stamps_that_are_none(tmp_path: Path, text: str) -> None:
    good = "2023-11-16 18:17:03,1,2\n"
    got = read(
        write(tmp_path / "a.csv", f"TIMESTAMP,ContextTokens,GeneratedTokens\n{good}{text},1,2\n")
    )
    assert got.rejects["column"].to_list() == ["TIMESTAMP"]
    assert got.rejects["line"].to_list() == [3]


def test_a_block_that_is_read_twice_is_counted_once(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "2023-11-16 00:00:00,1,2\n" * 3
        + "2023-11-16 00:00:00,-1,2\n"
    )
    (naive,) = (
        n for n in read(write(tmp_path / "a.csv", text)).summary.notices if n.code == "naive-utc"
    )
    assert naive.text.startswith("4 stamps")


def test_azure_order_zone_and_status(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "GeneratedTokens,TIMESTAMP,ContextTokens\n0,2024-07-01 12:00:01,5\n3,2024-07-01 12:00:00,6\n",
    )
    got = read(path)
    assert got.column("arrival_ns") == [0, -(10**9)]  # the store sorts and rebases
    assert got.column("output_tokens") == [0, 3]
    assert set(got.column("status")) == {"unknown"}
    berlin = read(path, tz="Europe/Berlin").summary
    assert berlin.origin_ns == (got.summary.origin_ns or 0) - 7200 * 10**9
    assert codes(berlin) == []
    assert codes(got.summary) == ["naive-utc"]


def test_mooncake_keeps_64_bits_and_every_digit(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "m.jsonl",
            '{"timestamp": 27, "input_length": 513, "output_length": 2, "hash_ids": [18446744073709551615, 9007199254740993], "session_id": "s", "delay": 1.5}\n'
            '{"timestamp": 3000.000001, "input_length": 1.0, "output_length": 2, "type": "x", "prompt": "secret words", "meta": {"api_key": "k", "n": 0.1}}\n',
        )
    )
    assert got.column("arrival_ns") == [27_000_000, 3_000_000_001]
    assert got.column("prefix_hashes") == [[2**64 - 1, 9007199254740993], None]
    assert got.column("prefix_block_size") == [512, None]
    assert got.column("session_id") == ["s", None]
    assert got.column("delay_after_parent_ns") == [1_500_000, None]
    assert got.column("extra") == [None, '{"type":"x","meta":{"n":0.1}}']
    assert got.summary.dropped_fields == ("prompt", "meta.api_key")
    assert set(got.column("status")) == {"unknown"}


def test_mooncake_seconds(tmp_path: Path) -> None:
    def lines(stamps: list[object]) -> str:
        return "".join(
            f'{{"timestamp": {t}, "input_length": 1, "output_length": 1}}\n' for t in stamps
        )

    seconds = write(tmp_path / "s.jsonl", lines([0.0, 0.2, 0.4, 0.1 + 0.7]))
    got = read(seconds)
    assert got.column("arrival_ns") == [0, 200_000_000, 400_000_000, 800_000_000]
    assert codes(got.summary) == ["time-unit-guessed"]
    assert read(seconds, time_unit="ms").column("arrival_ns")[1] == 200_000
    whole = read(write(tmp_path / "i.jsonl", lines([0, 2, 4])))
    assert whole.column("arrival_ns")[1] == 2_000_000
    assert codes(whole.summary) == []
    floats = read(write(tmp_path / "f.jsonl", lines([0.0, 2000.5, 4100.25])))
    assert floats.column("arrival_ns")[1] == 2_000_500_000
    assert codes(floats.summary) == []


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("{", None, "not JSON"),
        ("[1]", None, "not a JSON object"),
        ('{"timestamp": 1, "input_length": NaN, "output_length": 1}', "input_length", "not a finite number"),
        ('{"timestamp": 1, "input_length": "long", "output_length": 1}', "input_length", "not a number"),
        ('{"timestamp": 1, "input_length": true, "output_length": 1}', "input_length", "not a number"),
        ('{"timestamp": 1, "input_length": [1], "output_length": 1}', "input_length", "an object or a list"),
        ('{"timestamp": 1, "input_length": null, "output_length": 1}', "input_length", "empty"),
        ('{"timestamp": 1, "output_length": 1}', "input_length", "empty"),
        ('{"timestamp": 1, "input_length": -1, "output_length": 1}', "input_length", "negative"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [-1]}', "hash_ids", "not a list of whole"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1.5]}', "hash_ids", "not a list of whole"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5}', "hash_ids", "not a list of whole"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [18446744073709551616]}', "hash_ids", "not a list"),
        ("[" * 100_000, None, "not"),
        ('{"timestamp": 1, "input_length": ' + "9" * 5000 + ', "output_length": 1}', None, "a number too long"),
    ],
)  # fmt: skip
def test_mooncake_rejects(tmp_path: Path, line: str, column: str | None, reason: str) -> None:
    good = '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}\n'
    got = read(write(tmp_path / "m.jsonl", good + line + "\n" + good))
    assert got.frame.height == 2
    assert got.rejects.select("line", "column").rows() == [(2, column)]
    assert got.rejects["reason"][0].startswith(reason) or "nested" in got.rejects["reason"][0]


HUAWEI = (
    "day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,"
    "deployDependencyCost,schedulingCost,podID\n"
)


def test_huawei_cold_start(tmp_path: Path) -> None:
    rows = (
        "0,12.345,1,332,439,abc,1.5,0.25,0.5,0.0,0.5,pool22-300-128-0000618412\n"
        "0,13.5,2,7,8,abc,2.0,,0.5,0.0,0.5,strange\n"
    )
    got = read(write(tmp_path / "cold_start/R2/day_00.csv", HUAWEI + rows))
    first, second = got.frame.rows(named=True)
    assert first["arrival_ns"] == 12_345_000_000
    assert first["func_id"] == "332---439---pool22-300-128"
    assert (first["pool"], first["cpu_limit_mcore"], first["memory_limit_mb"]) == (
        "pool22",
        300,
        128,
    )
    assert (first["region"], first["cluster"], first["owner_id"]) == ("R2", "1", "439")
    assert first["residual_s"] == 0.25
    assert second["residual_s"] is None, "a component is not recorded, so neither is the rest"
    assert (second["pool"], second["func_id"], second["pod_alloc_s"]) == (None, "7---8", None)
    assert (got.summary.clock, got.summary.table, got.summary.kind) == (
        "relative",
        "cold_starts",
        "serverless",
    )
    assert "region" not in read(write(tmp_path / "day.csv", HUAWEI + rows)).frame.columns


SMI = "timestamp, index, name, power.draw [W], utilization.gpu [%], memory.used [MiB], clocks.sm [MHz], temperature.gpu\n"


def test_nvidia_smi_with_units_in_values(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "p.csv",
            SMI + "2024/05/10 10:00:00.250, 0, NVIDIA A100, 63.20 W, 57 %, 100 MiB, 1410 MHz, 30\n"
            "2024/05/10 10:00:00.251, 1, NVIDIA A100, [N/A], [Not Supported], 0 MiB, [Unknown Error], 31\n",
        )
    )
    first, second = got.frame.rows(named=True)
    assert (first["device"], first["device_name"], first["domain"]) == (
        "gpu0",
        "NVIDIA A100",
        "gpu",
    )
    assert (first["power_w"], first["util_frac"], first["sm_clock_mhz"], first["temp_c"]) == (
        63.2,
        0.57,
        1410.0,
        30.0,
    )
    assert first["mem_used_mb"] == pytest.approx(104.8576)
    assert (second["power_w"], second["util_frac"], second["sm_clock_mhz"]) == (None, None, None)
    assert first["is_average"] is None, "power.draw alone does not say whether it is an average"
    s = got.summary
    assert (s.clock, s.origin_ns, s.origin_local) == ("local", None, "2024-05-10T00:00:00")
    assert first["arrival_ns"] == 36_000_250_000_000, "time of day"


def test_nvidia_smi_zone_makes_it_utc(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.csv", SMI + "2024/05/10 10:00:00.250, 0, A, 1 W, 0 %, 0 MiB, 1 MHz, 30\n"
    )
    got = read(path, tz="Europe/Berlin")
    assert (got.summary.clock, got.column("arrival_ns")) == ("utc", [0])
    assert got.summary.origin_ns == unix_ns("2024-05-10T08:00:00.25")


def test_nvidia_smi_without_index_and_units(tmp_path: Path) -> None:
    text = "timestamp,power.draw.instant [mW]\n" + "".join(
        f"2024/05/10 10:00:0{s}.000,{1000 * (s + 1)}\n" * 3 for s in range(4)
    )
    path = write(tmp_path / "p.csv", text)
    for limits in (formats.Limits(), formats.Limits(block_bytes=40)):
        got = read(path, limits=limits)
        assert got.column("device") == ["gpu0", "gpu1", "gpu2"] * 4
        assert got.column("power_w") == [1.0] * 3 + [2.0] * 3 + [3.0] * 3 + [4.0] * 3
        assert set(got.column("is_average")) == {False}
        assert codes(got.summary) == ["device-order"]


def test_nvidia_smi_unknown_unit(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "timestamp,power.draw [hp]\n2024/05/10 10:00:00,1\n")
    with pytest.raises((DataError, UsageError)):
        read(path)
    mixed = write(
        tmp_path / "q.csv",
        "timestamp,power.draw [W]\n2024/05/10 10:00:00,1 W\n2024/05/10 10:00:01,1 %\n",
    )
    got = read(mixed)
    assert got.rejects["line"].to_list() == [3]


def test_columns_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.csv",
        'id,ts,"in",out,who,lat,state,prompt,kind\n'
        '1,100,10,20,u1,250,200,"say, ""hi""",a\n'
        '2,50,11,21,u2,500,503,"two\nlines",b\n'
        '3,75,12,,u3,,timeout,"x",c\n',
    )
    got = read(
        path,
        mapping="arrival=ts:ms,input=in,output=out,user=who,e2e=lat:ms,status=state,request_id=id",
    )
    assert got.column("arrival_ns") == [100_000_000, 50_000_000, 75_000_000]
    assert got.column("e2e_s") == [0.25, 0.5, None]
    assert got.column("status") == ["ok", "error", "timeout"]
    assert got.column("error_code") == [None, "503", None]
    assert got.column("output_tokens") == [20, 21, None], "a status column explains empty lengths"
    assert got.column("extra") == ['{"kind":"a"}', '{"kind":"b"}', '{"kind":"c"}']
    assert got.summary.dropped_fields == ("prompt",)
    assert got.summary.line() == "4 lines = 3 kept + 0 rejected + 0 blank + 1 header"
    assert ("ts", "arrival_ns", "ms") in got.summary.mapping
    kept = read(path, mapping="arrival=ts:ms,input=in,output=out,status=state", keep_text=True)
    assert '"prompt":"two\\nlines"' in kept.column("extra")[1]


def test_columns_reject_empty_lengths_without_a_status(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", "ts,in,out\n1,2,3\n2,4,\n3,NaN,1\n")
    got = read(path, mapping="arrival=ts,input=in,output=out", time_unit="s")
    assert got.rejects.select("line", "column").rows() == [(3, "out"), (4, "in")]


def test_columns_an_unclosed_quote_spoils_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", 'ts,in,out,n\n1,2,3,a\n2,3,4,"open\n3,4,5,b\n4,5,6,c\n')
    got = read(path, mapping="arrival=ts,input=in,output=out")
    assert got.column("input_tokens") == [2, 4, 5]
    assert got.rejects["line"].to_list() == [3]


def test_columns_clocks(tmp_path: Path) -> None:
    m = "arrival=t,input=i,output=o"
    iso = read(
        write(tmp_path / "a.csv", "t,i,o\n2024-05-10T00:00:00.25Z,1,2\n2024-05-10T00:00:01Z,1,2\n"),
        mapping=m,
    )
    assert (iso.summary.clock, iso.column("arrival_ns")) == ("utc", [0, 750_000_000])
    unix = read(
        write(tmp_path / "b.csv", "t,i,o\n1700000000.123456789,1,2\n1700000001,1,2\n"), mapping=m
    )
    assert (unix.summary.clock, unix.summary.origin_ns) == ("utc", 1_700_000_000_123_456_789)
    assert codes(unix.summary) == ["time-unit-guessed", "unix-time"]
    micro = read(
        write(tmp_path / "c.csv", "t,i,o\n1700000000123456,1,2\n"), mapping=m, time_unit="us"
    )
    assert micro.summary.origin_ns == 1_700_000_000_123_456_000
    assert codes(micro.summary) == ["unix-time"]
    ns = read(write(tmp_path / "d.csv", "t,i,o\n5,1,2\n"), mapping=m, time_unit="ns")
    assert (ns.summary.clock, ns.column("arrival_ns"), codes(ns.summary)) == ("relative", [5], [])
    none = read(write(tmp_path / "e.csv", "i,o\n5,1\n"), mapping="input=i,output=o")
    assert (none.summary.clock, "arrival_ns" in none.frame.columns) == ("none", False)


def test_columns_instants_share_the_origin(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "r.jsonl",
            '{"at": 1700000000.5, "first": 1700000001.25, "in": 3, "out": 4}\n',
        ),
        mapping="arrival=at,first_token_ns=first,input=in,output=out",
        time_unit="s",
    )
    assert (got.column("arrival_ns"), got.column("first_token_ns")) == ([0], [750_000_000])


def test_columns_other_tables_and_constants(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "t,w\n0,63.5\n1,64\n")
    got = read(path, mapping="arrival=t,power=w,device='gpu0',domain='gpu'", time_unit="s")
    assert (got.summary.table, got.column("device"), got.column("power_w")) == (
        "power_samples",
        ["gpu0"] * 2,
        [63.5, 64.0],
    )
    with pytest.raises(UsageError, match="no value for temp_c"):
        read(path, mapping="arrival=t,power=w,device='0',domain='gpu',temp_c='warm'", time_unit="s")
    with pytest.raises(UsageError, match="needs device, domain"):
        read(path, mapping="arrival=t,power=w", time_unit="s")


def test_columns_parquet(tmp_path: Path) -> None:
    path = tmp_path / "g.parquet"
    pq.write_table(
        pa.table(
            {
                "at": pa.array(
                    [1_700_000_000_123_456_789, 1_700_000_001_000_000_000],
                    pa.timestamp("ns", "UTC"),
                ),
                "in": pa.array([3.0, 4.5]),
                "out": pa.array([7, 8], pa.int64()),
                "ids": pa.array([[2**64 - 1], [1]], pa.list_(pa.uint64())),
                "prompt": ["a", "b"],
                "kind": ["x", "y"],
            }
        ),
        path,
    )
    got = read(path, mapping="arrival=at,input=in,output=out,prefix_hashes=ids")
    assert got.summary.origin_ns == 1_700_000_000_123_456_789
    assert got.column("prefix_hashes") == [[2**64 - 1]]
    assert got.column("extra") == ['{"kind":"x"}']
    assert got.rejects.select("line", "column", "reason").rows() == [
        (2, "in", "not a whole number: '4.5'")
    ]
    assert got.summary.dropped_fields == ("prompt",)
    assert got.summary.inputs[0].sha256 is not None


def test_columns_parquet_of_every_type(tmp_path: Path) -> None:
    """What is not mapped is kept as text, whatever its type; nothing of it stops the reading."""
    import decimal

    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table(
            {
                "i": pa.array([3, 4], pa.int64()),
                "o": pa.array([7, 8], pa.uint16()),
                "at": pa.array([1.5, 2.25]),
                "blob": pa.array([b"ab", b"\xff"]),
                "day": pa.array([datetime.date(2024, 5, 10), None]),
                "clock": pa.array([datetime.time(1, 2), None]),
                "took": pa.array([datetime.timedelta(seconds=1), None]),
                "cost": pa.array([decimal.Decimal("1.50"), None]),
                "yes": pa.array([True, None]),
                "nothing": pa.nulls(2),
                "kind": pa.array(["x", "y"]).dictionary_encode(),
                "deep": pa.array([{"a": [1]}, None]),
                "list": pa.array([[1, 2], []]),
            }
        ),
        path,
    )
    got = read(path, mapping="arrival=at,input=i,output=o", time_unit="s")
    assert read(path, mapping="arrival=at,input=i,output=o,e2e=took").column("e2e_s") == [1.0, None]
    assert got.column("arrival_ns") == [1_500_000_000, 2_250_000_000]
    assert got.column("output_tokens") == [7, 8]
    assert '"kind":"x"' in got.column("extra")[0]
    assert got.summary.rejected == 0


def test_bailian_is_not_taken_for_mooncake(tmp_path: Path) -> None:
    """It has Mooncake's keys, but seconds, 16-token blocks and unchained hashes."""
    line = '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 33, "output_length": 2, "type": "text", "turn": 1, "hash_ids": [1, 2, 3]}\n'
    path = write(tmp_path / "b.jsonl", line)
    assert read(path).summary.format == "bailian"
    got = read(
        path,
        mapping="arrival=timestamp:s,input=input_length,output=output_length,turn=turn,prefix_hashes=hash_ids,prefix_block_size='16'",
    )
    assert (got.column("prefix_hashes"), got.column("prefix_block_size"), got.column("turn")) == (
        [[1, 2, 3]],
        [16],
        [1],
    )


def test_mooncake_later_turns_may_carry_a_delay_alone(tmp_path: Path) -> None:
    got = read(
        write(
            tmp_path / "s.jsonl",
            '{"timestamp": 5, "input_length": 1, "output_length": 1, "session_id": "a"}\n'
            '{"delay": 20, "input_length": 1, "output_length": 1, "session_id": "a"}\n',
        )
    )
    assert got.column("arrival_ns") == [5_000_000, None]
    assert got.column("delay_after_parent_ns") == [None, 20_000_000]


def canonical(n: int, first: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row_id": range(first, first + n),
            "arrival_ns": [10**9 * i for i in range(n)],
            "input_tokens": [5] * n,
            "depends_on": [[first]] * n,
            "prefix_hashes": [[2**64 - 1]] * n,
            "status": ["ok"] * n,
        },
        schema={"row_id": pl.Int64, "arrival_ns": pl.Int64, "input_tokens": pl.Int32, "depends_on": pl.List(pl.Int64), "prefix_hashes": pl.List(pl.UInt64), "status": pl.String},
    )  # fmt: skip


def test_canonical_parquet_comes_back_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    frame = canonical(3)
    table = frame.to_arrow()
    meta = {
        b"lamina_traces": b'{"clock": "utc", "origin_ns": 1700000000000000000, "nature": "synthetic"}'
    }
    pq.write_table(table.replace_schema_metadata(meta), path)
    got = read(path)
    assert got.summary.format == "lamina"
    assert got.frame.select(frame.columns).equals(frame)
    s = got.summary
    assert (s.clock, s.origin_ns, s.nature) == ("utc", 1_700_000_000_000_000_000, "synthetic")
    frame.write_parquet(path)
    assert read(path).summary.nature == "derived"


def test_canonical_shards_keep_their_row_ids_and_copies_are_shifted(tmp_path: Path) -> None:
    a, b = tmp_path / "0.parquet", tmp_path / "1.parquet"
    canonical(3).write_parquet(a)
    canonical(2, first=3).write_parquet(b)
    shards = read(a, b)
    assert shards.column("row_id") == [0, 1, 2, 3, 4]
    assert shards.column("depends_on") == [[0], [0], [0], [3], [3]]
    copies = read(b, b)
    assert copies.column("row_id") == [3, 4, 5, 6]
    assert copies.column("depends_on") == [[3], [3], [5], [5]]


def test_preview(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,Team\n" + "".join(
        f"{5 + i},GPT-4,{i},2,3,API log,t\n" for i in range(100)
    )
    p = formats.preview([write(tmp_path / "b.csv", text)], rows=3)
    assert (p.format, p.table, p.kind, p.clock) == ("burstgpt", "llm_requests", "llm", "local")
    assert ("Timestamp", "arrival_ns", "s") in p.mapping
    assert p.extra == ("Team",)
    assert (p.rows.height, p.rows_seen) == (3, 100)
    assert (p.first_ns, p.last_ns) == (5 * 10**9, 104 * 10**9)


def test_progress_sees_every_block(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 00:00:00,1,2\n" * 1000,
    )
    seen: list[tuple[int, int | None]] = []
    read(path, limits=formats.Limits(block_bytes=4096), progress=lambda n, of: seen.append((n, of)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(seen) > 5


def test_memory_is_bounded_by_the_block(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 00:00:00,1,2\n" * 20_000,
    )
    heights = [
        b.frame.height
        for b in formats.open_reading([path], limits=formats.Limits(block_bytes=24_000))
    ]
    assert sum(heights) == 20_000
    assert max(heights) <= 1_000


def test_burstgpt_failures_are_incidents(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
        f"{i},GPT-4,{i % 3},{i % 3},{2 * (i % 3)},API log\n" for i in range(7)
    )
    trace = Store(tmp_path / "s").ingest(write(tmp_path / "b.csv", text), "t")
    assert trace.rows() == 7
    assert trace.main_table == "llm_requests"
    got = trace.scan("incidents").collect()
    assert got["entity_id"].to_list() == ["0", "3", "6"]
    assert got["arrival_ns"].to_list() == [0, 3 * 10**9, 6 * 10**9]
    joined = trace.sql(
        "SELECT count(*) AS n FROM incidents i JOIN llm_requests r ON i.entity_id = CAST(r.row_id AS VARCHAR) WHERE r.status = 'unknown-failure'"
    )
    assert joined["n"][0].as_py() == 3


def test_clock_changes_of_a_named_zone(tmp_path: Path) -> None:
    stamps = [
        "2024-03-31 01:59:59",
        "2024-03-31 02:30:00",
        "2024-03-31 03:00:01",
        "2024-10-27 02:30:00",
    ]
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{s},1,1\n" for s in stamps)
    got = read(write(tmp_path / "a.csv", text), tz="Europe/Berlin")
    origin = got.summary.origin_ns or 0
    assert [origin + a for a in got.column("arrival_ns")] == [
        unix_ns("2024-03-31 00:59:59"),
        unix_ns("2024-03-31 01:30:00"),  # winter time went on: 03:30 summer time
        unix_ns("2024-03-31 01:00:01"),
        unix_ns("2024-10-27 00:30:00"),  # the earlier of the two
    ]
    said = {n.code: n.text for n in got.summary.notices}
    assert said["dst-gap"].startswith("1 stamp falls")
    assert said["dst"].startswith("1 stamp falls")


def test_a_recorded_duration_below_zero_does_not_cost_the_row(tmp_path: Path) -> None:
    text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(f"{i},s,{e},m,1,2,3,API log\n" for i, e in enumerate((4, -1, 0)))  # fmt: skip
    got = read(write(tmp_path / "b.csv", text))
    assert got.column("e2e_s") == [4.0, None, 0.0]
    assert got.summary.rejected == 0
    said = [n.text for n in got.summary.notices if n.code == "negative-durations"]
    assert said == ["1 duration below zero became null; the stamps stay as recorded"]


OWN = "arrival_ns,input_tokens,output_tokens,workflow_id,request_id,depends_on,status,rack,prompt\n"
OWN_ROWS = (
    '0,10,5,w1,a,[],ok,r1,tell me\n'
    '9,11,6,w1,c,"[""a"",""b""]",200,r2,\n'
    '3,12,7,w1,b,a,,r1,\n'
    '4,13,8,w2,a,,timeout,,\n'
)  # fmt: skip


def test_own_names_need_no_map(tmp_path: Path) -> None:
    got = read(write(tmp_path / "own.csv", OWN + OWN_ROWS))
    assert (got.summary.format, got.summary.clock, got.summary.nature) == ("lamina", "relative", "derived")  # fmt: skip
    assert got.summary.dropped_fields == ("prompt",)
    assert got.column("row_id") == [0, 1, 2, 3]
    assert got.column("arrival_ns") == [0, 9, 3, 4]
    assert got.column("depends_on") == [[], [0, 2], [0], None]
    assert got.column("status") == ["ok", "ok", "unknown", "timeout"]
    assert got.column("extra") == ['{"rack":"r1"}', '{"rack":"r2"}', '{"rack":"r1"}', '{"rack":null}']  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_own_names_in_any_syntax_say_the_same(tmp_path: Path, suffix: str) -> None:
    frame = canonical(3).with_columns(
        pl.lit(4).alias("output_tokens"), pl.lit('{"a":1}').alias("extra"), rack=pl.lit("r1")
    )
    lists = [n for n, t in frame.schema.items() if isinstance(t, pl.List)]
    path = tmp_path / f"own.{suffix}"
    if suffix == "csv":
        text = (
            pl.lit("[") + pl.col(n).cast(pl.List(pl.String)).list.join(",") + "]" for n in lists
        )
        frame.with_columns(text.alias(n) for n, text in zip(lists, text, strict=True)).write_csv(
            path
        )
    elif suffix == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    got = read(path)
    same = [c for c in frame.columns if c not in ("extra", "rack")]
    assert got.frame.select(same).equals(frame.select(same).cast({"output_tokens": pl.Int32}))
    assert got.column("extra") == ['{"a":1,"rack":"r1"}'] * 3


def test_own_instants_in_the_range_of_unix_time_have_an_origin(tmp_path: Path) -> None:
    start = 1_700_000_000 * 10**9
    rows = f"{start},1,2,{start + 5}\n{start + 7},1,2,{start + 9}\n"
    got = read(write(tmp_path / "x.csv", "arrival_ns,input_tokens,output_tokens,last_token_ns\n" + rows))  # fmt: skip
    assert (got.summary.clock, got.summary.origin_ns) == ("utc", start)
    assert got.column("arrival_ns") == [0, 7]
    assert got.column("last_token_ns") == [5, 9]


def test_own_names_of_another_table_and_of_none(tmp_path: Path) -> None:
    rows = "arrival_ns,func_id,duration_s,colour\n0,f,0.25,1\n"
    got = read(write(tmp_path / "i.csv", rows))
    assert list(got.frame.columns) == ["row_id", "func_id", "arrival_ns", "duration_s", "status", "extra"]  # fmt: skip
    with pytest.raises(UnknownFormat):  # counts of invocations have no room for more
        read(write(tmp_path / "c.csv", "arrival_ns,func_id,bin_s,invocations,colour\n0,f,60,3,1\n"))  # fmt: skip
    with pytest.raises(UnknownFormat):  # cold starts or invocations: nothing says which
        read(write(tmp_path / "t.csv", "arrival_ns,func_id,colour\n0,f,1\n"))


MAPPED = "ts,in,out,id,after\n"


def mapped(path: Path, rows: str, ids: str = ",request_id=id") -> Whole:
    mapping = f"arrival=ts:s,input=in,output=out,depends_on=after{ids}"
    return read(write(path, MAPPED + rows), mapping=mapping)


def test_depends_on_can_be_mapped(tmp_path: Path) -> None:
    rows = '0,1,2,a,[]\n1,1,2,c,"b,a"\n2,1,2,b,"[""a""]"\n3,1,2,d,x\n4,1,2,e,\n'
    got = mapped(tmp_path / "a.csv", rows)
    assert got.column("depends_on") == [[], [2, 0], [0], None, None]
    assert [n.code for n in got.summary.notices] == ["unknown-parents"]
    counted = mapped(tmp_path / "b.csv", '0,1,2,7,[]\n1,1,2,8,0\n2,1,2,9,"[1, 0]"\n', ids="")
    assert counted.column("depends_on") == [[], [0], [1, 0]]
    twice = read(
        tmp_path / "b.csv", tmp_path / "b.csv", mapping="input=in,output=out,depends_on=after"
    )
    assert twice.column("depends_on") == [[], [0], [1, 0], [], [3], [4, 3]]
    lines = '{"in":1,"out":2,"id":5,"d":{"after":[]}}\n{"in":1,"out":2,"id":6,"d":{"after":[5]}}\n'
    nested = read(
        write(tmp_path / "c.jsonl", lines),
        mapping="input=in,output=out,request_id=id,depends_on=d.after",
    )
    assert nested.column("depends_on") == [[], [0]]


def test_links_that_would_be_wrong_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no request_id"):
        mapped(tmp_path / "a.csv", "0,1,2,a,[]\n1,1,2,b,x\n")
    with pytest.raises(DataError, match="holds names"):
        mapped(tmp_path / "b.csv", "0,1,2,a,[]\n1,1,2,b,a\n", ids="")
    with pytest.raises(DataError, match="rejected lines"):
        mapped(tmp_path / "c.csv", "0,1,2,a,[]\nx,1,2,b,0\n2,1,2,b,0\n", ids="")

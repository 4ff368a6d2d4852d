"""Ingest against DuckDB's own COPY: CPU seconds (user + system) and memory of whole processes.

A BurstGPT-shaped CSV in arrival order (stamps with 3 decimals) is turned into Parquet by

- ``copy``: DuckDB ``COPY`` with an explicit schema, default settings, zstd: parses and writes, checks
  nothing, numbers nothing;
- ``unhashed``: ``Store.ingest`` without sha256: exact clocks, row_id, status, reconciliation, rejects,
  manifest, sync and commit included;
- ``store``: the same with sha256;
- ``sha256``: the checksum alone.

With ``--shuffled`` the same rows come in random order (the store sorts them, DuckDB does not); with
``--jsonl`` the source is JSON lines with hash lists, shaped as Mooncake's conversation trace, and COPY reads
it with ``read_json`` and the schema given.

Each runs in a process of its own, in turn, ``rounds`` times; the minimum counts. Run by hand:

    python -m benchmarks.ingest [--shuffled | --jsonl] [rows] [rounds] [FILE]
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = ("copy", "unhashed", "store", "sha256")
_SCHEMA = {
    "Timestamp": "DOUBLE",
    "Model": "VARCHAR",
    "Request tokens": "INTEGER",
    "Response tokens": "INTEGER",
    "Total tokens": "INTEGER",
    "Log Type": "VARCHAR",
}


def make_csv(path: Path, rows: int, seed: int = 1) -> None:
    """Gamma gaps of shape 0.5, lognormal lengths, 1.8 % failures, 15 % GPT-4, 88 % API: BurstGPT's mix."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    at = 0
    with path.open("wb") as out:
        out.write((",".join(_SCHEMA) + "\n").encode())
        for start in range(0, rows, 500_000):
            n = min(500_000, rows - start)
            ms = at + np.cumsum(np.rint(rng.gamma(0.5, 1000.0, n)).astype(np.int64))
            at = int(ms[-1])
            failed = rng.random(n) < 0.0178
            lengths = []
            for median, cap in ((245.0, 8000), (90.0, 4000)):
                x = np.rint(rng.lognormal(np.log(median), 1.2, n)).astype(np.int64)
                lengths.append(np.where(failed, 0, np.clip(x, 1, cap)))
            text = pl.DataFrame(
                {
                    "s": ms // 1000,
                    "f": ms % 1000,
                    "gpt4": rng.random(n) < 0.15,
                    "in": lengths[0],
                    "out": lengths[1],
                    "total": lengths[0] + lengths[1],
                    "api": rng.random(n) < 0.88,
                }
            ).select(
                pl.format("{}.{}", "s", pl.col("f").cast(pl.String).str.pad_start(3, "0")).alias("t"),
                pl.when("gpt4").then(pl.lit("GPT-4")).otherwise(pl.lit("ChatGPT")).alias("model"),
                "in",
                "out",
                "total",
                pl.when("api").then(pl.lit("API log")).otherwise(pl.lit("Conversation log")).alias("log"),
            )  # fmt: skip
            out.write(text.write_csv(include_header=False).encode())


def shuffle_csv(path: Path, seed: int = 2) -> None:
    """The same lines below the header in random order."""
    import numpy as np
    import polars as pl

    lines = pl.read_csv(path, has_header=False, separator="\0", quote_char=None, new_columns=["x"])
    order = 1 + np.random.default_rng(seed).permutation(lines.height - 1)
    with path.open("wb") as out:
        for rows in (np.array([0]), *np.array_split(order, 20)):
            out.write((lines["x"].gather(rows).str.join("\n")[0] + "\n").encode())


def make_jsonl(path: Path, rows: int, seed: int = 1) -> None:
    """Lognormal prompts of 24 blocks of 512 tokens in the mean, a third of them shared from the front."""
    import numpy as np

    rng = np.random.default_rng(seed)
    at, next_id, before = 0, 0, [0]
    with path.open("w") as out:
        for _ in range(rows):
            at += int(rng.exponential(300))
            n_in = int(min(max(rng.lognormal(9.0, 0.9), 1), 120_000))
            blocks = -(-n_in // 512)
            shared = before[: min(blocks * 3 // 8, len(before))]
            ids = [*shared, *range(next_id, next_id + blocks - len(shared))]
            next_id += blocks - len(shared)
            before = ids
            row = {"timestamp": at, "input_length": n_in, "output_length": int(rng.gamma(2, 170)) + 1, "hash_ids": ids}  # fmt: skip
            out.write(json.dumps(row) + "\n")


def run_copy(source: Path, out: Path) -> int:
    import duckdb

    if source.suffix == ".jsonl":
        types = {"timestamp": "BIGINT", "input_length": "INTEGER", "output_length": "INTEGER", "hash_ids": "UBIGINT[]"}  # fmt: skip
        columns = ", ".join(f"{n}: '{t}'" for n, t in types.items())
        scan = f"read_json('{source}', format='newline_delimited', columns={{{columns}}})"
    else:
        columns = ", ".join(f"'{n}': '{t}'" for n, t in _SCHEMA.items())
        scan = f"read_csv('{source}', header=true, auto_detect=false, delim=',', columns={{{columns}}})"
    rows = duckdb.connect().execute(
        f"COPY (FROM {scan}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
    )
    found = rows.fetchone()
    return int(found[0]) if found else 0


def run_store(source: Path, out: Path) -> int:
    from lamina_traces.store import Store

    return Store(out).ingest([source], name="bench").manifest.tables["llm_requests"].rows


def run_unhashed(source: Path, out: Path) -> int:
    from lamina_traces.store import Store

    return (
        Store(out).ingest([source], name="bench", hashed=False).manifest.tables["llm_requests"].rows
    )


def run_sha256(source: Path, out: Path) -> int:
    with source.open("rb") as f:
        out.write_text(hashlib.file_digest(f, "sha256").hexdigest())
    return 0


def peak_rss_mb() -> float:
    """Of this process alone: ru_maxrss would count the parent's memory, too, from before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024


def child(way: str, source: Path, out: Path) -> None:
    rows = globals()[f"run_{way}"](source, out)
    use = resource.getrusage(resource.RUSAGE_SELF)
    size = sum(f.stat().st_size for f in (out.rglob("*") if out.is_dir() else [out]) if f.is_file())
    print(
        json.dumps(
            {
                "rows": rows,
                "cpu_s": use.ru_utime + use.ru_stime,
                "rss_mb": peak_rss_mb(),
                "out_mb": size / 1e6,
            }
        )
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    flags = {a for a in sys.argv[1:] if a.startswith("--")}
    given = [a for a in sys.argv[1:] if a not in flags]
    rows = int(given[0]) if given else 1_000_000
    rounds = int(given[1]) if len(given) > 1 else 3
    jsonl = "--jsonl" in flags
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch) / ("mooncake.jsonl" if jsonl else "burstgpt.csv")
        source = Path(given[2]) if len(given) > 2 else own
        if not source.exists():
            (make_jsonl if jsonl else make_csv)(source, rows)
            if "--shuffled" in flags:
                shuffle_csv(source)
        print(f"{source.stat().st_size / 1e6:.0f} MB")
        best: dict[str, dict[str, float]] = {}
        for turn in range(rounds):
            for way in WAYS:
                out = Path(scratch) / f"{way}-{turn}"
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.ingest", "--child", way, str(source), str(out)],
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                )  # fmt: skip
                got = json.loads(done.stdout)
                if way not in best or got["cpu_s"] < best[way]["cpu_s"]:
                    best[way] = got
                subprocess.run(["rm", "-rf", str(out)], check=True)
        for way, got in best.items():
            print(
                f"{way:8s} {got['cpu_s']:7.2f} CPU s  ×{got['cpu_s'] / best['copy']['cpu_s']:.2f} of COPY  "
                f"{got['rss_mb']:5.0f} MB RSS  {got['out_mb']:6.1f} MB out  {got['rows']:,.0f} rows"
            )


if __name__ == "__main__":
    main()

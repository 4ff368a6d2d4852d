"""Streaming text exports against DuckDB's COPY of the same rows to the same kind of file: CPU seconds, peak memory.

python -m benchmarks.export [rows, default 10,000,000] [target ...]
python -m benchmarks.export --ids [rows, default 1,200,000] [target ...]

Each writes from the same Parquet file in a process of its own. DuckDB writes as many columns of the same values
(``COPY … (FORMAT csv)`` or ``(FORMAT json)``), arrivals as integers. Peak memory is also measured at a fifth of the
rows: it must not grow with them.

With ``--ids`` the rows have lists of prefix block ids, 24 in the mean; DuckDB writes the lists as they are (of
``mooncake-sglang``: each id as four) and does not look for shared blocks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

TARGETS = (
    "mooncake", "burstgpt", "azure", "vidur", "csv", "jsonl",
    "mooncake-guidellm", "mooncake-vllm", "trace-synthetic", "splitwise-sim", "apex", "llmservingsim", "bailian", "blis",
)  # fmt: skip
BATCH = 122_880

COLUMNS = {
    "mooncake": "arrival_ns // 1000000 AS timestamp, input_tokens, output_tokens",
    "burstgpt": "arrival_ns, 'GPT-4' AS model, input_tokens, output_tokens, input_tokens + output_tokens AS total, 'API log' AS log",
    "azure": "make_timestamp_ns(arrival_ns) AS t, input_tokens, output_tokens",
    "vidur": "DATE '2023-08-21' AS d, arrival_ns AS a, input_tokens AS b, output_tokens AS c, arrival_ns AS e, input_tokens AS f, output_tokens AS g",
    "splitwise-sim": "row_id, 2 AS t, 0 AS a, arrival_ns, 1 AS b, input_tokens, output_tokens",
    "bailian": "row_id, -1 AS parent, arrival_ns, input_tokens, output_tokens, 'text' AS type, 1 AS turn, [] AS hash_ids",
    "mooncake-guidellm": "arrival_ns, input_tokens, output_tokens, [row_id, row_id + 1] AS hash_ids",
    "blis": "row_id, '' AS a, '' AS b, '' AS c, '' AS d, 0 AS e, '' AS f, 0 AS g, false AS h, input_tokens, output_tokens, 0 AS i, 0 AS j, 0 AS k, 0 AS l, 0.0 AS m, '' AS n, 0 AS o, 0 AS p, arrival_ns // 1000 AS q, 0 AS r, 0 AS s, 0 AS t, 0 AS u, 'ok' AS v, '' AS w, '' AS x",
    "csv": "*",
    "jsonl": "*",
}  # fmt: skip
COLUMNS["mooncake-vllm"] = COLUMNS["mooncake-guidellm"]
_WITH_IDS = "arrival_ns // 1000000 AS timestamp, input_tokens AS input_length, output_tokens AS output_length, "
ID_COLUMNS = {
    "mooncake": _WITH_IDS + "prefix_hashes AS hash_ids",
    "mooncake-guidellm": _WITH_IDS + "prefix_hashes AS hash_ids",
    "mooncake-vllm": _WITH_IDS + "prefix_hashes AS hash_ids",
    "mooncake-sglang": _WITH_IDS + "flatten([[4 * x, 4 * x + 1, 4 * x + 2, 4 * x + 3] for x in prefix_hashes]) AS hash_ids",
}  # fmt: skip
_PLAIN = "arrival_ns, input_tokens, output_tokens"
SYNTAX = dict.fromkeys(("burstgpt", "azure", "vidur", "splitwise-sim", "blis", "csv"), "csv")


def source(rows: int, folder: Path) -> None:
    """Poisson arrivals at 20/s, geometric lengths: what the exports read."""
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.exponential(5e7, rows)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "row_id": np.arange(rows),
            "arrival_ns": at,
            "input_tokens": rng.geometric(1 / 800, rows).astype(np.int32),
            "output_tokens": rng.geometric(1 / 200, rows).astype(np.int32),
            "status": pl.Series(["unknown"], dtype=pl.String).new_from_index(0, rows),
        }
    )
    frame.write_parquet(folder / f"{rows}.parquet", row_group_size=BATCH)


def source_with_ids(rows: int, folder: Path) -> None:
    """Lognormal prompts of 24 blocks of 512 tokens in the mean; of each 3/8 from the front are those of four
    rows, of every twentieth row all (so that a partial last block is shared, too)."""
    writer: pq.ParquetWriter | None = None
    rng = np.random.default_rng(0)
    at = unused = 0
    for start in range(0, rows, BATCH):
        n = min(BATCH, rows - start)
        arrival = at + np.cumsum(rng.exponential(3e8, n)).astype(np.int64)
        tokens = np.clip(rng.lognormal(9.0, 0.9, n), 1, 120_000).astype(np.int64)
        blocks = -(-tokens // 512)
        shared = np.where(np.arange(n) % 20 == 0, blocks, blocks * 3 // 8)
        ends = np.concatenate([[0], np.cumsum(blocks)])
        place = np.arange(ends[-1]) - np.repeat(ends[:-1], blocks)
        longest = np.maximum.reduceat(shared, np.arange(0, n, 4))
        first = unused + np.cumsum(longest) - longest
        is_common = place < np.repeat(shared, blocks)
        own = unused + longest.sum() + np.cumsum(~is_common) - 1
        ids = np.where(is_common, np.repeat(first[np.arange(n) // 4], blocks) + place, own)
        at, unused = int(arrival[-1]), int(ids.max()) + 1
        table = pa.table(
            {
                "row_id": np.arange(start, start + n),
                "arrival_ns": arrival,
                "input_tokens": tokens.astype(np.int32),
                "output_tokens": rng.geometric(1 / 340, n).astype(np.int32),
                "prefix_block_size": np.full(n, 512, np.int32),
                "prefix_hashes": pa.ListArray.from_arrays(
                    ends.astype(np.int32), ids.astype(np.uint64)
                ),
            }
        )
        writer = writer or pq.ParquetWriter(folder / f"{rows}.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def ours(path: str, target: str, out: str) -> None:
    from lamina_traces import formats

    batches = pq.ParquetFile(path).iter_batches(BATCH)
    frames = (pl.DataFrame(pl.from_arrow(b)) for b in batches)
    formats.export(frames, target, out)


def theirs(path: str, target: str, out: str) -> None:
    import duckdb

    with_ids = "prefix_hashes" in pq.read_schema(path).names
    columns = (ID_COLUMNS if with_ids else COLUMNS).get(target, _PLAIN)
    kind = SYNTAX.get(target, "json")
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.execute(
        f"COPY (SELECT {columns} FROM read_parquet('{path}')) TO '{out}' (FORMAT {kind})"
    )


def measured(who: str, path: Path, target: str, out: Path) -> tuple[float, float, int]:
    """(CPU s, peak MB, bytes written) of a process of its own, without what its imports cost."""
    script = f"""
import resource
from benchmarks import export
from lamina_traces import formats
import duckdb
before = resource.getrusage(resource.RUSAGE_SELF)
export.{who}({str(path)!r}, {target!r}, {str(out)!r})
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    cpu, peak = map(float, done.stdout.split())
    files = [out] if out.is_file() else list(out.iterdir())
    size = sum(f.stat().st_size for f in files)
    for f in files:
        f.unlink()
    if out.is_dir():
        out.rmdir()
    return cpu, peak, size


def main() -> None:
    with_ids = "--ids" in sys.argv
    words = [a for a in sys.argv[1:] if a != "--ids"]
    rows = int(words[0]) if words else 1_200_000 if with_ids else 10_000_000
    wanted = words[1:] or (ID_COLUMNS if with_ids else TARGETS)
    make_source = "source_with_ids" if with_ids else "source"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in (
            rows,
            rows // 5,
        ):  # in a process of its own: a child's peak counts its parent's pages
            make = (
                f"from benchmarks import export; export.{make_source}({n}, export.Path({name!r}))"
            )
            subprocess.run([sys.executable, "-c", make], check=True)
        big, small = folder / f"{rows}.parquet", folder / f"{rows // 5}.parquet"
        print(
            f"{rows:,} rows; CPU s of DuckDB COPY and ours, ratio, MB written, peak MB at {rows // 5:,} and {rows:,} rows"
        )
        for target in wanted:
            base, _, _ = measured("theirs", big, target, folder / "theirs")
            cpu, peak, size = measured("ours", big, target, folder / "ours")
            _, low, _ = measured("ours", small, target, folder / "ours")
            print(
                f"{target:18} {base:6.2f} {cpu:6.2f}  {cpu / base:5.2f}x {size / 1e6:8.0f} {low:6.0f} {peak:6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

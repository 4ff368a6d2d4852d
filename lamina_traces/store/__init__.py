"""Traces as directories of Parquet: written whole or not at all, read by name, queried with SQL.

store = Store()                                    ./lamina-store, or LAMINA_STORE
trace = store.ingest(["requests.csv"], "azure")    read a foreign file into a trace
trace.query("arrivals/gap_counts")                 run queries/arrivals/gap_counts.sql on it
store.sql('SELECT count(*) FROM "azure"')          the user's own SQL, read-only
"""

from __future__ import annotations

from .manifest import Input, Manifest, TableInfo
from .store import Store
from .trace import Trace
from .writer import TraceWriter

__all__ = [
    "Input",
    "Manifest",
    "Store",
    "TableInfo",
    "Trace",
    "TraceWriter",
]

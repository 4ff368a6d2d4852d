"""All benchmarks, one after the other: ``python -m benchmarks`` (some minutes)."""

from __future__ import annotations

import subprocess
import sys

for name in ("help", "generate", "kernel", "ingest", "export", "characterize"):
    print(f"# {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)

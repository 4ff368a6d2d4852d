"""``lamina-traces --help`` against an empty Typer application: CPU seconds of whole processes.

python -m benchmarks.help [rounds]
"""

from __future__ import annotations

import resource
import subprocess
import sys

EMPTY = "import typer; app = typer.Typer(rich_markup_mode=None)\n@app.command()\ndef f(): pass\napp(['--help'])"
OURS = "from lamina_traces.cli.app import main; main(['--help'])"


def cpu_s(script: str) -> float:
    """User + system seconds of one fresh interpreter running ``script``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    pairs = [(cpu_s(OURS), cpu_s(EMPTY)) for _ in range(rounds)]
    ours, empty = (min(p[i] for p in pairs) for i in (0, 1))
    print(
        f"--help {ours:.3f} CPU s, empty Typer app {empty:.3f} CPU s, ratio {ours / empty:.2f} (minimum of {rounds})"
    )


if __name__ == "__main__":
    main()

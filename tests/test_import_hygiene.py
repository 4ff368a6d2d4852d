"""``--help`` stays light: heavy libraries are imported by the commands that need them, not by the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "scipy",
    "polars",
    "duckdb",
    "pyarrow",
    "plotly",
    "numba",
    "numpy",
    "pandas",
    "jinja2",
    "sqlglot",
)
SCRIPT = """
import sys
from lamina_traces.cli.app import run
code = run({argv!r})
print("CODE", code)
print("HEAVY", [m for m in {heavy!r} if m in sys.modules])
"""


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["ingest", "--help"], ["simulate", "--help"], ["nonsense"]]
)
def test_help_imports_no_heavy_library(argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(argv=argv, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "HEAVY []" in done.stdout, done.stdout
    assert f"CODE {2 if argv == ['nonsense'] else 0}" in done.stdout


def test_importing_the_package_is_light() -> None:
    script = f"import sys, lamina_traces; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_characterization_leaves_out_the_slow_parts_of_scipy() -> None:
    """Every command that reads a profile imports the aspects; scipy.stats alone takes longer than most of them."""
    script = (
        "import sys, lamina_traces.characterization; "
        "print([m for m in ('scipy.stats', 'scipy.optimize', 'plotly', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    import lamina_traces

    for name in lamina_traces.__all__:
        assert getattr(lamina_traces, name) is not None
    with pytest.raises(AttributeError):
        lamina_traces.nonsense  # noqa: B018

"""The ``lamina-traces`` command: one Typer app, one place where errors become text and exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from lamina_traces import __version__
from lamina_traces.errors import LaminaError

from . import calibration, catalog, decide, explore, generation, model, reproduce, share, traces

TRACES, MODEL, DECIDE, SHARE = "Traces", "Model", "Decide", "Share"

app = typer.Typer(
    name="lamina-traces",
    help="From a trace you have to a decision you can defend: what a workload is, a synthetic one that behaves like it, and what it costs to serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for panel, commands in (
    (TRACES, (traces.ingest, traces.ls, traces.show, traces.sql, traces.export, traces.rm)),
    (MODEL, (model.fit, explore.slices, explore.similar, generation.generate, model.compare)),
    (DECIDE, (decide.simulate, calibration.calibrate, reproduce.reproduce, catalog.catalog)),
    (SHARE, (share.report, share.demo)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lamina-traces {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """From a trace you have to a decision you can defend."""


def main(argv: list[str] | None = None) -> None:
    """Run a command line and exit: 0 ok, 1 data or model error, 2 usage, 3 a check failed, 130 interrupted."""
    # our matrices are small: more threads of BLAS only wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run a command line; errors go to stderr as ``error: what, where`` and ``hint: what to do``."""
    try:
        code: Any = app(argv, prog_name="lamina-traces", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # Typer has caught the interrupt
            _say("error", "interrupted")
        return code if isinstance(code, int) else 0
    except LaminaError as e:
        if os.environ.get("LAMINA_DEBUG"):
            raise
        _say("error", e.message)
        if e.hint:
            _say("hint", e.hint)
        return e.exit_code
    except KeyboardInterrupt:
        _say("error", "interrupted")
        return 130
    except typer.Abort:
        _say("error", "aborted")
        return 130
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader left: no second complaint
        return 0
    except OSError as e:
        if os.environ.get("LAMINA_DEBUG"):
            raise
        where = f", {e.filename}" if e.filename else ""
        _say("error", f"{e.strerror or e}{where}")
        return 1
    except Exception as e:
        if hasattr(e, "format_message"):  # a usage error of the command line
            context = getattr(e, "ctx", None)
            path = context.command_path if context is not None else "lamina-traces"
            text = (
                str(e.format_message()).rstrip(".").replace("\n", " ").replace("Value error, ", "")
            )
            _say("error", text)
            _say("hint", f"see {path} --help")
            return 2
        if os.environ.get("LAMINA_DEBUG"):
            raise
        first = str(e).splitlines()[0] if str(e) else "no message"
        _say("error", f"a defect of lamina-traces, {type(e).__name__}: {first}")
        _say("hint", "run it again with LAMINA_DEBUG=1 and report the traceback")
        return 1


def _say(label: str, text: str) -> None:
    print(f"{label}: {text}", file=sys.stderr)

"""Environments of the importing tools under ``build/importers``: ``python -m tests.importers.install``.

One virtual environment a tool, made once, with the pinned version; an interpreter that a tool needs is taken
from ``LAMINA_TRACES_PYTHON_3_11`` or ``LAMINA_TRACES_PYTHON_3_12``, else from PATH. guidellm depends on PyTorch;
``LAMINA_TRACES_TORCH`` names the requirement to install first (a CPU build saves some GB), as pip takes it.
vLLM's and SGLang's wheels are downloaded alone: only their dataset modules are read, in guidellm's environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "importers"


@dataclass(frozen=True)
class Tool:
    """``environment`` is the folder whose interpreter runs the loader; ``parts`` are unpacked from a wheel."""

    name: str
    version: str
    python: str
    environment: str
    loader: str
    parts: str = ""


TOOLS = {
    t.name: t
    for t in (
        Tool("aiperf", "0.13.0", "3.11", "aiperf", "aiperf_loader"),
        Tool("guidellm", "0.8.1", "3.11", "guidellm", "guidellm_loader"),
        Tool("inference-perf", "0.7.0", "3.12", "inference-perf", "inference_perf_loader"),
        Tool("vidur", "0.0.26", "3.11", "vidur", "vidur_loader"),
        Tool("vllm", "0.33.0", "3.11", "guidellm", "vllm_loader", "vllm/benchmarks/"),
        Tool("sglang", "0.5.23", "3.11", "guidellm", "sglang_loader", "sglang/benchmark/"),
    )
}


def interpreter(version: str) -> str | None:
    """A Python of this version, or None."""
    asked = os.environ.get(f"LAMINA_TRACES_PYTHON_{version.replace('.', '_')}")
    for candidate in (asked, sys.executable, shutil.which(f"python{version}")):
        if not candidate:
            continue
        said = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if said.stdout.strip() == version:
            return candidate
    return None


def ready(tool: Tool) -> str | None:
    """None when the tool can be loaded, else why not."""
    python = FOLDER / tool.environment / "bin" / "python"
    if not python.exists():
        found = interpreter(tool.python)
        missing = "" if found else f"; no python{tool.python} here"
        return f"not installed{missing}: python -m tests.importers.install {tool.name}"
    if tool.parts and not (FOLDER / "src" / tool.parts).is_dir():
        return f"its wheel is not here: python -m tests.importers.install {tool.name}"
    return None


def install(tool: Tool) -> None:
    if ready(tool) is None:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    environment = FOLDER / tool.environment
    python = environment / "bin" / "python"
    if not python.exists():
        base = interpreter(tool.python)
        if base is None:
            print(f"{tool.name}: skipped, no python{tool.python} on PATH", flush=True)
            return
        subprocess.run([base, "-m", "venv", environment], check=True)
        if tool.environment == "guidellm":
            torch = os.environ.get("LAMINA_TRACES_TORCH", "torch==2.13.0")
            subprocess.run([python, "-m", "pip", "install", "-q", *torch.split()], check=True)
        first = TOOLS[tool.environment]
        subprocess.run(
            [python, "-m", "pip", "install", "-q", f"{first.name}=={first.version}"], check=True
        )
    if tool.parts:
        wheels = FOLDER / "wheels"
        wanted = f"{tool.name}=={tool.version}"
        subprocess.run(
            [python, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, wanted], check=True
        )
        for wheel in wheels.glob(f"{tool.name}-{tool.version}-*.whl"):
            with zipfile.ZipFile(wheel) as z:
                z.extractall(FOLDER / "src", [n for n in z.namelist() if n.startswith(tool.parts)])
    print(f"{tool.name} {tool.version}: ready", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or list(TOOLS):
        install(TOOLS[name])

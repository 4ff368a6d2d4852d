"""A headless Chromium driven over a pipe with the DevTools protocol: enough to open a page and look at it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip

# Chromium reads commands from descriptor 3 and answers on 4; a child that duplicates them there and
# becomes Chromium needs no preexec hook in this process.
_LAUNCH = "import os,sys; r,w=map(int,sys.argv[1:3]); r=os.dup(r); w=os.dup(w); [(os.dup2(a,b), os.set_inheritable(b,True)) for a,b in ((r,3),(w,4))]; os.execvp(sys.argv[3],sys.argv[3:])"


def find() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(
        (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))),
        None,
    )


class Page:
    """One tab. ``requests``, ``messages`` hold what the page asked for and what it logged since it was opened."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._next = 0
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.messages: list[str] = []

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser did not answer")
            data = os.read(self._reader, 1 << 20)
            if not data:
                raise ConnectionError("the browser went away")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, p: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(f"{p['type']}: {[a.get('value') for a in p['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.messages.append(f"exception: {p['exceptionDetails']}")
        elif method == "Log.entryAdded":  # content-security-policy violations arrive here too
            self.messages.append(f"{p['entry']['level']}: {p['entry']['text']}")

    def send(self, method: str, timeout_s: float = 30.0, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while (answer := self._read(deadline)).get("id") != self._next:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def attach(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def scheme(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def open(self, path: Path, timeout_s: float = 30.0) -> None:
        """Load a file and wait for its load event."""
        self.requests.clear()
        self.messages.clear()
        self._loaded = False
        self.send("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + timeout_s
        while not self._loaded:
            self._read(deadline)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole, timeout_s=60)[
            "data"
        ]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        data: str = self.send("Page.printToPDF", printBackground=True, timeout_s=60)["data"]
        return base64.b64decode(data)


@contextlib.contextmanager
def opened(chromium: str, folder: Path) -> Iterator[Page]:
    """A running browser with one tab; ``folder`` becomes its new user directory."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(read_commands), str(write_answers), chromium, *FLAGS, f"--user-data-dir={folder}"],
        pass_fds=(read_commands, write_answers), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_commands)
    os.close(write_answers)
    page = Page(read_answers, write_commands)
    try:
        page.attach()
        yield page
    finally:
        page._session = None
        with contextlib.suppress(Exception):
            page.send("Browser.close", timeout_s=5)
        os.close(write_commands)
        os.close(read_answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""A headless Chromium, driven by the Chrome DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-background-networking",
)
PATIENCE = 60.0
"""Seconds until something must have happened; WebGL without a graphics card on a busy machine is slow."""


class Page:
    """A page of a browser that belongs to it alone; ``errors`` holds what its console and scripts complained of."""

    def __init__(self, file: Path, folder: Path, width: int = 1200, height: int = 800) -> None:
        assert PROGRAM is not None
        self.errors: list[str] = []
        self._loop, self._sent = asyncio.new_event_loop(), 0
        self._session: aiohttp.ClientSession | None = None
        options = [f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        self._browser = subprocess.Popen([PROGRAM, *OPTIONS, *options, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            self._loop.run_until_complete(self._connect(folder / "DevToolsActivePort"))
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.command("Emulation.setDeviceMetricsOverride", **size)
            for domain in ("Runtime", "Log", "Page"):
                self.command(f"{domain}.enable")
            self.command("Page.navigate", url=file.resolve().as_uri())
            self.wait("document.body?.dataset.ready === 'yes'")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._browser.terminate()
        self._browser.wait(timeout=PATIENCE)
        if self._session:
            self._loop.run_until_complete(self._session.close())
        self._loop.close()

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._command(method, parameters), PATIENCE))

    def run(self, script: str) -> Any:
        """Value of an expression in the page."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        _until(lambda: bool(self.run(script)), f"{script}; {self.errors}")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send an event of the mouse: ``Pressed``, ``Released``, ``Moved`` or ``Wheel``."""
        self.command("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Click with the left button."""
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, x: float, y: float, dx: float, dy: float) -> None:
        """Move by (dx, dy) with the left button held."""
        self.mouse("Pressed", x, y, button="left", clickCount=1)
        for share in (0.5, 1.0):
            self.mouse("Moved", x + share * dx, y + share * dy, button="left", buttons=1)
        self.mouse("Released", x + dx, y + dy, button="left", clickCount=1)

    def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=name)

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot")["data"])

    async def _connect(self, port_file: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert self._browser.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            await asyncio.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [each for each in await answer.json() if each["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _command(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._sent:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep an event that tells of an error."""
        content = event.get("params", {})
        level = content.get("entry", {}).get("level") or content.get("type")
        if event["method"] == "Runtime.exceptionThrown" or level in ("error", "assert"):
            self.errors.append(json.dumps(content))


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"in vain waited for: {what}"
        time.sleep(0.05)

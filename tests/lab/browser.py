"""A real headless Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

PROGRAM = "/usr/bin/chromium"
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-port=0", "--force-color-profile=srgb", "--mute-audio", "--ignore-certificate-errors",
)  # fmt: skip
PATIENCE_S = 30.0
MESSAGE_MAX = 64 << 20
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI));
window.paints = [];
new PerformanceObserver((list) => { for (const e of list.getEntries()) window.paints.push([e.name, e.startTime, e.duration]); })
  .observe({ entryTypes: ["paint", "measure", "longtask"] });
"""


class BrowserError(Exception):
    """The browser refused a command, or a script failed."""


class Tab:
    """One tab."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._number = 0
        self._replies: dict[int, dict[str, Any]] = {}
        self._came = trio.Event()
        self.problems: list[str] = []
        """What the console of the page complained of."""

    async def listen(self) -> None:
        while True:
            message = json.loads(await self._connection.get_message())
            if "id" in message:
                self._replies[message["id"]] = message
                self._came.set()
            elif message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] == "error":
                    self.problems.append(f"{entry['text']} {entry.get('url', '')}")
            elif message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(message["params"]["exceptionDetails"])[:500])

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do one command of the DevTools protocol."""
        self._number += 1
        number = self._number
        await self._connection.send_message(json.dumps({"id": number, "method": method, "params": parameters}))
        with trio.fail_after(PATIENCE_S):
            while number not in self._replies:
                self._came = trio.Event()
                await self._came.wait()
        reply = self._replies.pop(number)
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']}")
        return reply["result"]

    async def js(self, script: str) -> Any:
        """Return what an expression is worth in the page."""
        found = await self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{script}: {found['exceptionDetails']}"[:2000])
        return found["result"].get("value")

    async def wait(self, script: str) -> Any:
        """Wait until an expression is true, and return it."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                with contextlib.suppress(BrowserError):  # the page is being left
                    found = await self.js(script)
                    if found:
                        return found
                await trio.sleep(0.02)
        raise AssertionError(f"never true: {script}; the page: {await self.js('document.body.innerText')}")

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.do("Page.navigate", url=url)
        await self.wait(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    async def text(self, selector: str = "body") -> str:
        return str(await self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def key(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        press: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key}
        press |= {"windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        typed = {"text": {"Enter": "\r", " ": " "}.get(key, "")} if key in ("Enter", " ") else {}
        await self.do("Input.dispatchKeyEvent", type="keyDown", **press, **typed)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **press)

    async def type(self, words: str) -> None:
        await self.do("Input.insertText", text=words)

    async def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def scheme(self, name: str) -> None:
        """Prefer dark or light."""
        await self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def picture(self, path: Path) -> None:
        found = await self.do("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        path.write_bytes(base64.b64decode(found["data"]))


class Browser:
    """A Chromium that runs."""

    def __init__(self, port: int, nursery: trio.Nursery) -> None:
        self._port = port
        self._nursery = nursery

    async def tab(self) -> Tab:
        """Open a tab."""
        async with httpx.AsyncClient(trust_env=False) as client:
            made = (await client.put(f"http://127.0.0.1:{self._port}/json/new?about:blank")).json()
        connection = await self._nursery.start(_hold, made["webSocketDebuggerUrl"])
        tab = Tab(connection)
        self._nursery.start_soon(tab.listen)
        for domain in ("Page", "Runtime", "Log"):
            await tab.do(f"{domain}.enable")
        await tab.do("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        return tab


async def _hold(url: str, task_status: trio.TaskStatus[WebSocketConnection] = trio.TASK_STATUS_IGNORED) -> None:
    async with open_websocket_url(url, max_message_size=MESSAGE_MAX) as connection:
        task_status.started(connection)
        await trio.sleep_forever()


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run a Chromium with a profile of its own."""
    profile = Path(tempfile.mkdtemp(prefix="hawatch-chromium-"))
    environment = {**os.environ, "HOME": str(profile)}
    process = subprocess.Popen(
        [PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        port_file = profile / "DevToolsActivePort"
        with trio.fail_after(PATIENCE_S):
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert process.poll() is None, "chromium ended"
                await trio.sleep(0.05)
        async with trio.open_nursery() as nursery:
            yield Browser(int(port_file.read_text().split()[0]), nursery)
            nursery.cancel_scope.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)

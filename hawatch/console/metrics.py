"""Metrics for Prometheus, and two questions for those who watch the watcher: /livez and /readyz."""

from __future__ import annotations

from typing import Protocol

from hawatch.console import exposition
from hawatch.console.text_format import CONTENT_TYPE


class Measured(exposition.Measured, Protocol):
    """What the answers need of the console."""

    linked: bool


async def answer(console: Measured, path: str) -> tuple[int, str, bytes]:
    """Return status, content type and body for a path."""
    if path == "/metrics":
        return 200, CONTENT_TYPE, await exposition.exposition(console)
    if path == "/livez":
        return 200, "text/plain", b"ok\n"
    if path == "/readyz":
        return (200, "text/plain", b"ok\n") if console.linked else (503, "text/plain", b"no channel to the core\n")
    return 404, "text/plain", b"there are /metrics, /livez and /readyz\n"

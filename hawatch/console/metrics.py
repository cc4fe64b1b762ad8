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
        problem = await not_ready(console)
        return (503, "text/plain", f"{problem}\n".encode()) if problem else (200, "text/plain", b"ok\n")
    return 404, "text/plain", b"there are /metrics, /livez and /readyz\n"


async def not_ready(console: Measured) -> str:
    """Return why this director is not looked after; "" when its core answers now."""
    if not console.linked:
        return "no channel to the core"
    return "the core does not answer" if await console.measures.fresh() is None else ""

"""Metrics for Prometheus, and two questions for those who watch the watcher: /livez and /readyz.

The server understands GET and nothing else, answers and closes.
"""

from __future__ import annotations

import sys
from typing import Protocol

import trio
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hawatch.config.fields import split_host_port
from hawatch.console import exposition

HEAD_MAX = 8192
LIMIT_S = 10.0
RETRY_S = 5.0
CLIENTS_MAX = 16


class Measured(exposition.Measured, Protocol):
    """What the answers need of the console."""

    linked: bool


async def answer(console: Measured, path: str) -> tuple[int, str, bytes]:
    """Return status, content type and body for a path."""
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, await exposition.exposition(console)
    if path == "/livez":
        return 200, "text/plain", b"ok\n"
    if path == "/readyz":
        return (200, "text/plain", b"ok\n") if console.linked else (503, "text/plain", b"no channel to the core\n")
    return 404, "text/plain", b"there are /metrics, /livez and /readyz\n"


async def serve_client(console: Measured, stream: trio.SocketStream) -> None:
    """Answer one request."""
    with trio.move_on_after(LIMIT_S):
        try:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < HEAD_MAX:
                data = await stream.receive_some(HEAD_MAX)
                if not data:
                    return
                head += data
            words = head.split(b"\r\n")[0].decode("ascii", "replace").split(" ")
            if len(words) != 3 or words[0] != "GET":
                status, kind, body = 405, "text/plain", b"GET only\n"
            else:
                status, kind, body = await answer(console, words[1].partition("?")[0])
            lines = (
                f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            )
            await stream.send_all(lines.encode() + b"\r\n" + body)
            await stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            return


async def serve_metrics(console: Measured) -> None:
    """Serve where the configuration says, for ever; another place after a reload."""
    limit = trio.CapacityLimiter(CLIENTS_MAX)

    async def handle(stream: trio.SocketStream) -> None:
        async with limit:
            await serve_client(console, stream)

    while True:
        listen = console.settings.config.console.listen
        if listen:
            host, port = split_host_port(listen)
            assert port is not None, listen
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_moved, console, listen, nursery.cancel_scope)
                    await trio.serve_tcp(handle, port, host=host)
            except* OSError as errors:
                print(f"hawatch console: {listen}: {errors.exceptions[0]}", file=sys.stderr, flush=True)
        await trio.sleep(RETRY_S)


async def _until_moved(console: Measured, listen: str, scope: trio.CancelScope) -> None:
    while console.settings.config.console.listen == listen:  # noqa: ASYNC110 - a reload may take a second
        await trio.sleep(1)
    scope.cancel()

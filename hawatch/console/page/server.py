"""The one HTTP server of the console: Hypercorn's protocol engine behind an accept loop with limits.

Hypercorn knows no limit of connections, waits for ever for a client that does not read, and does not tell the
application whose client certificate it was; so connections are accepted here and handed to it one by one.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from hawatch.agent.settings import Settings
from hawatch.config.fields import split_host_port
from hawatch.console.page.feed import Feed, Shown
from hawatch.errors import HawatchError

if TYPE_CHECKING:
    from hawatch.console.page.app import Receive, Scope, Send, Site

CONNECTIONS_MAX = 100
SEND_S = 10.0
"""A client must take what it is sent within so long."""
IDLE_S = 30.0
ENDED_S = 1.0
"""A client that has gone costs a place for so long."""
HANDSHAKE_S = 10.0
HEAD_MAX = 16 * 1024
RETRY_S = 5.0
PIECE_BYTES = 1 << 16


class Limited(trio.abc.HalfCloseableStream):
    """A connection whose client must read."""

    def __init__(self, inner: trio.SocketStream, scope: trio.CancelScope) -> None:
        self._inner = inner
        self._scope = scope
        self.socket = inner.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or give the client up."""
        view = memoryview(data)
        for begin in range(0, len(view), PIECE_BYTES):
            with trio.move_on_after(SEND_S) as scope:
                await self._inner.send_all(view[begin : begin + PIECE_BYTES])
            if scope.cancelled_caught:
                await trio.aclose_forcefully(self._inner)
                raise trio.BrokenResourceError("the client does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; when the client has ended, what is still done for it has a moment left."""
        data = await self._inner.receive_some(max_bytes)
        if not data:
            self._end()
        return data

    def _end(self) -> None:
        """Have what is still done for the client end: Hypercorn would wait for its own idle time first."""
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + ENDED_S)

    async def send_eof(self) -> None:
        """Say that nothing more comes."""
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Close, and free the client's place."""
        self._end()
        await self._inner.aclose()


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of a configuration; None for plain HTTP."""
    console = settings.config.console
    if not console.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(console.certificate, console.key)
    context.set_alpn_protocols(["http/1.1"])
    if console.client_ca:
        context.load_verify_locations(console.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def common_name(certificate: Any) -> str:
    """Return the common name of a certificate, as the ssl module tells of it."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


class PageServer:
    """Serves where the configuration says, and keeps the feed meanwhile; another place after a reload."""

    def __init__(self, console: Shown, feed: Feed) -> None:
        self._console = console
        self._feed = feed
        self._site: Site | None = None
        self._open = 0
        self._moved = trio.Event()
        self._problem = ""
        self._shut_out: list[str] = []
        """Whose token cannot be read."""

    def problems(self) -> list[str]:
        """Return what is wrong with the page, a sentence each."""
        return [*([f"the page is not served: {self._problem}"] if self._problem else []), *self._shut_out]

    def adopt(self) -> None:
        """Go on by new settings."""
        self._moved.set()

    async def run(self) -> None:
        """Serve, for ever."""
        while True:
            self._moved = trio.Event()
            settings = self._console.settings
            try:
                if settings.config.console.listen:
                    await self._serve(settings)
                else:
                    self._problem, self._shut_out = "", []
                    await self._moved.wait()
                continue
            except* (OSError, ssl.SSLError, HawatchError) as errors:
                problem = f"{settings.config.console.listen}: {errors.exceptions[0]}"
            if problem != self._problem:
                print(f"hawatch console: {problem}", file=sys.stderr, flush=True)
            self._problem = problem
            with trio.move_on_after(RETRY_S):
                await self._moved.wait()

    async def _serve(self, settings: Settings) -> None:
        from hawatch.console.page.app import Site, read_users  # not before somebody wants a page: it costs memory

        if self._site is None:
            self._site = Site(self._console, self._feed)
        users, self._shut_out = await trio.to_thread.run_sync(read_users, settings)
        self._site.guard.set_users(users)
        context = await trio.to_thread.run_sync(tls_context, settings)
        host, port = split_host_port(settings.config.console.listen)
        assert port is not None, host
        listeners = await trio.open_tcp_listeners(port, host=host)
        self._problem = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed.run)
            for listener in listeners:
                nursery.start_soon(self._accept, listener, context, nursery)
            await self._moved.wait()
            nursery.cancel_scope.cancel()

    async def _accept(
        self, listener: trio.SocketListener, context: ssl.SSLContext | None, nursery: trio.Nursery
    ) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # out of descriptors: the client waits in the backlog
                    print(f"hawatch console: {error}", file=sys.stderr, flush=True)
                    await trio.sleep(1)
                    continue
                if self._open >= CONNECTIONS_MAX:
                    await trio.aclose_forcefully(stream)
                    continue
                self._open += 1
                nursery.start_soon(self._connection, stream, context)

    async def _connection(self, stream: trio.SocketStream, context: ssl.SSLContext | None) -> None:
        from hypercorn.config import Config
        from hypercorn.trio.tcp_server import TCPServer
        from hypercorn.trio.worker_context import WorkerContext
        from hypercorn.typing import ConnectionState, LifespanState
        from hypercorn.utils import wrap_app

        config = Config()
        config.keep_alive_timeout = IDLE_S
        config.ssl_handshake_timeout = HANDSHAKE_S
        config.h11_max_incomplete_size = HEAD_MAX
        config.include_server_header = False
        config.loglevel = "WARNING"
        scope = trio.CancelScope()
        limited = Limited(stream, scope)
        secured = trio.SSLStream(limited, context, server_side=True, https_compatible=True) if context else None
        app = wrap_app(partial(self._request, secured), 0, "asgi")
        try:
            # A mistake of ours costs one connection, and says so on standard error.
            with scope, contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await TCPServer(
                    app,
                    config,
                    WorkerContext(None),
                    ConnectionState(LifespanState({})),
                    secured or limited,  # type: ignore[arg-type]
                ).run()
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _request(
        self, secured: trio.SSLStream[Limited] | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        assert self._site is not None
        if scope["type"] == "http" and secured is not None:
            scope["client_certificate"] = common_name(secured.getpeercert())
        await self._site(scope, receive, send)

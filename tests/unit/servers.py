"""Little servers on loopback for tests of probes: each says what its script says."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
import trustme

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve connections with `handler` and yield the port."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def udp_server(
    *answers: Callable[[bytes], bytes | None], elsewhere: bool = False, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Answer each query with all of `answers`, from another port if `elsewhere`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        trio.socket.socket(family, socket.SOCK_DGRAM) as server,
        trio.socket.socket(family, socket.SOCK_DGRAM) as other,
    ):
        await server.bind((host, port))
        await other.bind((host, 0))

        async def serve() -> None:
            while True:
                query, client = await server.recvfrom(4096)
                for answer in answers:
                    if wire := answer(query):
                        await (other if elsewhere else server).sendto(wire, client)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server.getsockname()[1]
            nursery.cancel_scope.cancel()


async def closed_port() -> int:
    """Return a port of loopback where nobody listens."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return int(port)


def script(*steps: bytes | None) -> Handler:
    """Return a handler that says each of `steps`, after a line from the client for None."""

    async def handler(stream: trio.SocketStream) -> None:
        pending = b""
        for step in steps:
            if step is not None:
                await stream.send_all(step)
                continue
            while b"\n" not in pending:
                data = await stream.receive_some()
                if not data:
                    return
                pending += data
            pending = pending.partition(b"\n")[2]

    return handler


async def silence(stream: trio.SocketStream) -> None:
    """Accept and say nothing."""
    while await stream.receive_some():
        pass


def endlessly(chunk: bytes, pause_s: float = 0) -> Handler:
    """Return a handler that says `chunk` again and again."""

    async def handler(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(chunk)
            await trio.sleep(pause_s)

    return handler


@dataclass(frozen=True)
class Pki:
    """A CA with certificates, good and bad."""

    ca: trustme.CA
    ca_file: str
    directory: Path

    def server(self, *names: str, days: int = 30, since_days: int = 1) -> ssl.SSLContext:
        """Return a server's context with a certificate that is valid since and until days from now."""
        now = datetime.datetime.now(datetime.UTC)
        leaf = self.ca.issue_cert(
            *(names or ("127.0.0.1", "localhost")),
            not_before=now - datetime.timedelta(days=since_days),
            not_after=now + datetime.timedelta(days=days, hours=1),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context


def make_pki(directory: Path) -> Pki:
    """Return a fresh CA, its certificate in a file."""
    ca = trustme.CA()
    path = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return Pki(ca, str(path), directory)


def over_tls(context: ssl.SSLContext, handler: Callable[[trio.abc.Stream], Awaitable[None]]) -> Handler:
    """Return a handler that makes TLS first."""

    async def handle(stream: trio.SocketStream) -> None:
        wrapped = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await wrapped.do_handshake()
        await handler(wrapped)

    return handle

"""The http probe in general: HTTP/2, through a proxy, following redirects.

Imported only where a configuration asks for it: httpcore and what it brings cost megabytes of memory, and a run about
ten times what the conversation costs.

A redirect is followed to https from either scheme, and to http from http. One that names the host that was asked for
goes to the same server, whatever the name would resolve to: it is that server that is looked at.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpcore
import httpx
import trio

from hawatch.faults import Fault, broken_reason, connect_reason, handshake_reason, is_ours
from hawatch.plugin import Attempt, Result
from hawatch.text import clean, cut
from hawatch.tls import check_certificate, tls_context

if TYPE_CHECKING:
    from hawatch.probes.http import HttpProbe

REDIRECTS = frozenset((301, 302, 303, 307, 308))
LOCATION_LIMIT = 4096
HEAD_LIMIT = 131072
"""Bytes read at most before the headers are complete: interim answers, frames of HTTP/2, a proxy's answer count."""
CAUSES_LIMIT = 20
FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpx.InvalidURL,
)
STAGES = {
    "connect_tcp.started": "connection",
    "start_tls.started": "TLS handshake",
    "receive_response_headers.started": "HTTP answer",
    "receive_response_body.started": "end of the HTTP body",
}
"""What is waited for, by the end of the name of the stage that httpcore tells."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One request: what it asks for, and whom."""

    url: httpx.URL
    """As a browser would show it."""
    connect: httpx.URL
    """With the address and port that are connected to."""
    ours: bool
    """It goes to the server that is looked at."""
    method: str
    number: int = 0

    @property
    def place(self) -> str:
        """Where a reason says that this was; "" for the first."""
        return (
            f", at {cut(clean(str(self.url)))} after {self.number} redirect{'s'[: self.number > 1]}"
            if self.number
            else ""
        )


class _Wires(httpcore.AsyncNetworkBackend):
    """Makes the connections of one request, and closes them: httpcore forgets one that is cancelled in a handshake.

    Until `head_came` is set, little is read: httpcore takes whatever comes before the headers, for ever.
    """

    def __init__(self) -> None:
        self._maker = httpcore.TrioBackend()
        self._made: list[httpcore.AsyncNetworkStream] = []
        self._received = 0
        self.head_came = False

    def count(self, received: int) -> None:
        """Count what was read; raise Fault where what came before was too much: headers may end with this."""
        if not self.head_came and self._received > HEAD_LIMIT:
            raise Fault(f"more than {HEAD_LIMIT} bytes before the end of the HTTP headers")
        self._received += received

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect as httpcore does."""
        made = await self._maker.connect_tcp(host, port, timeout, local_address, socket_options)
        self._made.append(made)
        return _Counted(made, self)

    def close(self) -> None:
        """Close all, without a word."""
        for made in self._made:
            made.get_extra_info("socket").close()


class _Counted(httpcore.AsyncNetworkStream):
    """A connection of which is counted what is read."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, wires: _Wires) -> None:
        self._inner = inner
        self._wires = wires

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - its signature
        """Read as httpcore does."""
        data = await self._inner.read(max_bytes, timeout)
        self._wires.count(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write as httpcore does."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Begin TLS; what comes in it is counted."""
        return _Counted(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._wires)

    def get_extra_info(self, info: str) -> object:
        """Tell of the connection."""
        return self._inner.get_extra_info(info)


class General:
    """Looks as an http probe's options say, with httpx."""

    def __init__(self, probe: HttpProbe) -> None:
        self.probe = probe
        self.options = probe.http

    async def look(self, attempt: Attempt) -> Result:
        """Ask, and follow redirects as far as wanted."""
        hop = self._first()
        while True:
            try:
                answer = await self._ask(hop, attempt)
            except Fault as fault:
                return Result(ok=False, reason=f"{fault}{hop.place}", inconclusive=is_ours(fault.__cause__))
            if isinstance(answer, Result):
                return answer
            hop = answer

    def _first(self) -> Hop:
        target = self.probe.target
        if target.port is None:
            raise Fault("no port to connect to")
        scheme = "https" if self.options.security == "tls" else "http"
        url = httpx.URL(f"{scheme}://{self.probe.authority()}{self.options.path}")
        connect = url.copy_with(host=target.address, port=target.port)
        return Hop(url, connect, ours=True, method=self.options.method)

    async def _ask(self, hop: Hop, attempt: Attempt) -> Result | Hop:
        """Make one request; return the result, or the hop that it redirects to."""
        where = f" from {hop.url.netloc.decode()}" if hop.number else ""
        stage = attempt.waiting_for = "connection" + where

        async def trace(name: str, _info: object) -> None:
            nonlocal stage
            for end, what in STAGES.items():
                if name.endswith(end):
                    stage = attempt.waiting_for = what + where

        wires = _Wires()
        size = 0
        try:
            response = await self._pool(hop, wires).handle_async_request(self._request(hop, trace))
            wires.head_came = True
            found = self._look_at_head(hop, response)
            if found is not None:
                return found
            body = bytearray()
            assert isinstance(response.stream, AsyncIterable)
            with trio.CancelScope() as enough:
                async for chunk in response.stream:
                    body += chunk
                    size = len(body)
                    if size > self.options.size_limit:
                        enough.cancel()  # and not `break`: what the stream is made of must be unwound from within
            if size > self.options.size_limit:
                raise Fault(f"HTTP body of more than {self.options.size_limit} bytes")
            return self._look_at_body(hop, bytes(body))
        except (*FAILURES, OSError) as error:
            raise Fault(_reason(error, stage, size)) from (_cause(error) or error)
        finally:
            wires.close()

    def _pool(self, hop: Hop, wires: _Wires) -> httpcore.AsyncConnectionPool:
        over_tls = hop.url.scheme == "https"
        second = self.options.version == "2"
        return httpcore.AsyncConnectionPool(
            # Clear HTTP/2 has no negotiation: one side must know, and so it is HTTP/2 or nothing.
            http1=over_tls or not second,
            http2=second,
            ssl_context=tls_context(self.options.tls, check_name=True) if over_tls else None,
            proxy=httpcore.Proxy(self.options.proxy) if self.options.proxy else None,
            network_backend=wires,
        )

    def _request(self, hop: Hop, trace: object) -> httpcore.Request:
        headers = self.probe.headers()
        if not hop.ours:  # what is said to this server is not for others: passwords, cookies
            headers = {"User-Agent": "hawatch", "Accept": "*/*", "Connection": "close"}
        if hop.number:
            headers = {name: text for name, text in headers.items() if name.lower() != "host"}
            headers["Host"] = hop.url.netloc.decode("ascii")
        if self.options.version == "2":
            headers = {name: text for name, text in headers.items() if name.lower() != "connection"}
        url = httpcore.URL(
            scheme=hop.connect.raw_scheme,
            host=hop.connect.raw_host,
            port=hop.connect.port,
            target=hop.connect.raw_path,
        )
        extensions = {"trace": trace, "sni_hostname": self._name(hop)}
        return httpcore.Request(hop.method, url, headers=list(headers.items()), extensions=extensions)

    def _name(self, hop: Hop) -> str:
        return self.probe.tls_server_name() if hop.ours else hop.url.host

    # --- what came -------------------------------------------------------------------------------------------

    def _look_at_head(self, hop: Hop, response: httpcore.Response) -> Result | Hop | None:
        """Return the result or the next hop if the head tells it, else None: look at the body."""
        status = response.status
        stream = response.extensions.get("network_stream")
        tls = stream.get_extra_info("ssl_object") if stream is not None else None
        if tls is not None and (
            wrong := check_certificate(tls.getpeercert() or {}, self.options.tls, self._name(hop), _now_ns())
        ):
            raise Fault(wrong)
        version = response.extensions.get("http_version", b"").decode("ascii", "replace")
        if self.options.version == "2" and version != "HTTP/2":
            raise Fault(f"the server speaks {version}, wanted HTTP/2")
        wanted = status in self.probe.statuses
        location = next((text for name, text in response.headers if name.lower() == b"location"), None)
        if not wanted and self.options.redirects and status in REDIRECTS and location is not None:
            return self._next(hop, status, location.decode("latin-1"))
        if not wanted:
            raise Fault(f"HTTP {status}, wanted {self.probe.wanted_statuses()}")
        return self._look_at_body(hop, b"") if hop.method == "HEAD" else None

    def _look_at_body(self, hop: Hop, body: bytes) -> Result:
        result = self.probe.look_at_body(body) if hop.method != "HEAD" else Result(ok=True, detail="no body, as asked")
        if not result.ok:
            raise Fault(result.reason)
        return Result(ok=True, detail=result.detail + hop.place)

    def _next(self, hop: Hop, status: int, location: str) -> Hop:
        """Return where a redirect leads; raise Fault where it is not followed."""
        shown = cut(clean(location))
        url = _join(hop.url, location)
        if url is None:
            raise Fault(f'HTTP {status} to "{shown}", which is no URL')
        if hop.number >= self.options.redirects:
            raise Fault(f"HTTP {status} to {shown}, wanted no more than {self.options.redirects} redirects")
        schemes = ("http", "https") if hop.url.scheme == "http" and not self.options.proxy else (hop.url.scheme,)
        if url.scheme not in schemes:
            raise Fault(f"HTTP {status} to {shown}, which is not followed: only to {' and '.join(schemes)}")
        method = hop.method if status in (307, 308) or hop.method == "HEAD" else "GET"
        first = self._first()
        if url.host != first.url.host:
            return Hop(url, url, ours=False, method=method, number=hop.number + 1)
        port = first.connect.port if (url.scheme, url.port) == (first.url.scheme, first.url.port) else url.port
        connect = url.copy_with(host=first.connect.host, port=port)
        return Hop(url, connect, ours=True, method=method, number=hop.number + 1)


def _join(url: httpx.URL, location: str) -> httpx.URL | None:
    """Return where a Location header leads from `url`; None if it is not well-formed, which httpx alone forgives."""
    if len(location) > LOCATION_LIMIT:
        return None
    try:
        parts = urlsplit(location)
        joined = url.join(location)
        host = joined.host  # it is decoded only now, and need not be IDNA: http://xn--a/
    except (ValueError, httpx.InvalidURL):
        return None
    return None if parts.scheme and not (parts.hostname and host) else joined


def _now_ns() -> int:
    """Return the time that certificates are judged by."""
    return time.time_ns()


def _cause(error: BaseException) -> BaseException | None:
    """Return what the system or OpenSSL said first, beneath all that it was wrapped in."""
    found: BaseException | None = None
    for _ in range(CAUSES_LIMIT):
        if isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and error.errno):
            found = error
        inner = error.__cause__ or error.__context__
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if inner is None:
            break
        error = inner
    return found


def _reason(error: Exception, stage: str, size: int) -> str:
    """Return why a request has failed, in the words of the other probes."""
    cause = _cause(error)
    if stage.startswith("connection") and isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        return connect_reason(cause)
    if stage.startswith("TLS"):
        return handshake_reason(cause, b"")
    if isinstance(error, httpcore.ProxyError):
        return f"the proxy refused: {cut(clean(str(error)))}"
    if isinstance(error, httpcore.NetworkError):
        return broken_reason(cause, f"waiting for {stage}", size)
    return f"not an HTTP answer: {cut(clean(str(error))) or type(error).__name__}"

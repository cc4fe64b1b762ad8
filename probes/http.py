"""The http probe: asks for a page and looks at status and body.

HTTP/1.1 straight to the server is a conversation; what needs more (HTTP/2, a proxy, redirects) is in http_general.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import httptools
from pydantic import Field, field_validator, model_validator

from hawatch.plugin import (
    RESPONSE_LIMIT_DEFAULT,
    Attempt,
    Conversation,
    Options,
    Probe,
    Receive,
    Result,
    Send,
    Target,
    TlsOptions,
    down,
    up,
)
from hawatch.probes.fields import Regex
from hawatch.probes.patterns import Pattern, Search, TooSlow
from hawatch.text import quoted

HEAD_LIMIT = 32768
"""Bytes of status line and headers that are read at most."""
FRAMING_LIMIT = 65536
"""Bytes that are read at most of what is neither headers nor body (the ends of chunks, trailers), beside ..."""
FRAMING_SHARE = 8
"""... so many for each byte of body: a chunk of one byte takes five more."""
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
STATUS_DEFAULT = tuple(range(200, 300))
_UP = up("an answer as wanted")


class HttpOptions(Options):
    """Options of the http probe."""

    method: str = Field(default="GET", pattern="^[A-Z]{1,16}$", description="request method")
    path: str = Field(default="/", pattern=r"^/[!-~]*$", max_length=4096, description="what to ask for, with its query")
    host: str = Field(default="", max_length=255, pattern=r"^[!-~]*$", description="Host header, and the name that TLS "
                      "asks for and verifies; default: the address")  # fmt: skip
    headers: dict[str, str] = Field(default_factory=dict, max_length=50, description="further request headers")
    status: tuple[int, ...] = Field(default=(), max_length=100, description="statuses that are well; default: 200-299")
    body: str = Field(default="", max_length=4096, description="what the body must contain")
    body_regex: Regex = Field(default="", max_length=1024, description="regular expression found in the body")
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$", description="SHA-256 of the whole body, in hex")
    size_limit: int = Field(
        default=RESPONSE_LIMIT_DEFAULT, ge=0, le=64 << 20, description="a body of more bytes is a failure"
    )
    security: Literal["none", "tls"] = Field(default="none", description="tls: https")
    tls: TlsOptions = Field(default_factory=TlsOptions, description="options of TLS")
    redirects: int = Field(
        default=0, ge=0, le=10, description="redirects to follow; 0: a 301 is a status like any other"
    )
    version: Literal["1.1", "2"] = Field(default="1.1", description="version of HTTP to speak")
    proxy: str = Field(default="", max_length=1024, description='ask through this proxy: "http://192.0.2.1:3128"')

    @model_validator(mode="after")
    def _through_a_proxy(self) -> HttpOptions:
        if self.proxy and (self.security != "none" or self.version != "1.1"):
            raise ValueError('proxy goes with security = "none" and version = "1.1" only')
        return self

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str) -> str:
        if value and not _is_proxy_url(value):
            raise ValueError('must be a URL like "http://192.0.2.1:3128"')
        return value

    @field_validator("status")
    @classmethod
    def _statuses(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 100 <= one <= 599 for one in value):
            raise ValueError("statuses are numbers from 100 to 599")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", text):
                raise ValueError(f"{name!r} is no header that can be sent")
        return value


def _without_port(host: str) -> str:
    """Return "name" of "name:443", and the address of "[2001:db8::1]:443"."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_proxy_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        rest = parts.path.strip("/") + parts.query + parts.fragment
        return bool(re.fullmatch(r"http://[!-~]+", text) and parts.hostname and parts.port) and not rest
    except ValueError:  # a port beyond 65535, a bracket left open
        return False


class HttpProbe(Probe):
    """Up when the status is one of those wanted, and the body is as wanted."""

    options_type: ClassVar[type[Options]] = HttpOptions
    default_port: ClassVar[int | None] = 80

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, HttpOptions)
        self.http = options
        self.statuses = frozenset(options.status or STATUS_DEFAULT)
        self.wants_body = bool(options.body or options.body_regex or options.digest)
        self._pattern = Pattern(options.body_regex) if options.body_regex else None
        self._request = Send(self._head())
        self._general: Callable[[Attempt], Awaitable[Result]] | None = None
        if options.redirects or options.proxy or options.version != "1.1":
            from hawatch.probes.http_general import General  # it needs megabytes that most never need

            self._general = General(self).look

    @classmethod
    def no_route(cls, options: Options) -> str:
        """Another client makes the connections of the general way."""
        assert isinstance(options, HttpOptions)
        general = options.redirects or options.proxy or options.version != "1.1"
        return "does not go with redirects, proxy or version" if general else ""

    def is_conversation(self) -> bool:
        """HTTP/1.1 straight to the server is one."""
        return self._general is None

    async def run(self, attempt: Attempt) -> Result:
        """Ask in the general way."""
        assert self._general is not None, "a conversation is not run"
        return await self._general(attempt)

    def tls(self) -> TlsOptions | None:
        """Return the TLS options where TLS is wanted."""
        return self.http.tls if self.http.security == "tls" else None

    def tls_mode(self) -> Literal["none", "tls", "starttls"]:
        """Return when TLS begins."""
        return self.http.security

    def tls_server_name(self) -> str:
        """Return the name to ask for: the TLS option, else the host, else the address."""
        return self.http.tls.server_name or _without_port(self.http.host) or self.target.address

    def converse(self) -> Conversation:
        """Ask, and read until it is clear what the answer is."""
        yield self._request
        answer = _Answer(self)
        while answer.result is None:
            data = yield answer.waiting
            if not data:
                return answer.closed()
            answer.feed(data)
        return answer.result

    def look_at_body(self, body: bytes) -> Result:
        """Return what the whole body amounts to; the status was well."""
        if not self.wants_body:
            return _UP
        options = self.http
        if options.body and options.body.encode() not in body:
            return down(f'body without "{options.body}": {quoted(body)}')
        if self._pattern is not None:
            try:
                found = Search(self._pattern).found_in(body)
            except TooSlow as error:
                return down(str(error))
            if not found:
                return down(f'body without a match of "{options.body_regex}": {quoted(body)}')
        if options.digest:
            digest = hashlib.sha256(body).hexdigest()
            if digest != options.digest:
                return down(f"body has the digest {digest[:16]}..., wanted {options.digest[:16]}...")
        return up(f"{len(body)} bytes of body")

    def wanted_statuses(self) -> str:
        """Return the statuses in words."""
        return ", ".join(map(str, self.http.status)) if self.http.status else "200-299"

    def authority(self) -> str:
        """Return the host to ask for, with its port where that is not the usual one."""
        address = f"[{self.target.address}]" if ":" in self.target.address else self.target.address
        usual = 443 if self.http.security == "tls" else 80
        return self.http.host or (address if self.target.port == usual else f"{address}:{self.target.port}")

    def headers(self) -> dict[str, str]:
        """Return the request's headers."""
        headers = {"Host": self.authority(), "User-Agent": "hawatch", "Accept": "*/*", "Connection": "close"}
        if self.http.method in BODY_METHODS:
            headers["Content-Length"] = "0"  # RFC 9110 section 8.6: else a server may wait, or answer 411
        given = {name.lower() for name in self.http.headers}
        return {name: text for name, text in headers.items() if name.lower() not in given} | self.http.headers

    def _head(self) -> bytes:
        lines = [f"{self.http.method} {self.http.path} HTTP/1.1"]
        lines += [f"{name}: {text}" for name, text in self.headers().items()]
        return "\r\n".join([*lines, "", ""]).encode()


_DELIMITED = re.compile(rb"\n(content-length|transfer-encoding):", re.IGNORECASE)
"""The answer says where its body ends; else the end of the connection is the end."""
_FOR_STATUS = Receive("HTTP answer")
_FOR_HEADERS = Receive("end of the HTTP headers")
_FOR_BODY = Receive("end of the HTTP body")


class _Answer:
    """What has come of one answer; takes the parser's calls."""

    # The parser calls only those of its methods that are here; a call for each header would double the cost of a check.

    __slots__ = ("body", "head", "headers_done", "parser", "probe", "received", "result", "waiting")

    def __init__(self, probe: HttpProbe) -> None:
        self.probe = probe
        self.parser = httptools.HttpResponseParser(self)
        self.waiting = _FOR_STATUS
        self.headers_done = False
        self.head = b""
        """What came until the headers were complete."""
        self.body = bytearray()
        self.received = 0
        self.result: Result | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the server."""
        self.received += len(data)
        if not self.headers_done and self.received <= HEAD_LIMIT:
            self.head += data
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.result is None:
                self.result = down(f"not an HTTP answer ({error}): {quoted(data)}")
        if self.result is None and not self.headers_done:
            if b"\n" in data:
                self.waiting = _FOR_HEADERS
            if self.received > HEAD_LIMIT:
                self.result = down(f"HTTP headers of more than {HEAD_LIMIT} bytes")
        elif self.result is None and self.received > HEAD_LIMIT + FRAMING_LIMIT + FRAMING_SHARE * len(self.body):
            self.result = down(f"more than {FRAMING_LIMIT} bytes of the HTTP answer are neither headers nor body")

    def closed(self) -> Result:
        """Return what an answer amounts to that the server ended by closing the connection."""
        if not self.received:
            return down("connection closed without an HTTP answer")
        if not self.headers_done:
            return down(f"connection closed after {self.received} bytes, within the HTTP headers")
        if _DELIMITED.search(self.head.partition(b"\r\n\r\n")[0]):
            return down(f"connection closed after {len(self.body)} bytes of the HTTP body, before its end")
        return self.probe.look_at_body(bytes(self.body))

    # --- the parser's calls ----------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return  # an interim answer: the real one follows
        self.headers_done = True
        self.waiting = _FOR_BODY
        if status not in self.probe.statuses:
            self.result = down(f"HTTP {status}, wanted {self.probe.wanted_statuses()}")
        elif self.probe.http.method == "HEAD":
            self.result = up("no body, as asked")

    def on_body(self, data: bytes) -> None:
        if self.result is None:
            self.body += data
            if len(self.body) > self.probe.http.size_limit:
                self.result = down(f"HTTP body of more than {self.probe.http.size_limit} bytes")

    def on_message_complete(self) -> None:
        if self.headers_done and self.result is None:
            self.result = self.probe.look_at_body(bytes(self.body))

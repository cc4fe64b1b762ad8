"""A client of the site: asks steadily, each time anew, and writes down what it got.

    python -m tests.lab.pair.client OUTPUT STREAM ...

A STREAM is ``kind=http,address=192.168.1.110,port=80,every_ms=10,limit_ms=1000``; kinds are http, keep (HTTP on one
connection for good), smtp, pop3 and dns; ``name=`` names it otherwise than by its kind. Each request is one line of OUTPUT, tab-separated: stream, start and end
(CLOCK_BOOTTIME in ns), "ok" or what went wrong, and the server that answered. A request starts at its time whether or not
the one before is answered. It ends with SIGTERM, when requests under way have been given their limit.

Only the standard library, and one loop: it must start fast and cost little beside what it measures.
"""

from __future__ import annotations

import errno
import heapq
import re
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TextIO

REPLY_LIMIT = 4096
"""Bytes of one answer; the site's are far shorter."""
IN_FLIGHT_LIMIT = 400
OK = "ok"

Step = Generator[bytes, bytes, tuple[str, str]]
"""A dialogue: yields what to send, is sent what came, returns the outcome and the server's name."""


@dataclass(slots=True)
class Stream:
    """What is asked, of whom, and how often."""

    kind: str
    address: str
    port: int
    every_ns: int
    limit_ns: int
    name: str
    next_ns: int = 0
    kept: socket.socket | None = None


@dataclass(slots=True)
class Request:
    """One request under way."""

    stream: Stream
    socket: socket.socket
    steps: Step
    start_ns: int
    deadline_ns: int
    to_send: bytes = b""
    done: bool = False
    connected: bool = field(default=False)


def http_steps(*, close: bool) -> Step:
    """Ask for / and read the whole answer."""
    connection = "close" if close else "keep-alive"
    received = yield f"GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: {connection}\r\n\r\n".encode()
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < length_of(received):
        received += yield b""
        if len(received) > REPLY_LIMIT:
            return "answer too long", ""
    status = received.split(None, 2)[1:2]
    server = received.partition(b"\r\n\r\n")[2].decode("latin-1").strip()
    return (OK if status == [b"200"] else f"status {status}"), server


def length_of(reply: bytes) -> int:
    """Return the Content-Length of a reply whose head is complete."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", reply)
    return int(found[1]) if found else 0


def line_steps(words: list[bytes], good: bytes) -> Step:
    """Hold a dialogue of lines (SMTP, POP3): each answer must begin with `good`; the greeting names the server."""
    received = yield b""
    greeting = ""
    for word in [b"", *words]:
        if word:
            received = yield word + b"\r\n"
        while not complete(received):
            received += yield b""
            if len(received) > REPLY_LIMIT:
                return "answer too long", ""
        if not greeting:
            greeting = received.decode("latin-1")
        if not re.match(good, received):
            return "answer " + received[:40].decode("latin-1").strip(), ""
    found = re.search(r"\brs\d\b", greeting)
    return OK, found[0] if found else ""


def complete(reply: bytes) -> bool:
    """Tell whether the last line of a reply is there, and is no continuation (SMTP's "250-")."""
    return reply.endswith(b"\n") and reply.splitlines()[-1][3:4] != b"-"


def dns_steps(identifier: int) -> Step:
    """Ask for the TXT record that names the server."""
    name = b"".join(bytes([len(part)]) + part for part in (b"whoami", b"example", b"org")) + b"\0"
    received = yield struct.pack(">6H", identifier, 0, 1, 0, 0, 0) + name + struct.pack(">2H", 16, 1)
    if len(received) < 12 or struct.unpack(">H", received[:2])[0] != identifier:
        return "answer to another question", ""
    rcode = received[3] & 15
    found = re.search(rb"rs\d", received[12 + len(name) :])
    return (OK, found[0].decode()) if rcode == 0 and found else (f"rcode {rcode}", "")


def steps_of(stream: Stream, now_ns: int) -> Step:
    """Return the dialogue of one request."""
    match stream.kind:
        case "http":
            return http_steps(close=True)
        case "keep":
            return http_steps(close=False)
        case "smtp":
            return line_steps([b"EHLO client.example.org", b"QUIT"], rb"2")
        case "pop3":
            return line_steps([b"USER night", b"PASS watch", b"STAT", b"QUIT"], rb"\+OK")
        case "dns":
            return dns_steps(now_ns // 1000 & 0xFFFF)
    raise SystemExit(f"client: no kind {stream.kind!r}: http, keep, smtp, pop3 or dns")


class Client:
    """The loop over all streams."""

    def __init__(self, streams: list[Stream], output: TextIO) -> None:
        self.streams = streams
        self.output = output
        self.selector = selectors.DefaultSelector()
        self.under_way: dict[socket.socket, Request] = {}
        self.deadlines: list[tuple[int, int, Request]] = []
        self.ending = False
        self.number = 0

    def run(self) -> None:
        """Ask until told to end, then wait for the answers that are due."""
        start = now_ns()
        for index, stream in enumerate(self.streams):
            stream.next_ns = start + index * 1_000_000
        while not self.ending or self.under_way:
            self.start_due()
            wait_s = max(0.0, (self.next_instant() - now_ns()) / 1e9)
            for key, _mask in self.selector.select(min(wait_s, 0.5)):
                self.go_on(self.under_way[key.fileobj])  # type: ignore[index]
            self.cut_late()

    def next_instant(self) -> int:
        """Return when something is next to be done."""
        instants = [] if self.ending else [stream.next_ns for stream in self.streams]
        if self.deadlines:
            instants.append(self.deadlines[0][0])
        return min(instants, default=now_ns())

    def start_due(self) -> None:
        """Start the requests whose time has come; skipped ones (we were late) are not made up for."""
        for stream in self.streams:
            now = now_ns()
            if self.ending or now < stream.next_ns:
                continue
            stream.next_ns = max(stream.next_ns + stream.every_ns, now)
            if stream.kind == "keep" and any(request.stream is stream for request in self.under_way.values()):
                continue
            if len(self.under_way) < IN_FLIGHT_LIMIT:
                self.start(stream, now)

    def start(self, stream: Stream, now: int) -> None:
        """Start one request."""
        if stream.kept is not None:
            connection, connected = stream.kept, True
        else:
            family = socket.AF_INET6 if ":" in stream.address else socket.AF_INET
            kind = socket.SOCK_DGRAM if stream.kind == "dns" else socket.SOCK_STREAM
            connection, connected = socket.socket(family, kind | socket.SOCK_NONBLOCK), False
            if stream.kind == "keep":
                stream.kept = connection
        request = Request(stream, connection, steps_of(stream, now), now, now + stream.limit_ns, connected=connected)
        status = 0 if connected else connection.connect_ex((stream.address, stream.port))
        if status not in (0, errno.EINPROGRESS):
            self.finish(request, errno.errorcode.get(status, str(status)), "")
            return
        self.under_way[connection] = request
        self.number += 1
        heapq.heappush(self.deadlines, (request.deadline_ns, self.number, request))
        self.selector.register(connection, selectors.EVENT_WRITE)
        if status == 0:
            self.go_on(request)

    def go_on(self, request: Request) -> None:
        """Take a request as far as it goes without waiting."""
        try:
            if not request.connected:
                status = request.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if status:
                    self.finish(request, errno.errorcode.get(status, str(status)), "")
                    return
                request.connected = True
            if not request.to_send and self.selector.get_key(request.socket).events & selectors.EVENT_WRITE:
                self.say(request, next(request.steps))
                return
            received = request.socket.recv(REPLY_LIMIT)
            if not received and request.stream.kind != "dns":
                self.finish(request, "closed early", "")
                return
            self.say(request, request.steps.send(received))
        except BlockingIOError:
            return
        except StopIteration as end:
            self.finish(request, *end.value)
        except OSError as error:
            self.finish(request, errno.errorcode.get(error.errno or 0, "error"), "")

    def say(self, request: Request, words: bytes) -> None:
        """Send (the words are short: they fit) and wait for the answer."""
        if words:
            request.socket.send(words)
        if self.selector.get_key(request.socket).events != selectors.EVENT_READ:
            self.selector.modify(request.socket, selectors.EVENT_READ)

    def cut_late(self) -> None:
        """End the requests that have reached their limit."""
        now = now_ns()
        while self.deadlines and (self.deadlines[0][2].done or self.deadlines[0][0] <= now):
            _, _, request = heapq.heappop(self.deadlines)
            if not request.done:
                self.finish(request, "no answer", "")

    def finish(self, request: Request, outcome: str, server: str) -> None:
        """Write a request down and forget it."""
        request.done = True
        if self.under_way.pop(request.socket, None) is not None:
            self.selector.unregister(request.socket)
        if request.stream.kind != "keep" or outcome != OK:
            request.socket.close()
            request.stream.kept = None
        stream = request.stream
        self.output.write(f"{stream.name}\t{request.start_ns}\t{now_ns()}\t{outcome}\t{server}\n")


def now_ns() -> int:
    """Return the clock that all namespaces share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def parse(text: str) -> Stream:
    """Read a stream from its text."""
    values = dict(part.split("=", 1) for part in text.split(","))
    return Stream(
        kind=values["kind"],
        address=values["address"],
        port=int(values["port"]),
        every_ns=int(float(values.get("every_ms", "100")) * 1e6),
        limit_ns=int(float(values.get("limit_ms", "1000")) * 1e6),
        name=values.get("name", values["kind"]),
    )


def main() -> int:
    """Run the streams of the command line until SIGTERM."""
    output, *texts = sys.argv[1:]
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # who sees the file may ask for it at once
    with open(output, "w", encoding="utf-8", buffering=1 << 12) as file:
        client = Client([parse(text) for text in texts], file)

        def end(_number: int, _frame: object) -> None:
            client.ending = True

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGUSR1, lambda *_: file.flush())
        client.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

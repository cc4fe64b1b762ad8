"""Runs one attempt of any probe on trio: the general way, for every form of probe, with TLS, under a deadline.

Theory of operation: `run_probe` is given a probe and an attempt and always returns an outcome, at the latest when the
attempt's timeout is over. A conversation is driven step by step over a stream; a coroutine is awaited. What the
network, OpenSSL or a plug-in raises becomes a reason in words. Only a cancellation from outside passes through.

A connection is never left to linger: after success it is closed, after anything else it is reset, so that neither
side keeps the remains of a failed attempt.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import time
from dataclasses import dataclass, replace

import trio

from hawatch.faults import (
    Fault,
    broken_reason,
    connect_reason,
    deadline_reason,
    exception_reason,
    handshake_reason,
    is_ours,
)
from hawatch.model import NS_PER_S
from hawatch.net import open_connection
from hawatch.plugin import Attempt, Probe, Receive, Result, Send, StartTls, Step, down
from hawatch.text import clean, cut
from hawatch.tls import check_certificate, tls_context

FIRST_BYTES_KEPT = 256
"""Bytes kept of what a server sends first in a handshake, to quote when it is no TLS."""
EXCEPTIONS_LOGGED_LIMIT = 200
"""Different exceptions of probes that are logged with a traceback, each once; all of them are reasons."""
REASON_LIMIT = 1000
"""Characters of a plug-in's reason that are kept."""
WEIGHT_MAX = 65535
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

logger = logging.getLogger(__name__)
_logged: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt: what it found, and when it ran (CLOCK_BOOTTIME)."""

    result: Result
    started_ns: int
    finished_ns: int


async def run_probe(probe: Probe, attempt: Attempt) -> Outcome:
    """Look at the probe's target once, within the attempt's timeout."""
    started_ns = boottime_ns()
    result = None
    try:
        with trio.move_on_after(attempt.timeout_ns / NS_PER_S):
            result = await _look(probe, attempt)
    except Fault as fault:
        result = Result(ok=False, reason=str(fault), inconclusive=is_ours(fault.__cause__))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may raise anything, and must not end us
        result = Result(ok=False, reason=exception_reason(error), inconclusive=is_ours(error))
        _log_once(probe, error)
    if result is None:
        result = down(deadline_reason(attempt.waiting_for, attempt.timeout_ns))
    return Outcome(result, started_ns, boottime_ns())


def fit(result: Result) -> Result:
    """Return an outsider's result fit to be sent and shown: its types may be wrong, and its text may be a server's."""
    weight: object = result.weight
    if weight is not None and not (isinstance(weight, int) and 0 <= weight <= WEIGHT_MAX):
        return down(f"the probe asked for weight {cut(clean(str(weight)))}, wanted 0 to {WEIGHT_MAX}")
    facts = {str(name): number for name, number in result.facts.items() if isinstance(number, int)}
    reason = clean(str(result.reason)[:REASON_LIMIT])
    return replace(result, ok=bool(result.ok), reason=reason, facts=facts, inconclusive=bool(result.inconclusive))


def boottime_ns() -> int:
    """Return the instant now, on the clock that goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def _look(probe: Probe, attempt: Attempt) -> Result:
    result: object = await (_Dialogue(probe, attempt).hold() if probe.is_conversation() else probe.run(attempt))
    if not isinstance(result, Result):
        raise TypeError(f"it returned {type(result).__name__}, not Result")
    return result


def _log_once(probe: Probe, error: BaseException) -> None:
    key = (type(probe).__qualname__, repr(error)[:200])
    if key not in _logged and len(_logged) < EXCEPTIONS_LOGGED_LIMIT:
        _logged.add(key)
        logger.error("probe %s raised; further ones like it are not logged", type(probe).__qualname__, exc_info=error)


class _Wire(trio.abc.Stream):
    """A TCP stream that knows how much came, and what came first after `mark`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = 0
        self.first_bytes = b""

    def mark(self) -> None:
        self.first_bytes = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self.stream.receive_some(max_bytes))
        self.received += len(data)
        if len(self.first_bytes) < FIRST_BYTES_KEPT:
            self.first_bytes += data[: FIRST_BYTES_KEPT - len(self.first_bytes)]
        return data

    async def aclose(self) -> None:
        self.close(reset=True)
        await trio.lowlevel.checkpoint()

    def close(self, *, reset: bool) -> None:
        if reset and self.stream.socket.fileno() >= 0:
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.stream.socket.close()


class _Dialogue:
    """One conversation of a probe with its server."""

    def __init__(self, probe: Probe, attempt: Attempt) -> None:
        self.probe = probe
        self.attempt = attempt
        self.received = 0
        """Bytes of answers; TLS's own are not counted."""
        self.wire: _Wire | None = None
        self.stream: trio.abc.Stream | None = None

    async def hold(self) -> Result:
        """Connect, drive the conversation to its end, close."""
        result = None
        await self._connect()
        assert self.wire is not None
        try:
            if self.probe.tls_mode() == "tls":
                await self._start_tls()
            result = await self._drive()
        finally:
            self.wire.close(reset=not isinstance(result, Result) or not result.ok)
        return result

    async def _connect(self) -> None:
        self.attempt.waiting_for = "connection"
        target = self.probe.target
        port = target.port
        if port is None:
            raise Fault("no port to connect to")
        try:
            self.wire = self.stream = _Wire(await open_connection(target.address, port, target.route))
        except OSError as error:
            raise Fault(connect_reason(error)) from error

    async def _drive(self) -> Result:
        conversation = self.probe.converse()
        data: bytes | None = None
        try:
            while True:
                step = conversation.send(data)  # type: ignore[arg-type] # a generator is begun with None
                data = await self._perform(step)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            conversation.close()

    async def _perform(self, step: Step) -> bytes:
        if isinstance(step, Receive):
            return await self._receive(step)
        if isinstance(step, Send):
            await self._send(step.data)
        elif isinstance(step, StartTls):
            await self._start_tls()
        else:
            raise TypeError(f"it yielded {type(step).__name__}, not Send, Receive or StartTls")
        return b""

    async def _receive(self, step: Receive) -> bytes:
        assert self.stream is not None
        self.attempt.waiting_for = step.what
        try:
            data = bytes(await self.stream.receive_some(step.limit))
        except trio.BrokenResourceError as error:
            raise Fault(broken_reason(error.__cause__, f"waiting for {step.what}", self.received)) from error
        self.received += len(data)
        return data

    async def _send(self, data: bytes) -> None:
        assert self.stream is not None
        self.attempt.waiting_for = "progress in sending"
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Fault(broken_reason(error.__cause__, "sending", self.received)) from error

    async def _start_tls(self) -> None:
        self.attempt.waiting_for = "TLS handshake"
        options = self.probe.tls()
        if options is None or self.wire is None:
            raise TypeError("it starts TLS but has no TLS options")
        name = self.probe.tls_server_name()
        self.wire.mark()
        stream = trio.SSLStream(self.wire, tls_context(options), server_hostname=name, https_compatible=True)
        try:
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.CertificateError) as error:
            cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
            raise Fault(handshake_reason(cause, self.wire.first_bytes)) from error
        wrong = check_certificate(stream.getpeercert() or {}, options, name, time.time_ns())
        if wrong:
            raise Fault(wrong)
        self.stream = stream

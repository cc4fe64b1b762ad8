"""The ping probe: ICMP and ICMPv6 echo (RFC 792, RFC 4443), one socket a family for all targets of a process."""

from __future__ import annotations

import os
from typing import ClassVar

import trio
from pydantic import Field, model_validator

from hawatch.faults import Fault, connect_reason
from hawatch.icmp import (
    ECHO_REPLY,
    RECEIVE_BYTES,
    TOKEN_BYTES,
    build_echo,
    open_echo_socket,
    parse_answer,
    refusal,
)
from hawatch.model import Route
from hawatch.net import take_route
from hawatch.plugin import Attempt, Echo, Options, Probe, Result, down, up

DATAGRAMS_PER_WAIT = 256


class PingOptions(Options):
    """Options of the ping probe."""

    count: int = Field(default=1, ge=1, le=20, description="echoes sent in one run")
    loss: int = Field(default=0, ge=0, le=19, description="echoes that may go unanswered")
    size: int = Field(default=16, ge=TOKEN_BYTES, le=1400, description="bytes of payload")

    @model_validator(mode="after")
    def _one_must_come(self) -> PingOptions:
        if self.loss >= self.count:
            raise ValueError("loss must be less than count: at least one echo must be answered")
        return self


class _Run:
    """One run of a probe: what it waits for."""

    __slots__ = ("address", "answered", "changed", "missing", "reason", "strangers", "token")

    def __init__(self, address: str, token: bytes, wanted: int) -> None:
        self.address = address
        self.token = token
        self.missing = wanted
        self.answered: set[int] = set()
        self.reason = ""
        self.strangers: set[str] = set()
        self.changed = trio.Event()


class _Pinger:
    """The socket of one family and the runs that wait at it."""

    def __init__(self, version: int, route: Route | None) -> None:
        self.version = version
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.sock = open_echo_socket(version, self.identifier)
        try:
            if route is not None:
                take_route(self.sock, route)
        except BaseException:
            self.sock.close()
            raise
        self.sequence = int.from_bytes(os.urandom(2), "big")
        self.runs: dict[int, _Run] = {}
        trio.lowlevel.spawn_system_task(self._receive)

    def send(self, run: _Run, size: int) -> None:
        self.sequence = (self.sequence + 1) & 0xFFFF
        while self.sequence in self.runs:
            self.sequence = (self.sequence + 1) & 0xFFFF
        self.runs[self.sequence] = run
        echo = build_echo(self.version, self.identifier, self.sequence, run.token.ljust(size, b"\0"))
        self.sock.sendto(echo, (run.address, 0))

    def forget(self, run: _Run) -> None:
        for sequence in [number for number, one in self.runs.items() if one is run]:
            del self.runs[sequence]

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            for _ in range(DATAGRAMS_PER_WAIT):
                try:
                    datagram, source = self.sock.recvfrom(RECEIVE_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    continue
                self._take(datagram, str(source[0]))

    def _take(self, datagram: bytes, source: str) -> None:
        answer = parse_answer(self.version, datagram)
        if answer is None or answer.identifier != self.identifier:
            return
        run = self.runs.get(answer.sequence)
        if run is None or (answer.payload and not answer.payload.startswith(run.token)):
            return
        if answer.kind != ECHO_REPLY[self.version]:
            run.reason = refusal(self.version, answer, source)
        elif source.split("%")[0] != run.address.split("%")[0]:
            run.strangers.add(source)
            return
        elif answer.payload and answer.sequence not in run.answered:
            run.answered.add(answer.sequence)
            run.missing -= 1
        if run.missing <= 0 or run.reason:
            run.changed.set()


_pingers: dict[tuple[int, Route | None, int, object], _Pinger] = {}
"""By family, route, process and trio run: a socket is of use only in the loop that made it."""


def _pinger(version: int, route: Route | None) -> _Pinger:
    key = (version, route, os.getpid(), trio.lowlevel.current_root_task())
    if key not in _pingers:
        for other in [one for one in _pingers if one[2:] != key[2:]]:
            _pingers.pop(other).sock.close()
        _pingers[key] = _Pinger(version, route)
    return _pingers[key]


class PingProbe(Probe):
    """Up when enough echoes are answered by the target itself."""

    options_type: ClassVar[type[Options]] = PingOptions
    uses_port: ClassVar[bool] = False

    def echo(self) -> Echo:
        """Return what to send, for the lane that pings for all checks."""
        assert isinstance(self.options, PingOptions)
        return Echo(self.options.count, self.options.loss, self.options.size)

    async def run(self, attempt: Attempt) -> Result:
        """Send the echoes together and wait for the answers."""
        options = self.options
        assert isinstance(options, PingOptions)
        attempt.waiting_for = "echo reply"
        version = 6 if ":" in self.target.address else 4
        try:
            pinger = _pinger(version, self.target.route)
        except PermissionError:
            return down("this process may not send ICMP: it lacks the capability CAP_NET_RAW")
        except OSError as error:
            raise Fault(connect_reason(error)) from error
        run = _Run(self.target.address, os.urandom(TOKEN_BYTES), options.count - options.loss)
        try:
            for _ in range(options.count):
                pinger.send(run, options.size)
            await _wait(run, attempt, options)
        except OSError as error:
            raise Fault(f"echo not sent: {error.strerror}") from error
        finally:
            pinger.forget(run)
        if run.missing <= 0:
            return up(f"{len(run.answered)} of {options.count} echoes answered")
        return down(run.reason)


async def _wait(run: _Run, attempt: Attempt, options: PingOptions) -> None:
    """Wait for the answers, keeping the reason of a time-out current."""
    _say(run, attempt, options)
    while run.missing > 0 and not run.reason:
        with trio.move_on_after(0.05 if options.count > 1 or run.strangers else 0.2):
            await run.changed.wait()
        _say(run, attempt, options)


def _say(run: _Run, attempt: Attempt, options: PingOptions) -> None:
    text = "echo reply"
    if options.count > 1:
        text = f"{options.count - options.loss} echo replies of {options.count} ({len(run.answered)} came)"
    if run.strangers:
        text += f" from it (only from {', '.join(sorted(run.strangers)[:3])})"
    attempt.waiting_for = text

"""The ping probe: ICMP and ICMPv6 echo (RFC 792, RFC 4443), one socket a family for all targets of a process."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import ClassVar

import trio
from pydantic import Field, model_validator

from hawatch.plugin import Attempt, Options, Probe, Result, down, up

ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
UNREACHABLE, TIME_EXCEEDED = {4: 3, 6: 1}, {4: 11, 6: 3}
ECHO = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""
SOL_RAW = 255
ICMP_FILTER = 1
"""Socket option of raw ICMP sockets, linux/icmp.h; a set bit keeps a type out."""
ICMPV6_FILTER = 1
TOKEN_BYTES = 8
RECEIVE_BYTES = 2048
DATAGRAMS_PER_WAIT = 256
UNREACHABLE_REASONS = {
    4: {0: "network unreachable", 1: "host unreachable", 3: "port unreachable", 10: "host administratively prohibited",
        13: "administratively prohibited"},
    6: {0: "no route", 1: "administratively prohibited", 3: "address unreachable", 4: "port unreachable"},
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """A datagram that has to do with an echo of ours."""

    kind: int
    """ICMP type."""
    code: int
    identifier: int
    sequence: int
    payload: bytes


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def build_echo(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; the kernel computes ICMPv6's checksum."""
    head = ECHO.pack(ECHO_REQUEST[version], 0, 0, identifier, sequence)
    if version == 4:
        head = ECHO.pack(ECHO_REQUEST[4], 0, checksum(head + payload), identifier, sequence)
    return head + payload


def parse_answer(version: int, datagram: bytes) -> EchoAnswer | None:
    """Return what a raw socket received as an answer to an echo, None for anything else.

    IPv4 comes with its header; an error message carries the header and first bytes of what it is about.
    """
    icmp = _skip_ipv4(datagram) if version == 4 else datagram
    if len(icmp) < ECHO.size:
        return None
    kind, code = icmp[0], icmp[1]
    if kind == ECHO_REPLY[version]:
        _, _, _, identifier, sequence = ECHO.unpack_from(icmp)
        return EchoAnswer(kind, code, identifier, sequence, icmp[ECHO.size :])
    if kind in (UNREACHABLE[version], TIME_EXCEEDED[version]):
        about = icmp[8:]
        ours = _skip_ipv4(about) if version == 4 else about[40:]
        if len(ours) >= ECHO.size and ours[0] == ECHO_REQUEST[version]:
            _, _, _, identifier, sequence = ECHO.unpack_from(ours)
            return EchoAnswer(kind, code, identifier, sequence, ours[ECHO.size :])
    return None


def _skip_ipv4(packet: bytes) -> bytes:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return b""
    return packet[(packet[0] & 0x0F) * 4 :]


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

    def __init__(self, version: int) -> None:
        self.version = version
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
        self.sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._set_filter()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.sequence = int.from_bytes(os.urandom(2), "big")
        self.runs: dict[int, _Run] = {}
        trio.lowlevel.spawn_system_task(self._receive)

    def _set_filter(self) -> None:
        wanted = (ECHO_REPLY[self.version], UNREACHABLE[self.version], TIME_EXCEEDED[self.version])
        if self.version == 4:
            mask = 0xFFFFFFFF
            for kind in wanted:
                mask &= ~(1 << kind)
            self.sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", mask))
            return
        words = [0xFFFFFFFF] * 8
        for kind in wanted:
            words[kind >> 5] &= ~(1 << (kind & 31))
        self.sock.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *words))

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
            self._refused(run, answer, source)
        elif source.split("%")[0] != run.address.split("%")[0]:
            run.strangers.add(source)
            return
        elif answer.payload and answer.sequence not in run.answered:
            run.answered.add(answer.sequence)
            run.missing -= 1
        if run.missing <= 0 or run.reason:
            run.changed.set()

    def _refused(self, run: _Run, answer: EchoAnswer, source: str) -> None:
        if answer.kind == TIME_EXCEEDED[self.version]:
            run.reason = f"time to live exceeded, says {source}"
        else:
            words = UNREACHABLE_REASONS[self.version].get(answer.code, f"unreachable (code {answer.code})")
            run.reason = f"{words}, says {source}"


_pingers: dict[tuple[int, int, object], _Pinger] = {}
"""By family, process and trio run: a socket is of use only in the loop that made it."""


def _pinger(version: int) -> _Pinger:
    key = (version, os.getpid(), trio.lowlevel.current_root_task())
    if key not in _pingers:
        for other in [one for one in _pingers if one[1:] != key[1:]]:
            _pingers.pop(other).sock.close()
        _pingers[key] = _Pinger(version)
    return _pingers[key]


class PingProbe(Probe):
    """Up when enough echoes are answered by the target itself."""

    options_type: ClassVar[type[Options]] = PingOptions
    uses_port: ClassVar[bool] = False

    async def run(self, attempt: Attempt) -> Result:
        """Send the echoes together and wait for the answers."""
        options = self.options
        assert isinstance(options, PingOptions)
        attempt.waiting_for = "echo reply"
        version = 6 if ":" in self.target.address else 4
        try:
            pinger = _pinger(version)
        except PermissionError:
            return down("this process may not send ICMP: it lacks the capability CAP_NET_RAW")
        run = _Run(self.target.address, os.urandom(TOKEN_BYTES), options.count - options.loss)
        try:
            for _ in range(options.count):
                pinger.send(run, options.size)
            await _wait(run, attempt, options)
        except OSError as error:
            return down(f"echo not sent: {error.strerror}")
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

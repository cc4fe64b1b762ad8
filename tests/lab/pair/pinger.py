"""Asks addresses by echo request at a steady pace, all in the same moment, and writes down every answer.

    python -m tests.lab.pair.pinger OUTPUT EVERY_MS NAME=ADDRESS ...

The kernel answers an echo by itself, so that what is measured is the way to the address and nothing else. One of the
addresses should be a control that nothing befalls: what it misses was this process's or the machine's doing, and is
subtracted (see `measure`). Each line of OUTPUT: name, sent and received (CLOCK_BOOTTIME in ns). Only the standard
library: it must start fast. It ends with SIGTERM; SIGUSR1 has it write out what it has.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import TextIO

ECHO_REQUEST, ECHO_REPLY, ECHO_REQUEST6, ECHO_REPLY6 = 8, 0, 128, 129
ICMP6_FILTER = 1
HEAD = struct.Struct("!BBHHHQI")
"""Type, code, checksum, identifier, sequence; then when it was sent and which address was asked."""
BURST_LIMIT = 1000
PRIORITY = 1
"""Below the agents' own real-time priority: measuring holds up nobody."""


class Pinger:
    """Sockets, addresses and the file."""

    def __init__(self, targets: list[tuple[str, str]], output: TextIO) -> None:
        self.targets = targets
        self.output = output
        self.identifier = os.getpid() & 0xFFFF
        self.sequence = 0
        self.ending = False
        self.ends = {
            family: socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            for family, protocol in (
                (socket.AF_INET, socket.IPPROTO_ICMP),
                (socket.AF_INET6, socket.IPPROTO_ICMPV6),
            )
        }
        only_replies = bytearray(b"\xff" * 32)
        only_replies[ECHO_REPLY6 // 8] = 0xFF ^ 1 << ECHO_REPLY6 % 8
        self.ends[socket.AF_INET6].setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(word_order(only_replies)))

    def run(self, every_ns: int) -> None:
        """Ask until told to end. Questions that were due while this process did not run are not made up for."""
        next_ns = now_ns()
        while not self.ending:
            now = now_ns()
            if now >= next_ns:
                self.ask(now)
                next_ns = max(next_ns + every_ns, now)
            with contextlib.suppress(InterruptedError):
                ready, _, _ = select.select(self.ends.values(), [], [], max(0, next_ns - now_ns()) / 1e9)
                for end in ready:
                    self.listen(end)

    def ask(self, now: int) -> None:
        """Send one question to every address."""
        self.sequence = self.sequence + 1 & 0xFFFF
        for index, (_name, address) in enumerate(self.targets):
            six = ":" in address
            kind = ECHO_REQUEST6 if six else ECHO_REQUEST
            packet = HEAD.pack(kind, 0, 0, self.identifier, self.sequence, now, index)
            if not six:
                packet = HEAD.pack(kind, 0, checksum(packet), self.identifier, self.sequence, now, index)
            with contextlib.suppress(OSError):  # no neighbour: it is not answered either
                self.ends[socket.AF_INET6 if six else socket.AF_INET].sendto(packet, (address, 0))

    def listen(self, end: socket.socket) -> None:
        """Write down the answers that have come."""
        for _ in range(BURST_LIMIT):
            try:
                packet = end.recv(256)
            except OSError:
                return
            if end.family == socket.AF_INET:
                packet = packet[(packet[0] & 15) * 4 :]
            if len(packet) != HEAD.size:
                continue
            kind, _code, _sum, identifier, _sequence, sent, index = HEAD.unpack(packet)
            if kind in (ECHO_REPLY, ECHO_REPLY6) and identifier == self.identifier and index < len(self.targets):
                self.output.write(f"{self.targets[index][0]}\t{sent}\t{now_ns()}\n")


def word_order(filter_bytes: bytearray) -> bytearray:
    """Return an ICMPv6 filter, bit n for type n, in the kernel's words of 32 bits."""
    words = struct.unpack("<8I", filter_bytes)
    return bytearray(struct.pack("=8I", *words))


def checksum(packet: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def now_ns() -> int:
    """Return the clock that all namespaces share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> int:
    """Ask what the command line names."""
    output, every_ms, *texts = sys.argv[1:]
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # who sees the file may ask for it at once
    with open(output, "w", encoding="ascii", buffering=1 << 14) as file:
        pinger = Pinger([(name, address) for name, _, address in (text.partition("=") for text in texts)], file)

        def end(_number: int, _frame: object) -> None:
            pinger.ending = True

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGUSR1, lambda *_: file.flush())
        pinger.run(int(float(every_ms) * 1e6))
    return 0


if __name__ == "__main__":
    sys.exit(main())

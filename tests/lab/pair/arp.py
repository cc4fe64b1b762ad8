"""Who answers for the VIP: asks by ARP at a steady pace and writes down every answer and every announcement.

    python -m tests.lab.pair.arp OUTPUT ADDRESS EVERY_MS

Run it in a client's namespace of its own, so that asking does not refresh the neighbour table of the client that is
measured. Each line of OUTPUT: time (CLOCK_BOOTTIME in ns), "ask", "reply" or "announce", and the hardware address.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ETH_P_ARP = 0x0806
FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
BURST_LIMIT = 1000
"""Frames read in one go."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of the output."""

    time_ns: int
    what: str
    mac: str


def watch(output: Path, address: str, every_ms: float) -> None:
    """Ask and listen until SIGTERM."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ending.append(number))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as wire:
        wire.bind(("eth0", ETH_P_ARP))
        own_mac = wire.getsockname()[4]
        vip = socket.inet_aton(address)
        question = FRAME.pack(
            BROADCAST, own_mac, ETH_P_ARP, 1, 0x0800, 6, 4, REQUEST, own_mac, own_address(), b"\0" * 6, vip
        )
        wire.settimeout(0.002)
        next_ns = now_ns()
        with open(output, "w", encoding="ascii", buffering=1) as file:
            while not ending:
                if now_ns() >= next_ns:
                    next_ns += int(every_ms * 1e6)
                    file.write(f"{now_ns()}\task\t-\n")
                    wire.send(question)
                listen(wire, vip, own_mac, file.write)


def listen(wire: socket.socket, vip: bytes, own_mac: bytes, write: object) -> None:
    """Write down what has come of the VIP."""
    for _ in range(BURST_LIMIT):
        try:
            frame = wire.recv(128)
        except (TimeoutError, BlockingIOError, InterruptedError):
            return
        if len(frame) < FRAME.size:
            continue
        fields = FRAME.unpack_from(frame)
        operation, sender_mac, sender, target = fields[7], fields[8], fields[9], fields[11]
        if sender != vip or sender_mac == own_mac:
            continue
        what = "announce" if target == vip or operation == REQUEST else "reply"
        write(f"{now_ns()}\t{what}\t{sender_mac.hex(':')}\n")  # type: ignore[operator]


def own_address() -> bytes:
    """Return the address of eth0."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        reply = fcntl.ioctl(asker, 0x8915, struct.pack("256s", b"eth0"))  # SIOCGIFADDR
    return reply[20:24]


def now_ns() -> int:
    """Return the clock that all namespaces share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_seen(path: Path) -> list[Seen]:
    """Read the output; a last line that is not complete is left out."""
    seen = []
    for line in path.read_text(encoding="ascii").split("\n")[:-1]:
        instant, what, mac = line.split("\t")
        seen.append(Seen(int(instant), what, mac))
    return seen


def answers(seen: Iterable[Seen], start_ns: int, end_ns: int) -> dict[str, tuple[int, int, int]]:
    """Return, for each hardware address that answered in [start, end), how often, first when and last when."""
    found: dict[str, tuple[int, int, int]] = {}
    for one in seen:
        if one.what == "reply" and start_ns <= one.time_ns < end_ns:
            count, first, _ = found.get(one.mac, (0, one.time_ns, 0))
            found[one.mac] = (count + 1, first, one.time_ns)
    return found


def two_owners(seen: Iterable[Seen], start_ns: int, end_ns: int) -> int:
    """Return how many questions asked in [start, end) were answered by more than one machine."""
    instants, owners = 0, set[str]()
    counting = False
    for one in sorted(seen, key=lambda each: each.time_ns):
        if one.what == "ask":
            instants += counting and len(owners) > 1
            owners = set()
            counting = start_ns <= one.time_ns < end_ns
        elif one.what == "reply":
            owners.add(one.mac)
    return instants + (counting and len(owners) > 1)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))

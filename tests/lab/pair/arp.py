"""Who answers for the VIP: asks by ARP and by neighbour solicitation at a steady pace, and writes down every answer.

    python -m tests.lab.pair.arp OUTPUT EVERY_MS ADDRESS [ADDRESS6]

Run it in a client's namespace of its own, so that asking does not refresh the neighbour table of the client that is
measured. Each question has an identity that its answer brings back, so that a late answer is not taken for one to a
later question: ARP's is the asker's hardware address (RFC 826: the answer repeats it), the solicitation's is the
asker's address. Each line of OUTPUT: time (CLOCK_BOOTTIME in ns), "ask", "reply" or "announce", family (4 or 6), number
of the question, and the hardware address that answered.
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
BROADCAST = b"\xff" * 6
ASKER_PREFIX = b"\x02\xa5"
ASKER6_PREFIX = ipaddress.ip_address("fd00::a5:0").packed[:14]
ASKERS6 = 64
"""Solicitations come from so many addresses in turn: each costs the asked one an entry in its neighbour table."""
ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
BURST_LIMIT = 1000
"""Frames read in one go."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of the output."""

    time_ns: int
    what: str
    family: int
    number: int
    mac: str


class Asker:
    """The socket and what is asked."""

    def __init__(self, wire: socket.socket, addresses: list[str], write: Callable[[str], object]) -> None:
        self.wire = wire
        self.write = write
        self.mac: bytes = wire.getsockname()[4]
        self.own = own_address()
        self.vips = {ipaddress.ip_address(each).version: ipaddress.ip_address(each).packed for each in addresses}
        self.number = 0

    def run(self, every_ms: float, ending: list[int]) -> None:
        """Ask and listen until `ending` holds something."""
        next_ns = now_ns()
        while not ending:
            self.listen()
            if now_ns() >= next_ns:
                next_ns = max(next_ns + int(every_ms * 1e6), now_ns())
                self.ask()

    def ask(self) -> None:
        """Ask once for each address."""
        self.number += 1
        for family, vip in self.vips.items():
            self.say("ask", family, self.number, b"")
            self.wire.send(self.question4(vip) if family == 4 else self.question6(vip))

    def question4(self, vip: bytes) -> bytes:
        """Return an ARP request whose sender is the question's number."""
        sender = ASKER_PREFIX + self.number.to_bytes(4, "big")
        return ARP.pack(BROADCAST, self.mac, ETH_P_ARP, 1, 0x0800, 6, 4, REQUEST, sender, self.own, b"\0" * 6, vip)

    def question6(self, vip: bytes) -> bytes:
        """Return a solicitation whose sender is the question's number (RFC 4861 section 4.3)."""
        source = ASKER6_PREFIX + (self.number % ASKERS6).to_bytes(2, "big")
        group = ipaddress.ip_address("ff02::1:ff00:0").packed[:13] + vip[13:]
        body = struct.pack("!BBHI16sBB6s", SOLICITATION, 0, 0, 0, vip, 1, 1, self.mac)
        pseudo = source + group + struct.pack("!II", len(body), ICMPV6)
        total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
        while total >> 16:
            total = (total >> 16) + (total & 0xFFFF)
        head = struct.pack("!IHBB16s16s", 6 << 28, len(body), ICMPV6, 255, source, group)
        ethernet = b"\x33\x33" + group[12:] + self.mac + ETH_P_IPV6.to_bytes(2, "big")
        return ethernet + head + body[:2] + (~total & 0xFFFF).to_bytes(2, "big") + body[4:]

    def listen(self) -> None:
        """Write down what has come of the VIP."""
        for _ in range(BURST_LIMIT):
            try:
                frame = self.wire.recv(256)
            except (TimeoutError, BlockingIOError, InterruptedError):
                return
            kind = int.from_bytes(frame[12:14], "big")
            if kind == ETH_P_ARP and len(frame) >= ARP.size:
                self.heard4(ARP.unpack_from(frame))
            elif kind == ETH_P_IPV6 and len(frame) >= 78 and frame[20] == ICMPV6 and frame[54] == ADVERTISEMENT:
                self.heard6(frame)

    def heard4(self, fields: tuple[bytes, ...]) -> None:
        """Take in an ARP frame."""
        operation, mac, sender, asker, target = fields[7:12]
        if sender != self.vips.get(4) or mac == self.mac:
            return
        if operation == REPLY and asker[:2] == ASKER_PREFIX:
            self.say("reply", 4, int.from_bytes(asker[2:], "big"), mac)
        elif target == sender:
            self.say("announce", 4, 0, mac)

    def heard6(self, frame: bytes) -> None:
        """Take in a neighbour advertisement (RFC 4861 section 4.4); its option says whose it is."""
        target, mac, to = frame[62:78], frame[80:86] if len(frame) >= 86 else frame[6:12], frame[38:54]
        if target != self.vips.get(6) or mac == self.mac:
            return
        if to[:14] == ASKER6_PREFIX:
            rest = int.from_bytes(to[14:], "big")
            self.say("reply", 6, self.number - (self.number - rest) % ASKERS6, mac)
        else:
            self.say("announce", 6, 0, mac)

    def say(self, what: str, family: int, number: int, mac: bytes) -> None:
        """Write a line."""
        self.write(f"{now_ns()}\t{what}\t{family}\t{number}\t{mac.hex(':') or '-'}\n")


def watch(output: Path, every_ms: float, addresses: list[str]) -> None:
    """Ask and listen until SIGTERM."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ending.append(number))
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire,
        open(output, "w", encoding="ascii", buffering=1) as file,
    ):
        wire.bind(("eth0", ETH_P_ALL))
        index = socket.if_nametoindex("eth0")
        wire.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        wire.settimeout(0.002)
        Asker(wire, addresses, file.write).run(every_ms, ending)


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
        instant, what, family, number, mac = line.split("\t")
        seen.append(Seen(int(instant), what, int(family), int(number), mac))
    return seen


def answers(seen: Iterable[Seen], start_ns: int, end_ns: int) -> dict[str, tuple[int, int, int]]:
    """Return, for each hardware address that answered in [start, end), how often, first when and last when."""
    found: dict[str, tuple[int, int, int]] = {}
    for one in seen:
        if one.what == "reply" and start_ns <= one.time_ns < end_ns:
            count, first, _ = found.get(one.mac, (0, one.time_ns, 0))
            found[one.mac] = (count + 1, first, one.time_ns)
    return found


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])

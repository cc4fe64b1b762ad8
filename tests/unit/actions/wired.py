"""A director and a client, joined by a cable: two network namespaces, gone when the block ends.

The client asks with raw frames. Whether the director answered is known without waiting: after the question about a VIP
it asks twice about an address that always answers, and frames do not overtake each other twice.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar

from hawatch.actions import arp_codec
from tests.lab.netns import call_in_namespace

T = TypeVar("T")
DIRECTOR4, CLIENT4 = "192.0.2.1", "192.0.2.9"
DIRECTOR6, CLIENT6 = "2001:db8::1", "2001:db8::9"
VIP4, VIP6 = "192.0.2.110", "2001:db8::110"
DIRECTOR_MAC, CLIENT_MAC = "02:00:00:00:00:01", "02:00:00:00:00:09"
ANSWER_LIMIT_S = 10.0
_numbers = itertools.count()
_director, _client = (bytes.fromhex(mac.replace(":", "")) for mac in (DIRECTOR_MAC, CLIENT_MAC))


def ip(*lines: str, namespace: str) -> None:
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


@dataclass(slots=True)
class Site:
    """The two namespaces."""

    director: str
    client: str
    opened: list[socket.socket] = field(default_factory=list)

    def at_director(self, work: Callable[[], T]) -> T:
        return call_in_namespace(self.director, work)

    def at_client(self, work: Callable[[], T]) -> T:
        return call_in_namespace(self.client, work)

    def ip(self, *lines: str) -> None:
        """Run `ip` command lines at the director."""
        ip(*lines, namespace=self.director)

    def nft(self, script: str) -> str:
        argv = ["ip", "netns", "exec", self.director, "nft", "-f", "-"]
        return subprocess.run(argv, input=script, text=True, check=True, capture_output=True).stdout

    def probe(self) -> Client:
        """Return the client's end of the cable."""

        def opening() -> socket.socket:
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            end.bind(("eth0", 3))
            end.settimeout(ANSWER_LIMIT_S)
            return end

        self.opened.append(self.at_client(opening))
        return Client(self.opened[-1])


@contextmanager
def cable() -> Iterator[Site]:
    """Make the site."""
    prefix = f"hwvip{os.getpid()}x{next(_numbers)}"
    site = Site(f"{prefix}d", f"{prefix}c")
    try:
        for name in (site.director, site.client):
            subprocess.run(["ip", "netns", "add", name], check=True)
        quiet = "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore"
        for name in (site.director, site.client):
            subprocess.run(["ip", "netns", "exec", name, "sh", "-ec", quiet], check=True)
        site.ip(
            "link set lo up",
            f"link add eth0 address {DIRECTOR_MAC} type veth peer name eth0 address {CLIENT_MAC} netns {site.client}",
            f"address add {DIRECTOR4}/24 dev eth0",
            f"address add {DIRECTOR6}/64 dev eth0 nodad",
            "link set eth0 up",
        )
        ip(
            f"address add {CLIENT4}/24 dev eth0",
            f"address add {CLIENT6}/64 dev eth0 nodad",
            "link set eth0 up",
            namespace=site.client,
        )
        site.ip(
            f"neighbour replace {CLIENT4} lladdr {CLIENT_MAC} dev eth0 nud permanent",
            f"neighbour replace {CLIENT6} lladdr {CLIENT_MAC} dev eth0 nud permanent",
        )
        yield site
    finally:
        for end in site.opened:
            end.close()
        for name in (site.director, site.client):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Client:
    """Asks for addresses with raw frames."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._number = 0

    def answered(self, kind: str, address: str) -> bool:
        """Ask about an address by "arp", "ping", "ns" or "ping6"; tell whether it was answered."""
        own = DIRECTOR6 if ":" in address else DIRECTOR4
        wanted = self._ask(kind, address)
        seen = False
        for _ in range(2):
            sentinel = self._ask(kind, own)
            limit = time.monotonic() + ANSWER_LIMIT_S
            while True:
                assert time.monotonic() < limit, f"{kind}: {own} does not answer"
                found = _recognise(self.end.recv(2048))
                seen = seen or found == wanted
                if found == sentinel:
                    break
        return seen

    def kinds(self) -> dict[str, bool]:
        """Ask in all four ways about the VIPs."""
        asked = (("arp", VIP4), ("ping", VIP4), ("ns", VIP6), ("ping6", VIP6))
        return {kind: self.answered(kind, address) for kind, address in asked}

    def frames(self, until: Callable[[bytes], bool]) -> list[bytes]:
        """Return the frames that come until one is as wanted, that one included."""
        found = []
        limit = time.monotonic() + ANSWER_LIMIT_S
        while time.monotonic() < limit:
            found.append(self.end.recv(2048))
            if until(found[-1]):
                return found
        raise TimeoutError(f"not seen among {len(found)} frames")

    def _ask(self, kind: str, address: str) -> tuple[str, str, int]:
        self._number = self._number % 0xFFFF + 1
        self.end.send(_question(kind, ip_address(address).packed, self._number))
        return kind, address, self._number if kind.startswith("ping") else 0


def _question(kind: str, target: bytes, number: int) -> bytes:
    if kind == "arp":
        body = arp_codec.ARP.pack(1, 0x800, 6, 4, 1, _client, socket.inet_aton(CLIENT4), bytes(6), target)
        return arp_codec.BROADCAST + _client + b"\x08\x06" + body
    if kind == "ping":
        echo = _checked(struct.pack("!BBHHH", 8, 0, 0, 77, number), 2)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, number, 0, 64, 1, 0, socket.inet_aton(CLIENT4), target)
        return _director + _client + b"\x08\x00" + _checked(head, 10) + echo
    source = ip_address(CLIENT6).packed
    if kind == "ns":
        body = struct.pack("!BBHI16sBB6s", 135, 0, 0, 0, target, 1, 1, _client)
        group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
        return arp_codec._icmpv6(b"\x33\x33" + group[12:], _client, source, group, body)
    return arp_codec._icmpv6(_director, _client, source, target, struct.pack("!BBHHH", 128, 0, 0, 77, number))


def _checked(data: bytes, at: int) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return data[:at] + (~total & 0xFFFF).to_bytes(2, "big") + data[at + 2 :]


def _recognise(frame: bytes) -> tuple[str, str, int] | None:
    """Return which question a frame answers."""
    if frame[:6] == _director or frame[6:12] == _client:
        return None
    match frame[12:14]:
        case b"\x08\x06" if frame[20:22] == b"\0\2":
            return "arp", str(ip_address(frame[28:32])), 0
        case b"\x08\x00" if frame[23] == 1 and frame[34] == 0:
            return "ping", str(ip_address(frame[26:30])), int.from_bytes(frame[40:42], "big")
        case b"\x86\xdd" if frame[20] == 58 and frame[54] == 136:
            return "ns", str(ip_address(frame[62:78])), 0
        case b"\x86\xdd" if frame[20] == 58 and frame[54] == 129:
            return "ping6", str(ip_address(frame[22:38])), int.from_bytes(frame[60:62], "big")
    return None

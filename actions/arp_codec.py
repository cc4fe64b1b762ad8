"""Ethernet frames that announce addresses, ask for them and tell of them: ARP and IPv6 neighbour discovery. No I/O.

References: RFC 826 (ARP), RFC 5227 (probes and announcements), RFC 4861 (neighbour discovery), RFC 4443 (checksum).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES_MAC = bytes.fromhex("333300000001")
ALL_NODES = ip_address("ff02::1").packed
ARP_REQUEST, ARP_REPLY = 1, 2
ARP = struct.Struct("!HHBBH6s4s6s4s")
ETHERNET = struct.Struct("!6s6sH")
IPV6 = struct.Struct("!IHBB16s16s")
ICMPV6 = 58
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
OVERRIDE = 0x20000000
TARGET_MAC = 2
"""Option of neighbour discovery: the MAC of who answers."""
HOP_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Told:
    """What a frame tells: this MAC answers for this address."""

    address: str
    mac: str
    probe: bool = False
    """It only asks, about `address`, before it uses it."""


def announcements(address: str, mac: bytes) -> list[bytes]:
    """Return the frames that tell everybody on the network that an address is at `mac` now."""
    target = ip_address(address)
    if target.version == 4:
        request = _arp(ARP_REQUEST, mac, target.packed, bytes(6), target.packed)
        reply = _arp(ARP_REPLY, mac, target.packed, BROADCAST, target.packed)
        return [request, reply]
    body = struct.pack("!BBHI16sBB6s", NEIGHBOUR_ADVERTISEMENT, 0, 0, OVERRIDE, target.packed, TARGET_MAC, 1, mac)
    return [_icmpv6(ALL_NODES_MAC, mac, target.packed, ALL_NODES, body)]


def question(address: str, mac: bytes) -> bytes:
    """Return a frame that asks whether anybody has an address, without claiming it (RFC 5227 section 2.1.1)."""
    target = ip_address(address)
    if target.version == 4:
        return _arp(ARP_REQUEST, mac, bytes(4), bytes(6), target.packed)
    group = ip_address("ff02::1:ff00:0").packed[:13] + target.packed[13:]
    body = struct.pack("!BBHI16s", NEIGHBOUR_SOLICITATION, 0, 0, 0, target.packed)
    return _icmpv6(b"\x33\x33" + group[12:], mac, bytes(16), group, body)


def parse(frame: bytes) -> Told | None:
    """Return what an Ethernet frame tells of an address; None for other frames, and for what does not add up."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETH_P_ARP:
        return _parse_arp(frame)
    return _parse_advertisement(frame) if kind == ETH_P_IPV6 else None


def _parse_arp(frame: bytes) -> Told | None:
    if len(frame) < ETHERNET.size + ARP.size:
        return None
    hardware, protocol, hardware_size, size, operation, mac, sender, _, target = ARP.unpack_from(frame, ETHERNET.size)
    if (hardware, protocol, hardware_size, size) != (1, 0x0800, 6, 4) or operation not in (ARP_REQUEST, ARP_REPLY):
        return None
    if sender == bytes(4):
        return Told(str(ip_address(target)), mac.hex(":"), probe=True)
    return Told(str(ip_address(sender)), mac.hex(":"))


def _parse_advertisement(frame: bytes) -> Told | None:
    body = frame[ETHERNET.size + IPV6.size :]
    if len(body) < 24 or frame[ETHERNET.size + 6] != ICMPV6 or body[0] != NEIGHBOUR_ADVERTISEMENT:
        return None
    mac = frame[6:12]
    if len(body) >= 32 and body[24] == TARGET_MAC:
        mac = body[26:32]
    return Told(str(ip_address(body[8:24])), mac.hex(":"))


def _arp(operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    body: bytes = ARP.pack(1, 0x0800, 6, 4, operation, mac, sender, target_mac, target)
    return _ethernet(BROADCAST, mac, ETH_P_ARP) + body


def _icmpv6(to_mac: bytes, mac: bytes, source: bytes, destination: bytes, body: bytes) -> bytes:
    pseudo = source + destination + struct.pack("!II", len(body), ICMPV6)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    checked = body[:2] + (~total & 0xFFFF).to_bytes(2, "big") + body[4:]
    head: bytes = IPV6.pack(6 << 28, len(body), ICMPV6, HOP_LIMIT, source, destination)
    return b"".join((_ethernet(to_mac, mac, ETH_P_IPV6), head, checked))


def _ethernet(to: bytes, mac: bytes, kind: int) -> bytes:
    head: bytes = ETHERNET.pack(to, mac, kind)
    return head

"""ICMP and ICMPv6 echo on the wire (RFC 792, RFC 4443), and the raw socket that it is spoken on."""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass

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
UNREACHABLE_REASONS = {
    4: {0: "network unreachable", 1: "host unreachable", 3: "port unreachable", 10: "host administratively prohibited",
        13: "administratively prohibited"},
    6: {0: "no route", 1: "administratively prohibited", 3: "address unreachable", 4: "port unreachable"},
}  # fmt: skip
SO_ATTACH_FILTER = 26
"""linux/socket.h"""
RECEIVE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EchoAnswer:
    """A datagram that has to do with an echo of ours."""

    kind: int
    """ICMP type."""
    code: int
    identifier: int
    sequence: int
    payload: bytes


def build_echo(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; the kernel computes ICMPv6's checksum."""
    if version == 6:
        return ECHO.pack(ECHO_REQUEST[6], 0, 0, identifier, sequence) + payload
    even = payload if len(payload) % 2 == 0 else payload + b"\0"
    words = (ECHO_REQUEST[4] << 8) + identifier + sequence + int.from_bytes(even, "big")
    # The Internet checksum (RFC 1071): a sum of 16-bit words with the carries added back is the number modulo 65535,
    # for 2^16 leaves 1.
    checksum = 0xFFFF - (words % 0xFFFF or 0xFFFF)
    return ECHO.pack(ECHO_REQUEST[4], 0, checksum, identifier, sequence) + payload


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


def refusal(version: int, answer: EchoAnswer, source: str) -> str:
    """Return in words what an error message about an echo says."""
    if answer.kind == TIME_EXCEEDED[version]:
        return f"time to live exceeded, says {source}"
    words = UNREACHABLE_REASONS[version].get(answer.code, f"unreachable (code {answer.code})")
    return f"{words}, says {source}"


def open_echo_socket(version: int, identifier: int) -> socket.socket:
    """Return a raw socket that gets the replies to one identifier's echoes, and errors.

    Raises PermissionError without the capability CAP_NET_RAW.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        _set_filter(opened, version)
        _set_program(opened, version, identifier)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    except OSError:
        opened.close()
        raise
    return opened


def _set_filter(opened: socket.socket, version: int) -> None:
    """Let only replies and errors through."""
    wanted = (ECHO_REPLY[version], UNREACHABLE[version], TIME_EXCEEDED[version])
    if version == 4:
        mask = 0xFFFFFFFF
        for kind in wanted:
            mask &= ~(1 << kind)
        opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", mask))
        return
    words = [0xFFFFFFFF] * 8
    for kind in wanted:
        words[kind >> 5] &= ~(1 << (kind & 31))
    opened.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *words))


def _set_program(opened: socket.socket, version: int, identifier: int) -> None:
    """Leave replies to other programs' echoes in the kernel: each raw socket would get a copy of all of them.

    A classic BPF program (linux/filter.h): what is no reply passes, and a reply with our identifier.
    """
    header = (0xB1, 0, 0, 0) if version == 4 else (0x01, 0, 0, 0)  # X = length of the IPv4 header, or 0
    program = [
        header,
        (0x50, 0, 0, 0),  # A = type, at X + 0
        (0x15, 0, 2, ECHO_REPLY[version]),  # a reply? else pass
        (0x48, 0, 0, 4),  # A = identifier, at X + 4
        (0x15, 0, 1, identifier),  # ours? else drop
        (0x06, 0, 0, RECEIVE_BYTES),
        (0x06, 0, 0, 0),
    ]
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code)
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer)))

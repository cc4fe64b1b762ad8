"""Netlink's bytes: attributes and messages, packed and parsed. No I/O.

Numbers are from Linux's UAPI headers: ``linux/netlink.h`` (NLMSG_, NLM_F_, NLMSGERR_ATTR_, NLA_), ``linux/genetlink.h``
(GENL_) and ``linux/netfilter/nfnetlink.h`` (NFNETLINK_).
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass

from hawatch.errors import KernelError

NLM_F_REQUEST = 0x01
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_ACK_TLVS = 0x200

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1

NFNETLINK_V0 = 0
NLA_F_NESTED = 1 << 15
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length, type."""
GENERIC = struct.Struct("=BBH")
"""struct genlmsghdr: command, version, reserved."""
NETFILTER = struct.Struct("=BBH")
"""struct nfgenmsg: family, version, resource id (big endian)."""
_INT = struct.Struct("=i")
_ATTRIBUTE_U8 = struct.Struct("=HHBxxx")
_ATTRIBUTE_U16 = struct.Struct("=HHHxx")
_ATTRIBUTE_U32 = struct.Struct("=HHI")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


# --- Attributes -------------------------------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + _PADDING[len(payload) & 3]


def attribute_u8(kind: int, value: int) -> bytes:
    """Return an attribute of one byte."""
    return _ATTRIBUTE_U8.pack(5, kind, value)


def attribute_u16(kind: int, value: int) -> bytes:
    """Return an attribute of 16 bits in the machine's byte order."""
    return _ATTRIBUTE_U16.pack(6, kind, value)


def attribute_u32(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits in the machine's byte order."""
    return _ATTRIBUTE_U32.pack(8, kind, value)


def attribute_be16(kind: int, value: int) -> bytes:
    """Return an attribute of 16 bits in network byte order, such as a port."""
    return attribute(kind, value.to_bytes(2, "big"))


def attribute_be32(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits in network byte order, as nftables has them."""
    return attribute(kind, value.to_bytes(4, "big"))


def attribute_be64(kind: int, value: int) -> bytes:
    """Return an attribute of 64 bits in network byte order, as nftables has them."""
    return attribute(kind, value.to_bytes(8, "big"))


def attribute_string(kind: int, text: str) -> bytes:
    """Return an attribute that holds a zero-terminated string."""
    return attribute(kind, text.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def parse_attribute_list(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """Return the attributes from `offset` on as (type, payload), in order, flags of the type taken off.

    Raises KernelError when lengths do not add up.
    """
    found = []
    end = len(data)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise KernelError(f"netlink: an attribute of {length} bytes where {end - offset} are left")
        found.append((kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def parse_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes from `offset` on by type; of several of one type the last."""
    return dict(parse_attribute_list(data, offset))


def to_int(payload: bytes) -> int:
    """Return an unsigned number in the machine's byte order."""
    return int.from_bytes(payload, sys.byteorder)


def to_text(payload: bytes) -> str:
    """Return a zero-terminated string."""
    return payload.split(b"\0", 1)[0].decode(errors="replace")


# --- Messages ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A message to the kernel: its type, what follows the netlink header, and flags beside NLM_F_REQUEST."""

    type: int
    body: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A message from the kernel: what follows the netlink header."""

    type: int
    flags: int
    sequence: int
    body: bytes


def generic(family: int, command: int, version: int, *attributes: bytes, flags: int = 0) -> Request:
    """Return a generic netlink request."""
    return Request(family, GENERIC.pack(command, version, 0) + b"".join(attributes), flags)


def netfilter(subsystem: int, message: int, family: int, *attributes: bytes, flags: int = 0) -> Request:
    """Return an nfnetlink request: a message of a subsystem such as nftables (10)."""
    head = NETFILTER.pack(family, NFNETLINK_V0, 0)
    return Request(subsystem << 8 | message, head + b"".join(attributes), flags)


def encode(request: Request, sequence: int, flags: int = 0) -> bytes:
    """Return the bytes of a request."""
    body = request.body
    return (
        HEADER.pack(16 + len(body), request.type, NLM_F_REQUEST | request.flags | flags, sequence, 0)
        + body
        + _PADDING[len(body) & 3]
    )


def decode(data: bytes) -> list[Reply]:
    """Split what one receive returned into messages; raise KernelError when lengths do not add up."""
    replies = []
    offset = 0
    end = len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            raise KernelError(f"netlink: a message of {length} bytes where {end - offset} are left")
        replies.append(Reply(kind, flags, sequence, data[offset + 16 : offset + length]))
        offset += (length + 3) & ~3
    return replies


def decode_error(reply: Reply) -> tuple[int, str]:
    """Return errno (0: done) and the kernel's words from an NLMSG_ERROR or NLMSG_DONE."""
    if len(reply.body) < 4:
        return 0, ""
    number = -_INT.unpack_from(reply.body)[0]
    if number == 0:
        return 0, ""
    text = os.strerror(number)
    if reply.flags & NLM_F_ACK_TLVS:
        offset = 4 if reply.type == NLMSG_DONE else 4 + 16
        words = parse_attributes(reply.body, offset).get(NLMSGERR_ATTR_MSG)
        if words is not None:
            text = to_text(words)
    return number, text

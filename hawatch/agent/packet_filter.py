"""Filters that the kernel runs on what comes in, so that noise on the heartbeat port costs the core nothing.

Theory of operation. A classic BPF program (Documentation/networking/filter.rst) loads words of the packet, compares
them and returns a number. Two kinds are made here. A *door* belongs to one socket and lets in what can be a heartbeat:
one member's source address, and a header of this cluster that names that member. A *signpost* belongs to the sockets
that share one address and port (SO_REUSEPORT) and says which of them gets a datagram, by its source address: so each
member has a queue of its own, which nobody else's datagrams fill.

A filter proves nothing: what forges both the source address and the header gets in, and fails at the HMAC. It keeps out
what is wrong at a glance, which is all that a machine sends that does not take aim at this cluster. Against one that
does, a door can be narrow: then it lets in what carries on from what was verified last, and so no copies of what was
recorded, changed or not.

Offsets: a socket's filter sees the packet from its UDP header on, a signpost from its payload on; both reach the IP
header at SKF_NET_OFF. A load beyond the packet's end ends a program with 0.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hawatch.cluster.wire import DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, MAGIC

SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51
"""asm-generic/socket.h"""
SKF_NET_OFF = 0xFFF00000
"""linux/filter.h: -0x100000"""
SOURCE_AT = {4: 12, 6: 8}
"""Of the source address in the IP header (RFC 791, RFC 8200)."""
UDP_HEADER = 8
LOAD_WORD, LOAD_LENGTH, AND, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x80, 0x54, 0x15, 0x25, 0x06
"""linux/bpf_common.h: load a word, or the packet's length; combine or compare it with a constant; end."""
INSTRUCTION = struct.Struct("=HBBI")
JUMP_MAX = 255
AHEAD_MAX = 2048
"""Numbers that a member uses in less than the time that a door is narrow for, by far."""
ACCEPT, DROP = 0xFFFFFFFF, 0


class Instruction(NamedTuple):
    """One instruction: `then` and `otherwise` are how many to pass over."""

    code: int
    then: int
    otherwise: int
    operand: int


class Comparison(NamedTuple):
    """Something of the packet that must be so, or must not."""

    load: tuple[Instruction, ...]
    how: int
    operand: int
    wanted: bool = True


class Newer(NamedTuple):
    """What a door lets in while it is narrow: one boot's datagrams after a number, not far after it."""

    boot: int
    sequence: int


def door(source: str, cluster: int, sender: int, newer: Newer | None = None) -> list[Instruction]:
    """Return the filter of one member's socket, narrow if `newer` is given."""
    length = (Instruction(LOAD_LENGTH, 0, 0, 0),)
    # The key's number may be any, and so may the version: that a node has another one is to be told.
    head = (load_word(UDP_HEADER), Instruction(AND, 0, 0, 0xFFFF0000))
    comparisons = [
        Comparison(length, JUMP_GREATER, UDP_HEADER + DATAGRAM_BYTES_MIN - 1),
        Comparison((), JUMP_GREATER, UDP_HEADER + DATAGRAM_BYTES_MAX, wanted=False),
        Comparison(head, JUMP_EQUAL, int.from_bytes((*MAGIC, 0, 0), "big")),
        *is_from(source),
        *equal(UDP_HEADER + 4, cluster.to_bytes(8, "big") + sender.to_bytes(8, "big")),
        *(narrowed(newer) if newer is not None else ()),
    ]
    return [*if_all(comparisons, ACCEPT), Instruction(RETURN, 0, 0, DROP)]


def narrowed(newer: Newer) -> list[Comparison]:
    """Compare boot and sequence number. What is about to go over 2^32 is not let in: that passes in a moment."""
    upper, lower = divmod(max(0, newer.sequence), 1 << 32)
    last = min(lower + AHEAD_MAX, (1 << 32) - 1)
    return [
        *equal(UDP_HEADER + 20, newer.boot.to_bytes(8, "big") + upper.to_bytes(4, "big")),
        Comparison((load_word(UDP_HEADER + 32),), JUMP_GREATER, lower),
        Comparison((), JUMP_GREATER, last, wanted=False),
    ]


def signpost(sources: Sequence[str]) -> list[Instruction]:
    """Return the program that gives each source address its socket: number 1 to the first, 0 to everybody else."""
    program: list[Instruction] = []
    for number, source in enumerate(sources, start=1):
        program += if_all(is_from(source), number)
    return [*program, Instruction(RETURN, 0, 0, 0)]


def load_word(at: int) -> Instruction:
    """Load four bytes."""
    return Instruction(LOAD_WORD, 0, 0, at)


def equal(at: int, data: bytes) -> list[Comparison]:
    """Compare bytes of the packet, a word at a time."""
    assert len(data) % 4 == 0, len(data)
    words = range(0, len(data), 4)
    return [Comparison((load_word(at + i),), JUMP_EQUAL, int.from_bytes(data[i : i + 4], "big")) for i in words]


def is_from(source: str) -> list[Comparison]:
    """Compare the packet's source address."""
    address = ipaddress.ip_address(source)
    return equal(SKF_NET_OFF + SOURCE_AT[address.version], address.packed)


def if_all(comparisons: Iterable[Comparison], number: int) -> list[Instruction]:
    """Return the number if everything is as wanted, else go on with what follows."""
    program: list[Instruction] = []
    for load, how, operand, wanted in reversed(list(comparisons)):
        away = len(program) + 1
        assert away <= JUMP_MAX
        jump = Instruction(how, 0, away, operand) if wanted else Instruction(how, away, 0, operand)
        program = [*load, jump, *program]
    return [*program, Instruction(RETURN, 0, 0, number)]


def attach(end: socket.socket, option: int, program: Sequence[Instruction]) -> None:
    """Have the kernel run a program for a socket (`option` says which kind); raise OSError where it refuses."""
    code = ctypes.create_string_buffer(b"".join(INSTRUCTION.pack(*each) for each in program))
    # struct sock_fprog: a short, padding to a pointer's alignment, the pointer
    end.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(code)))

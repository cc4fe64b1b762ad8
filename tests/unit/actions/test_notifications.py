from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from hawatch.actions.notifications import PACKETS_MAX, drain, parse


def message(kind: int, port: int, body: bytes) -> bytes:
    padded = body + b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, port) + padded


def test_a_packet_is_split_into_its_messages() -> None:
    found = parse(message(20, 7, b"abc") + message(21, 0, b"defg"))
    assert [(one.kind, one.port, one.body) for one in found] == [(20, 7, b"abc"), (21, 0, b"defg")]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    for one in parse(data):
        assert len(one.body) <= len(data)


def test_a_drain_takes_what_is_there_within_its_limit() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setblocking(False)
    assert drain(here) == ([], False)
    there.setblocking(False)
    sent = 0
    try:
        while sent < PACKETS_MAX + 10:
            there.send(b"x")
            sent += 1
    except BlockingIOError:
        pass
    found, lost = drain(here)
    assert len(found) == min(sent, PACKETS_MAX)
    assert not lost
    here.close()
    there.close()

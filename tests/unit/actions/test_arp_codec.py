from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.actions.arp_codec import announcements, parse, question

MAC = bytes.fromhex("020000000001")
V4, V6 = "192.0.2.110", "2001:db8::110"


def test_an_ipv4_address_is_announced_as_request_and_reply() -> None:
    request, reply = announcements(V4, MAC)
    assert request[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    assert (request[20:22], reply[20:22]) == (b"\0\1", b"\0\2")
    for frame in (request, reply):
        told = parse(frame)
        assert told is not None
        assert (told.address, told.mac, told.probe) == (V4, "02:00:00:00:00:01", False)
        assert frame[28:32] == frame[38:42] == bytes([192, 0, 2, 110])


def test_an_ipv6_address_is_announced_to_all_nodes_and_overrides() -> None:
    (frame,) = announcements(V6, MAC)
    assert frame[:6] == bytes.fromhex("333300000001")
    assert frame[21] == 255  # hop limit
    assert frame[58] & 0x20
    told = parse(frame)
    assert told is not None
    assert (told.address, told.mac) == (V6, "02:00:00:00:00:01")
    assert checksum(frame) == 0


def checksum(frame: bytes) -> int:
    """Return the sum of an ICMPv6 packet with its pseudo header; 0 is right (RFC 4443 section 2.3)."""
    body = frame[54:]
    data = frame[22:54] + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def test_a_question_claims_nothing() -> None:
    told = parse(question(V4, MAC))
    assert told is not None
    assert told.probe
    assert told.address == V4
    frame = question(V6, MAC)
    assert frame[:6] == bytes.fromhex("3333ff000110")
    assert frame[22:38] == bytes(16)
    assert checksum(frame) == 0
    assert parse(frame) is None


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    parse(data)


@pytest.mark.parametrize("frame", [*announcements(V4, MAC), *announcements(V6, MAC)])
def test_a_frame_that_is_cut_tells_nothing_false(frame: bytes) -> None:
    for size in range(len(frame)):
        told = parse(frame[:size])
        assert told is None or told.address in (V4, V6)

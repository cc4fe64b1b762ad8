from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.actions.arp_codec import Told, announcements, parse, question

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


def test_every_byte_of_a_frame_is_as_the_standards_say() -> None:
    """In order: Ethernet, ARP (RFC 826), IPv6, neighbour discovery (RFC 4861) without its checksum."""
    mac, broadcast, unknown, v4 = "020000000001", "f" * 12, "0" * 12, "c000026e"
    v6, all_nodes, group = "20010db8" + "0" * 20 + "0110", "ff02" + "0" * 27 + "1", "ff02" + "0" * 19 + "1ff000110"
    arp = f"{broadcast} {mac} 0806 0001 0800 06 04"
    assert [frame.hex() for frame in (*announcements(V4, MAC), question(V4, MAC))] == [
        f"{arp} 0001 {mac} {v4} {unknown} {v4}".replace(" ", ""),
        f"{arp} 0002 {mac} {v4} {broadcast} {v4}".replace(" ", ""),
        f"{arp} 0001 {mac} 00000000 {unknown} {v4}".replace(" ", ""),
    ]
    assert [frame[:56].hex() + frame[58:].hex() for frame in (*announcements(V6, MAC), question(V6, MAC))] == [
        f"333300000001 {mac} 86dd 60000000 0020 3a ff {v6} {all_nodes} 8800 20000000 {v6} 0201 {mac}".replace(" ", ""),
        f"3333ff000110 {mac} 86dd 60000000 0018 3a ff {'0' * 32} {group} 8700 00000000 {v6}".replace(" ", ""),
    ]


def test_a_checksum_whose_carry_carries_is_right() -> None:
    (frame,) = announcements("2001:db8:ffff:ffff:ffff:ffff:ffff:7c97", MAC)
    assert checksum(frame) == 0


def test_an_advertisement_tells_the_mac_in_it_else_that_of_its_sender() -> None:
    (frame,) = announcements(V6, MAC)
    frame = frame[:6] + bytes.fromhex("020000000099") + frame[12:]
    by_option, by_sender = Told(V6, "02:00:00:00:00:01"), Told(V6, "02:00:00:00:00:99")
    assert parse(frame) == parse(frame + b"more") == by_option
    assert parse(frame[:78] + b"\1" + frame[79:]) == by_sender, "another option"
    assert parse(frame[:85]) == parse(frame[:78]) == by_sender, "an option that is cut, and none"
    assert parse(frame[:77]) is None


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        pytest.param(15, 6, id="hardware"),
        pytest.param(16, 9, id="protocol"),
        pytest.param(18, 8, id="size of hardware addresses"),
        pytest.param(19, 16, id="size of protocol addresses"),
        pytest.param(21, 0, id="no operation"),
        pytest.param(21, 3, id="an operation of RARP"),
        pytest.param(13, 0x35, id="RARP"),
    ],
)
def test_what_is_no_arp_of_ipv4_over_ethernet_tells_nothing(place: int, wrong: int) -> None:
    frame = bytearray(announcements(V4, MAC)[0])
    frame[place] = wrong
    assert parse(bytes(frame)) is None


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        pytest.param(12, 0x88, id="ethertype"),
        pytest.param(20, 17, id="UDP"),
        pytest.param(54, 135, id="a solicitation"),
    ],
)
def test_what_is_no_advertisement_tells_nothing(place: int, wrong: int) -> None:
    frame = bytearray(announcements(V6, MAC)[0])
    frame[place] = wrong
    assert parse(bytes(frame)) is None


def test_a_probe_tells_who_asks() -> None:
    assert parse(question(V4, MAC)) == Told(V4, "02:00:00:00:00:01", probe=True)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    parse(data)


@pytest.mark.parametrize("frame", [*announcements(V4, MAC), *announcements(V6, MAC)])
def test_a_frame_that_is_cut_tells_nothing_false(frame: bytes) -> None:
    for size in range(len(frame)):
        told = parse(frame[:size])
        assert told is None or told.address in (V4, V6)

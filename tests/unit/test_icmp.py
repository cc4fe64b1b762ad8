"""ICMP echo on the wire: bytes by the RFCs, and what the kernel lets through."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.icmp import ECHO, EchoAnswer, build_echo, open_echo_socket, parse_answer, refusal

IPV4_HEADER = b"\x45" + bytes(19)


@given(st.binary(max_size=100), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_an_echo_has_a_right_checksum(payload: bytes, identifier: int, sequence: int) -> None:
    """RFC 1071: the words of a datagram, its checksum among them, add up to all ones, with the carries added back."""
    echo = build_echo(4, identifier, sequence, payload)
    assert parse_answer(4, IPV4_HEADER + b"\0" + echo[1:]) == EchoAnswer(0, 0, identifier, sequence, payload)
    total = sum(struct.unpack(f"!{(len(echo) + 1) // 2}H", echo + b"\0" * (len(echo) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


@pytest.mark.parametrize(("version", "header", "kind"), [(4, IPV4_HEADER, 0), (6, b"", 129)])
def test_a_reply_is_understood(version: int, header: bytes, kind: int) -> None:
    datagram = header + ECHO.pack(kind, 0, 0, 7, 9) + b"token"
    assert parse_answer(version, datagram) == EchoAnswer(kind, 0, 7, 9, b"token")


def test_an_error_names_the_echo_that_it_is_about() -> None:
    about = IPV4_HEADER + build_echo(4, 7, 9, b"")
    answer = parse_answer(4, IPV4_HEADER + bytes([3, 1]) + bytes(6) + about)
    assert answer == EchoAnswer(3, 1, 7, 9, b"")
    assert refusal(4, answer, "192.0.2.1") == "host unreachable, says 192.0.2.1"
    about = bytes(40) + build_echo(6, 7, 9, b"12345678")
    answer = parse_answer(6, bytes([3, 0]) + bytes(6) + about)
    assert answer == EchoAnswer(3, 0, 7, 9, b"12345678")
    assert refusal(6, answer, "2001:db8::1") == "time to live exceeded, says 2001:db8::1"


def test_an_error_of_an_unknown_code_is_told_by_number() -> None:
    assert refusal(4, EchoAnswer(3, 99, 0, 0, b""), "192.0.2.1") == "unreachable (code 99), says 192.0.2.1"


@given(st.sampled_from([4, 6]), st.binary(max_size=100))
def test_anything_else_is_passed_over(version: int, datagram: bytes) -> None:
    found = parse_answer(version, datagram)
    assert found is None or found.kind in (0, 3, 11, 129, 1)


@pytest.mark.parametrize(("version", "address"), [(4, "127.0.0.1"), (6, "::1")])
def test_requests_and_replies_to_others_stay_in_the_kernel(version: int, address: str) -> None:
    with open_echo_socket(version, 0x1234) as ours, open_echo_socket(version, 0x4321) as others:
        others.sendto(build_echo(version, 0x4321, 1, b"x" * 8), (address, 0))
        ours.sendto(build_echo(version, 0x1234, 2, b"y" * 8), (address, 0))
        for end, identifier, sequence in ((ours, 0x1234, 2), (others, 0x4321, 1)):
            end.setblocking(True)
            end.settimeout(5)
            answer = parse_answer(version, end.recv(2048))
            assert answer is not None
            assert (answer.identifier, answer.sequence) == (identifier, sequence)
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(2048)


def test_the_socket_has_room_for_a_farm() -> None:
    with open_echo_socket(4, 1) as ours:
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 1 << 17

"""The programs, run by a few lines that do what the kernel does; test_heartbeat_link has the kernel run them."""

from __future__ import annotations

import pytest

from hawatch.agent import packet_filter
from hawatch.agent.packet_filter import ACCEPT, AHEAD_MAX, DROP, SKF_NET_OFF, Instruction, Newer, door, signpost
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.wire import DATAGRAM_BYTES_MIN, Codec, identifier

ME, YOU = identifier("me"), identifier("you")
CODEC = Codec("site", [YOU], KeyRing({9: bytes(32)}, 9))
DATAGRAM = CODEC.encode(YOU, 1, 1, b"\3" + bytes(8))


def run(program: list[Instruction], packet: bytes, ip_header: bytes) -> int:
    """Run a program as Documentation/networking/filter.rst says."""
    accumulator = at = 0
    while True:
        code, then, otherwise, operand = program[at]
        at += 1
        if code == packet_filter.LOAD_WORD:
            data, start = (ip_header, operand - SKF_NET_OFF) if operand >= SKF_NET_OFF else (packet, operand)
            if start + 4 > len(data):
                return 0
            accumulator = int.from_bytes(data[start : start + 4], "big")
        elif code == packet_filter.LOAD_LENGTH:
            accumulator = len(packet)
        elif code == packet_filter.AND:
            accumulator &= operand
        elif code == packet_filter.JUMP_EQUAL:
            at += then if accumulator == operand else otherwise
        elif code == packet_filter.JUMP_GREATER:
            at += then if accumulator > operand else otherwise
        else:
            assert code == packet_filter.RETURN
            return operand


def from_address(last: int) -> bytes:
    return bytes(12) + bytes((10, 99, 0, last)) + bytes(4)


def test_the_door_opens_for_the_member_only() -> None:
    program = door("10.99.0.2", CODEC.cluster, YOU)
    packet = bytes(8) + DATAGRAM
    assert run(program, packet, from_address(2)) == ACCEPT
    assert run(program, packet, from_address(3)) == DROP
    assert run(door("10.99.0.2", CODEC.cluster, ME), packet, from_address(2)) == DROP
    assert run(door("10.99.0.2", identifier("other"), YOU), packet, from_address(2)) == DROP
    for length in range(len(packet)):
        assert run(program, packet[:length], from_address(2)) == (ACCEPT if length >= 8 + DATAGRAM_BYTES_MIN else DROP)


@pytest.mark.parametrize("count", [0, 1, 2, 14])
def test_the_signpost_knows_every_member(count: int) -> None:
    program = signpost([f"10.99.0.{number}" for number in range(1, count + 1)])
    for number in range(1, count + 1):
        assert run(program, DATAGRAM, from_address(number)) == number
    assert run(program, DATAGRAM, from_address(count + 1)) == 0


@pytest.mark.parametrize("last", [0, 5, 1 << 31, (1 << 32) - 9, 1 << 32, (1 << 61) + 7])
def test_a_narrow_door_lets_in_what_carries_on(last: int) -> None:
    boot = 1_795_652_135_296_793_297
    program = door("10.99.0.2", CODEC.cluster, YOU, Newer(boot, last))

    def opens(boot: int, sequence: int) -> bool:
        packet = bytes(8) + CODEC.encode(YOU, boot, sequence, b"\3" + bytes(8))
        return run(program, packet, from_address(2)) == ACCEPT

    assert opens(boot, last + 1)
    assert opens(boot, last + 8) or last + 8 == 1 << 32
    assert not opens(boot, last + AHEAD_MAX + 1)
    assert not opens(boot - 1, last + 1)
    assert not opens(boot + 1, last + 1)
    if last:
        assert not opens(boot, last)
    assert not opens(boot, last + (1 << 40))
    if last > 1:
        assert not opens(boot, last - 1)


def test_a_narrow_door_before_the_first_number_is_open_for_it() -> None:
    program = door("10.99.0.2", CODEC.cluster, YOU, Newer(1, -15))
    assert run(program, bytes(8) + DATAGRAM, from_address(2)) == ACCEPT

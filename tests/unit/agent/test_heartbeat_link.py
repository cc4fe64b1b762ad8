"""What comes in on one link, over real UDP; IPv6 in a namespace of its own, which has addresses to spare."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hawatch.agent.heartbeat_link import HeartbeatLink
from hawatch.agent.packet_filter import Newer
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.wire import DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, Codec, identifier
from hawatch.errors import LocalError
from tests.lab.netns import call_in_namespace
from tests.lab.pair.shell import run

B, C = identifier("b"), identifier("c")
CODEC = Codec("t", [B, C], KeyRing({1: bytes(32)}, 1))
V4 = "127.79.0.{}"
V6 = "fd00:79::{}"
BODY = b"\3" + bytes(8)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        port: int = asker.getsockname()[1]
        return port


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"hwlink{os.getpid()}"
    run(["ip", "netns", "add", name])
    try:
        lines = ["link set lo up", *(f"address add {V6.format(number)}/128 dev lo nodad" for number in (1, 2, 3, 9))]
        run(["ip", "-n", name, "-batch", "-"], stdin="\n".join(lines) + "\n")
        yield name
    finally:
        run(["ip", "netns", "delete", name])


def heard(end: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(end.recv(2000))
        except BlockingIOError:
            return found


def what_is_heard(form: str) -> None:
    """Node 1 hears b at 2 and c at 3, each in its own queue, and nothing else."""
    port = free_port()
    link = HeartbeatLink(form.format(1), port, CODEC.cluster, {B: form.format(2), C: form.format(3)})
    family = socket.AF_INET6 if ":" in form else socket.AF_INET

    def send(number: int, data: bytes) -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as end:
            end.bind((form.format(number), 0))
            end.sendto(data, (form.format(1), port))

    from_b, from_c = CODEC.encode(B, 1, 1, BODY), CODEC.encode(C, 1, 1, BODY)
    longest = from_b[:36] + bytes(DATAGRAM_BYTES_MAX - 36)
    other_key = from_b[:3] + b"\7" + from_b[4:]
    other_version = from_b[:2] + b"\7" + from_b[3:]
    for data in (from_b, other_key, other_version, longest):
        send(2, data)
    send(3, from_c)
    wrong = [from_c, b"", b"hw", bytes(64), from_b[: DATAGRAM_BYTES_MIN - 1], longest + b"x"]
    wrong += [
        from_b[:place] + bytes([from_b[place] ^ 1]) + from_b[place + 1 :] for place in range(20) if place not in (2, 3)
    ]
    for data in wrong:
        send(2, data)
    for _ in range(50):
        send(9, from_b)
    assert heard(link.queues[B].end) == [from_b, other_key, other_version, longest]
    assert heard(link.queues[C].end) == [from_c]
    assert (link.queues[B].newly_dropped(), link.queues[C].newly_dropped()) == (len(wrong), 0)
    assert link.queues[B].newly_dropped() == 0
    assert link.meet_strangers() == (50, form.format(9))
    assert link.meet_strangers() == (0, "")
    link.close()


def test_each_member_has_its_own_queue_and_noise_stays_outside() -> None:
    what_is_heard(V4)


@pytest.mark.netns
def test_each_member_has_its_own_queue_over_ipv6(namespace: str) -> None:
    call_in_namespace(namespace, lambda: what_is_heard(V6))


def test_a_member_that_floods_fills_its_own_queue_only() -> None:
    port = free_port()
    link = HeartbeatLink(V4.format(1), port, CODEC.cluster, {B: V4.format(2), C: V4.format(3)})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((V4.format(2), 0))
        for _ in range(5000):
            end.sendto(CODEC.encode(B, 1, 1, BODY), (V4.format(1), port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((V4.format(3), 0))
        end.sendto(CODEC.encode(C, 1, 1, BODY), (V4.format(1), port))
    waiting = heard(link.queues[B].end)
    assert 20 < len(waiting) < 1000
    assert link.queues[B].newly_dropped() == 5000 - len(waiting)
    assert len(heard(link.queues[C].end)) == 1
    link.close()


def test_a_narrow_door_keeps_out_what_was_recorded() -> None:
    port = free_port()
    link = HeartbeatLink(V4.format(1), port, CODEC.cluster, {B: V4.format(2)})
    queue = link.queues[B]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((V4.format(2), 0))

        def send(boot: int, *numbers: int) -> None:
            for number in numbers:
                end.sendto(CODEC.encode(B, boot, number, BODY), (V4.format(1), port))

        queue.set_door(Newer(7, 100))
        assert queue.narrow
        send(7, 99, 100, 101, 102)
        send(8, 1, 101)
        assert [int.from_bytes(data[28:36], "big") for data in heard(queue.end)] == [101, 102]
        assert queue.newly_dropped() == 4
        queue.set_door(None)
        assert not queue.narrow
        send(8, 1)
        assert len(heard(queue.end)) == 1
    link.close()


@pytest.mark.parametrize("address", ["198.51.100.77", "2001:db8::77"])
def test_an_address_may_come_up_later(address: str) -> None:
    HeartbeatLink(address, free_port(), CODEC.cluster, {B: address}).close()


def test_a_port_that_is_taken_is_told_though_it_could_be_shared() -> None:
    port = free_port()
    first = HeartbeatLink("127.0.0.1", port, CODEC.cluster, {})
    with pytest.raises(LocalError, match=f"cannot listen on link 127.0.0.1 UDP port {port}: Address already in use"):
        HeartbeatLink("127.0.0.1", port, CODEC.cluster, {})
    first.close()

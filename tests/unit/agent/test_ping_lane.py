"""The ping lane over loopback, and against replies that are not what they should be."""

from __future__ import annotations

import socket
import struct
from random import Random

import pytest
import trio

from hawatch.agent.ping_lane import PingLane
from hawatch.agent.runner import boottime_ns
from hawatch.health.schedule import Schedule, Slot
from hawatch.icmp import build_echo
from hawatch.model import NS_PER_MS, NS_PER_S, Check
from hawatch.plugin import Echo, Result

TIMEOUT_NS = 300 * NS_PER_MS


def slot_for(address: str) -> Slot:
    check = Check("c", "ping", {}, address, None, NS_PER_S, TIMEOUT_NS, 1, 1)
    schedule = Schedule("", Random(1))
    schedule.assign([check], 0)
    return schedule.take_due(schedule.next_due_ns())[0]


class Lane:
    """A lane and what came of its runs."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.lane = PingLane(lambda _slot, result, _start, _end: self.results.append(result))

    async def finish(self) -> list[Result]:
        with trio.fail_after(10):
            while len(self.lane):
                self.lane.poll()
                self.lane.expire(boottime_ns())
                await trio.sleep(0.002)
        return self.results


@pytest.fixture
async def lane():
    made = Lane()
    yield made
    made.lane.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.8.7", "::1"])
@pytest.mark.parametrize("echo", [Echo(1, 0, 8), Echo(5, 2, 56), Echo(3, 0, 1400)])
async def test_hosts_that_answer(lane, address, echo):
    for _ in range(20):
        lane.lane.start(slot_for(address), echo)
    results = await lane.finish()
    assert [(one.ok, one.reason) for one in results] == [(True, "")] * 20


def forge(lane: Lane, *, token: bytes | None, source: str, sequence_off: int = 0) -> None:
    """Answer the only run under way from `source`, with a token."""
    (run,) = {*lane.lane._families[4].runs.values()}
    family = lane.lane._families[4]
    echo = build_echo(
        4, family.identifier, run.sequences[0] + sequence_off & 0xFFFF, run.token if token is None else token
    )
    reply = bytearray(struct.pack("!BBH", 0, 0, 0) + echo[4:])
    total = int.from_bytes(reply, "big") % 0xFFFF
    reply[2:4] = (0xFFFF - total).to_bytes(2, "big")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind((source, 0))
        raw.sendto(bytes(reply), ("127.0.0.1", 0))


@pytest.fixture
def unanswered(lane):
    """A run whose echo was sent nowhere, so that nobody but the test answers it."""
    lane.lane.start(slot_for("127.0.0.1"), Echo(1, 0, 16))
    (run,) = {*lane.lane._families[4].runs.values()}
    lane.lane._families[4].sock.recv(2048)  # the kernel's own answer
    return run


async def test_a_reply_from_another_host_does_not_count_and_is_named(lane, unanswered):
    forge(lane, token=None, source="127.0.0.66")
    (result,) = await lane.finish()
    assert result.reason == "no echo reply from it (only from 127.0.0.66) in 300 ms"


async def test_a_reply_with_a_wrong_token_or_number_does_not_count(lane, unanswered):
    forge(lane, token=b"\0" * 8, source="127.0.0.1")
    forge(lane, token=b"", source="127.0.0.1")
    forge(lane, token=None, source="127.0.0.1", sequence_off=1)
    (result,) = await lane.finish()
    assert result.reason == "no echo reply in 300 ms"
    assert lane.lane._families[4].runs == {}


async def test_the_right_reply_counts_once(lane, unanswered):
    forge(lane, token=None, source="127.0.0.1")
    forge(lane, token=None, source="127.0.0.1")
    assert [one.ok for one in await lane.finish()] == [True]


async def test_replies_to_other_programs_stay_in_the_kernel(lane):
    lane.lane.start(slot_for("127.0.0.1"), Echo(1, 0, 16))
    await lane.finish()
    family = lane.lane._families[4]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(build_echo(4, family.identifier ^ 1, 1, b"x" * 8), ("127.0.0.1", 0))
        raw.sendto(build_echo(4, family.identifier, 1, b"x" * 8), ("127.0.0.1", 0))
    assert family.sock.recv(2048)[24:26] == family.identifier.to_bytes(2, "big")
    with pytest.raises(BlockingIOError):
        family.sock.recv(2048)


async def test_an_address_without_a_route_says_so(lane):
    lane.lane.start(slot_for("255.255.255.255"), Echo(1, 0, 16))
    (result,) = await lane.finish()
    assert result.reason.startswith("echo not sent: ")

"""The channel between core and console: what is missed is told, and nothing waits."""

from __future__ import annotations

import itertools
import socket

import pytest
import trio

from hawatch.agent.core_console import BATCH_MAX, PASSED_ON_MAX, ConsoleLink, console_frame, cut_frames
from hawatch.agent.events import EventLog
from hawatch.agent.measures import Counted, ServicesMeasured, WantMeasures, WorkerCounted
from hawatch.agent.messages import ConsoleState, Happened, Known, StatusNow, Told, WantStatus
from hawatch.errors import PeerError
from hawatch.model import Event


async def status():
    return b"{}"


async def measure(number):
    yield ServicesMeasured(number, [], last=False)
    yield ServicesMeasured(number, [], last=True)


class Console:
    """The other end of a channel."""

    def __init__(self, stream):
        self.stream = stream
        self.buffer = bytearray()
        self.pending = []

    async def say(self, message):
        await self.stream.send_all(console_frame(message))

    async def hear(self):
        with trio.fail_after(5):
            while not self.pending:
                self.buffer += await self.stream.receive_some()
                self.pending += cut_frames(self.buffer)
        return self.pending.pop(0)

    async def hear_ids(self, count):
        found, complete = [], True
        while len(found) < count:
            told = await self.hear()
            found += [record.id for record in told.records]
            complete = complete and told.complete
        return found, complete


def log(limit=10_000):
    return EventLog("lvs1", itertools.count(1000, 10).__next__, limit)


def event(number):
    return Event(f"e{number}", "because")


OWNERS = {"web": "lvs1"}


@pytest.fixture
async def joined():
    events, wanted = log(limit=500), []
    link = ConsoleLink(events, status, lambda: wanted.append(1), measure, lambda: OWNERS)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.work, theirs.detach())
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        yield link, events, Console(stream), wanted
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_all_then_what_comes(joined):
    _, events, console, _ = joined
    events.emit(map(event, range(3)))
    await console.say(Known(0))
    assert await console.hear_ids(3) == ([1000, 1010, 1020], False)
    events.emit([event(4)])
    assert await console.hear_ids(1) == ([1030], True)


async def test_from_where_it_is(joined):
    _, events, console, _ = joined
    events.emit(map(event, range(3)))
    await console.say(Known(1010))
    assert await console.hear_ids(1) == ([1020], True)


async def test_what_was_missed_is_told_and_nobody_waited(joined):
    _, events, console, _ = joined
    events.emit([event(0)])
    await console.say(Known(1000))
    await trio.testing.wait_all_tasks_blocked()
    events.emit(map(event, range(2000)))
    ids, complete = await console.hear_ids(500)
    assert not complete
    assert len(ids) == 500
    assert ids == sorted(ids)
    assert BATCH_MAX < 500


async def test_what_the_console_says(joined):
    link, events, console, _ = joined
    await console.say(Known(0))
    await console.say(ConsoleState(["the disk is full"]))
    await console.say(Happened([event(7)]))
    await console.say(WantStatus())
    heard = [await console.hear()]
    while StatusNow(b"{}") not in heard or not any(isinstance(each, Told) and each.records for each in heard):
        heard.append(await console.hear())
    assert link.warnings == ["the disk is full"]
    assert [record.name for record in events.last(5)] == ["e7"]


async def test_who_owns_the_groups_is_told_when_it_changes(joined):
    _, events, console, _ = joined
    await console.say(Known(0))
    assert (await console.hear()).owners == {"web": "lvs1"}
    events.emit([event(1)])
    assert (await console.hear()).owners is None
    OWNERS["web"] = "lvs2"
    try:
        assert await console.hear() == Told([], True, {"web": "lvs2"}), "without an event, after a while"
    finally:
        OWNERS["web"] = "lvs1"


async def test_an_event_does_not_wait_for_a_long_answer():
    events = log()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    asked = trio.Event()

    async def long_status():
        asked.set()
        await trio.sleep_forever()

    link = ConsoleLink(events, long_status, lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.work, theirs.detach())
        console = Console(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        await console.say(Known(0))
        await console.hear()
        await console.say(WantStatus())
        await asked.wait()
        events.emit([event(1)])
        assert (await console.hear_ids(1))[1]
        await console.stream.aclose()
        nursery.cancel_scope.cancel()


async def test_numbers_in_parts_and_what_the_workers_answer(joined):
    link, _, console, _ = joined
    await console.say(Known(0))
    await console.say(WantMeasures(3))
    heard = [part for part in [await console.hear() for _ in range(3)] if not isinstance(part, Told)]
    assert heard == [ServicesMeasured(3, [], last=False), ServicesMeasured(3, [], last=True)]
    for number in range(1000):
        link.pass_on("prober", Counted(number, b"x", last=True))
    assert await console.hear() == WorkerCounted("prober", 1000 - PASSED_ON_MAX, b"x", last=True)


async def test_a_channel_that_ends_is_asked_for_anew(joined):
    _, _, console, wanted = joined
    await console.stream.send_all(b"\xff\xff\xff\xff")
    with trio.fail_after(5):
        while not wanted:
            await trio.sleep(0.01)


def test_frames_however_they_come():
    data = console_frame(Known(5)) + console_frame(Told([], complete=False))
    buffer, found = bytearray(), []
    for byte in data:
        buffer.append(byte)
        found += cut_frames(buffer)
    assert found == [Known(5), Told([], complete=False)]
    with pytest.raises(PeerError):
        list(cut_frames(bytearray(b"\x00\x00\x00\x01x")))

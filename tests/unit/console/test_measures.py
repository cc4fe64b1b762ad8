"""Asking the core: whoever asks soon after gets the same, and what does not come is not waited for."""

from __future__ import annotations

import msgspec
import trio

from hawatch.agent.measures import ProbeCounts, ServicesMeasured, WorkerCounted
from hawatch.console.measures import ANSWER_WAIT_S, SHARED_S, MeasureKeeper
from tests.unit.console.numbers import measures

CORE = measures().core
PART = msgspec.msgpack.encode(ProbeCounts([], 1, 2, 3))


class Core:
    """Answers, as far as it is told to."""

    def __init__(self, *, core=True, prober=True):
        self.asked, self.core, self.prober, self.linked = [], core, prober, True
        self.keeper = MeasureKeeper(self.answer, lambda: self.linked)

    def answer(self, question):
        number = question.number
        self.asked.append(number)
        if self.core:
            self.keeper.take(msgspec.structs.replace(CORE, number=number))
            self.keeper.take(ServicesMeasured(number, measures().services[:1], last=False))
            self.keeper.take(ServicesMeasured(number, measures().services[1:], last=True))
        if self.prober:
            self.keeper.take(WorkerCounted("prober", number, PART, last=False))
            self.keeper.take(WorkerCounted("prober", number, PART, last=True))


async def test_an_answer_in_parts_is_shared(autojump_clock):
    core = Core()
    first = await core.keeper.fresh()
    assert [service.name for service in first.services] == ["http", "six"]
    assert len(first.counts["prober"]) == 2
    assert await core.keeper.fresh() is first
    await trio.sleep(SHARED_S)
    assert await core.keeper.fresh() is not first
    assert core.asked == [1, 2]


async def test_a_prober_that_does_not_answer(autojump_clock):
    core = Core(prober=False)
    began_s = trio.current_time()
    found = await core.keeper.fresh()
    assert trio.current_time() - began_s == ANSWER_WAIT_S
    assert found.core is not None
    assert not found.complete


async def test_a_core_that_does_not_answer(autojump_clock):
    core = Core(core=False)
    assert await core.keeper.fresh() is None
    core.core = True
    await trio.sleep(SHARED_S)
    assert await core.keeper.fresh() is not None


async def test_without_a_channel_nothing_is_waited_for(autojump_clock):
    core = Core()
    core.linked = False
    began_s = trio.current_time()
    assert await core.keeper.fresh() is None
    assert trio.current_time() == began_s
    assert core.asked == []


async def test_parts_of_an_older_answer_are_passed_over(autojump_clock):
    core = Core()
    await core.keeper.fresh()
    await trio.sleep(SHARED_S)
    core.prober = False
    async with trio.open_nursery() as nursery:
        found = []

        async def ask():
            found.append(await core.keeper.fresh())

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        core.keeper.take(WorkerCounted("prober", 1, PART, last=True))
    assert found[0].counts == {}


async def test_those_who_ask_at_the_same_time_are_one(autojump_clock):
    core = Core(prober=False)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(core.keeper.fresh)
    assert len(core.asked) == 1

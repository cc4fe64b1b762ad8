from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hawatch.agent.admin_keeper import AdminKeeper
from hawatch.agent.core_admin import Change, apply_changes
from hawatch.agent.state import read_admin
from hawatch.errors import RefusedError
from hawatch.model import (
    Admin,
    DestinationKey,
    Event,
    Family,
    OnAllDown,
    OnFail,
    Plan,
    ServiceKey,
    ServicePlan,
    VirtualService,
)

SERVERS = [DestinationKey("192.0.2.1", port) for port in range(1, 301)]
ROUNDS = 30


def plan(name: str) -> Plan:
    virtual = VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.110", 80))
    return Plan((ServicePlan(name, "", virtual, (), None, OnFail.REMOVE, OnAllDown.EMPTY),), {})


async def say(keeper: AdminKeeper, service: str, server: DestinationKey, word: Admin = Admin.DRAINED) -> None:
    async with keeper.lock:
        await keeper.say(apply_changes(keeper.state, [Change(service, server, word)]), plan(service))


async def test_a_drain_and_a_giveaway_at_once_are_both_in_the_file(tmp_path: Path) -> None:
    path, events = tmp_path / "admin.json", list[Event]()
    keeper = AdminKeeper(path, plan("web"), events.extend)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        for number in range(ROUNDS):
            keeper.remember_giveaway(number % 2 == 0)
            async with trio.open_nursery() as both:
                both.start_soon(say, keeper, "web", SERVERS[number])
                both.start_soon(keeper.settle)
            await keeper.settle()
            written = read_admin(path)
            assert (len(written.entries()), written.gaveaway) == (number + 1, number % 2 == 0)
        nursery.cancel_scope.cancel()
    assert (events, keeper.problem) == ([], "")


async def test_a_rename_waits_for_a_drain_and_takes_it_along(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    keeper = AdminKeeper(path, plan("web"), lambda events: None)

    async def rename() -> None:
        async with keeper.lock:
            assert len(keeper.follow(plan("www"))) == 1

    async with trio.open_nursery() as both:
        both.start_soon(say, keeper, "web", SERVERS[0])
        await trio.testing.wait_all_tasks_blocked()  # it waits for the disk
        both.start_soon(rename)
    await keeper.settle()
    assert keeper.state.entries() == read_admin(path).entries() == {("www", str(SERVERS[0])): Admin.DRAINED}


async def test_a_service_renamed_while_the_agent_was_stopped_keeps_its_drained_servers(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    await say(AdminKeeper(path, plan("web"), lambda events: None), "web", SERVERS[0])
    keeper = AdminKeeper(path, plan("www"), lambda events: None)
    assert keeper.state.entries() == {("www", str(SERVERS[0])): Admin.DRAINED}
    await keeper.settle()
    assert read_admin(path).entries() == keeper.state.entries()


async def test_what_cannot_be_written_is_refused_or_told(tmp_path: Path) -> None:
    path, events = tmp_path / "admin.json", list[Event]()
    keeper = AdminKeeper(path, plan("web"), events.extend)
    path.with_name("admin.json.new").symlink_to("/dev/full")
    with pytest.raises(RefusedError, match="nothing was changed"):
        await say(keeper, "web", SERVERS[0])
    assert keeper.state.entries() == {}
    path.with_name("admin.json.new").symlink_to("/dev/full")  # a failed save takes it away
    keeper.remember_giveaway(True)
    await keeper.settle()
    assert [event.name for event in events] == ["state_broken"]
    assert "a restart forgets the giveaway" in keeper.problem
    keeper.remember_giveaway(True)
    await keeper.settle()
    assert keeper.problem == ""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from hawatch.agent import admin_keeper
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
    assert "a restart may not find the giveaway" in keeper.problem
    keeper.remember_giveaway(True)
    await keeper.settle()
    assert keeper.problem == ""


async def test_what_was_not_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_keeper, "AGAIN_S", 0.01)
    path, events = tmp_path / "admin.json", list[Event]()
    path.with_name("admin.json.new").mkdir()
    keeper = AdminKeeper(path, plan("web"), events.extend)
    keeper.remember_giveaway(True)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            while not events:
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            path.with_name("admin.json.new").rmdir()
            while keeper.problem:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert read_admin(path).gaveaway
    assert [event.name for event in events] == ["state_broken"], "told once"


async def test_a_disk_that_hangs_is_refused_in_time_and_forgotten_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_keeper, "SAVE_S", 0.05)
    monkeypatch.setattr(admin_keeper, "AGAIN_S", 0.05)
    path, scratch, events = tmp_path / "admin.json", tmp_path / "admin.json.new", list[Event]()
    keeper = AdminKeeper(path, plan("web"), events.extend)
    os.mkfifo(scratch)  # to open it waits for a reader
    with trio.fail_after(10):
        threads = threading.active_count()
        for server in SERVERS[:10]:
            with pytest.raises(RefusedError, match=r"has not answered for 0.05 s\): nothing was changed"):
                await say(keeper, "web", server)
        assert keeper.state.entries() == {}
        assert threading.active_count() <= threads + 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            while not events:
                await trio.sleep(0.01)
            reader = os.open(scratch, os.O_RDONLY | os.O_NONBLOCK)
            scratch.unlink(missing_ok=True)  # the save that ends now has failed, and took it away
            while keeper.problem:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        os.close(reader)
    assert read_admin(path).entries() == {}, "what was refused is not in the file"
    assert [event.name for event in events] == ["state_broken"]


async def test_a_command_that_is_broken_off_leaves_the_file_as_the_state_is(tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    keeper = AdminKeeper(path, plan("web"), lambda events: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, keeper, "web", SERVERS[0])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await keeper.settle()
    assert keeper.state.entries() == read_admin(path).entries() == {}

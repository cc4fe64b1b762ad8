"""Two directors and a witness over real UDP on loopback; the gates are obedient and in memory."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence

import pytest
import trio

from hawatch.agent.node_loop import NodeLoop, open_link
from hawatch.agent.settings import now_ns
from hawatch.cluster.effects import (
    Activate,
    AdminAction,
    Arm,
    CloseGate,
    Command,
    GateArmed,
    GateClosed,
    GateOpened,
    NodeEvent,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import GroupSettings, Member, Membership
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import PROFILES
from hawatch.errors import LocalError
from hawatch.model import Event

pytestmark = pytest.mark.slow
RING = KeyRing({1: bytes(32)}, 1)
PATIENCE_S = 10


class Effects:
    """A gate that does what it is told."""

    def __init__(self) -> None:
        self.cancelled = False
        self.open = False

    def carry_out(self, command: Command) -> Sequence[NodeEvent]:
        match command:
            case Arm(group=group, number=number):
                return [GateArmed(group, number)]
            case Activate(group=group, number=number):
                self.open = True
                return [GateOpened(group, number)]
            case CloseGate(group=group):
                self.open = False
                return [GateClosed(group)]
        return []

    async def run(self, _give: Callable[[NodeEvent], None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled = True


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        port: int = asker.getsockname()[1]
        return port


class Trial:
    """The three nodes in one event loop."""

    def __init__(self) -> None:
        port = free_port()
        members = (
            Member("a", ("127.77.0.1", "::1")), Member("b", ("127.77.0.2", "::1")), Member("w", ("127.77.0.3", "::1"), True)
        )  # fmt: skip
        members = tuple(Member(each.name, each.links[:1], each.votes_only) for each in members)
        self.effects = {name: Effects() for name in ("a", "b")}
        self.events: list[Event] = []
        self.remembered: list[bool] = []
        self.owned_changed = 0
        self.loops: dict[str, NodeLoop] = {}
        for name in ("a", "b", "w"):
            membership = Membership("t", name, members, (GroupSettings("web", "a"),), PROFILES["fast"])
            node = Node(membership, RING, boot=now_ns(), random=random.Random(name), now_ns=now_ns(), silent=False)
            self.loops[name] = NodeLoop(
                node, port, now_ns, self.events.extend, self.effects.get(name),
                changed=self.note_change, remember=self.remembered.append,
            )  # fmt: skip

    def note_change(self) -> None:
        self.owned_changed += 1

    async def owner(self, name: str) -> None:
        with trio.fail_after(PATIENCE_S):
            while [key for key, each in self.effects.items() if each.open] != [name]:
                await trio.sleep(0.005)


async def test_one_owns_and_a_switchover_moves_it() -> None:
    trial = Trial()
    async with trio.open_nursery() as nursery:
        for loop in trial.loops.values():
            nursery.start_soon(loop.run)
        await trial.owner("a")
        with trio.fail_after(PATIENCE_S):
            answer = await trial.loops["a"].ask(AdminAction.SWITCHOVER, "web", "b")
            assert answer.done, answer
            assert trial.effects["b"].open
            assert not trial.effects["a"].open
            refused = await trial.loops["b"].ask(AdminAction.SWITCHOVER, "mail")
            assert not refused.done
            assert (await trial.loops["b"].ask(AdminAction.GIVEAWAY)).done
            assert trial.remembered == [True]
            await trial.owner("a")
            assert (await trial.loops["b"].ask(AdminAction.RESUME)).done
            assert trial.remembered == [True, False]
        assert trial.owned_changed >= 4
        nursery.start_soon(trial.loops["a"].ask, AdminAction.STOP)
        with trio.fail_after(PATIENCE_S):
            await trial.loops["a"].stopped.wait()
        await trial.owner("b")
        nursery.cancel_scope.cancel()
    assert all(each.cancelled for each in trial.effects.values())
    assert "switchover" in [event.name for event in trial.events]


async def test_rubbish_is_counted_and_changes_nothing() -> None:
    trial = Trial()
    async with trio.open_nursery() as nursery:
        for loop in trial.loops.values():
            nursery.start_soon(loop.run)
        await trial.owner("a")
        node = trial.loops["a"].node
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for size in range(0, 1400, 7):
                attacker.sendto(bytes(size), ("127.77.0.1", trial.loops["a"]._port))
        with trio.fail_after(PATIENCE_S):
            while sum(node.reception.rejections.values()) < 200:
                await trio.sleep(0.01)
        assert trial.effects["a"].open
        nursery.cancel_scope.cancel()


def test_an_address_may_come_up_later() -> None:
    port = free_port()
    for address in ("198.51.100.77", "2001:db8::77"):
        open_link(address, port).close()


def test_a_port_that_is_taken_is_told() -> None:
    port = free_port()
    first = open_link("127.0.0.1", port)
    with pytest.raises(LocalError, match=f"cannot listen on link 127.0.0.1 UDP port {port}: Address already in use"):
        open_link("127.0.0.1", port)
    first.close()

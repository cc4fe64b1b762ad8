"""Two directors and a witness over real UDP on loopback; the gates are obedient and in memory."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from hawatch.agent.heartbeat_noise import BURST, DATAGRAMS_PER_S, Noise
from hawatch.agent.node_loop import CLOSED, NodeLoop
from hawatch.agent.settings import now_ns
from hawatch.cluster.detector import PeerState
from hawatch.cluster.effects import (
    Activate,
    AdminAction,
    Answer,
    Arm,
    CloseGate,
    Command,
    DatagramReceived,
    GateArmed,
    GateClosed,
    GateOpened,
    NodeEvent,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import GroupSettings, Member, Membership
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import PROFILES
from hawatch.cluster.wire import Codec, GroupState, Rejection, identifier
from hawatch.errors import LocalError
from hawatch.model import NS_PER_S, Event

pytestmark = pytest.mark.slow
RING = KeyRing({1: bytes(32)}, 1)
PATIENCE_S = 10
STALL_NS = 3 * NS_PER_S // 10


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
        port = self.port = free_port()
        members = (
            Member("a", ("127.77.0.1", "::1")), Member("b", ("127.77.0.2", "::1")), Member("w", ("127.77.0.3", "::1"), True)
        )  # fmt: skip
        members = tuple(Member(each.name, each.links[:1], each.votes_only) for each in members)
        self.effects = {name: Effects() for name in ("a", "b")}
        self.events: list[Event] = []
        self.remembered: list[bool] = []
        self.owned_changed = 0
        self.late_ns: list[int] = []
        self.loops: dict[str, NodeLoop] = {}
        for name in ("a", "b", "w"):
            membership = Membership("t", name, members, (GroupSettings("web", "a"),), PROFILES["fast"])
            node = Node(membership, RING, boot=now_ns(), random=random.Random(name), now_ns=now_ns(), silent=False)
            self.loops[name] = NodeLoop(
                node, port, now_ns, self.events.extend, self.effects.get(name),
                changed=self.note_change, remember=self.remembered.append, late=self.late_ns.append,
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


@asynccontextmanager
async def just_stalled(trial: Trial) -> AsyncIterator[None]:
    """Run the nodes until one owns, then let nothing run for a while; they have not gone on yet in the block."""
    async with trio.open_nursery() as nursery:
        for loop in trial.loops.values():
            nursery.start_soon(loop.run)
        await trial.owner("a")
        trial.late_ns.clear()
        time.sleep(STALL_NS / NS_PER_S)
        yield
        nursery.cancel_scope.cancel()


async def test_each_turn_tells_how_late_it_was() -> None:
    """So a stall of some heartbeats is seen, whenever it comes."""
    trial = Trial()
    async with just_stalled(trial):
        await trio.sleep(PROFILES["fast"].heartbeat_ns / NS_PER_S)
    assert max(trial.late_ns) >= STALL_NS - PROFILES["fast"].heartbeat_ns


async def test_a_turn_that_something_else_took_before_the_timer_tells_how_late_it_was() -> None:
    """After a stall a datagram may be read first, and what is due is done with it."""
    trial = Trial()
    async with just_stalled(trial):
        for name in "ab":
            trial.loops[name].give(DatagramReceived(0, b"noise"))
        assert len(trial.late_ns) == 2
        assert min(trial.late_ns) >= STALL_NS - 2 * PROFILES["fast"].heartbeat_ns


async def test_a_loop_that_is_closed_answers_what_was_asked() -> None:
    trial = Trial()
    a = trial.loops["a"]
    answers: list[Answer] = []

    async def switch_over() -> None:
        answers.append(await a.ask(AdminAction.SWITCHOVER, "web", "b"))

    async with trio.open_nursery() as whole:
        whole.start_soon(trial.loops["w"].run)
        whole.start_soon(trial.loops["b"].run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.run)
            await trial.owner("a")
            trial.effects["b"].carry_out = lambda command: []  # type: ignore[method-assign]  # its kernel says nothing
            whole.start_soon(switch_over)
            with trio.fail_after(PATIENCE_S):
                while not a.node.requests.pending:
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        with trio.fail_after(PATIENCE_S):
            answers.append(await a.ask(AdminAction.GIVEAWAY))
            while len(answers) < 2:
                await trio.sleep(0.005)
        whole.cancel_scope.cancel()
    assert [(answer.done, answer.text) for answer in answers] == [(False, CLOSED)] * 2


def sender_at(address: str) -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((address, 0))
    return end


async def test_noise_is_told_by_its_origin_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hawatch.agent.node_loop.LOOK_INTERVAL_S", 0.5)
    trial = Trial()
    a = trial.loops["a"]
    async with trio.open_nursery() as nursery:
        for loop in trial.loops.values():
            nursery.start_soon(loop.run)
        await trial.owner("a")
        with sender_at("127.77.0.9") as stranger, sender_at("127.77.0.2") as member:
            for size in range(0, 1400, 7):
                stranger.sendto(bytes(size), ("127.77.0.1", trial.port))
            foreign = Codec("t", [], KeyRing({1: bytes([1] * 32)}, 1)).encode(identifier("b"), 1, 1, b"\3" + bytes(8))
            member.sendto(foreign, ("127.77.0.1", trial.port))
            member.sendto(b"hw" + bytes(100), ("127.77.0.1", trial.port))
            member.sendto(foreign[:2] + b"\1" + foreign[3:], ("127.77.0.1", trial.port))
            unreadable = Codec("t", [], RING).encode(identifier("b"), 1, 1, b"\xff")
            member.sendto(unreadable, ("127.77.0.1", trial.port))
        with trio.fail_after(PATIENCE_S):
            while not (told := [event for event in trial.events if event.name == "heartbeat_noise"]):
                await trio.sleep(0.01)
        assert trial.effects["a"].open
        nursery.cancel_scope.cancel()
    assert told[0].numbers == {"datagrams": 203}
    assert f"200 on 127.77.0.1 from 127.77.0.9 ({Noise.STRANGER})" in told[0].reason
    assert f"1 on 127.77.0.1 from 127.77.0.2, the address of b ({Noise.UNVERIFIED})" in told[0].reason
    assert f"1 on 127.77.0.1 from 127.77.0.2, the address of b ({Noise.UNLIKE})" in told[0].reason
    assert f"1 on 127.77.0.1 from 127.77.0.2, the address of b ({Noise.VERSION})" in told[0].reason
    assert a.node.reception.rejections[Rejection.TAG] == 1
    assert a.node.reception.rejections[Rejection.MALFORMED] == 1


async def test_a_flood_from_one_member_does_not_hold_up_the_other() -> None:
    """The flood is read within its budget; what the witness says is heard, so the owner goes on."""
    trial = Trial()
    a = trial.loops["a"]
    async with trio.open_nursery() as nursery:
        for loop in trial.loops.values():
            nursery.start_soon(loop.run)
        await trial.owner("a")
        group, start = a.node.groups["web"], now_ns()
        failed = group.renewals_failed
        data = Codec("t", [], KeyRing({1: bytes([1] * 32)}, 1)).encode(identifier("b"), 1, 1, b"\3" + bytes(8))
        with sender_at("127.77.0.2") as member:
            while now_ns() - start < NS_PER_S:
                for _ in range(100):
                    member.sendto(data, ("127.77.0.1", trial.port))
                await trio.sleep(0.001)
        read = a.node.reception.rejections[Rejection.TAG]
        spent_s = (now_ns() - start) / NS_PER_S
        assert 0 < read <= BURST + DATAGRAMS_PER_S * spent_s
        assert trial.effects["a"].open
        assert group.state is GroupState.OWNER
        assert group.renewals_failed <= failed + 1
        queue = a._links[0].queues[identifier("b")]
        assert queue.narrow
        assert a.node.site.detector.peers[identifier("b")].state in (PeerState.ALIVE, PeerState.LATE)
        assert not a._links[0].queues[identifier("w")].narrow
        with trio.fail_after(PATIENCE_S):
            while queue.narrow:
                await trio.sleep(0.05)
            heard_ns = a.node.site.detector.peers[identifier("b")].heard_ns
            while a.node.site.detector.peers[identifier("b")].heard_ns == heard_ns:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def test_a_port_that_is_taken_is_told() -> None:
    trial = Trial()
    with pytest.raises(LocalError, match=f"cannot listen on link 127.77.0.1 UDP port {trial.port}: Address already in"):
        NodeLoop(trial.loops["a"].node, trial.port, now_ns, trial.events.extend)
    for loop in trial.loops.values():
        loop.close()

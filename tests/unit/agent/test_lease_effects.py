"""A director's commands carried out in a network namespace, with the kernel's own gate and addresses."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from hawatch.actions.gate import Gate, Restored
from hawatch.actions.vip import Addresses, VipAddress
from hawatch.agent import lease_announcer, lease_effects
from hawatch.agent.group_vips import PAUSE_S
from hawatch.agent.lease import LeasedOwnership
from hawatch.agent.lease_effects import KernelEffects
from hawatch.agent.lease_site import membership_of, read_keys
from hawatch.agent.node_loop import NodeLoop
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings, now_ns
from hawatch.cli.main import main as keygen
from hawatch.cluster.effects import Activate, AddAddresses, Arm, GateArmed, GateOpened, InstallGroups, NodeEvent
from hawatch.cluster.node import Node
from hawatch.config.load import load_text
from hawatch.errors import KernelError
from hawatch.model import NS_PER_S, Event, Plan
from tests.unit.actions.two_hosts import VIP, TwoHosts, ip, two_hosts
from tests.unit.config.fakes import TWO

pytestmark = pytest.mark.netns
PATIENCE_S = 20.0
MINUTE_NS = 60 * NS_PER_S


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


def settings_of(state: Path, interface: str = "eth0", **groups: str) -> Settings:
    """Return settings of a pair whose groups have one address each, all on one interface."""
    text = TWO
    for name, address in groups.items():
        row = f'{{ address = "{address}", interface = "{interface}" }}'
        text += f'[[group]]\nname = "{name}"\naddresses = [{row}]\n'
    return Settings(load_text(text), Plan((), {}), "lvs1", "", Places(state, state, state))


async def play(effects: KernelEffects, script: Callable[[], Awaitable[None]]) -> None:
    """Run effects until the script ends."""
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(effects.run, lambda event: None)
                await trio.testing.wait_all_tasks_blocked()
                await script()
                nursery.cancel_scope.cancel()
    finally:
        effects.close_sockets()


def own(effects: KernelEffects, group: str) -> None:
    """Have effects open a group's gate and put its addresses up, for a minute."""
    done = effects.carry_out(Arm(group, 0, MINUTE_NS, 1)), effects.carry_out(Activate(group, 0, 1))
    assert [type(each) for events in done for each in events] == [GateArmed, GateOpened]
    effects.carry_out(AddAddresses(group, MINUTE_NS))


class Unlucky(KernelEffects):
    """Effects whose gate cannot be read as long as another firewall changes it."""

    def _install(self, settings: Settings) -> None:
        raise KernelError("netlink: the table changed 8 times while it was read")


def test_effects_that_cannot_be_made_leave_the_gate_to_the_next_try(hosts: TwoHosts, tmp_path: Path) -> None:
    events: list[Event] = []
    settings = settings_of(tmp_path, web=VIP)

    def work() -> None:
        with pytest.raises(KernelError, match="changed 8 times") as failed:
            Unlucky(settings, events.extend)
        assert failed.traceback  # which keeps the object alive, as a caller's does
        KernelEffects(settings, events.extend).close_sockets()

    hosts.on_a(work)


def test_addresses_of_many_groups_are_looked_at_at_once_and_not_for_a_renewal(hosts: TwoHosts, tmp_path: Path) -> None:
    events: list[Event] = []
    many = {f"g{number}": f"192.0.2.{100 + number}" for number in range(20)}

    async def main() -> None:
        effects = KernelEffects(settings_of(tmp_path, **many), events.extend)
        netlink = effects._addresses._netlink

        async def script() -> None:
            for group in many:
                own(effects, group)
            before = netlink.requests
            for group in many:
                effects.carry_out(AddAddresses(group, MINUTE_NS))
            await trio.sleep(0.3)
            assert netlink.requests - before == len(many)
            ip("-n", hosts.a, "address", "del", "192.0.2.105/32", "dev", "eth0")
            while not events:
                await trio.sleep(0.01)
            assert netlink.requests - before == len(many) + 2  # a look and an addition

        await play(effects, script)

    hosts.on_a(lambda: trio.run(main))
    assert [(event.name, event.group) for event in events] == [("vip_restored", "g5")]


def test_addresses_that_are_taken_one_after_the_other_are_put_back_together(
    hosts: TwoHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_effects, "TOGETHER_S", 0.05)  # a busy machine takes its time between the two
    events: list[Event] = []
    first, second = (VipAddress.parse(f"{address}/32", "eth0") for address in (VIP, "192.0.2.111"))

    async def main() -> None:
        rows = ", ".join(f'{{ address = "{one.address}/32", interface = "eth0" }}' for one in (first, second))
        config = load_text(f'{TWO}[[group]]\nname = "web"\naddresses = [{rows}]\n')
        effects = KernelEffects(replace(settings_of(tmp_path), config=config), events.extend)
        other = Addresses()

        async def script() -> None:
            own(effects, "web")
            other.remove([first])
            while not effects._taken.is_set():
                await trio.lowlevel.checkpoint()
            for _ in range(10):  # whoever is to run because of it has run
                await trio.lowlevel.checkpoint()
            other.remove([second])
            while len(other.present([first, second])) < 2:
                await trio.sleep(0.01)
            await trio.sleep(2 * PAUSE_S)

        await play(effects, script)
        other.close()

    hosts.on_a(lambda: trio.run(main))
    assert [event.reason for event in events] == [f"somebody removed {VIP}, {second.address}: put back"]


def test_what_was_taken_while_the_gate_was_closed_is_put_back_when_it_is_open_again(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    events: list[Event] = []
    vip = VipAddress.parse(f"{VIP}/32", "eth0")

    async def main() -> None:
        effects = KernelEffects(settings_of(tmp_path, web=VIP), events.extend)
        other = Addresses()

        async def script() -> None:
            own(effects, "web")
            effects._gate.close("web")  # as when it was put back late, and the next round is under way
            other.remove([vip])
            await trio.sleep(2 * PAUSE_S)
            assert not other.present([vip]), "nobody says that this director may have it"
            effects.carry_out(Arm("web", 1, MINUTE_NS, 2))
            effects.carry_out(Activate("web", 1, 2))
            while not other.present([vip]):
                await trio.sleep(0.01)

        await play(effects, script)
        other.close()

    hosts.on_a(lambda: trio.run(main))
    assert [event.name for event in events] == ["vip_restored"]


def test_who_takes_an_address_away_again_and_again_is_told_of_now_and_then(hosts: TwoHosts, tmp_path: Path) -> None:
    events: list[Event] = []
    vip = VipAddress.parse(f"{VIP}/32", "eth0")
    taken = 0

    async def main() -> None:
        nonlocal taken
        effects = KernelEffects(settings_of(tmp_path, web=VIP), events.extend)
        other = Addresses()

        async def script() -> None:
            nonlocal taken
            own(effects, "web")
            end = trio.current_time() + 1
            while trio.current_time() < end:
                taken += len(other.present([vip]))
                other.remove([vip])
                await trio.sleep(0.001)
            while not other.present([vip]):
                await trio.sleep(0.01)

        await play(effects, script)
        other.close()

    hosts.on_a(lambda: trio.run(main))
    assert {event.name for event in events} == {"vip_restored"}
    assert 1 < len(events) <= taken + 1
    assert len(events) <= 1 + 1.5 / PAUSE_S


def test_a_gate_that_cannot_be_put_back_is_tried_until_it_is_and_nothing_is_renewed_meanwhile(
    hosts: TwoHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    answers: list[str] = []
    restore, refusals = Gate.restore, iter(range(3))

    def restore_at_last(gate: Gate, reason: str) -> Restored:
        if next(refusals, None) is not None:
            raise KernelError("netlink: Device or resource busy")
        return restore(gate, reason)

    monkeypatch.setattr(lease_effects, "REOPEN_S", 0.1)
    monkeypatch.setattr(Gate, "open", partial(Gate.open, own=False))
    monkeypatch.setattr(Gate, "restore", restore_at_last)

    async def main() -> None:
        effects = KernelEffects(settings_of(tmp_path, web=VIP), events.extend)

        async def script() -> None:
            own(effects, "web")
            subprocess.run(["ip", "netns", "exec", hosts.a, "nft", "flush", "ruleset"], check=True)
            while not events:
                await trio.sleep(0.01)
            answers.extend(type(each).__name__ for each in effects.carry_out(Arm("web", 1, MINUTE_NS, 2)))
            while len(events) < 2:
                await trio.sleep(0.01)
            answers.extend(type(each).__name__ for each in effects.carry_out(Arm("web", 1, MINUTE_NS, 3)))
            assert effects._gate.verify() == ""

        await play(effects, script)

    hosts.on_a(lambda: trio.run(main))
    assert next(refusals, None) is None
    assert [(event.name, event.reason) for event in events[:1]] == [
        ("gate_failed", "the gate cannot be put back: netlink: Device or resource busy")
    ]
    assert [event.name for event in events] == ["gate_failed", "gate_restored"]
    assert answers == ["GateFailed", "GateArmed"]


def test_an_interface_that_comes_up_late_or_is_wanted_no_more_is_complained_of_no_more(
    hosts: TwoHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_announcer, "CONFLICT_INTERVAL_S", 0.1)
    events: list[Event] = []
    missing = "eth7: no packet socket: No such device"

    async def main() -> None:
        effects = KernelEffects(settings_of(tmp_path, "eth7", web=VIP), events.extend)

        async def script() -> None:
            assert effects.problems() == [missing]
            ip("-n", hosts.a, "link", "add", "eth7", "type", "veth", "peer", "name", "eth8")
            while effects.problems():
                await trio.sleep(0.01)
            effects.set_settings(settings_of(tmp_path, "eth9", web=VIP))
            effects.carry_out(InstallGroups())
            assert effects.problems() == [missing.replace("eth7", "eth9")]
            effects.set_settings(settings_of(tmp_path, web=VIP))
            effects.carry_out(InstallGroups())
            while effects.problems():
                await trio.sleep(0.01)

        await play(effects, script)

    hosts.on_a(lambda: trio.run(main))
    assert [event.reason[:4] for event in events] == ["eth7", "eth9"]


def test_a_group_that_is_gone_is_complained_of_no_more(hosts: TwoHosts, tmp_path: Path) -> None:
    def work() -> list[list[str]]:
        effects = KernelEffects(settings_of(tmp_path, "eth7", web=VIP), lambda events: None)
        found = []
        effects.carry_out(AddAddresses("web", MINUTE_NS))
        found.append(effects.problems())
        effects.set_settings(settings_of(tmp_path, mail="192.0.2.111"))
        effects.carry_out(InstallGroups())
        found.append(effects.problems())
        effects.close_sockets()
        return found

    assert hosts.on_a(work) == [[f"{VIP} cannot be put on eth7: there is no such interface"], []]


@pytest.mark.slow
def test_an_owner_whose_kernel_fails_once_goes_on_owning(hosts: TwoHosts, tmp_path: Path) -> None:
    """Its gate is still open, and is adopted at once: the other director and the witness grant as after a restart."""
    ip("-n", hosts.a, "link", "set", "lo", "up")
    assert keygen(["keygen", str(tmp_path / "key")]) == 0
    text = TWO.replace("/etc/hawatch/cluster.key", str(tmp_path / "key")).replace('quorum = "none"', "port = 16941")
    text += '[[witness]]\nname = "w"\nlinks = ["127.0.0.3"]\n[[group]]\nname = "web"\n'
    text += f'addresses = [{{ address = "{VIP}/32", interface = "eth0" }}]\n'
    settings = Settings(load_text(text), Plan((), {}), "lvs1", "", Places(tmp_path, tmp_path, tmp_path))
    vip = VipAddress.parse(f"{VIP}/32", "eth0")
    failing: list[trio.Event] = []
    events: list[Event] = []

    class FailsOnce(KernelEffects):
        async def run(self, give: Callable[[NodeEvent], None]) -> None:
            failing.append(trio.Event())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().run, give)
                await failing[-1].wait()
                raise KernelError("netlink: No buffer space available")

    def other(name: str) -> NodeLoop:
        """Return another node; the director among them was given away."""
        membership = membership_of(settings.config, name)
        node = Node(
            membership, read_keys(settings.config), boot=now_ns(), random=Random(name), now_ns=now_ns(), paused=True
        )
        return NodeLoop(node, settings.config.cluster.port, now_ns, lambda _: None)

    async def main() -> list[bool]:
        ownership = LeasedOwnership(settings, FailsOnce, paused=False, remember=lambda paused: None)
        looker, seen = Addresses(), list[bool]()
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for name in ("lvs2", "w"):
                    nursery.start_soon(other(name).run)
                nursery.start_soon(ownership.run, events.extend, lambda: None)
                while not looker.present([vip]):
                    await trio.sleep(0.01)
                await trio.sleep(2)  # the acceptors' silence is over
                failing[0].set()
                while len(failing) < 2 or not ownership.owned():
                    seen.append(bool(looker.present([vip])))
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        looker.close()
        return seen

    seen = hosts.on_a(lambda: trio.run(main))
    assert len(seen) > 1
    assert all(seen)
    assert [event.name for event in events if event.name in ("takeover", "lease_failed", "release", "lease_lost")] == [
        "takeover", "lease_failed", "takeover"
    ]  # fmt: skip


def test_another_director_is_known_by_its_links(hosts: TwoHosts, tmp_path: Path) -> None:
    effects = hosts.on_a(lambda: KernelEffects(settings_of(tmp_path, web=VIP), lambda events: None))
    try:
        names = [effects.director_at(address) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "")]
        assert names == ["", "lvs2", "", ""]
    finally:
        effects.close_sockets()


def test_an_interface_without_ipv6_is_worth_less_to_a_group_that_needs_it(hosts: TwoHosts, tmp_path: Path) -> None:
    def lacking(address: str) -> list[str]:
        """Return the interfaces that lack IPv6 for a director that has such an address."""
        settings = settings_of(tmp_path, web=address)
        effects = KernelEffects(settings, lambda events: None)
        try:
            effects.carry_out(InstallGroups())
            return list(effects.fitness()[1])
        finally:
            effects.close_sockets()

    for breaks, mends in (
        ("net.ipv6.conf.eth0.disable_ipv6=1", "net.ipv6.conf.eth0.disable_ipv6=0"),
        ("mtu 1000", "mtu 1500"),
    ):
        assert hosts.on_a(lambda: lacking("fd00::110")) == []
        change(hosts, breaks)
        assert hosts.on_a(lambda: lacking("fd00::110")) == ["eth0"]
        assert hosts.on_a(lambda: lacking("192.0.2.110")) == []
        change(hosts, mends)


def change(hosts: TwoHosts, what: str) -> None:
    """Set a variable of the kernel's, or eth0's MTU."""
    if what.startswith("mtu"):
        ip("-n", hosts.a, "link", "set", "eth0", *what.split())
    else:
        subprocess.run(["ip", "netns", "exec", hosts.a, "sysctl", "-qw", what], check=True)

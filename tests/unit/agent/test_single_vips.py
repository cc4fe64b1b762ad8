"""The addresses of a single director, on real interfaces of a network namespace."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from hawatch.actions.arp import Wire
from hawatch.actions.gate import Gate
from hawatch.actions.gate_rules import GateGroup
from hawatch.actions.netlink import NETLINK_ROUTE
from hawatch.actions.notifications import Listener
from hawatch.actions.vip import ADDRESS_GROUPS, Addresses, VipAddress
from hawatch.agent import lease_announcer, single_vips
from hawatch.agent.group_vips import PAUSE_S
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings
from hawatch.agent.single_vips import SingleVips, from_word, to_word
from hawatch.agent.words_file import read_words
from hawatch.config.load import load_text
from hawatch.model import NS_PER_S, Event, Plan
from tests.unit.actions.two_hosts import ALL, MAC_C, VIP, VIP6, Asker, TwoHosts, ip, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]
PATIENCE_S = 20.0
BOTH = (f"{VIP}/32@eth0", f"{VIP6}/128@eth0")
OTHER = "192.0.2.111"


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


class Play:
    """A director's addresses being looked after, until the script ends."""

    def __init__(self, hosts: TwoHosts, state: Path) -> None:
        self.hosts = hosts
        self.state = state
        self.events: list[Event] = []
        self.vips: SingleVips | None = None

    def settings(self, **groups: tuple[str, ...]) -> Settings:
        text = '[[director]]\nname = "lvs1"\n'
        for name, words in groups.items():
            pairs = [word.split("@") for word in words]
            rows = ", ".join(f'{{ address = "{address}", interface = "{interface}" }}' for address, interface in pairs)
            text += f'[[group]]\nname = "{name}"\naddresses = [{rows}]\n'
        places = Places(self.state, self.state, self.state)
        return Settings(load_text(text), Plan((), {}), "lvs1", "", places)

    def run(self, settings: Settings, script: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self.vips = SingleVips(settings, self.events.extend)
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.vips.run)
                    await script()
                    nursery.cancel_scope.cancel()

        self.hosts.on_a(lambda: trio.run(main))

    async def until(self, truth: Callable[[], object]) -> None:
        while not truth():
            await trio.sleep(0.02)

    async def up(self, *addresses: str) -> None:
        await self.until(lambda: all(f" {address}/" in self.hosts.addresses() for address in addresses))

    def lines(self, address: str) -> str:
        return "".join(line for line in self.hosts.addresses().splitlines() if f" {address}/" in line)

    def kept(self) -> list[str]:
        """Return the addresses in the file of those that were put up here."""
        return sorted(read_words(self.state / "addresses"))

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@pytest.fixture
def play(hosts: TwoHosts, tmp_path: Path) -> Play:
    return Play(hosts, tmp_path)


def test_addresses_are_up_for_good_and_announced(play: Play) -> None:
    wire = play.hosts.on_c(lambda: Wire("eth0"))

    async def script() -> None:
        told: set[str] = set()
        await play.up(VIP, VIP6)
        while told != {VIP, VIP6}:
            await trio.sleep(0.02)
            told |= {one.address for one in wire.heard()} & {VIP, VIP6}

    try:
        play.run(play.settings(web=BOTH), script)
    finally:
        wire.close()
    for address in (VIP, VIP6):
        line = play.lines(address)
        assert "deprecated" in line
        assert "valid_lft forever" in line
        assert "tentative" not in line
    assert play.events == []
    assert play.vips is not None
    assert play.vips.problems() == []


def test_what_is_removed_by_hand_is_put_back(play: Play) -> None:
    async def script() -> None:
        await play.up(VIP, VIP6)
        ip("-n", play.hosts.a, "address", "del", f"{VIP}/32", "dev", "eth0")
        await play.until(lambda: play.events)
        await play.up(VIP)

    play.run(play.settings(web=BOTH), script)
    (event,) = play.events
    assert (event.name, event.group) == ("vip_restored", "web")
    assert event.reason == f"somebody removed {VIP}: put back"


def test_what_is_removed_one_after_the_other_is_put_back_together(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_vips, "TOGETHER_S", 0.05)  # a busy machine takes its time between the two
    others = [VipAddress.parse(*word.split("@")) for word in BOTH]

    async def script() -> None:
        await play.up(VIP, VIP6)
        await trio.sleep(3 * PAUSE_S)  # it waits for a change now
        assert play.vips is not None
        addresses = Addresses()
        for one in others:
            addresses.remove([one])
            while not play.vips._changed.is_set():
                await trio.lowlevel.checkpoint()
            for _ in range(10):  # whoever is to run because of it has run
                await trio.lowlevel.checkpoint()
        addresses.close()
        await play.until(lambda: play.events)
        await trio.sleep(3 * PAUSE_S)

    play.run(play.settings(web=BOTH), script)
    assert [event.reason for event in play.events] == [f"somebody removed {VIP}, {VIP6}: put back"]


def test_a_restart_changes_nothing(play: Play) -> None:
    play.run(play.settings(web=BOTH), lambda: play.up(VIP, VIP6))
    listener = play.hosts.on_a(lambda: Listener(NETLINK_ROUTE, ADDRESS_GROUPS))

    async def script() -> None:
        assert play.vips is not None
        await play.until(lambda: play.vips.owned())
        await trio.sleep(0.3)

    play.run(play.settings(web=BOTH), script)
    assert listener.drain().messages == ()
    listener.close()


def test_a_reload_takes_down_what_it_names_no_more_and_moves_nothing_else(play: Play) -> None:
    listener = play.hosts.on_a(lambda: Listener(NETLINK_ROUTE, ADDRESS_GROUPS))

    async def script() -> None:
        await play.up(VIP, VIP6)
        listener.drain()
        assert play.vips is not None
        play.vips.set_settings(play.settings(mail=BOTH[:1], news=(f"{OTHER}/32@eth0",)))
        await play.up(OTHER)
        await play.until(lambda: not play.lines(VIP6))
        assert play.vips.owned() == ["mail", "news"]
        assert play.vips.places("web") == []
        await play.until(lambda: play.kept() == [f"{VIP}/32@eth0", f"{OTHER}/32@eth0"])

    play.run(play.settings(web=BOTH), script)
    assert {message.kind for message in listener.drain().messages if VIP.encode() in message.body} == set()
    assert play.lines(VIP)
    listener.close()


def test_a_restart_with_another_configuration_takes_down_what_it_names_no_more(play: Play) -> None:
    play.run(play.settings(web=BOTH), lambda: play.until(play.kept))
    play.run(play.settings(web=BOTH[1:]), lambda: play.until(lambda: not play.lines(VIP)))
    assert play.lines(VIP6)


def test_what_the_system_brought_up_stays_as_it_is(play: Play) -> None:
    play.hosts.add_vips()
    (play.state / "addresses").write_text(f"{VIP}/32@eth0\n")  # of before the boot
    before = play.hosts.addresses()

    async def script() -> None:
        assert play.vips is not None
        await play.until(lambda: play.vips.owned())
        play.vips.set_settings(play.settings(web=(f"{OTHER}/32@eth0",)))
        await play.up(OTHER)
        await play.until(lambda: play.kept() == [f"{OTHER}/32@eth0"])

    play.run(play.settings(web=BOTH), script)
    assert play.lines(VIP) + play.lines(VIP6)
    assert all(line in play.hosts.addresses() for line in before.splitlines())


def test_an_address_that_a_lease_has_left_stays(play: Play) -> None:
    def lease() -> None:
        addresses = Addresses()
        addresses.add([VipAddress.parse(f"{VIP}/32", "eth0")], 60 * NS_PER_S)
        addresses.close()

    play.hosts.on_a(lease)
    assert "valid_lft forever" not in play.lines(VIP)
    play.run(play.settings(web=BOTH[:1]), lambda: play.until(lambda: "valid_lft forever" in play.lines(VIP)))


def test_a_gate_that_a_lease_has_left_is_removed(play: Play) -> None:
    def leave_gate() -> None:
        gate = Gate.open(own=False)
        gate.install({"web": GateGroup((VIP, VIP6))})
        gate.close_sockets()

    play.hosts.on_a(leave_gate)

    async def script() -> None:
        await play.up(VIP, VIP6)
        asker = Asker(play.hosts)
        try:
            await play.until(lambda: asker.answers() == ALL)
        finally:
            asker.close()

    play.run(play.settings(web=BOTH), script)
    assert play.events == []


def test_an_interface_that_is_missing_is_told_and_tried_again(play: Play) -> None:
    async def script() -> None:
        assert play.vips is not None
        await play.up(VIP)
        await play.until(lambda: play.named("vip_failed"))
        problem = f"{OTHER} cannot be put on eth7: there is no such interface"
        assert play.vips.problem("web") == problem
        assert play.vips.problems() == [problem]
        for number in (1, 2):
            cable = ("add", "eth7", "up", "type", "veth", "peer", "name", "eth7", "netns", play.hosts.c)
            ip("-n", play.hosts.a, "link", *cable)
            ip("-n", play.hosts.c, "link", "set", "eth7", "up")
            wire = play.hosts.on_c(lambda: Wire("eth7"))
            await play.until(lambda number=number: len(play.named("vip_restored")) == number)
            await play.until(lambda: play.vips.problems() == [])
            await play.until(lambda wire=wire: OTHER in {one.address for one in wire.heard()})
            wire.close()
            ip("-n", play.hosts.a, "link", "del", "eth7")
            await play.until(lambda: play.vips.problem("web"))

    play.run(play.settings(web=(f"{VIP}/32@eth0", f"{OTHER}/32@eth7")), script)
    reasons = {event.reason for event in play.named("vip_restored")}
    assert reasons == {f"{OTHER} could not be put up, and is up now"}
    assert {event.name for event in play.events} == {"vip_failed", "vip_restored"}


def test_another_machine_that_answers_is_told(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_announcer, "CONFLICT_INTERVAL_S", 0.1)

    async def script() -> None:
        await play.up(VIP)
        ip("-n", play.hosts.c, "address", "add", f"{VIP}/32", "dev", "eth0")
        await play.until(lambda: play.named("vip_conflict"))
        assert f" {VIP}/" in play.hosts.addresses()

    play.run(play.settings(web=BOTH), script)
    reason = play.named("vip_conflict")[0].reason
    assert MAC_C in reason
    assert "arp_ignore" in reason


def leave_behind(one: VipAddress) -> None:
    addresses = Addresses()
    assert addresses.add([one], 600 * NS_PER_S) == []
    addresses.close()


@pytest.mark.parametrize("left", [False, True], ids=["nothing is up", "a lease has left the address behind"])
@pytest.mark.parametrize("vip", [VIP, VIP6], ids=["IPv4", "IPv6"])
def test_an_address_that_another_machine_has_is_not_put_up_by_one_that_shared_it_once(
    left: bool, vip: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_vips, "RETRY_S", 0.1)
    length = "128" if ":" in vip else "32"
    play.settings().places.boot_file.write_text("7\n")
    ip("-n", play.hosts.c, "address", "add", f"{vip}/{length}", "dev", "eth0")
    if left:
        play.hosts.on_a(lambda: leave_behind(VipAddress.parse(f"{vip}/{length}", "eth0")))

    async def script() -> None:
        assert play.vips is not None
        await play.up(OTHER)
        await play.until(lambda: play.named("vip_conflict"))
        await trio.sleep(3 * 0.1)
        assert f" {vip}/" not in play.hosts.addresses()
        assert MAC_C in play.vips.problem("web")
        assert play.vips.problem("web") in play.vips.problems()
        assert play.vips.problem("mail") == ""
        ip("-n", play.hosts.c, "address", "del", f"{vip}/{length}", "dev", "eth0")
        await play.up(VIP, VIP6)
        assert play.vips.problems() == []

    play.run(play.settings(web=BOTH, mail=(f"{OTHER}/32@eth0",)), script)
    (event,) = play.named("vip_conflict")
    assert f"{vip}, which stays down here until that ends" in event.reason
    assert {event.name for event in play.events} == {"vip_conflict", "vip_restored"}


def test_a_state_directory_that_cannot_be_written_is_told(play: Play) -> None:
    play.state = play.state / "none"

    async def script() -> None:
        await play.up(VIP, VIP6)
        await play.until(lambda: play.events)

    play.run(play.settings(web=BOTH), script)
    (event,) = play.events
    assert event.name == "state_broken"
    assert "addresses that the configuration names no more stay up" in event.reason


def test_a_disk_that_hangs_keeps_no_address_down(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_vips, "WRITE_S", 0.1)
    os.mkfifo(play.state / "addresses.new")  # to open it waits for a reader

    async def script() -> None:
        await play.up(VIP, VIP6)
        for number in (1, 2):
            ip("-n", play.hosts.a, "address", "del", f"{VIP}/32", "dev", "eth0")
            await play.until(lambda number=number: len(play.named("vip_restored")) == number)
            await play.up(VIP)

    play.run(play.settings(web=BOTH), script)
    assert {event.name for event in play.events} == {"vip_restored"}
    os.close(os.open(play.state / "addresses.new", os.O_RDONLY | os.O_NONBLOCK))  # the thread goes on


def test_words_of_the_file() -> None:
    one = VipAddress.parse("192.0.2.1/24", "eth0", "eth0:web")
    assert to_word(one) == "192.0.2.1/24@eth0"
    assert from_word("192.0.2.1/24@eth0") == VipAddress.parse("192.0.2.1/24", "eth0")
    assert from_word("nonsense") is None
    assert from_word("192.0.2.1/x@eth0") is None

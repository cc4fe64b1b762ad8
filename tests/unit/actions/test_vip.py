from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hawatch.actions.netlink import NETLINK_ROUTE
from hawatch.actions.notifications import Listener
from hawatch.actions.vip import ADDRESS_GROUPS, Addresses, Present, VipAddress, parse_address
from hawatch.model import NS_PER_S
from tests.unit.actions.two_hosts import VIP, VIP6, TwoHosts, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]
BOTH = (VipAddress.parse(f"{VIP}/32", "eth0", "eth0:web"), VipAddress.parse(f"{VIP6}/128", "eth0"))


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


def test_addresses_come_deprecated_with_a_lifetime_and_go(hosts: TwoHosts) -> None:
    def work() -> None:
        addresses = Addresses()
        assert addresses.present(BOTH) == set()
        assert addresses.add(BOTH, 3 * NS_PER_S // 2) == []
        assert addresses.add(BOTH, 3 * NS_PER_S // 2) == []
        assert addresses.present(BOTH) == set(BOTH)
        shown = hosts.addresses()
        v4, v6 = (next(line for line in shown.splitlines() if address in line) for address in (VIP, VIP6))
        for line in (v4, v6):
            assert "deprecated" in line
            assert "valid_lft 2sec preferred_lft 0sec" in line
        assert "eth0:web" in v4
        assert "nodad" in v6
        assert "tentative" not in v6
        assert addresses.add(BOTH, 9 * NS_PER_S) == []
        assert hosts.addresses().count("valid_lft 9sec") == 2
        assert addresses.remove(BOTH) == []
        assert addresses.remove(BOTH) == []
        assert addresses.present(BOTH) == set()
        assert "192.0.2.1/24" in hosts.addresses()
        addresses.close()

    hosts.on_a(work)


def test_it_is_never_the_source_of_a_connection(hosts: TwoHosts) -> None:
    def work() -> str:
        addresses = Addresses()
        addresses.add(BOTH, 0)
        addresses.close()
        done = [
            subprocess.run(["ip", "route", "get", to], capture_output=True, text=True, check=True).stdout
            for to in ("192.0.2.2", "2001:db8::2")
        ]
        return "".join(done)

    routes = hosts.on_a(work)
    assert "src 192.0.2.1 " in routes
    assert "src 2001:db8::1 " in routes


def test_what_cannot_be_done_is_told(hosts: TwoHosts) -> None:
    nowhere = VipAddress.parse("192.0.2.111/32", "eth7")

    def work() -> tuple[list[str], list[str]]:
        addresses = Addresses()
        told = addresses.add([nowhere, *BOTH], 0)
        gone = addresses.remove([nowhere, *BOTH])
        addresses.close()
        return told, gone

    told, gone = hosts.on_a(work)
    assert told == ["192.0.2.111 cannot be put on eth7: there is no such interface"]
    assert gone == []


def test_it_is_told_how_addresses_are_up(hosts: TwoHosts) -> None:
    def work() -> tuple[dict[VipAddress, Present], dict[VipAddress, Present]]:
        addresses = Addresses()
        addresses.add(BOTH[:1], 5 * NS_PER_S)
        addresses.add(BOTH[1:], 0)
        ours = addresses.look(BOTH)
        addresses.remove(BOTH)
        hosts.add_vips()
        systems = addresses.look(BOTH)
        subprocess.run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0", "preferred_lft", "0"], check=True)
        assert addresses.look(BOTH) == systems
        addresses.close()
        return ours, systems

    ours, systems = hosts.on_a(work)
    v4, v6 = BOTH
    assert ours == {v4: Present(32, True, False), v6: Present(128, True, True)}
    assert systems == {v4: Present(32, False, True), v6: Present(128, False, True)}


def test_what_the_system_has_on_loopback_is_another_and_stays(hosts: TwoHosts) -> None:
    systems = [f"{VIP}/32", f"{VIP6}/128"]

    def on_loopback() -> list[str]:
        words = hosts.on_a(
            lambda: subprocess.run(["ip", "-o", "address", "show", "dev", "lo"], capture_output=True, text=True)
        ).stdout.split()
        return [word for word in words if word in systems]

    def local() -> list[bool]:
        """Tell of each VIP whether this machine takes packets for it."""
        return [
            "local" in subprocess.run(["ip", "route", "get", one], capture_output=True, text=True).stdout.split()
            for one in (VIP, VIP6)
        ]

    def work() -> None:
        for one in systems:
            subprocess.run(["ip", "address", "add", one, "dev", "lo"], check=True)
        addresses = Addresses()
        for take_down in (
            lambda: addresses.remove(BOTH),
            lambda: addresses.remove_everywhere({VIP, VIP6}),
        ):
            assert addresses.add(BOTH, 3 * NS_PER_S) == []
            assert addresses.present(BOTH) == set(BOTH)
            assert on_loopback() == systems
            assert take_down() == []
            assert addresses.present(BOTH) == set()
            assert on_loopback() == systems
            assert local() == [True, True]
        subprocess.run(["ip", "address", "flush", "dev", "lo", "scope", "global"], check=True)
        ours = [VipAddress(VIP, 32, "lo"), VipAddress(VIP6, 128, "lo")]
        assert addresses.add(ours, 0) == []
        assert addresses.remove_everywhere({VIP, VIP6}) == []
        assert addresses.present(ours) == set()
        addresses.close()

    hosts.on_a(work)


def test_a_removal_by_others_is_heard(hosts: TwoHosts) -> None:
    listener = hosts.on_a(lambda: Listener(NETLINK_ROUTE, ADDRESS_GROUPS))
    hosts.add_vips()
    subprocess.run(["ip", "-n", hosts.a, "address", "del", f"{VIP}/32", "dev", "eth0"], check=True)
    drained = listener.drain()
    assert not drained.lost
    told = [(one.kind, parse_address(one.body)[0]) for one in drained.messages]
    assert (20, VIP) in told
    assert (21, VIP) in told
    assert listener.drain().messages == ()
    listener.close()

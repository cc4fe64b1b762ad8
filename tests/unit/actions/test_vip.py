from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hawatch.actions.netlink import NETLINK_ROUTE
from hawatch.actions.notifications import Listener
from hawatch.actions.vip import (
    ADDRESS_GROUPS,
    LINK_GROUP,
    Addresses,
    Present,
    VipAddress,
    missing_interfaces,
    parse_address,
)
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
            assert "scope global" in line
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


@contextmanager
def without_right() -> Iterator[None]:
    """Take the right to configure the network (CAP_NET_ADMIN, 12) from this thread alone (capset(2)) for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    had = (ctypes.c_uint32 * 6)()
    """Effective, permitted and inheritable, twice 32 bits of each."""
    assert libc.capget(head, had) == 0
    assert libc.capset(head, (ctypes.c_uint32 * 6)(had[0] & ~(1 << 12), *had[1:])) == 0
    try:
        yield
    finally:
        assert libc.capset(head, had) == 0


def test_what_the_kernel_refuses_is_told_of_each_address(hosts: TwoHosts) -> None:
    def work() -> list[list[str]]:
        addresses = Addresses()
        addresses.add(BOTH, 0)
        nowhere = VipAddress.parse("192.0.2.111/32", "eth7")
        with without_right():
            told = [
                addresses.add([BOTH[0], nowhere, BOTH[1]], 0),
                addresses.remove([nowhere, *BOTH]),
                sorted(addresses.remove_everywhere({VIP, VIP6})),
            ]
        assert addresses.present(BOTH) == set(BOTH)
        addresses.close()
        return told

    added, removed, removed_everywhere = hosts.on_a(work)
    why = "Operation not permitted"
    assert added == [
        "192.0.2.111 cannot be put on eth7: there is no such interface",
        *(f"{one} cannot be put on eth0: {why}" for one in (VIP, VIP6)),
    ]
    assert removed == [f"{one} cannot be taken off eth0: {why}" for one in (VIP, VIP6)]
    index = hosts.addresses().split(":")[0]
    assert removed_everywhere == [f"{one} cannot be taken off interface {index}: {why}" for one in (VIP, VIP6)]


def test_addresses_are_taken_off_everywhere_and_no_others(hosts: TwoHosts) -> None:
    """What the system put on an interface that is not the loopback goes too, and with whatever prefix length."""

    def work() -> None:
        subprocess.run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0"], check=True)
        subprocess.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2"], check=True)
        addresses = Addresses()
        others = [VipAddress.parse("192.0.2.111/32", "eth0"), VipAddress.parse("2001:db8::111/128", "eth0")]
        assert addresses.add([*BOTH, *others, VipAddress.parse(f"{VIP6}/64", "eth1")], 0) == []
        before = hosts.addresses().splitlines()
        assert any("192.0.2.111/32" in line and " eth0\\" in line for line in before), "its label is the interface"
        assert addresses.remove_everywhere(set()) == []
        assert hosts.addresses().splitlines() == before
        assert addresses.remove_everywhere({VIP, VIP6}) == []
        after = hosts.addresses().splitlines()
        assert len(before) - len(after) == 3
        assert after == [line for line in before if f"{VIP}/" not in line and f"{VIP6}/" not in line]
        assert addresses.present([VipAddress.parse(f"{VIP6}/64", "eth1")]) == set()
        addresses.close()

    hosts.on_a(work)


def test_an_address_with_another_prefix_length_is_up_but_its_own_is_told_rather(hosts: TwoHosts) -> None:
    def work() -> None:
        addresses, one = Addresses(), BOTH[0]
        subprocess.run(["ip", "address", "add", f"{VIP}/23", "dev", "eth0"], check=True)
        assert addresses.look(BOTH) == {one: Present(23, False, True)}
        addresses.add([one], 9 * NS_PER_S)
        assert addresses.look(BOTH) == {one: Present(32, True, False)}
        addresses.close()

    hosts.on_a(work)


def test_what_is_taken_down_has_the_address_and_the_prefix_length(hosts: TwoHosts) -> None:
    def up() -> set[str]:
        return {word for word in hosts.addresses().split() if word.startswith("192.0.2.")}

    def work() -> None:
        addresses, wide = Addresses(), VipAddress.parse(f"{VIP}/24", "eth0")
        assert addresses.add([wide, BOTH[0]], 0) == []
        assert addresses.remove([BOTH[0]]) == []
        assert up() == {"192.0.2.1/24", f"{VIP}/24"}
        assert addresses.add([BOTH[0]], 0) == []
        assert addresses.remove([wide]) == []
        assert up() == {"192.0.2.1/24", f"{VIP}/32"}
        addresses.close()

    hosts.on_a(work)


def test_an_address_of_another_family_and_one_of_no_known_size_are_none() -> None:
    assert parse_address(struct.pack("=BBBBI", 1, 32, 0, 0, 3)) == ("", 3)
    assert parse_address(struct.pack("=BBBBIHH4s", 1, 32, 0, 0, 3, 8, 2, bytes(4))) == ("", 3)
    assert parse_address(struct.pack("=BBBBI", 2, 32, 0, 0, 3)) == ("", 3)
    assert parse_address(struct.pack("=BBBBIHH4s", 2, 32, 0, 0, 3, 7, 2, bytes(4))) == ("", 3)
    assert parse_address(struct.pack("=BBBBIHH4s", 2, 32, 0, 0, 3, 8, 2, bytes(4))) == ("0.0.0.0", 3)


def test_interfaces_that_are_not_there_are_named_once(hosts: TwoHosts) -> None:
    ours = [VipAddress(VIP, 32, name) for name in ("eth9", "eth0", "eth7", "eth9")]
    assert hosts.on_a(lambda: missing_interfaces(ours)) == ["eth7", "eth9"]


def test_an_address_is_known_by_one_spelling() -> None:
    assert VipAddress.parse("2001:DB8:0::110/128", "eth0", "web") == VipAddress(VIP6, 128, "eth0", "web")


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
    for one in (f"{VIP}/32", f"{VIP6}/128"):
        subprocess.run(["ip", "-n", hosts.a, "address", "del", one, "dev", "eth0"], check=True)
    drained = listener.drain()
    assert not drained.lost
    told = [(one.kind, parse_address(one.body)[0]) for one in drained.messages]
    assert told == [(20, VIP), (20, VIP6), (21, VIP), (21, VIP6)]
    assert listener.drain().messages == ()
    listener.close()


def test_a_link_that_changes_is_heard(hosts: TwoHosts) -> None:
    listener = hosts.on_a(lambda: Listener(NETLINK_ROUTE, (LINK_GROUP,)))
    assert listener.drain().messages == ()
    subprocess.run(["ip", "-n", hosts.a, "link", "set", "eth0", "down"], check=True)
    assert listener.drain().messages
    listener.close()

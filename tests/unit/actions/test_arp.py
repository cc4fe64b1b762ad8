from __future__ import annotations

import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.actions.arp import Wire, host_of
from hawatch.actions.arp_codec import Told
from hawatch.errors import KernelError
from tests.unit.actions.two_hosts import MAC_A, VIP, VIP6, TwoHosts, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


def heard(wire: Wire, count: int) -> list[Told]:
    found: list[Told] = []
    while len(found) < count and select.select([wire], [], [], 2)[0]:
        found += wire.heard()
    return found


def test_announcements_are_heard_and_believed(hosts: TwoHosts) -> None:
    here, there = hosts.on_a(lambda: Wire("eth0")), hosts.on_c(lambda: Wire("eth0"))
    subprocess.run(
        ["ip", "-n", hosts.c, "neigh", "replace", VIP, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"],
        check=True,
    )
    subprocess.run(
        ["ip", "-n", hosts.c, "neigh", "replace", VIP6, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"],
        check=True,
    )
    wanted = [f"{address} dev eth0 lladdr {MAC_A}" for address in (VIP, VIP6)]
    pause = threading.Event()
    told: set[tuple[str, str]] = set()
    for _ in range(200):  # a packet socket hears a frame before the rest of the kernel does, and before it is ready
        assert here.announce([VIP, VIP6]) == 0
        told |= {(one.address, one.mac) for one in heard(there, 3)}
        show = ["ip", "-n", hosts.c, "neigh"]
        neighbours = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        if told and all(line in neighbours for line in wanted):
            break
        pause.wait(0.02)
    else:
        raise AssertionError(neighbours)
    assert told == {(VIP, MAC_A), (VIP6, MAC_A)}
    here.close()
    there.close()


def test_a_question_is_answered_by_who_has_the_address(hosts: TwoHosts) -> None:
    there = hosts.on_c(lambda: Wire("eth0"))
    there.ask(["192.0.2.1", "2001:db8::1"])
    told = heard(there, 2)
    assert {(one.address, one.mac) for one in told if not one.probe} == {("192.0.2.1", MAC_A), ("2001:db8::1", MAC_A)}
    there.close()


def test_an_interface_that_is_not_there_is_told(hosts: TwoHosts) -> None:
    with pytest.raises(KernelError, match="eth9: no packet socket"):
        hosts.on_a(lambda: Wire("eth9"))


def test_the_neighbour_table_names_the_host(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "192.0.2.7        0x1         0x2         02:00:00:00:00:07     *        eth0\n"
    )
    assert host_of("02:00:00:00:00:07", str(table)) == "192.0.2.7"
    assert host_of("02:00:00:00:00:08", str(table)) == ""
    assert host_of("02:00:00:00:00:08", str(tmp_path / "none")) == ""


def test_an_interface_made_anew_is_another_one(hosts: TwoHosts) -> None:
    words = ["ip", "-n", hosts.a, "link"]
    subprocess.run([*words, "add", "br7", "up", "type", "bridge"], check=True)
    wire = hosts.on_a(lambda: Wire("br7"))
    assert wire.is_bound()
    for change in (["del", "br7"], ["add", "br7", "up", "type", "bridge"]):
        subprocess.run([*words, *change], check=True)
        assert not wire.is_bound()
    subprocess.run([*words, "del", "br7"], check=True)
    wire.close()

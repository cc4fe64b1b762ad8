from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hawatch.actions.neighbours import Neighbours
from tests.unit.actions.two_hosts import MAC_C, TwoHosts, two_hosts

pytestmark = [pytest.mark.netns, pytest.mark.slow]
C4, C6 = "192.0.2.2", "2001:db8::2"


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as found:
        yield found


def test_a_neighbour_is_known_once_it_was_heard(hosts: TwoHosts) -> None:
    neighbours = hosts.on_a(Neighbours)

    def macs(interface: str = "eth0") -> list[str]:
        return hosts.on_a(lambda: [neighbours.mac(one, interface) for one in (C4, C6)])

    assert macs() == ["", ""]
    for one in (C4, C6):
        hosts.on_a(lambda one=one: subprocess.run(["ping", "-q", "-c1", "-W5", one], check=True, capture_output=True))
    assert macs() == [MAC_C, MAC_C]
    assert macs("eth9") == ["", ""]
    assert macs("lo") == ["", ""]
    neighbours.close()


def test_one_that_does_not_answer_has_no_mac(hosts: TwoHosts) -> None:
    neighbours = hosts.on_a(Neighbours)
    for state in ("failed", "incomplete"):
        subprocess.run(
            ["ip", "-n", hosts.a, "neigh", "replace", "192.0.2.77", "dev", "eth0", "nud", state], check=False
        )
        assert hosts.on_a(lambda: neighbours.mac("192.0.2.77", "eth0")) == ""
    subprocess.run(
        ["ip", "-n", hosts.a, "neigh", "replace", "192.0.2.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0"],
        check=True,
    )
    assert hosts.on_a(lambda: neighbours.mac("192.0.2.77", "eth0")) == "02:00:00:00:00:77"
    neighbours.close()

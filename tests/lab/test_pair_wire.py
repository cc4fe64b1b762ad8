"""What a pair says and hears on the clients' network: conflicts told, probes before claiming, many VIPs announced."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.pair.events import AFTER_ANNOUNCING_S
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine
from tests.lab.pair.many import COUNT, moves
from tests.lab.pair.scene import Scene, scene
from tests.lab.pair.shell import wait_until
from tests.lab.pair.site import VIP, VIP6, address_of, mac_of

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]
SECONDS = 8.0
"""The owner asks every 5 s."""
MANY_TRIES = 3
FIRST_OF_EACH_MS = 10.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Scene]:
    with scene(Hawatch("default")) as found:
        yield found


def conflicts(machine: Machine) -> list[dict[str, str]]:
    lines = [line for line in machine.words().splitlines() if '"vip_conflict"' in line]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("vip", "mistake"),
    [(VIP, f"address add {VIP}/32 dev lo"), (VIP6, f"address add {VIP6}/128 dev eth0 nodad")],
    ids=["IPv4 on lo without arp_ignore", "IPv6 on eth0"],
)
def test_a_server_that_answers_for_a_vip_is_named_within_seconds(pair: Scene, vip: str, mistake: str) -> None:
    pair.restore()
    server = pair.pair.gateway
    before = len(conflicts(pair.owner))
    server.ip(mistake)
    try:
        wait_until(lambda: len(conflicts(pair.owner)) > before, "a vip_conflict is told", limit_s=SECONDS)
    finally:
        server.ip(mistake.replace("address add", "address del").removesuffix(" nodad"))
    told = conflicts(pair.owner)[-1]
    assert told["group"] == "web"
    assert told["severity"] == "critical"
    for words in (mac_of("gw"), address_of("gw"), vip, "arp_ignore"):
        assert words in told["reason"], told


@pytest.mark.parametrize("quorum", ["gateway", "none"])
def test_without_a_witness_nobody_claims_what_another_machine_answers_for(quorum: str) -> None:
    with scene(Hawatch("fast", quorum)) as found:
        other, standby = found.pair.node("c2"), found.standby
        agent = found.adapter
        assert isinstance(agent, Hawatch)
        found.owner.power_off()
        other.ip(f"address add {VIP}/32 dev lo")

        def says_why() -> bool:
            status = agent.status(standby)
            return mac_of("c2") in str(status and status["groups"][0]["reason"])

        wait_until(says_why, "the standby says who answers", limit_s=10)
        assert not standby.has(VIP)
        with pytest.raises(AssertionError, match="not within"):
            wait_until(lambda: standby.has(VIP), "it owns", limit_s=AFTER_ANNOUNCING_S)
        other.ip(f"address del {VIP}/32 dev lo")
        wait_until(lambda: standby.has(VIP), "it owns", limit_s=10)


def test_many_vips_are_all_announced_at_once() -> None:
    found = moves(COUNT, MANY_TRIES)
    assert min(one.last_first_ms for one in found) <= FIRST_OF_EACH_MS, found

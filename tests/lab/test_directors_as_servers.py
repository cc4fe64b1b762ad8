"""Two directors that are the two real servers: both serve whoever owns, and only the owner answers for the VIPs.

IPVS with direct routing, as docs/howto/directors-as-servers.md tells to set it up. The owner is told to hand over, is
killed and is frozen, under load, while every question who has the VIPs is written down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.pair.arp import answers, read_seen
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine, wait_owner
from tests.lab.pair.measure import two_owners
from tests.lab.pair.scene import Scene, start_tool
from tests.lab.pair.shell import LabError, now_ns, wait_until
from tests.lab.pair.site import QUIET_ABOUT_VIP, VIP, VIP6, mac_of, site
from tests.lab.pair.traffic import Traffic, between, by_server, failures, stream

pytestmark = [pytest.mark.kernel, pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]
EVERY_MS, ASK_EVERY_MS = 100, 100
WINDOW_S, LIMIT_S = 1.0, 20.0
KINDS = ("http", "http6")
SERVICE = """
[[service]]
name = "{name}"
group = "web"
address = "{vip}"
port = 80
scheduler = "rr"
forward = "direct"
probe = {{ type = "http", interval = "1s", timeout = "800ms", rise = 1, fall = 2 }}
server = [{{ address = "{first}", port = 80 }}, {{ address = "{second}", port = 80 }}]
"""
SERVICES = 'ipvs = "owner"\n' + "".join(
    SERVICE.format(name=name, vip=vip, first=f"{net}5", second=f"{net}6")
    for name, vip, net in (("http", VIP, "192.168.1."), ("http6", VIP6, "fd00::"))
)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
        for node in pair.directors:
            node.sysctl(QUIET_ABOUT_VIP)
            node.ip(f"address add {VIP}/32 dev lo", f"address add {VIP6}/128 dev lo nodad")
        found = Scene(pair, Hawatch("default", extra=SERVICES), serving=True)
        try:
            found.restore()
            yield found
        except LabError as error:
            raise LabError(f"{error}\n{found.logs()}") from error


def served_by_both(traffic: Traffic) -> float:
    """Wait until both directors serve both families and no request fails; return how long that took."""

    def window() -> bool:
        now = now_ns()
        recent = between(traffic.so_far(), now - int(WINDOW_S * 1e9), now)
        servers = {name: set(by_server(each for each in recent if each.stream == name)) for name in KINDS}
        return not failures(recent) and all(one == {"lvs1", "lvs2"} for one in servers.values())

    return wait_until(window, "both directors serve, and no request fails", limit_s=LIMIT_S, poll_s=0.2)


def on_loopback(machine: Machine) -> set[str]:
    words = machine.node.run("ip", "-o", "address", "show", "dev", "lo", "scope", "global").split()
    return {word for word in words if "/" in word}


def tables(machine: Machine) -> int:
    """Return how many services a director's IPVS table has."""
    return sum(line.startswith("-A") for line in machine.node.run("ipvsadm", "-S", "-n").splitlines())


def test_both_serve_and_the_vips_move(scene: Scene) -> None:
    adapter = scene.adapter
    assert isinstance(adapter, Hawatch)
    asker = scene.pair.node("c2")
    seen = asker.scratch / "arp.tsv"
    start = now_ns()
    tool = start_tool(asker, "arp", str(seen), str(ASK_EVERY_MS), VIP, VIP6)
    traffic = Traffic(
        scene.pair.node("c1"),
        [
            stream("http", vip, 80, every_ms=EVERY_MS, limit_ms=900, name=name)
            for name, vip in zip(KINDS, (VIP, VIP6), strict=True)
        ],
    )
    traffic.wait_served(KINDS)

    def settled(owner: Machine) -> None:
        """Wait until a director owns and all is well; then nobody else may have answered for the last second."""
        wait_until(lambda: adapter.well(scene.directors), "the pair is well", limit_s=LIMIT_S)
        assert wait_owner(scene.directors, VIP) is owner
        took_s = served_by_both(traffic)
        print(f"{owner.name} owns: both serve after {took_s:.1f} s")
        assert {one.name: tables(one) for one in scene.directors if tables(one)} == {owner.name: 2}
        assert [on_loopback(one) for one in scene.directors] == [{f"{VIP}/32", f"{VIP6}/128"}] * 2
        now = now_ns()
        assert set(answers(read_seen(seen), now - 10**9, now)) == {mac_of(owner.name)}
        assert not adapter.status(owner)["warnings"]

    first, second = scene.owner, scene.standby
    settled(first)
    adapter.ctl(second.node, "switchover", "--group", "web", "--to", second.name)
    settled(second)
    second.kill()
    wait_until(lambda: first.has(VIP), f"{first.name} takes over from a killed agent", limit_s=LIMIT_S)
    second.start()
    settled(first)
    first.freeze()
    wait_until(lambda: second.has(VIP), f"{second.name} takes over from a frozen agent", limit_s=LIMIT_S)
    time.sleep(1.0)
    now = now_ns()
    assert set(answers(read_seen(seen), now - 5 * 10**8, now)) == {mac_of(second.name)}
    first.thaw()
    wait_until(lambda: adapter.well(scene.directors), "the pair is well", limit_s=LIMIT_S)
    second.stop()
    assert tables(second) == 0, "it forwards nothing any more"
    wait_until(lambda: first.has(VIP), f"{first.name} takes over from a stopped agent", limit_s=LIMIT_S)
    served_by_both(traffic)
    tool.terminate()
    tool.wait(timeout=10)
    traffic.stop()
    assert two_owners(read_seen(seen), start, now_ns()) == 0

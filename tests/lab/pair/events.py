"""What befalls a pair: each event is given the scene, lets it happen, and returns when it is over.

An event may return the instant from which its bound counts, where that is not the event's beginning. One that needs
something to come about in between raises LabError when it does not.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from hawatch.control import protocol
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine
from tests.lab.pair.scene import Scene
from tests.lab.pair.shell import now_ns, run, signal_all, wait_until
from tests.lab.pair.site import LAN, VIP, VIP6
from tests.lab.uml import in_guest

Event = Callable[[Scene], int | None]

CUT_LEASES = 2.5
"""A cut lasts so many leases: longer than anybody waits for anything."""
AFTER_ANNOUNCING_S = 1.5
"""A new owner has announced the VIP for the last time for a while: who was cut off meanwhile has missed it."""
REBIRTH_S = 0.6
"""A core that has lived for half a second is born anew at once."""
REBIRTH_LEASES = 0.6
"""It renews within two heartbeats, a fifth of a lease each: one that is killed before that has renewed nothing."""
FAR_BRIDGE = "far"
HEARTBEAT_PORT = 694
CLOCK_STEP_S = 3600.0


def lease_s(scene: Scene) -> float:
    """Return the lease, or what comes nearest in another agent."""
    return scene.adapter.takeover_ms / 1000


def hawatch(scene: Scene) -> Hawatch:
    """Return the agent where an event is about hawatch only."""
    assert isinstance(scene.adapter, Hawatch)
    return scene.adapter


def links_of(machine: Machine) -> list[str]:
    """Return a machine's IPv4 addresses on all links."""
    return [address.partition("/")[0] for link in machine.node.links for address in link.addresses if "." in address]


def cut(one: Machine, other: Machine) -> None:
    """Cut every path between two machines; clients reach both."""
    one.cut_from(links_of(other))
    other.cut_from(links_of(one))


def cut_from_witness(machine: Machine, scene: Scene) -> None:
    """Cut every path between a director and the witness."""
    cut(machine, scene.witness)


# --- the owner's agent --------------------------------------------------------------------------------------


def stopped(scene: Scene) -> None:
    """Stop the owner's agent in good order."""
    scene.owner.stop()


def killed(scene: Scene) -> None:
    """Kill the owner's agent for good."""
    scene.owner.kill()


def frozen_for(seconds: float) -> Event:
    """Freeze the owner's agent for longer than any lease."""

    def frozen(scene: Scene) -> None:
        scene.owner.freeze()
        time.sleep(seconds)
        scene.owner.thaw()

    return frozen


def restarted(scene: Scene) -> None:
    """Kill the owner's agent, and have it started at once, as a service manager does."""
    scene.owner.kill()
    scene.owner.start()


def core_killed(times: int) -> Event:
    """Kill the owner's core again and again: its keeper forks another."""

    def kill(scene: Scene) -> None:
        rebirth_s = max(REBIRTH_S, REBIRTH_LEASES * scene.adapter.takeover_ms / 1000)
        for _ in range(times):
            signal_all([core_of(scene.owner)], signal.SIGKILL)
            time.sleep(rebirth_s)

    return kill


def core_of(director: Machine) -> int:
    """Return the process that decides, once it is there."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in director.pids() if comm_of(pid) == "hawatch:core"]
        return bool(found)

    wait_until(there, "the agent has a core", limit_s=5)
    return found[0]


def comm_of(pid: int) -> str:
    """Return a process's name, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("ascii").strip()
    except OSError:
        return ""


# --- what administrators do -----------------------------------------------------------------------------------


def switched_over(scene: Scene) -> None:
    """Have an administrator move the VIP."""
    hawatch(scene).ask(scene.owner, protocol.Switchover(group="web", to=scene.standby.name))


def given_away(scene: Scene) -> None:
    """Have an administrator give everything away, and end that later."""
    hawatch(scene).ask(scene.owner, protocol.Giveaway())
    time.sleep(lease_s(scene))
    hawatch(scene).ask(scene.owner, protocol.Resume())


def rules_flushed(scene: Scene) -> None:
    """Reload the firewall as many do."""
    scene.owner.node.run("nft", "flush", "ruleset")


def vip_removed(scene: Scene) -> None:
    """Take the addresses away by hand."""
    scene.owner.node.ip(f"address del {VIP}/32 dev eth0", f"address del {VIP6}/128 dev eth0")


# --- networks -------------------------------------------------------------------------------------------------


def heartbeats_cut(scene: Scene) -> None:
    """Cut every path between the two directors."""
    cut(scene.owner, scene.standby)


def one_link_cut(scene: Scene) -> None:
    """Cut the heartbeat network; the clients' network is the second link."""
    for one, other in ((scene.owner, scene.standby), (scene.standby, scene.owner)):
        one.cut_from(links_of(other)[1:])
        assert links_of(other)[1].startswith("10.99.")


def owner_and_witness_cut(scene: Scene) -> None:
    """Cut every path between the owner and the witness."""
    cut_from_witness(scene.owner, scene)


def witness_cut_off(scene: Scene) -> None:
    """Cut the witness off for a while."""
    for director in scene.directors:
        cut_from_witness(director, scene)
    time.sleep(CUT_LEASES * lease_s(scene))
    for machine in scene.machines:
        machine.heal()


def owner_cut_off(scene: Scene) -> None:
    """Pull the owner's cables at the switch: it goes on running, and still sees a carrier."""
    scene.owner.plug_into([""] * len(scene.owner.node.links))


def owner_deaf(scene: Scene) -> None:
    """Let the owner send and not hear."""
    scene.owner.deafen()


def partitioned(scene: Scene) -> int:
    """Cut the network in two, the owner with one client on its side, and heal it when the other has taken over."""
    lab = scene.pair.lab
    run(["ip", "-n", lab.switch, "link", "add", FAR_BRIDGE, "type", "bridge", "mcast_snooping", "0"])
    run(["ip", "-n", lab.switch, "link", "set", FAR_BRIDGE, "up"])
    client = scene.pair.node("c1")
    try:
        port = client.port(client.links[0])
        scene.owner.plug_into([FAR_BRIDGE, *[""] * (len(scene.owner.node.links) - 1)])
        run(["ip", "-n", lab.switch, "link", "set", port, "master", FAR_BRIDGE])
        wait_until(lambda: scene.standby.has(VIP), "the other side has taken over", limit_s=lease_s(scene) + 1)
        time.sleep(AFTER_ANNOUNCING_S)
        scene.owner.heal()
        run(["ip", "-n", lab.switch, "link", "set", port, "master", LAN])
        return now_ns()
    finally:
        run(["ip", "-n", lab.switch, "link", "del", FAR_BRIDGE])


def lossy_network(scene: Scene) -> None:
    """Lose a fifth of all heartbeats, requests and answers, everywhere, for a while."""
    for machine in scene.machines:
        machine.lose(20, HEARTBEAT_PORT)
    time.sleep(8 * lease_s(scene))
    for machine in scene.machines:
        machine.heal()


def bad_network(scene: Scene) -> None:
    """Lose, repeat and reorder heartbeats, requests and answers, as netem does, for a while."""
    bands = "qdisc add dev {link} root handle 1: prio bands 4"
    netem = "qdisc add dev {link} parent 1:4 netem delay 3ms 3ms loss 20% duplicate 20% reorder 25%"
    to_it = "filter add dev {link} parent 1: protocol ip u32 match ip dport 694 0xffff flowid 1:4"
    links = [(machine.node, link.name) for machine in scene.machines for link in machine.node.links]
    for node, link in links:
        node.run("tc", "-batch", "-", stdin="\n".join((bands, netem, to_it)).format(link=link) + "\n")
    time.sleep(8 * lease_s(scene))
    for node, link in links:
        node.run("tc", "qdisc", "del", "dev", link, "root")


def clock_stepped(_scene: Scene) -> None:
    """Step the wall clock forwards by an hour, then backwards by two, then back. It is the whole machine's."""
    assert in_guest(), "nobody else's clock is stepped"
    for seconds in (CLOCK_STEP_S, -2 * CLOCK_STEP_S, CLOCK_STEP_S):
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + seconds)
        time.sleep(2)


# --- machines -------------------------------------------------------------------------------------------------


def owner_without_power(scene: Scene) -> None:
    """Cut the owner's power."""
    scene.owner.power_off()


def standby_without_power(scene: Scene) -> None:
    """Cut the standby's power."""
    scene.standby.power_off()


def witness_killed(scene: Scene) -> None:
    """Kill the witness."""
    scene.witness.kill()


def witness_restarted(scene: Scene) -> None:
    """Kill the witness and start it: it has forgotten what it promised, and keeps silent for a while."""
    scene.witness.kill()
    scene.witness.start()
    wait_until(lambda: scene.adapter.ready(scene.witness), "the witness answers", limit_s=20)
    time.sleep(CUT_LEASES * lease_s(scene))


def alone(scene: Scene) -> None:
    """Leave the owner alone, and wait until it has ended its ownership."""
    scene.standby.power_off()
    scene.witness.kill()
    limit_s = lease_s(scene) + 0.5
    wait_until(lambda: not scene.owner.has(VIP), "an owner without a majority lets go", limit_s=limit_s)


def majority_back(scene: Scene) -> int:
    """Leave the owner alone; then start the witness again. It counts from when the witness is at work."""
    alone(scene)
    scene.witness.start()
    wait_until(lambda: scene.adapter.ready(scene.witness), "the witness answers", limit_s=20)
    return now_ns()


def taken_by_force(scene: Scene) -> int:
    """Leave the owner alone; then have an administrator, who knows that the others are off, give it the group."""
    alone(scene)
    start = now_ns()
    hawatch(scene).ask(scene.owner, protocol.Takeover(group="web", force=True))
    return start


def all_without_power(scene: Scene) -> int:
    """Cut everybody's power and boot together. It counts from when the last agent is at work."""
    for machine in scene.machines:
        machine.power_off()
    for machine in scene.machines:
        machine.node.boot()
    for machine in scene.machines:
        machine.off = False
        machine.start()
    for machine in scene.machines:
        wait_until(lambda one=machine: scene.adapter.ready(one), f"{machine.name} is at work", limit_s=20, poll_s=0.005)
    return now_ns()


def gateway_gone(scene: Scene) -> None:
    """Take the gateway away for a while."""
    scene.pair.gateway.plug("eth0", plugged=False)
    time.sleep(CUT_LEASES * lease_s(scene))
    scene.pair.gateway.plug("eth0", plugged=True)

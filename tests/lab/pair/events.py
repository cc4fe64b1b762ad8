"""What befalls the owner of the VIP, one run at a time on a fresh pair, and what a client lived through.

The directors serve the VIP's web page themselves, so that a run measures the move of the VIP and nothing else.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.pair.arp import answers, read_seen, two_owners
from tests.lab.pair.director import Adapter, Director, wait_owner
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError, now_ns, signal_all, wait_until
from tests.lab.pair.site import VIP, Site, mac_of, site
from tests.lab.pair.traffic import Traffic, outage_ms, stream

EVERY_MS = 10
ASK_EVERY_MS = 20
SETTLE_S = 1.0
OBSERVE_S = 6.0
"""How long after the event a run looks on; the longest freeze ends before."""
FREEZE_S = 2.0
WITNESS_ADDRESSES = ("10.99.0.3", "192.168.1.1")
NGINX = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    server {{ listen 80; location / {{ return 200 "{name}\\n"; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    outage_ms: float
    two_owners: int
    """ARP questions that two machines answered."""
    overlap_ms: float
    """From the new owner's first answer to the old one's last, after the event; 0 when they did not overlap."""
    owner: str
    """Who answers at the end: one director's name, "both" or "none"."""


Event = Callable[[Director, Director], None]


def links_of(director: Director) -> list[str]:
    """Return a director's addresses on all links."""
    return [address.partition("/")[0] for link in director.node.links for address in link.addresses if "." in address]


def frozen(owner: Director, _standby: Director) -> None:
    """Freeze the owner's agent for a while."""
    owner.freeze()
    time.sleep(FREEZE_S)
    owner.thaw()


def restarted(owner: Director, _standby: Director) -> None:
    """Kill the owner's agent, and have it started at once, as a service manager does."""
    owner.kill()
    owner.start()


def heartbeats_cut(owner: Director, standby: Director) -> None:
    """Cut every path between the two; clients reach both."""
    owner.cut_from(links_of(standby))
    standby.cut_from(links_of(owner))


def restarted_core(owner: Director, _standby: Director) -> None:
    """Kill the owner's core, 10 times: its keeper forks another."""
    for _ in range(10):
        signal_all([core_of(owner)], signal.SIGKILL)
        time.sleep(0.8)  # more often than twice a second its keeper lets it wait


def core_of(director: Director) -> int:
    """Return the process that decides, once it is there."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in director.pids() if Path(f"/proc/{pid}/comm").read_text("ascii") == "hawatch:core\n"]
        return bool(found)

    wait_until(there, "the agent has a core", limit_s=5)
    return found[0]


def witness_cut_off(owner: Director, standby: Director) -> None:
    """Cut the witness off for a while."""
    for director in (owner, standby):
        director.cut_from(WITNESS_ADDRESSES)
    time.sleep(1.5)
    for director in (owner, standby):
        director.heal()


EVENTS: dict[str, Event] = {
    "clean stop": lambda owner, _standby: owner.stop(),
    "agent killed": lambda owner, _standby: owner.kill(),
    f"agent frozen {FREEZE_S:g} s": frozen,
    "power cut": lambda owner, _standby: owner.power_off(),
    "heartbeats cut": heartbeats_cut,
    "owner deaf": lambda owner, _standby: owner.deafen(),
}
"""What any agent of a pair must live with; the benchmark compares by these."""
OWN_EVENTS: dict[str, Event] = {
    "switchover": lambda owner, standby: owner.adapter.switchover(owner, standby),
    "agent restarted": restarted,
    "core killed 10 times": restarted_core,
    "witness cut off": witness_cut_off,
    "standby dies": lambda _owner, standby: standby.power_off(),
    "rules flushed": lambda owner, _standby: owner.node.run("nft", "flush", "ruleset") and None,
    "VIP removed": lambda owner, _standby: owner.node.ip(f"address del {VIP}/32 dev eth0"),
}
ALL_EVENTS = {**EVENTS, **OWN_EVENTS}


EITHER = "lvs1 or lvs2"
"""An agent that starts within the lease goes on owning; on a busy machine it may take longer."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a row of the failure table promises: so many leases and milliseconds of silence, and who owns then."""

    owner: str
    leases: float
    extra_ms: float


BOUNDS_MS = {
    "clean stop": Bound("lvs2", 0, 50),
    "agent killed": Bound("lvs2", 1, 60),
    f"agent frozen {FREEZE_S:g} s": Bound("lvs2", 1, 60),
    "power cut": Bound("lvs2", 1, 60),
    "heartbeats cut": Bound("lvs1", 0, 0),
    "owner deaf": Bound("lvs2", 2, 0),
    "switchover": Bound("lvs2", 0, 50),
    "agent restarted": Bound(EITHER, 1, 60),
    "core killed 10 times": Bound("lvs1", 0, 0),
    "witness cut off": Bound("lvs1", 0, 0),
    "standby dies": Bound("lvs1", 0, 0),
    "rules flushed": Bound("lvs1", 0, 0),
    "VIP removed": Bound("lvs1", 0, 1000),
}


def run_once(adapter: Adapter, event: Event, *, observe_s: float = OBSERVE_S) -> Outcome:
    """Let one event befall the owner of a fresh pair."""
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
        adapter.prepare(pair)
        directors = [Director(node, adapter) for node in pair.directors]
        for director in directors:
            serve(director.node)
            director.start()
        try:
            owner = wait_owner(directors, VIP)
            standby = next(director for director in directors if director is not owner)
            wait_settled(owner)
            return observe(pair, owner, standby, event, observe_s)
        except LabError as error:
            logs = "\n".join(f"{one.node.name}: {one.last_words()}" for one in directors)
            raise LabError(f"{error}\n{logs}") from error


def observe(pair: Site, owner: Director, standby: Director, event: Event, observe_s: float) -> Outcome:
    """Measure around the event."""
    asker = start_asker(pair.node("c2"))
    traffic = Traffic(pair.node("c1"), [stream("http", VIP, 80, every_ms=EVERY_MS, limit_ms=900)])
    traffic.wait_served()
    time.sleep(SETTLE_S)
    start = now_ns()
    event(owner, standby)
    rest_s = observe_s - (now_ns() - start) / 1e9
    time.sleep(max(0.5, rest_s))
    end = now_ns()
    replies = traffic.stop()
    asker.terminate()
    asker.wait(timeout=10)
    seen = read_seen(pair.node("c2").scratch / "arp.tsv")
    found = answers(seen, start, end)
    old, new = found.get(mac_of(owner.node.name)), found.get(mac_of(standby.node.name))
    overlap = max(0.0, (old[2] - new[1]) / 1e6) if old and new else 0.0
    last = answers(seen, end - 500_000_000, end)
    names = [name for name in ("lvs1", "lvs2") if mac_of(name) in last]
    at_end = names[0] if len(names) == 1 else ("both" if names else "none")
    return Outcome(outage_ms(replies, start, end), two_owners(seen, start, end), overlap, at_end)


def serve(node: Node) -> None:
    """Start a web server that names the director, on all its addresses."""
    (node.scratch / "nginx.conf").write_text(NGINX.format(home=node.scratch, name=node.name), encoding="ascii")
    node.start(["nginx", "-e", f"{node.scratch}/nginx.log", "-c", f"{node.scratch}/nginx.conf"])


def start_asker(node: Node) -> subprocess.Popen[bytes]:
    """Start asking who has the VIP, and wait for the first answer."""
    output = node.scratch / "arp.tsv"
    argv: Sequence[str] = [
        *(sys.executable, "-S", "-m", "tests.lab.pair.arp", str(output), VIP, str(ASK_EVERY_MS)),
    ]
    process = node.start(argv, log=node.scratch / "arp.log", cwd=Path(__file__).parents[3])

    def answered() -> bool:
        if process.poll() is not None:
            raise LabError("the ARP watcher ended: " + (node.scratch / "arp.log").read_text(encoding="utf-8")[-1000:])
        return output.exists() and any(one.what == "reply" for one in read_seen(output))

    wait_until(answered, "somebody answers ARP for the VIP", limit_s=30, poll_s=0.1)
    return process


def wait_settled(owner: Director) -> None:
    """Wait until the owner has kept the VIP for a second: no preemption is under way."""
    start = time.monotonic()
    while time.monotonic() - start < SETTLE_S:
        if not owner.has(VIP):
            raise LabError(f"{owner.node.name} lost the VIP at the start")
        time.sleep(0.1)

"""One run of a row: something befalls the scene, and what a client lived through is held against the promise."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.lab.pair.arp import answers, read_seen
from tests.lab.pair.events import Event
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.measure import NS_PER_MS, noise_ms, outage_ns, overlap_ms, read_answers, two_owners
from tests.lab.pair.rows import EITHER, PREFERRED, A, B, Row
from tests.lab.pair.scene import Scene, Watch
from tests.lab.pair.shell import LabError, now_ns
from tests.lab.pair.site import VIP, mac_of
from tests.lab.pair.traffic import Traffic, between, outage_ms, stream
from tests.lab.uml import has_ipvs

EVERY_MS = 2.0
"""The clients ask so often: an outage of 20 ms is ten questions long."""
ASK_EVERY_MS = 20.0
GUEST_FACTOR = 5
"""A guest kernel on one slow processor is asked so much less often."""
HTTP_EVERY_MS = 10.0
BEFORE_S, AFTER_S = 0.2, 0.7
SLACK_MS = 8.0
"""Two questions at either end of an outage, and the wakes of two processes; 0 can not be measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    outage_ms: float
    """The longest that a VIP (the worse of IPv4 and IPv6) did not answer, less what the controls missed meanwhile."""
    raw_ms: float
    """The same, with nothing subtracted."""
    noise_ms: float
    """The longest that a control did not answer."""
    two_owners: int
    """Questions by ARP, or by neighbour solicitation, that two machines answered."""
    overlap_ms: float
    """From the new owner's first answer to the old one's last; 0 when they did not overlap."""
    owner: str
    """Who answers at the end: "A" (who owned before), "B", "both" or "none"."""
    name: str
    """That machine's name."""
    same_epoch: bool
    http_ms: float = 0.0
    """The longest that a client of a web server behind the VIP waited; 0 where there is none."""


def problems(row: Row, outcome: Outcome, lease_ms: float, *, slack_ms: float = SLACK_MS) -> list[str]:
    """Return what a run broke of the row's promise, in a few words each."""
    found = []
    if outcome.two_owners or outcome.overlap_ms:
        found.append(f"two owners ({outcome.two_owners} questions, {outcome.overlap_ms:.0f} ms)")
    wanted = {A: (A,), B: (B,), EITHER: (A, B)}.get(row.owner, ())
    if row.owner == PREFERRED:
        if outcome.name != PREFERRED:
            found.append(f"{outcome.name or outcome.owner} owns, wanted {PREFERRED}")
    elif outcome.owner not in wanted:
        found.append(f"{outcome.owner} owns, wanted {row.owner}")
    limit_ms = row.limit_ms(lease_ms) + slack_ms
    if outcome.outage_ms > limit_ms:
        found.append(f"silent for {outcome.outage_ms:.0f} ms, at most {limit_ms:.0f} ms allowed")
    if row.same_epoch and not outcome.same_epoch:
        found.append("somebody took over")
    return found


def run_row(scene: Scene, row: Row) -> Outcome:
    """Make the scene whole, let the row's event befall it, and measure."""
    scene.restore()
    factor = GUEST_FACTOR if has_ipvs() else 1
    every_ms = EVERY_MS * factor
    watch = Watch(scene, row.controls, every_ms, ASK_EVERY_MS * factor)
    traffic = None
    if scene.serving:
        traffic = Traffic(scene.pair.node("c1"), [stream("http", VIP, 80, every_ms=HTTP_EVERY_MS, limit_ms=900)])
        traffic.wait_served()
    try:
        return observe(scene, row, watch, traffic, every_ms)
    finally:
        watch.stop()
        if traffic is not None and traffic.process.poll() is None:
            traffic.stop()


def observe(scene: Scene, row: Row, watch: Watch, traffic: Traffic | None, every_ms: float) -> Outcome:
    """Measure around the event."""
    agent = scene.adapter if isinstance(scene.adapter, Hawatch) else None
    owner, standby = scene.owner, scene.standby
    time.sleep(BEFORE_S)
    epoch = agent.epoch(owner) if agent else 0
    start = now_ns()
    marked, ended = befall(row.event, scene), now_ns()
    lease_ns = int(scene.adapter.takeover_ms * NS_PER_MS)
    until = max(ended, start + int((row.leases + 0.2) * lease_ns), (marked or 0) + int(row.leases * lease_ns))
    time.sleep(max(0.0, (until - now_ns()) / 1e9) + AFTER_S)
    end = now_ns()
    watch.stop()
    heard, seen = read_answers(watch.pings), read_seen(watch.seen)
    first = marked or start
    controls = [heard.get(name, []) for name in watch.controls]
    every_ns = int(every_ms * NS_PER_MS)
    vips = [heard.get(name, []) for name in ("vip", "vip6")]
    last = answers(seen, end - 500 * NS_PER_MS, end)
    at_end = [machine for machine in (owner, standby) if mac_of(machine.name) in last]
    same = bool(agent and at_end and agent.epoch(at_end[0]) == epoch) if row.same_epoch else False
    http_ms = outage_ms(between(traffic.stop(), first, end), first, end) if traffic is not None else 0.0
    return Outcome(
        outage_ms=max(outage_ns(vip, controls, first, end, every_ns) for vip in vips) / NS_PER_MS,
        raw_ms=max(outage_ns(vip, (), first, end, every_ns) for vip in vips) / NS_PER_MS,
        noise_ms=noise_ms(controls, first, end, every_ns),
        two_owners=two_owners(seen, start, end),
        overlap_ms=overlap_ms(seen, mac_of(owner.name), mac_of(standby.name), start, end),
        owner={0: "none", 2: "both"}.get(len(at_end), A if at_end and at_end[0] is owner else B),
        name=at_end[0].name if len(at_end) == 1 else "",
        same_epoch=same,
        http_ms=http_ms,
    )


def befall(event: Event, scene: Scene) -> int | None:
    """Let the event happen; what it does not bring about is told with the agents' words."""
    try:
        return event(scene)
    except LabError as error:
        raise LabError(f"{error}\n{scene.logs()}") from error

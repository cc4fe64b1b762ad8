"""The failure table: what may befall a pair, who owns the VIP afterwards, and how long it may be silent.

Each row runs with real agents, gates and packets. Two owners are never allowed; the bounds are the design's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.lab.pair import events
from tests.lab.pair.events import Event
from tests.lab.pair.machine import Adapter

A, B, EITHER = "A", "B", "A or B"
"""Who owned when the event began, and the other one."""
PREFERRED = "lvs1"
NAMESPACES, GUEST = "netns", "kernel"
"""Where a row can run: the wall clock is the machine's own, and netem is not in every kernel."""
BEST_EFFORT = ("gateway", "none")
RESTART_LEASE_MS = 1500.0
"""With this lease and longer ones an agent that is killed is back before anybody notices."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the event, and its promise. The VIP is silent for at most so many leases and milliseconds."""

    name: str
    event: Event
    owner: str
    leases: float = 0.0
    extra_ms: float = 0.0
    controls: tuple[str, ...] = ("gw",)
    """What is asked beside the VIP, in the same moment: see `scene.Watch.address`."""
    quorum: str = "witness"
    place: str = NAMESPACES
    any_agent: bool = False
    """keepalived and others know it, too."""
    same_epoch: bool = False
    """Nobody took over, not even the owner anew."""
    runs_max: int = 1000

    def limit_ms(self, lease_ms: float) -> float:
        """Return how long the VIP may be silent."""
        return self.leases * lease_ms + self.extra_ms


BESIDE = ("gw", "beside")
"""The owner stays at work: its own address tells what the machine is to blame for."""


def kept(name: str, event: Event, **options: object) -> Row:
    """Return a row in which nothing may change: the owner owns on, in the same epoch, and the VIP never falls silent."""
    return Row(name, event, A, controls=BESIDE, same_epoch=True, **options)  # type: ignore[arg-type]


def taken(name: str, event: Event, leases: float, extra_ms: float, **options: object) -> Row:
    """Return a row in which the standby takes over."""
    return Row(name, event, B, leases, extra_ms, **options)  # type: ignore[arg-type]


def rows(*, freeze_s: float, core_kills: int) -> list[Row]:
    """Return all rows; a long run freezes and kills longer than a short one."""
    return [
        taken("power cut", events.owner_without_power, 1, 60, any_agent=True),
        taken("agent killed", events.killed, 1, 60, any_agent=True),
        taken("cut from all", events.owner_cut_off, 1, 60, any_agent=True),
        taken(f"frozen {freeze_s:g} s", events.frozen_for(freeze_s), 1, 60, any_agent=True),
        Row("agent restarted", events.restarted, A, controls=BESIDE),
        replace(kept(f"core killed {core_kills} times", events.core_killed(core_kills)), same_epoch=False, runs_max=1),
        taken("clean stop", events.stopped, 0, 50, any_agent=True),
        taken("switchover", events.switched_over, 0, 50),
        taken("giveaway", events.given_away, 0, 50),
        kept("heartbeats cut", events.heartbeats_cut, any_agent=True),
        kept("one link cut", events.one_link_cut),
        kept("owner, witness cut", events.owner_and_witness_cut),
        kept("witness cut off", events.witness_cut_off),
        kept("standby dies", events.standby_without_power, any_agent=True),
        kept("witness dies", events.witness_killed),
        kept("witness restarts", events.witness_restarted),
        taken("owner deaf", events.owner_deaf, 2, 0, any_agent=True),
        Row("B, W die; W back", events.majority_back, A, 2.02, 0),
        Row("B, W die; by force", events.taken_by_force, A, 1, 0),
        Row("all without power", events.all_without_power, PREFERRED, 2.02, 0),
        # That the path is back is seen with the next heartbeat, a fifth of the lease; then the owner announces.
        taken("partition healed", events.partitioned, 0.2, 180, controls=("self",)),
        kept("20 % loss", events.lossy_network),
        kept("loss, order (netem)", events.bad_network, place=GUEST),
        kept("wall clock stepped", events.clock_stepped, place=GUEST),
        kept("rules flushed", events.rules_flushed),
        replace(kept("VIP removed", events.vip_removed), extra_ms=1000),
        *best_effort_rows(),
    ]


def best_effort_rows() -> list[Row]:
    """Return the rows of the modes without a witness: the standby asks the network for a heartbeat's time first."""
    found = [
        row
        for quorum in BEST_EFFORT
        for row in (
            taken(f"{quorum}: power cut", events.owner_without_power, 1.5, 60, quorum=quorum),
            taken(f"{quorum}: agent killed", events.killed, 1.5, 60, quorum=quorum),
            taken(f"{quorum}: switchover", events.switched_over, 0, 50, quorum=quorum),
            kept(f"{quorum}: heartbeats cut", events.heartbeats_cut, quorum=quorum),
            kept(f"{quorum}: standby dies", events.standby_without_power, quorum=quorum),
        )
    ]
    return [
        *found,
        replace(kept("gateway: it dies", events.gateway_gone, quorum="gateway"), controls=("self", "beside")),
    ]


def row_for(row: Row, adapter: Adapter) -> Row:
    """Return a row's promise for an agent: with a short lease a restarted agent is too late, which the other notices."""
    if row.event is events.restarted and adapter.takeover_ms < RESTART_LEASE_MS:
        return replace(row, owner=EITHER, leases=1, extra_ms=60, controls=("gw",))
    return row


Chooser = Callable[[Row], bool]


def named(found: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """Return the rows whose names contain one of the words; all without any word."""
    return [row for row in found if not wanted or any(word in row.name for word in wanted)]

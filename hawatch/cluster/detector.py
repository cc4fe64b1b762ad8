"""The failure detector: what each peer's silence means, over several links.

Theory of operation. Every heartbeat goes out on every link with the same number (`beat`). A peer is *alive* while
any link brings beats, *late* after two periods and a half without one, *dead* after a lease without one, and
*unknown* until it is first heard or has been silent for a lease. A link is *up* while it brings beats of its own.
Only a beat higher than the last one of that link counts, so a copy of an old datagram keeps nobody alive.
Witnesses send no beats: their pongs take a beat's place.

A node that was itself stopped hears nobody meanwhile; so it counts a peer's silence only from its own last pause.
The detector moves no group where a majority decides: it tells people, holds a candidate back while the owner
speaks, and is half of the evidence where there is no witness. phi (the accrual detector's suspicion, here with
exponential gaps) is for information only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hawatch.cluster.parameters import LeaseParameters, in_units

LOG10_E = 0.4342944819
GAP_WEIGHT = 8
"""The running mean of gaps moves by an eighth of each new gap."""


class PeerState(StrEnum):
    """What is known of a peer."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    LATE = "late"
    DEAD = "dead"


class Sign(StrEnum):
    """What happened to a peer."""

    HEARD = "heard"
    QUIET = "quiet"
    SILENT = "silent"


TRANSITIONS: dict[PeerState, dict[Sign, PeerState]] = {
    PeerState.UNKNOWN: {Sign.HEARD: PeerState.ALIVE, Sign.QUIET: PeerState.UNKNOWN, Sign.SILENT: PeerState.DEAD},
    PeerState.ALIVE: {Sign.HEARD: PeerState.ALIVE, Sign.QUIET: PeerState.LATE, Sign.SILENT: PeerState.DEAD},
    PeerState.LATE: {Sign.HEARD: PeerState.ALIVE, Sign.QUIET: PeerState.LATE, Sign.SILENT: PeerState.DEAD},
    PeerState.DEAD: {Sign.HEARD: PeerState.ALIVE, Sign.QUIET: PeerState.DEAD, Sign.SILENT: PeerState.DEAD},
}


@dataclass(slots=True)
class LinkHealth:
    """One peer on one link."""

    address: str
    up: bool = False
    beat: int = -1
    heard_ns: int = -1
    received: int = 0
    lost: int = 0
    round_trip_ns: int = -1
    """Of the last answer that came back on it; -1 before the first one."""


@dataclass(slots=True)
class PeerHealth:
    """One peer."""

    name: str
    links: list[LinkHealth]
    since_ns: int
    state: PeerState = PeerState.UNKNOWN
    beat: int = -1
    heard_ns: int = -1
    gap_mean_ns: int = 0

    def silence_ns(self, now_ns: int) -> int:
        """How long the peer has been silent, counted from our own last pause at the earliest."""
        return now_ns - max(self.heard_ns, self.since_ns)

    def phi(self, now_ns: int) -> float:
        """Return the suspicion: -log10 of the chance of a gap this long; 0 before anything is known."""
        if self.heard_ns < 0 or self.gap_mean_ns <= 0:
            return 0.0
        return (now_ns - self.heard_ns) / self.gap_mean_ns * LOG10_E


@dataclass(frozen=True, slots=True)
class PeerChange:
    """A peer changed its state."""

    peer: str
    state: PeerState
    reason: str


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A peer's link went up or down."""

    peer: str
    address: str
    up: bool
    reason: str


Change = PeerChange | LinkChange


@dataclass(slots=True)
class Detector:
    """What is known of all peers."""

    parameters: LeaseParameters
    peers: dict[int, PeerHealth]
    changes: list[Change] = field(default_factory=list)

    def heard(self, peer: int, link: int, beat: int, now_ns: int) -> bool:
        """Note a beat on a link; return whether it is the peer's newest."""
        health = self.peers[peer]
        if link >= len(health.links):
            return False
        self.note_link(health, health.links[link], beat, now_ns)
        if beat <= health.beat:
            return False
        if health.heard_ns >= 0:
            gap_ns = now_ns - health.heard_ns
            health.gap_mean_ns += (gap_ns - health.gap_mean_ns) // GAP_WEIGHT if health.gap_mean_ns else gap_ns
        health.beat, health.heard_ns = beat, now_ns
        if health.state is not PeerState.ALIVE:
            self.move(health, Sign.HEARD, now_ns)
        return True

    def answered(self, peer: int, link: int, round_trip_ns: int) -> None:
        """Note how long after its question an answer came back on a link."""
        links = self.peers[peer].links
        if link < len(links):
            links[link].round_trip_ns = round_trip_ns

    def note_link(self, health: PeerHealth, link: LinkHealth, beat: int, now_ns: int) -> None:
        """Account a beat to its link; a beat that the link has brought already counts for nothing."""
        if beat <= link.beat:
            return
        if link.beat >= 0:
            link.lost += beat - link.beat - 1
        link.received += 1
        link.beat, link.heard_ns = beat, now_ns
        if not link.up:
            link.up = True
            self.changes.append(
                LinkChange(health.name, link.address, True, f"{health.name} is heard on {link.address}")
            )

    def restarted(self, peer: int) -> None:
        """Forget the numbers of a peer's former boot; its new boot counts from the beginning."""
        health = self.peers[peer]
        health.beat = -1
        for link in health.links:
            link.beat = -1

    def paused(self, now_ns: int) -> None:
        """This node itself was stopped: whatever silence it saw until now is its own."""
        for health in self.peers.values():
            health.since_ns = now_ns

    def check(self, now_ns: int) -> None:
        """Judge every peer's and link's silence."""
        late_ns, dead_ns = self.parameters.late_ns, self.parameters.lease_ns
        for health in self.peers.values():
            silence_ns = health.silence_ns(now_ns)
            if silence_ns >= dead_ns and health.state is not PeerState.DEAD:
                self.move(health, Sign.SILENT, now_ns)
            elif late_ns <= silence_ns < dead_ns and health.state is PeerState.ALIVE:
                self.move(health, Sign.QUIET, now_ns)
            for link in health.links:
                quiet_ns = now_ns - max(link.heard_ns, health.since_ns)
                if link.up and quiet_ns >= dead_ns:
                    link.up = False
                    reason = f"nothing from {health.name} on {link.address} for {in_units(quiet_ns)}"
                    self.changes.append(LinkChange(health.name, link.address, False, reason))

    def move(self, health: PeerHealth, sign: Sign, now_ns: int) -> None:
        """Change a peer's state as the table says, and say so if people should know."""
        before = health.state
        health.state = TRANSITIONS[before][sign]
        if health.state is before or (PeerState.LATE in (before, health.state) and health.state is not PeerState.DEAD):
            return
        if health.state is PeerState.DEAD:
            reason = (
                f"{health.name} is dead on {link_words(len(health.links))} for {in_units(health.silence_ns(now_ns))}"
            )
        else:
            up = ", ".join(link.address for link in health.links if link.up) or "no link"
            reason = f"{health.name} is heard on {up}"
        self.changes.append(PeerChange(health.name, health.state, reason))

    def take_changes(self) -> list[Change]:
        """Return what changed since the last call."""
        changes, self.changes = self.changes, []
        return changes


def link_words(count: int) -> str:
    """Return "its link", "both links", "all 3 links"."""
    return {1: "its link", 2: "both links"}.get(count, f"all {count} links")

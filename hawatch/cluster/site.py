"""What the groups of one node share: who is there, what they say, and where messages and commands are put."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hawatch.cluster.acceptor import Acceptor
from hawatch.cluster.detector import Detector, PeerState
from hawatch.cluster.effects import Command, Emit
from hawatch.cluster.fitness import Contender
from hawatch.cluster.membership import Membership, QuorumMode
from hawatch.cluster.parameters import LeaseParameters
from hawatch.cluster.wire import PAUSED, READY, SEEN, UNABLE, GroupState, Message, identifier
from hawatch.model import Event, Severity

BROADCAST = 0
"""Destination of messages for every peer."""


class Randomness(Protocol):
    """What a node needs of random.Random or random.SystemRandom."""

    def uniform(self, a: float, b: float, /) -> float:
        """Return a number between a and b."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """Return k random bits."""
        ...


class PeerClaim(NamedTuple):
    """What a peer last said of a group."""

    state: int
    epoch: int
    heard_ns: int
    addresses: int = 0


@dataclass(slots=True)
class PeerReport:
    """What a peer last said of itself."""

    fitness: int = 0
    flags: int = 0
    beat_ns: int = 0
    """When its last heartbeat came."""
    proven_ns: int = -1
    """When it last answered a fresh nonce."""
    asked_ns: int = -1 << 62
    """When a witness asked it last."""
    members: int = 0
    """Identifier of its list of members, 0 before it was heard."""
    told_boot_ns: int = -1 << 62
    """When an older boot of it was last told which one is believed."""
    claims: dict[int, PeerClaim] = field(default_factory=dict)

    @property
    def owns(self) -> bool:
        """Whether it says that it owns a group."""
        return any(claim.state == GroupState.OWNER for claim in self.claims.values())

    @property
    def paused(self) -> bool:
        """Whether it was given away, or is being stopped."""
        return bool(self.flags & PAUSED)


@dataclass(slots=True)
class Site:
    """The surroundings of a group's ownership on one node."""

    membership: Membership
    parameters: LeaseParameters
    random: Randomness
    acceptor: Acceptor
    detector: Detector
    me: int
    boot: int
    names: Mapping[int, str]
    members: int
    """Identifier of the list of members."""
    directors: tuple[int, ...]
    """Identifiers of the other directors."""
    reports: dict[int, PeerReport]
    fitness: int = 0
    fitness_reason: str = ""
    sure: bool = True
    """The servers have been looked at, so that the fitness is more than a guess."""
    apart_ns: int = 0
    """So far apart two directors may notice that a server is gone, or back."""
    paused: bool = False
    stopping: bool = False
    clash_until_ns: int = 0
    """This node's name is used twice: it owns nothing until then."""
    gate_doubtful_until_ns: int = 0
    """The kernel refused the gate: until then this node owns only what no other director can."""
    pins: frozenset[str] = frozenset()
    """Groups that an administrator gave to this director: kept over its restarts."""
    forced: frozenset[str] = frozenset()
    """Those of them that it owns without a majority."""
    outbox: dict[int, list[Message]] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    remember: dict[type, Command] = field(default_factory=dict)
    """What is to be kept on disk, the newest of each kind: ordered after everything else."""

    def send(self, message: Message, to: int = BROADCAST) -> None:
        """Put a message where it will be packed with the others of this moment."""
        self.outbox.setdefault(to, []).append(message)

    def emit(
        self, name: str, reason: str, group: str = "", severity: Severity = Severity.INFO, **numbers: int | str
    ) -> None:
        """Publish an event."""
        self.commands.append(Emit(Event(name, reason, severity, group, numbers=numbers)))

    def name(self, node: int) -> str:
        """Return a node's name; for people."""
        return self.names.get(node, "nobody")

    def others_differ(self) -> list[str]:
        """Return the nodes that live and have another list of members than this one."""
        return [
            self.name(node)
            for node, report in self.reports.items()
            if report.members not in (0, self.members) and self.alive(node)
        ]

    def unsettled_reason(self) -> str:
        """Say what a node waits for whose list of members was changed."""
        missing = [self.name(node) for node in self.unseen()]
        return f"the list of members was changed: it takes effect when {', '.join(missing)} has been seen with it"

    def unseen(self) -> list[int]:
        """Return the nodes that have not been seen with this node's list of members."""
        return [node for node, report in self.reports.items() if report.members != self.members]

    def told_seen(self) -> bool:
        """Return whether a director with the same list says that it has seen every member with it."""
        reports = [self.reports[node] for node in self.directors]
        return any(report.members == self.members and report.flags & SEEN for report in reports)

    def reachable(self, now_ns: int) -> int:
        """Count the acceptors, this one included, that answered lately."""
        return len(self.answering(now_ns))

    def proven(self, now_ns: int) -> bool:
        """Return whether enough acceptors answered lately to make asking worthwhile."""
        if self.membership.quorum is not QuorumMode.WITNESS:
            return True
        return self.reachable(now_ns) >= self.membership.majority

    def alive(self, node: int) -> bool:
        """Return whether the detector thinks that a peer lives."""
        return self.detector.peers[node].state in (PeerState.ALIVE, PeerState.LATE)

    def leader(self) -> int:
        """Return the director that others keep step with: the first of those that live and own something, else 0."""
        return min((node for node in self.directors if self.reports[node].owns and self.alive(node)), default=0)

    def owner_claim(self, group: int, now_ns: int) -> tuple[int, PeerClaim] | None:
        """Return the director that says, freshly, that it owns the group."""
        since_ns = now_ns - self.parameters.late_ns
        for node in self.directors:
            claim = self.reports[node].claims.get(group)
            if claim is not None and claim.state == GroupState.OWNER and claim.heard_ns >= since_ns:
                return node, claim
        return None

    def rivals(self, group: int) -> set[int]:
        """Return the other directors that live and do not say that they own the group."""
        claims = {node: self.reports[node].claims.get(group) for node in self.directors if self.alive(node)}
        return {node for node, claim in claims.items() if claim is not None and claim.state != GroupState.OWNER}

    def contenders(self) -> list[Contender]:
        """Return the other directors that live, may own, and are answered by a majority themselves."""
        found = []
        for node in self.directors:
            report = self.reports[node]
            alive = self.detector.peers[node].state is PeerState.ALIVE
            if report.flags & (READY | PAUSED | UNABLE) == READY and alive:
                found.append(Contender(node, self.name(node), report.fitness))
        return found

    def ahead(self) -> int:
        """Count the other directors that could own, are as fit, and are named before this one."""
        order = {identifier(member.name): place for place, member in enumerate(self.membership.members)}
        return sum(each.fitness == self.fitness and order[each.node] < order[self.me] for each in self.contenders())

    def hindrance(self, now_ns: int) -> str:
        """Return why this node may own nothing; "" when it may."""
        if self.stopping:
            return "this director is being stopped"
        if self.paused:
            return "this director was given away; `hawatch ctl resume` ends that"
        if now_ns < self.clash_until_ns:
            return (
                f"another machine uses the name {self.name(self.me)}: give each node its own name and restart this one"
            )
        return ""

    def doubts_gate(self, now_ns: int) -> bool:
        """Return whether the kernel refused changes of the gate lately, and has not shown since that it takes them."""
        return now_ns < self.gate_doubtful_until_ns

    def answering(self, now_ns: int) -> set[int]:
        """Return the acceptors, this one included, that answered lately: the path to them works both ways."""
        since_ns = now_ns - 2 * self.parameters.heartbeat_ns
        return {self.me} | {node for node, report in self.reports.items() if 0 <= report.proven_ns >= since_ns}

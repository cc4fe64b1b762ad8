"""Sites with one rule of the lease left out each. The simulator has to see two owners in every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from hawatch.cluster.acceptor import Acceptor
from hawatch.cluster.membership import Membership
from hawatch.cluster.node import Node
from hawatch.cluster.parameters import LeaseParameters
from hawatch.cluster.quorum import Round
from hawatch.cluster.sessions import Session, Standing
from tests.sim.episode import Outcome, live
from tests.sim.kernel import Gate
from tests.sim.world import Rules

APART_PPM = 25_000
"""Two clocks that run 5 % apart."""


class TimerFromGrant(Gate):
    """The timer starts when the lease was granted, not before it was asked for."""

    def arm(self, slot: int, now_ns: int, duration_ns: int) -> None:
        self.active[slot] = False
        self.ends_ns[slot] = -duration_ns

    def activate(self, slot: int, now_ns: int) -> None:
        if self.ends_ns[slot] < -1:
            self.ends_ns[slot] = now_ns - self.ends_ns[slot]
        self.active[slot] = True


class BitStays(Gate):
    """A slot is armed without its active bit being cleared."""

    def arm(self, slot: int, now_ns: int, duration_ns: int) -> None:
        self.ends_ns[slot] = now_ns + duration_ns


class OneGrant(Membership):
    """One grant makes an owner."""

    @property
    def majority(self) -> int:
        return 1


def release_anything(acceptor: Acceptor, asker: int, order: tuple[int, int], group: int) -> bool:
    """Clear whatever the asker has, however late its release is."""
    memory = acceptor.memory.get(group)
    if memory is None or memory.lease is None or memory.lease.holder != asker:
        return False
    memory.lease = None
    return True


def drop_at_once(node: Node, now_ns: int) -> None:
    """Forget the groups that the configuration does not name any more, with their gates as they are."""
    for group in [each for each in node.groups.values() if each.dropped]:
        del node.groups[group.name], node.by_identifier[group.group]
    regroup(node, now_ns)


regroup, refusals, silence_after_ns = Node.regroup, Round.refusals, LeaseParameters.silence_after_ns


def believe_everything(_session: Session, _boot: int, _sequence: int) -> Standing:
    """Take every datagram for a fresh one, copies and old ones, too."""
    return Standing.FRESH


@contextmanager
def replaced(*changes: tuple[type, str, object]) -> Iterator[None]:
    """Leave rules out of classes for a while."""
    kept = [(owner, name, owner.__dict__[name]) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


@dataclass(frozen=True)
class Mutant:
    """What is left out, with which clocks, and in which scene of an episode it shows; "": in any."""

    rules: Rules = field(default_factory=Rules)
    changes: tuple[tuple[type, str, object], ...] = ()
    rate_ppm: int | None = None
    scene: str = ""

    def without(self) -> AbstractContextManager[None]:
        """Leave it out for a while."""
        return replaced(*self.changes)

    def life(self, seed: int) -> Outcome:
        """Let a site live without the rule."""
        with self.without():
            return live(seed, "fast", self.rules, rate_ppm=self.rate_ppm, until_overlap=True, only=self.scene)

    def caught(self, outcome: Outcome) -> bool:
        """Return whether two gates were open at once, or an address was up without any gate before it."""
        ungated = any("up without a gate" in each for each in outcome.stuck)
        return bool(outcome.overlaps or ungated or (self.scene == "cut_heartbeats" and outcome.best_effort))


FRESHNESS_OFF = (Session, "admit", believe_everything)

MUTANTS: dict[str, Mutant] = {
    # Those of the design.
    "timer starts at the grant": Mutant(Rules(gate=TimerFromGrant)),
    "no silence after an acceptor's start": Mutant(Rules(silent=False)),
    "release without its order": Mutant(changes=(FRESHNESS_OFF, (Acceptor, "release", release_anything))),
    "release before the gate is closed": Mutant(Rules(eager_close=True)),
    "armed with its active bit set": Mutant(Rules(gate=BitStays)),
    "the holder's time is the whole lease": Mutant(
        changes=((LeaseParameters, "holder_ns", property(lambda self: self.lease_ns)),), rate_ppm=APART_PPM
    ),
    "one grant suffices": Mutant(Rules(membership=OneGrant)),
    # Those of the rules that came with it.
    "a new process takes the gate for closed": Mutant(Rules(adopt=False), scene="restart_owner"),
    "a group that is not named any more is forgotten with its gate open": Mutant(
        changes=((Node, "regroup", drop_at_once),)
    ),
    "an acceptor forgets that it promised a longer lease": Mutant(
        changes=((LeaseParameters, "silence_after_ns", lambda self, former_lease_ns: silence_after_ns(self, 0)),),
        scene="shorter_lease",
    ),
    "acceptors serve who has another list of members": Mutant(
        changes=((Membership, "digest", property(lambda self: 1)),), scene="rolling_change"
    ),
    "a forced takeover does not mind refusals": Mutant(
        changes=((Round, "refusals", lambda self: 0 if self.forced else refusals(self)),), scene="force_in_vain"
    ),
    "the clients' network is not asked": Mutant(Rules(hears_clients=False), scene="cut_heartbeats"),
}

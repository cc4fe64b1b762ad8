"""Sites with one rule of the lease left out each. The simulator has to see two owners in every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hawatch.cluster.acceptor import Acceptor
from hawatch.cluster.membership import Membership
from hawatch.cluster.parameters import LeaseParameters
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


@contextmanager
def replaced(owner: type, name: str, value: object) -> Iterator[None]:
    """Leave a rule out of a class for a while."""
    kept = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


@contextmanager
def whole() -> Iterator[None]:
    """Leave nothing out."""
    yield


@dataclass(frozen=True)
class Mutant:
    """What is left out, and with which clocks."""

    rules: Rules = field(default_factory=Rules)
    without: Callable[[], object] = whole
    rate_ppm: int | None = None


MUTANTS: dict[str, Mutant] = {
    "timer starts at the grant": Mutant(Rules(gate=TimerFromGrant)),
    "no silence after an acceptor's start": Mutant(Rules(silent=False)),
    "release without its order": Mutant(without=lambda: replaced(Acceptor, "release", release_anything)),
    "release before the gate is closed": Mutant(Rules(eager_close=True)),
    "armed with its active bit set": Mutant(Rules(gate=BitStays)),
    "the holder's time is the whole lease": Mutant(
        without=lambda: replaced(LeaseParameters, "holder_ns", property(lambda self: self.lease_ns)), rate_ppm=APART_PPM
    ),
    "one grant suffices": Mutant(Rules(membership=OneGrant)),
}

"""Who should own a group: comparing directors, and being slow to change one's mind.

Theory of operation. Directors are ordered by (fitness, preferred); the owner hands over only to one that has been
strictly higher in this order for the whole of the hold-down without a break. The order has no cycles, so with
fitness at rest a group moves at most once. While fitness itself goes up and down, each handover within
`MEMORY_FACTOR` hold-downs of the last one doubles the hold-down, up to `BACKOFF_MAX` doublings.
The preference counts only where failback is automatic and the owner was not chosen by an administrator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MEMORY_FACTOR = 40
BACKOFF_MAX = 5
FITNESS_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Contender:
    """What another director says of itself; only those that are ready are contenders."""

    node: int
    name: str
    fitness: int


@dataclass(frozen=True, slots=True)
class Better:
    """A director that is higher in the order, and why."""

    node: int
    name: str
    reason: str


def better(
    own: int, contenders: Iterable[Contender], prefer: str, *, own_preferred: bool, failback: bool
) -> Better | None:
    """Return the highest contender above a director of fitness `own`, or None."""
    assert 0 <= own <= FITNESS_MAX
    own_rank = (own, own_preferred or not failback)
    best: tuple[tuple[int, bool], Contender] | None = None
    for contender in contenders:
        rank = (contender.fitness, contender.name == prefer and failback)
        if rank > own_rank and (best is None or rank > best[0]):
            best = (rank, contender)
    if best is None:
        return None
    contender = best[1]
    if contender.fitness > own:
        reason = f"{contender.name} is fitter ({contender.fitness}) than this director ({own})"
    else:
        reason = f"{contender.name} is preferred and as fit as this director"
    return Better(contender.node, contender.name, reason)


@dataclass(slots=True)
class HoldDown:
    """How long one director has been better, and how long it must be."""

    base_ns: int
    doublings: int = 0
    moved_ns: int = -1
    node: int = 0
    since_ns: int = 0

    def due_ns(self) -> int:
        """Return the instant at which the present contender has been better long enough."""
        return self.since_ns + (self.base_ns << self.doublings)

    def consider(self, found: Better | None, now_ns: int) -> bool:
        """Note who is better now; return whether it has been so for the whole of the hold-down."""
        if found is None:
            self.node = 0
            return False
        if found.node != self.node:
            self.node, self.since_ns = found.node, now_ns
        assert now_ns >= self.since_ns
        return now_ns >= self.due_ns()

    def handed_over(self, now_ns: int) -> None:
        """Note that the group moved for fitness: soon after the last time makes the next time later."""
        recent = self.moved_ns >= 0 and now_ns - self.moved_ns < self.base_ns * MEMORY_FACTOR
        self.doublings = min(BACKOFF_MAX, self.doublings + 1) if recent else 0
        self.moved_ns, self.node = now_ns, 0

"""How fit a director is, who should own a group, and being slow to change one's mind.

Theory of operation. Directors are ordered by (fitness, preferred); the owner hands over only to one that has been
strictly higher in this order for the whole of the hold-down without a break. The order has no cycles, so with
fitness at rest a group moves at most once. While fitness itself goes up and down, each handover within
`MEMORY_FACTOR` hold-downs of the last one doubles the hold-down, up to `BACKOFF_MAX` doublings.
What makes a director fit is ordered, too: a director whose interfaces are up is above one that merely sees servers, and
so on, so that the score says which of two is worth more. Two directors notice at different moments that the servers are
gone, or back, for each asks at its own: a director that is better only because it sees a server must stay better until
the other one has noticed, too. What is not known yet of the servers, after a start, speaks
against nobody; but a director that is not sure yet is handed nothing, so that nothing moves because somebody was
restarted. Where no director sees a server all are alike, and nothing moves.

The preference counts only where failback is automatic and the owner was not chosen by an administrator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hawatch.model import NS_PER_S

MEMORY_FACTOR = 40
BACKOFF_MAX = 5
HOLD_NS_MAX = 10 * 60 * NS_PER_S
"""However often a group moved, a director that stays fitter for so long gets it."""
FITNESS_MAX = 65_535

INTERFACES, IPV6, SERVERS, GATEWAY, PUNCTUAL = 16, 8, 4, 2, 1
"""What each thing is worth; each more than all that follow."""
TURNS = 10
"""Turns of the loop that are looked back at for its punctuality."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The real servers as a director's probes see them."""

    up: int = 0
    known: int = 0
    """Servers with a verdict; not more than there are."""
    count: int = 0

    @property
    def sure(self) -> bool:
        """Whether later verdicts on servers that were not looked at yet change nothing."""
        return self.up > 0 or self.known == self.count

    @property
    def blind(self) -> bool:
        """Whether there are servers, and all of them are down."""
        assert 0 <= self.up <= self.known <= self.count, self
        return self.count > 0 and self.sure and not self.up


@dataclass(slots=True)
class Punctuality:
    """Whether a loop is on time, over its last turns."""

    limit_ns: int
    late: deque[bool] = field(default_factory=lambda: deque(maxlen=TURNS))

    def note(self, late_ns: int) -> bool:
        """Note how late a turn was; return whether fewer than half of the last turns were too late."""
        self.late.append(late_ns > self.limit_ns)
        return 2 * sum(self.late) < TURNS


def score(
    down: Sequence[str], without_ipv6: Sequence[str], sight: Sight, silent: Sequence[str], *, punctual: bool
) -> tuple[int, str]:
    """Return how fit a director is, and what is missing, "" for nothing.

    `down` names the interfaces that are down, `without_ipv6` those that need it and have none, `silent` the gateways
    when none of them answers.
    """
    found = 0
    missing = []
    if down:
        missing.append(f"interface {', '.join(down)} is down")
    else:
        found += INTERFACES
    if without_ipv6:
        missing.append(f"interface {', '.join(without_ipv6)} has no IPv6")
    else:
        found += IPV6
    if sight.blind:
        missing.append(f"none of {sight.count} real servers is up as seen from here")
    else:
        found += SERVERS
    if silent:
        missing.append(f"no gateway of {', '.join(silent)} answers")
    else:
        found += GATEWAY
    if punctual:
        found += PUNCTUAL
    else:
        missing.append("this process is often late: its processors are busy")
    return found, "; ".join(missing)


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
    sees: bool = False
    """What makes it better is that it sees a server."""


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
    sees = (contender.fitness ^ own).bit_length() == SERVERS.bit_length()
    return Better(contender.node, contender.name, reason, sees)


@dataclass(slots=True)
class HoldDown:
    """How long one director has been better, and how long it must be."""

    base_ns: int
    doublings: int = 0
    moved_ns: int = -1
    node: int = 0
    since_ns: int = 0
    least_ns: int = 0

    def hold_ns(self) -> int:
        """Return how long it takes without any move before."""
        return max(self.base_ns, self.least_ns)

    def due_ns(self) -> int:
        """Return the instant at which the present contender has been better long enough."""
        hold_ns = self.hold_ns()
        return self.since_ns + max(hold_ns, min(hold_ns << self.doublings, HOLD_NS_MAX))

    def consider(self, found: Better | None, now_ns: int, apart_ns: int = 0) -> bool:
        """Note who is better now; return whether it has been so for the whole of the hold-down.

        `apart_ns`: so far apart two directors may notice the same of their servers.
        """
        if found is None:
            self.node = 0
            return False
        if found.node != self.node:
            self.node, self.since_ns = found.node, now_ns
        self.least_ns = apart_ns if found.sees else 0
        assert now_ns >= self.since_ns
        return now_ns >= self.due_ns()

    def handed_over(self, now_ns: int) -> None:
        """Note that the group moved for fitness: soon after the last time makes the next time later."""
        recent = self.moved_ns >= 0 and now_ns - self.moved_ns < self.hold_ns() * MEMORY_FACTOR
        self.doublings = min(BACKOFF_MAX, self.doublings + 1) if recent else 0
        self.moved_ns, self.node = now_ns, 0

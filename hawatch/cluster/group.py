"""What one director knows of one group, and where it stands with it.

The state machine is the table in `states`; what moves it is in `rounds` (asking for the lease and keeping it),
`leaving` (closing the gate and releasing), `candidacy` (when to ask) and `handover` (when to let go). `ownership` joins
them to what happens from outside. They depend on each other in this order, and all of them on this module.
"""

from __future__ import annotations

from collections import Counter

from hawatch.cluster.effects import RememberPins
from hawatch.cluster.fitness import Contender, HoldDown
from hawatch.cluster.membership import GroupSettings
from hawatch.cluster.parameters import ANNOUNCE_AFTER_NS, ANNOUNCE_EVERY_NS
from hawatch.cluster.quorum import Round
from hawatch.cluster.site import PeerClaim, Site
from hawatch.cluster.states import Trigger, following
from hawatch.cluster.wire import Claim, DenyReason, GroupState, Release, identifier
from hawatch.model import NS_PER_MS, NS_PER_S

TELL_REFUSAL_NS = 10 * NS_PER_S
"""That the kernel refuses is told at most so often, and once for each sentence until the gate works again."""
HINT_JITTER_NS = (1 * NS_PER_MS, 20 * NS_PER_MS)
"""A candidate comes back this much after a refusal said that the lease would end."""


class Group:
    """One group on one director; `adopted_slot` is the one that a former process of this node left open."""

    def __init__(self, settings: GroupSettings, site: Site, now_ns: int, *, adopted_slot: int | None = None) -> None:
        assert adopted_slot in (None, 0, 1)
        self.settings = settings
        self.site = site
        self.name = settings.name
        self.group = identifier(settings.name)
        self.state = GroupState.STANDBY
        self.reason = "this director has just started"
        self.dropped = False
        """The configuration does not name it any more: it is let go of, and forgotten."""
        # The round under way, and the gate.
        self.round: Round | None = None
        self.number = 0
        self.slot_in_use = adopted_slot
        """The slot that was opened last; None when the gate is known to be closed."""
        self.adopted_until_ns = (
            now_ns + site.parameters.holder_ns + site.parameters.guard if adopted_slot is not None else 0
        )
        self.end_ns = 0
        self.confirmed = adopted_slot, 0
        """The slot in use and its end when the kernel last confirmed them; the end of an adopted one is not known."""
        self.opening = self.opened = False
        """An `Activate` is not answered yet; gate and addresses were confirmed since this director became the owner."""
        self.gate_failures = 0
        self.told_refusal, self.told_refusal_ns = "", now_ns - TELL_REFUSAL_NS
        # Owning.
        self.owner_since_ns = self.kept_ns = self.epoch = self.epoch_seen = 0
        self.pinned = False
        """An administrator chose the owner: it does not fall back by itself."""
        self.wants_round = False
        self.announced_ns = -1
        self.hold_down = HoldDown(site.parameters.hold_down_ns)
        # Waiting for one's turn.
        self.not_before_ns = 0
        self.waits_on: frozenset[int] | None = None
        """Whose promises make it wait until then; None: anybody's, or nobody's in particular."""
        self.waiting = ""
        self.defer_until_ns = -1
        self.invited = self.invited_by_admin = self.forced = False
        self.lease_end_ns = -1
        """End of another node's lease as last seen at the own acceptor, and `free_ns` when to ask for it."""
        self.free_ns = 0
        self.free_since_ns = -1
        self.probing = self.let_go = 0
        """`let_go` is the director that last said that it let the group go, until this one owns it."""
        self.answers: dict[str, bool] = {}
        self.probing_since_ns = -1
        self.evidence_text = ""
        # Leaving.
        self.close_ordered_ns = -1
        self.successor = self.release_flags = self.release_until_ns = 0
        self.release: Release | None = None
        # For people.
        self.renewals = self.renewals_failed = self.refusals = self.acquisitions = 0
        self.refused: Counter[tuple[int, DenyReason]] = Counter()
        """Refusals of each acceptor by reason."""
        self.unknown_at: set[int] = set()
        """Acceptors that said last that they do not know the group."""

    def move(self, trigger: Trigger, reason: str) -> None:
        """Change the state as the table says; a pair that it has not raises TransitionError and changes nothing."""
        assert reason
        self.state, self.reason = following(self.state, trigger), reason

    def claim(self) -> Claim:
        """Return what this director says of the group in its heartbeats."""
        if self.state is GroupState.OWNER:
            state = GroupState.OWNER if self.opened else GroupState.CANDIDATE
            return Claim(self.group, state, self.epoch, self.settings.addresses)
        return Claim(self.group, self.state, self.epoch_seen, self.settings.addresses)

    def said_by(self, node: int) -> PeerClaim | None:
        """Return what another director's latest beats say of the group; None where its file does not name it."""
        report = self.site.reports[node]
        claim = report.claims.get(self.group)
        late_ns = self.site.parameters.late_ns
        return claim if claim is not None and claim.heard_ns >= report.beat_ns - late_ns else None

    def differs_at(self, node: int) -> bool:
        """Return whether the group has other addresses by another director's file."""
        claim = self.said_by(node)
        return claim is not None and claim.addresses != self.settings.addresses

    def takers(self) -> list[Contender]:
        """Return the directors that could take the group now: those that know it, if with other addresses."""
        return [each for each in self.site.contenders() if self.said_by(each.node)]

    def could_be_taken_by(self, node: int) -> bool:
        """Return whether another director could take the group now."""
        return any(each.node == node for each in self.takers())

    def idle(self) -> bool:
        """Return whether nothing of this group is held here: no gate that could be open, no round."""
        return self.slot_in_use is None and self.round is None and self.state is not GroupState.CLOSING

    def hindrance(self, now_ns: int) -> str:
        """Return why this director may not own the group; "" when it may."""
        return "the configuration does not name the group any more" if self.dropped else self.site.hindrance(now_ns)

    def may_own(self, now_ns: int) -> bool:
        """Return whether nothing forbids this director to own the group."""
        return not self.hindrance(now_ns)

    def pin(self, *, pinned: bool) -> None:
        """Note, over restarts too, whether an administrator chose this director, and whether he forced that."""
        site = self.site
        self.pinned = pinned
        pins = site.pins - {self.name} | ({self.name} if pinned else set())
        forced = site.forced - {self.name} | ({self.name} if pinned and self.forced else set())
        if (pins, forced) != (site.pins, site.forced):
            site.pins, site.forced = pins, forced
            site.remember[RememberPins] = RememberPins(tuple(sorted(pins)), tuple(sorted(forced)))

    def announcing(self) -> tuple[tuple[int, ...], int]:
        """Return when addresses are announced: after so much each, and then every so often."""
        return ANNOUNCE_AFTER_NS, ANNOUNCE_EVERY_NS

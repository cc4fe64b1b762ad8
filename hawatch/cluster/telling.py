"""What people are told of the other nodes: who is heard, on which link, and whether a majority answers.

Nothing is decided here. What is told of a group comes from where it is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hawatch.cluster.detector import LinkChange, PeerChange, PeerState
from hawatch.cluster.group import Group
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.parameters import in_units
from hawatch.cluster.site import Site
from hawatch.cluster.wire import identifier
from hawatch.model import NS_PER_MS, NS_PER_S, Severity

DIFFER_NS = 60 * NS_PER_S
"""That files differ is told when it has lasted so long: they are changed one after the other."""
OTHER_ADDRESSES = "other addresses in this group by its file: make the files the same, and reload both"
TELL_LATENESS_NS = 10 * NS_PER_S
"""The own lateness is told at most so often."""


def differing_at(site: Site, groups: Iterable[Group]) -> Iterator[tuple[int, Group]]:
    """Yield each other director by whose file a group has other addresses, and the group."""
    for group in groups:
        yield from ((node, group) for node in site.directors if site.alive(node) and group.differs_at(node))


class Telling:
    """What one node has told."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.quorate: bool | None = None
        self.told_late_ns = -TELL_LATENESS_NS
        self.paused_ns = -site.parameters.lease_ns
        """When this node was found to have been stopped last."""
        self.differing: dict[tuple[int, int], int] = {}
        """Directors and groups that differ: since when, negative once that is told."""

    def paused(self, now_ns: int) -> None:
        """This node itself was stopped: that it was not answered meanwhile says nothing of the others."""
        self.paused_ns = now_ns

    def lateness(self, late_ns: int, now_ns: int) -> None:
        """Tell that this process did not run for a while."""
        if now_ns - self.told_late_ns >= TELL_LATENESS_NS:
            self.told_late_ns = now_ns
            name = self.site.name(self.site.me)
            reason = f"{name} itself was {in_units(late_ns)} late: it was stopped, or its processors are busy"
            self.site.emit("lease_late", reason, severity=Severity.WARNING, late_ms=late_ns // NS_PER_MS)

    def quorum(self, now_ns: int) -> None:
        """Tell when a majority stops answering, and when it answers again; where there is no witness none is needed."""
        site = self.site
        if site.membership.quorum is not QuorumMode.WITNESS:
            return
        since_ns = now_ns - site.parameters.lease_ns
        answering = 1 + sum(0 <= since_ns <= report.proven_ns for report in site.reports.values())
        count, majority = len(site.membership.members), site.membership.majority
        quorate = answering >= majority
        if quorate and self.quorate is False:
            site.emit("quorum_regained", f"{answering} of {count} nodes answer again", severity=Severity.INFO)
        elif not quorate and self.quorate:
            if self.paused_ns > since_ns:
                return
            reason = f"only {answering} of {count} nodes answer, {majority} are needed to own anything"
            site.emit("quorum_lost", reason, severity=Severity.CRITICAL)
        self.quorate = quorate if quorate or self.quorate is not None else None

    def differences(self, groups: Iterable[Group], now_ns: int) -> None:
        """Tell where another director's file has other addresses for a group: a takeover would lose them."""
        differing = {(node, group.group): group.name for node, group in differing_at(self.site, groups)}
        self.differing = {key: since_ns for key, since_ns in self.differing.items() if key in differing}
        for (node, group), name in differing.items():
            since_ns = self.differing.setdefault((node, group), now_ns)
            if 0 <= since_ns <= now_ns - DIFFER_NS:
                self.differing[node, group] = -1
                reason = f"{self.site.name(node)} has {OTHER_ADDRESSES}"
                self.site.emit("addresses_differ", reason, name, Severity.WARNING)

    def changes(self) -> bool:
        """Tell what the detector saw; return whether a link came up."""
        site = self.site
        healed = False
        for change in site.detector.take_changes():
            severity, which = Severity.INFO, {"peer": change.peer}
            match change:
                case PeerChange(peer=peer, state=state, reason=reason):
                    kind = "director" if identifier(peer) in site.directors else "witness"
                    dead = state is PeerState.DEAD
                    name = f"{kind}_dead" if dead else f"{kind}_alive"
                    severity = Severity.CRITICAL if dead else severity
                case LinkChange(address=address, up=up, reason=reason):
                    which["address"] = address
                    name = "link_up" if up else "link_down"
                    severity = severity if up else Severity.WARNING
                    healed = healed or up
            site.emit(name, reason, severity=severity, **which)
        return healed

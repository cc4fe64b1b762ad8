"""When an owner lets go of a group, and to whom.

Theory of operation. An owner lets go at once when it may not own any more (stopped, given away, its name used twice),
or when another director shows a higher epoch. It hands over when another director has been fitter, or as fit and
preferred, for the whole of the hold-down. Where no majority decides there can be two owners after a cut: then the
one with the lower epoch yields, next the one that is not preferred, and the other announces its addresses again.
"""

from __future__ import annotations

from hawatch.cluster import leaving
from hawatch.cluster.effects import Announce
from hawatch.cluster.fitness import better
from hawatch.cluster.group import Group
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.site import PeerClaim
from hawatch.cluster.wire import UNSURE, GroupState
from hawatch.model import Severity


def settle(group: Group, now_ns: int) -> bool:
    """Let go of a group if it is time; return whether it was."""
    assert group.state is GroupState.OWNER
    site = group.site
    hindrance = group.hindrance(now_ns)
    if hindrance:
        leaving.close(group, hindrance, now_ns, successor=successor(group), by_admin=site.paused)
        return True
    other = site.owner_claim(group.group, now_ns)
    if other is not None and meet(group, *other, now_ns):
        return True
    return hand_over(group, now_ns)


def meet(group: Group, node: int, claim: PeerClaim, now_ns: int) -> bool:
    """Decide who stays when another director says that it owns the group too; return whether this one goes."""
    site = group.site
    name = site.name(node)
    if claim.epoch > group.epoch:
        leaving.close(group, f"{name} owns the group with the higher epoch {claim.epoch} against {group.epoch}", now_ns)
        return True
    if site.membership.quorum is QuorumMode.WITNESS:
        return False  # its claim is older than its own end
    if (
        claim.epoch == group.epoch
        and site.name(site.me) != group.settings.prefer
        and (name == group.settings.prefer or node > site.me)
    ):
        leaving.close(group, f"{name} owns the group too, with the same epoch, and comes first", now_ns)
        return True
    if now_ns - group.announced_ns >= site.parameters.lease_ns:
        group.announced_ns = now_ns
        reason = f"{name} owns the group too and yields: this director announces the addresses again"
        site.emit("vip_conflict", reason, group.name, Severity.WARNING)
        site.commands.append(Announce(group.name, *group.announcing()))
    return False


def hand_over(group: Group, now_ns: int) -> bool:
    """Give the group to a better director that has been better long enough; return whether it was given."""
    site, settings = group.site, group.settings
    failback = settings.failback and not group.pinned
    own_preferred = settings.prefer == site.name(site.me)
    sure = [
        each
        for each in group.takers()
        if not site.reports[each.node].flags & UNSURE
        and (each.fitness > site.fitness or not group.differs_at(each.node))  # an address is not lost for a preference
    ]
    found = better(site.fitness, sure, settings.prefer, own_preferred=own_preferred, failback=failback)
    if not group.hold_down.consider(found, now_ns, site.apart_ns):
        return False
    assert found is not None
    group.hold_down.handed_over(now_ns)
    missing = f": {site.fitness_reason}" if site.fitness_reason else ""
    leaving.close(group, f"{found.reason}{missing}", now_ns, successor=found.node)
    return True


def successor(group: Group) -> int:
    """Return the director that should have the group next, 0 when there is none that could."""
    prefer = group.settings.prefer
    found = max(
        group.takers(),
        key=lambda each: (not group.differs_at(each.node), each.fitness, each.name == prefer),
        default=None,
    )
    return found.node if found is not None else 0

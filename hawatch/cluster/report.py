"""A node's state as `hawatch ctl status` shows it."""

from __future__ import annotations

from collections.abc import Iterable

from hawatch.cluster.detector import PeerHealth
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.node import Node
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.telling import OTHER_ADDRESSES, differing_at
from hawatch.cluster.wire import GroupState
from hawatch.model import NS_PER_MS

BEST_EFFORT = 'two owners are possible after a cut of all links: quorum = "witness" with a third machine excludes them'


def report(node: Node, now_ns: int) -> dict[str, object]:
    """Return the keys `quorum`, `directors`, `witnesses`, `fitness`, `groups` and `rejected` of the status."""
    site = node.site
    peers = [(peer, site.detector.peers[peer]) for peer in site.reports]
    return {
        "quorum": quorum(node, now_ns),
        "directors": [peer_part(node, peer, health, now_ns) for peer, health in peers if peer in site.directors],
        "witnesses": [peer_part(node, peer, health, now_ns) for peer, health in peers if peer not in site.directors],
        "fitness": {"score": site.fitness, "sure": site.sure, "reason": site.fitness_reason},
        "groups": [group_part(node, group, now_ns) for group in node.groups.values()],
        "rejected": {str(reason): count for reason, count in sorted(node.reception.rejections.items())},
    }


def differences(node: Node, after: Iterable[GroupSettings] | None = None) -> list[str]:
    """Return a sentence for each director by whose file a group has other addresses.

    With groups that are to come, only those that these do not make the same are told.
    """
    to_come = None if after is None else {settings.name: settings.addresses for settings in after}
    return [
        f"{group.name}: {node.site.name(peer)} has {OTHER_ADDRESSES}"
        for peer, group in differing_at(node.site, node.groups.values())
        if to_come is None or (claim := group.said_by(peer)) is None or claim.addresses != to_come.get(group.name)
    ]


def quorum(node: Node, now_ns: int) -> dict[str, object]:
    """Return how many nodes answer, and what that means."""
    site, membership = node.site, node.membership
    reachable, count = site.reachable(now_ns), len(membership.members)
    held = site.proven(now_ns)
    differing = site.others_differ()
    if membership.quorum is not QuorumMode.WITNESS:
        reason = BEST_EFFORT
    elif differing:
        reason = (
            f"{', '.join(differing)} has another list of directors and witnesses, so its grants do not count:"
            " make the files the same and restart it"
        )
    elif not site.acceptor.settled:
        reason = site.unsettled_reason()
    elif held:
        reason = f"{reachable} of {count} nodes answer, {membership.majority} are needed"
    else:
        reason = (
            f"only {reachable} of {count} nodes answer, {membership.majority} are needed: see the others and the links"
        )
    return {
        "mode": str(membership.quorum),
        "held": held,
        "acceptors": count,
        "reachable": reachable,
        "lease_ms": site.parameters.lease_ns // NS_PER_MS,
        "reason": reason,
    }


def peer_part(node: Node, peer: int, health: PeerHealth, now_ns: int) -> dict[str, object]:
    """Return what is known of a peer."""
    members = node.site.reports[peer].members
    return {
        "name": health.name,
        "members": "" if not members else "same" if members == node.site.members else "other",
        "state": str(health.state),
        "silent_ms": health.silence_ns(now_ns) // NS_PER_MS,
        "phi": round(health.phi(now_ns), 2),
        "links": [
            {
                "address": link.address,
                "state": "up" if link.up else "down",
                "received": link.received,
                "lost": link.lost,
                "round_trip_ms": round(link.round_trip_ns / NS_PER_MS, 3) if link.round_trip_ns >= 0 else None,
            }
            for link in health.links
        ],
    }


def owner_of(node: Node, group: str, now_ns: int) -> str:
    """Return the name of a group's owner, "" when nobody is known to own it."""
    owner = node.requests.owner_name(group, now_ns)
    return "" if owner == "nobody" else owner


def group_reason(node: Node, group: Ownership) -> str:
    """Return why a group is as it is, and who of the nodes does not know it: their votes are missing."""
    if not group.unknown_at:
        return group.reason
    names = ", ".join(sorted(node.site.name(each) for each in group.unknown_at))
    return f"{group.reason}; {names} does not know this group: reload it there"


def group_part(node: Node, group: Ownership, now_ns: int) -> dict[str, object]:
    """Return a group's state with the sentence that says why."""
    owner = owner_of(node, group.name, now_ns)
    claim = node.site.owner_claim(group.group, now_ns)
    claimed = claim[1].epoch if claim is not None else 0  # one that has just started has seen none itself
    state = "owner" if group.state is GroupState.CLOSING else group.state.name.lower()
    return {
        "name": group.name,
        "state": state,
        "owner": owner,
        "epoch": group.epoch if group.state is GroupState.OWNER else max(group.epoch_seen, claimed),
        "reason": group_reason(node, group),
        "lease_left_ms": max(0, group.end_ns - now_ns) // NS_PER_MS if group.state is GroupState.OWNER else 0,
        "acquisitions": group.acquisitions,
        "renewals": group.renewals,
        "renewals_failed": group.renewals_failed,
        "refusals": group.refusals,
        "refused": [
            {"acceptor": node.site.name(acceptor), "reason": reason.name.lower(), "count": count}
            for (acceptor, reason), count in sorted(group.refused.items())
        ],
        "owned_ms": (now_ns - group.owner_since_ns) // NS_PER_MS if group.state is GroupState.OWNER else 0,
    }

"""When a director that waits asks for a group's lease.

Theory of operation. Asking is safe at any time; asking at the wrong time costs a round, or takes the group from a
director that should rather have it. So a director asks when nothing forbids it to own, no lease is out as far as
its own acceptor knows, nobody says freshly that it is the owner, a majority has answered lately, and nobody fitter is
about to ask. It says in one sentence what it waits for.

Without a witness a majority of two is no help when the other one is gone. Then the evidence is gathered first: the
other director has been silent on every link for a lease, the own gateway answers (mode gateway), and nobody answers
for the addresses on the clients' network (RFC 5227).
"""

from __future__ import annotations

from hawatch.cluster import leaving, rounds
from hawatch.cluster.detector import PeerState
from hawatch.cluster.effects import AskGateway, ProbeAddresses
from hawatch.cluster.fitness import better
from hawatch.cluster.group import Group
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.parameters import in_units
from hawatch.cluster.states import Trigger
from hawatch.cluster.wire import GroupState
from hawatch.model import NS_PER_MS

AFTER_LEASE_NS = (1 * NS_PER_MS, 20 * NS_PER_MS)
"""A director asks this much after another's lease has run out at its own acceptor."""
DEFER_HEARTBEATS = 2
"""A less fit director leaves a free lease to a fitter one for so many heartbeats."""
STAGGER_NS = 25 * NS_PER_MS
"""Directors that are as fit ask one after the other, this much apart: more than `AFTER_LEASE_NS` spreads."""
GATEWAY, ADDRESSES = "gateway", "addresses"


def consider(group: Group, now_ns: int) -> None:
    """Ask for the lease if it is time; else note what is waited for."""
    assert group.state is GroupState.STANDBY
    site = group.site
    if not group.may_own(now_ns):
        stand_aside(group, now_ns)
        return
    adopted = group.slot_in_use is not None
    if adopted and now_ns >= group.adopted_until_ns:
        leaving.tidy(group, "the gate that a former process left open has run out", now_ns)
        return
    if now_ns < group.not_before_ns:
        return
    wait = held_by_another(group, now_ns) or held_back(group, now_ns, adopted=adopted)
    if wait:
        group.reason = wait
        return
    if site.membership.quorum is QuorumMode.WITNESS or group.forced:
        ask(group, now_ns, evidence=False)
    else:
        ask_without_witness(group, now_ns)


def stand_aside(group: Group, now_ns: int) -> None:
    """Own nothing, and close what a former process left open."""
    site = group.site
    reason = group.hindrance(now_ns)
    if group.slot_in_use is not None:
        leaving.tidy(group, reason, now_ns)
    elif site.paused:
        group.move(Trigger.PAUSE, reason)
    elif now_ns < site.clash_until_ns:
        group.move(Trigger.CLASH, reason)
    else:
        group.reason = reason


def held_by_another(group: Group, now_ns: int) -> str:
    """Return a sentence if another node has the lease as far as is known, and set when to look again."""
    site = group.site
    lease = site.acceptor.lease(group.group, now_ns)
    if lease is not None and lease.holder != site.me:
        if group.lease_end_ns != lease.expires_ns:
            group.lease_end_ns = lease.expires_ns
            group.free_ns = lease.expires_ns + int(site.random.uniform(*AFTER_LEASE_NS))
        group.not_before_ns, group.waits_on = group.free_ns, frozenset({lease.holder})
        group.free_since_ns = -1
        return f"{site.name(lease.holder)} has the lease"
    owner = site.owner_claim(group.group, now_ns)
    if owner is not None and not group.forced:
        group.free_since_ns = -1
        return f"{site.name(owner[0])} says that it owns the group"
    if group.free_since_ns < 0:
        group.free_since_ns = now_ns
    return ""


def held_back(group: Group, now_ns: int, *, adopted: bool) -> str:
    """Return a sentence if the lease is free but others come first, or nobody answers."""
    site = group.site
    if not site.acceptor.settled and not group.forced:
        return site.unsettled_reason()
    if now_ns < group.defer_until_ns:
        group.not_before_ns = group.defer_until_ns
        return "the last owner gave the group to another director, which comes first"
    if not group.invited and not adopted and not group.forced:
        if site.doubts_gate(now_ns) and group.takers():
            return "the kernel refused changes of the gate lately, so other directors come first: see nftables"
        settings = group.settings
        own_preferred = settings.prefer == site.name(site.me)
        found = better(site.fitness, site.contenders(), settings.prefer, own_preferred=own_preferred, failback=True)
        free_ns = max(group.free_since_ns, site.acceptor.silence_ends_ns(group.group))
        until_ns = free_ns + DEFER_HEARTBEATS * site.parameters.heartbeat_ns
        if found is not None and now_ns < until_ns:
            group.not_before_ns = until_ns
            return f"{found.reason}, so it comes first"
        # The preferred one asks even while its own acceptor is silent: others may be enough, and say when they will be.
        until_ns = group.free_since_ns if own_preferred else free_ns + STAGGER_NS * site.ahead()
        if found is None and now_ns < until_ns:
            group.not_before_ns = until_ns
            return "a director that is as fit is named before this one, so it asks first"
    if not group.forced and not site.proven(now_ns):
        count = len(site.membership.members)
        return (
            f"only {site.reachable(now_ns)} of {count} acceptors answer, {site.membership.majority} are needed:"
            " see that the other nodes run and that the links work"
        )
    return ""


def ask(group: Group, now_ns: int, *, evidence: bool) -> None:
    """Begin a round."""
    if group.lease_end_ns >= 0 and not group.waiting:
        group.waiting = f"the former lease ran out {in_units(max(0, now_ns - group.lease_end_ns))} ago"
    group.move(Trigger.ASK, "asks the acceptors for the lease")
    rounds.start(group, now_ns, evidence=evidence)


def ask_without_witness(group: Group, now_ns: int) -> None:
    """Ask the other director if it lives; if it is gone gather the evidence first."""
    site = group.site
    peer = site.directors[0]
    health = site.detector.peers[peer]
    if health.state is PeerState.ALIVE:
        group.probing_since_ns = -1
        ask(group, now_ns, evidence=False)
        return
    if health.state is not PeerState.DEAD:
        group.reason = f"waits a lease's time to hear whether {site.name(peer)} lives"
        return
    if group.probing_since_ns >= 0 and now_ns - group.probing_since_ns < 2 * site.parameters.heartbeat_ns:
        group.reason = f"{site.name(peer)} is silent: asks the clients' network whether it still answers there"
        return
    group.number += 1
    group.probing, group.probing_since_ns, group.answers = group.number, now_ns, {}
    timeout_ns = site.parameters.heartbeat_ns
    site.commands.append(ProbeAddresses(group.name, group.number, timeout_ns))
    if site.membership.quorum is QuorumMode.GATEWAY:
        site.commands.append(AskGateway(group.name, group.number, timeout_ns))


def take_evidence(group: Group, what: str, number: int, *, good: bool, words: str, now_ns: int) -> None:
    """Note an answer to what was asked for evidence; with all of it good, ask for the lease."""
    if group.state is not GroupState.STANDBY or number != group.probing or group.probing_since_ns < 0:
        return
    site = group.site
    group.answers[what] = good
    if not good:
        group.probing_since_ns = -1
        group.not_before_ns = now_ns + site.parameters.heartbeat_ns
        group.reason = words
        return
    wanted = {ADDRESSES, GATEWAY} if site.membership.quorum is QuorumMode.GATEWAY else {ADDRESSES}
    if set(group.answers) != wanted or site.alive(site.directors[0]) or not group.may_own(now_ns):
        return
    if held_by_another(group, now_ns):
        return
    group.probing_since_ns = -1
    gateway = "the gateway answers, " if GATEWAY in wanted else ""
    group.evidence_text = (
        f"{site.name(site.directors[0])} is silent on every link, {gateway}nobody answers for the addresses"
    )
    ask(group, now_ns, evidence=True)

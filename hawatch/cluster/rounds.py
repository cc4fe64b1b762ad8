"""Rounds: asking the acceptors for a group's lease, and asking anew to keep it.

Theory of operation. The gate in the kernel has two slots, each a timer and an active bit; packets pass while some
slot has both. A round (see `quorum`) goes: start the timer of the slot that is not in use, its bit cleared; wait
for the kernel's word; ask every acceptor; on enough yeses set the bit. The timer runs since before the first
request left, so it ends before any promise made for it does; whatever happens to this process meanwhile.

Invariants
* A request leaves only after the kernel has confirmed the timer that was started for it.
* A bit is set only for the current round, while its timer can still run.
* The slot in use is never armed anew while it is the only one open.
* Own end: `end_ns`, counted from the order to arm, is never later than the kernel's.
"""

from __future__ import annotations

from hawatch.cluster import leaving
from hawatch.cluster.acceptor import Denied, Granted
from hawatch.cluster.effects import Activate, AddAddresses, Announce, Arm, AskGateway
from hawatch.cluster.group import HINT_JITTER_NS, Group
from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.parameters import in_units
from hawatch.cluster.quorum import Phase, Round, lost, unwinnable, won
from hawatch.cluster.states import Trigger
from hawatch.cluster.wire import Deny, DenyReason, Grant, GroupState, Request
from hawatch.model import NS_PER_MS, NS_PER_S, Severity

HURRY_NS = 5 * NS_PER_MS
"""So soon an acceptor is asked again that refused because it had not heard of a release: that is on its way."""
LIFETIME_SPARE_NS = NS_PER_S // 2
"""What an address is to outlive a lease by: the kernel counts its life in whole seconds."""
ASKS_PER_ROUND = 3
"""A round's request is sent so often while answers are missing; acceptors repeat an answer, they don't extend it."""


# --- asking -----------------------------------------------------------------------------------------------


def start(group: Group, now_ns: int, *, evidence: bool = False) -> None:
    """Order the timer of the slot that is not in use; the requests follow when the kernel has confirmed."""
    assert group.state in (GroupState.CANDIDATE, GroupState.OWNER)
    assert group.round is None
    site = group.site
    group.number += 1
    slot = group.number % 2 if group.slot_in_use is None else 1 - group.slot_in_use
    group.round = Round(group.number, slot, site.random.getrandbits(64), now_ns, evidence=evidence)
    group.round.forced = group.forced
    group.wants_round = False
    site.commands.append(Arm(group.name, slot, site.parameters.holder_ns, group.number))
    if site.membership.quorum is QuorumMode.GATEWAY and not evidence:
        site.commands.append(AskGateway(group.name, group.number, site.parameters.round_ns))


def armed(group: Group, number: int, now_ns: int) -> None:
    """The kernel has started the timer: ask every acceptor, the own one first."""
    round_ = group.round
    if round_ is None or round_.number != number or round_.phase is not Phase.ARMING:
        return
    assert group.state in (GroupState.CANDIDATE, GroupState.OWNER)
    round_.phase = Phase.ASKING
    site = group.site
    epoch = group.epoch if group.state is GroupState.OWNER else max(group.epoch, group.epoch_seen) + 1
    round_.epoch = epoch
    lease_ns = site.parameters.lease_ns
    ask(group, round_, now_ns)
    reply = site.acceptor.request(site.me, (site.boot, number), group.group, lease_ns, epoch, now_ns)
    if isinstance(reply, Granted):
        granted(group, site.me, Grant(group.group, round_.nonce, reply.epoch), now_ns)
    elif isinstance(reply, Denied):
        denial = Deny(group.group, round_.nonce, reply.reason, reply.holder, reply.remaining_ns, reply.epoch)
        denied(group, site.me, denial, now_ns)


def ask(group: Group, round_: Round, now_ns: int) -> None:
    """Send the round's request, for the first time or again."""
    assert round_.phase is Phase.ASKING
    round_.asked_ns = now_ns
    request = Request(group.group, round_.number, round_.nonce, group.site.parameters.lease_ns, round_.epoch)
    group.site.send(request)


def ask_again(group: Group, now_ns: int) -> None:
    """Send the request again when answers are missing: a lost datagram costs a third of a round, not all of it."""
    round_ = group.round
    if round_ is not None and round_.phase is Phase.ASKING and now_ns >= ask_again_ns(group, round_):
        ask(group, round_, now_ns)


def ask_again_ns(group: Group, round_: Round) -> int:
    """Return when the request is to be sent again."""
    return round_.asked_ns + group.site.parameters.round_ns // ASKS_PER_ROUND


def renew(group: Group, now_ns: int) -> None:
    """Start a round if enough acceptors can hear and be heard; else as soon as they answer.

    While the kernel has not said that it opened the slot that was won last, the other one may be the only one open.
    """
    assert group.state is GroupState.OWNER
    if group.round is not None:
        group.wants_round = group.round.forced  # it lasts a heartbeat, and may have begun a little after the last one
        return
    if not group.opening and (group.forced or group.site.proven(now_ns)):
        start(group, now_ns)
    else:
        group.wants_round = True


# --- answers ----------------------------------------------------------------------------------------------


def granted(group: Group, acceptor: int, grant: Grant, now_ns: int) -> None:
    """Count a yes; it counts only for the round that is being asked."""
    group.epoch_seen = max(group.epoch_seen, grant.epoch)
    group.unknown_at.discard(acceptor)
    round_ = group.round
    if round_ is None or round_.nonce != grant.nonce or round_.phase is not Phase.ASKING:
        return
    round_.grants.add(acceptor)
    round_.epoch = max(round_.epoch, grant.epoch)
    judge(group, round_, now_ns)


def denied(group: Group, acceptor: int, denial: Deny, now_ns: int) -> None:
    """Count a no; enough of them end a candidacy, or an ownership, at once."""
    group.epoch_seen = max(group.epoch_seen, denial.epoch)
    if denial.reason == DenyReason.UNKNOWN:
        group.unknown_at.add(acceptor)
    else:
        group.unknown_at.discard(acceptor)
    round_ = group.round
    if round_ is None or round_.nonce != denial.nonce or round_.phase is not Phase.ASKING:
        return
    round_.denials[acceptor] = denial
    group.refusals += 1
    group.refused[acceptor, DenyReason(denial.reason)] += 1
    if denial.holder == group.let_go and denial.reason == DenyReason.HELD and not round_.hurried:
        round_.hurried = True
        round_.asked_ns = now_ns + HURRY_NS - group.site.parameters.round_ns // ASKS_PER_ROUND
    judge(group, round_, now_ns)


def rival_gone(group: Group, rival: int, now_ns: int) -> None:
    """Another director let go of what stood in this round's way: ask again at once."""
    round_ = group.round
    if group.state is GroupState.CANDIDATE and round_ is not None and round_.phase is Phase.ASKING:
        round_.denials = {node: each for node, each in round_.denials.items() if each.holder != rival}
        ask(group, round_, now_ns)


def judge(group: Group, round_: Round, now_ns: int) -> None:
    """Act when the answers so far are enough, one way or the other."""
    assert round_.phase is Phase.ASKING
    site = group.site
    mode, majority, count = site.membership.quorum, site.membership.majority, len(site.membership.members)
    holding = group.state is GroupState.OWNER
    if won(round_, mode, majority, site.me, holding=holding):
        succeed(group, round_, now_ns)
    elif lost(round_, mode, count, majority):
        holder = next(denial.holder for denial in round_.denials.values() if denial.holder)
        fail(group, round_, f"{round_.refusals()} acceptors say that {site.name(holder)} has the lease", now_ns)
    elif not holding and unwinnable(round_, mode, site.answering(now_ns), majority, site.me):
        fail(group, round_, round_.refusal_words(site.name), now_ns)


def expire(group: Group, now_ns: int) -> None:
    """Give up a round that has not been answered in its time."""
    round_ = group.round
    if round_ is None or now_ns - round_.started_ns < group.site.parameters.round_ns:
        return
    spent = in_units(now_ns - round_.started_ns)
    if round_.forced and round_.phase is Phase.ASKING and not round_.refusals():
        succeed(group, round_, now_ns)
        return
    if round_.phase is Phase.ARMING:
        reason = f"the kernel has not confirmed the gate's timer in {spent}"
        group.site.emit("lease_late", reason, group.name, Severity.WARNING)
    else:
        reason = f"{len(round_.grants)} of {group.site.membership.majority} grants in {spent}, {missing(group, round_)}"
    fail(group, round_, reason, now_ns)


def missing(group: Group, round_: Round) -> str:
    """Say who granted nothing: who refused, and who did not answer."""
    site = group.site
    silent = sorted(site.name(node) for node in site.reports if node not in round_.grants | round_.denials.keys())
    words = f"no answer from {', '.join(silent)}" if silent else ""
    return ", ".join(filter(None, (round_.refusal_words(site.name), words))) or "all others granted it"


# --- what comes of a round ----------------------------------------------------------------------------------


def succeed(group: Group, round_: Round, now_ns: int) -> None:
    """Open the slot of a round that was won, unless its time is over already."""
    site = group.site
    end_ns = round_.started_ns + site.parameters.holder_ns
    if now_ns >= end_ns:
        fail(group, round_, f"the answers came {in_units(now_ns - round_.started_ns)} after asking, too late", now_ns)
        return
    assert now_ns >= round_.started_ns
    round_.phase = Phase.DONE
    group.round = None
    if len(round_.grants) >= site.membership.majority and group.forced:
        group.forced = False
        group.pin(pinned=group.pinned)
    group.end_ns = end_ns
    group.slot_in_use = round_.slot
    group.opening = True
    site.commands.append(Activate(group.name, round_.slot, round_.number))
    if group.state is GroupState.OWNER:
        group.renewals += 1
        group.move(Trigger.RENEWED, group.reason)
        keep_addresses(group, now_ns)
    else:
        acquire(group, round_, now_ns)


def acquire(group: Group, round_: Round, now_ns: int) -> None:
    """Become the owner, or go on as the one that this node was before a restart."""
    site = group.site
    again = bool(group.adopted_until_ns)
    group.epoch = group.epoch_seen = max(round_.epoch, group.epoch + 1)
    group.adopted_until_ns = 0
    group.owner_since_ns = now_ns
    group.let_go = 0
    group.acquisitions += 1
    group.release, group.opened, group.gate_failures = None, False, 0
    group.pin(pinned=group.invited_by_admin or round_.forced or (again and group.name in site.pins))
    what = "goes on owning after a restart" if again else f"{group.waiting or 'no lease was out'}: taking over"
    group.move(Trigger.WON, f"{grounds(group, round_)}, {what}")
    group.invited, group.invited_by_admin, group.defer_until_ns = False, False, -1
    group.free_since_ns = group.probing_since_ns = -1
    open_up(group, now_ns)
    site.emit("takeover", group.reason, group.name, epoch=group.epoch, grants=len(round_.grants))


def grounds(group: Group, round_: Round) -> str:
    """Say what an acquisition rests on."""
    site = group.site
    if round_.forced:
        return "an administrator forced it, without a majority"
    if site.membership.quorum is QuorumMode.WITNESS or len(round_.grants) > 1:
        names = ", ".join(sorted(site.name(node) for node in round_.grants if node != site.me)) or "nobody else"
        return f"{names} granted the lease"
    return group.evidence_text or "no other director answers"


def open_up(group: Group, now_ns: int) -> None:
    """Order what an owner needs beside the gate: addresses and announcements."""
    assert group.state is GroupState.OWNER
    group.kept_ns = now_ns
    group.site.commands += [
        AddAddresses(group.name, group.site.parameters.address_lifetime_ns),
        Announce(group.name, *group.announcing()),
    ]


def keep_addresses(group: Group, now_ns: int) -> None:
    """Refresh the addresses' life where it might end before the lease that was just won."""
    assert group.state is GroupState.OWNER
    lifetime_ns = group.site.parameters.address_lifetime_ns
    if group.kept_ns + lifetime_ns - LIFETIME_SPARE_NS < group.end_ns:
        group.kept_ns = now_ns
        group.site.commands.append(AddAddresses(group.name, lifetime_ns))


def fail(group: Group, round_: Round, reason: str, now_ns: int) -> None:
    """Give a round up. A candidate releases what it got; an owner keeps on unless others have the lease."""
    assert group.round is round_
    membership = group.site.membership
    hopeless = lost(round_, membership.quorum, len(membership.members), membership.majority)
    round_.phase = Phase.DONE
    group.round = None
    if group.state is GroupState.OWNER:
        group.renewals_failed += 1
        if hopeless:
            leaving.close(group, reason, now_ns)
        return
    assert group.state is GroupState.CANDIDATE
    group.move(Trigger.FAILED, f"could not get the lease: {reason}")
    group.waiting = ""
    if round_.forced:
        group.forced = False
    back_off(group, round_, now_ns)
    if group.slot_in_use is None:
        leaving.let_go(group, 0, 0, now_ns)
    elif hopeless:
        leaving.tidy(group, reason, now_ns)


def back_off(group: Group, round_: Round, now_ns: int) -> None:
    """Choose when to ask again: by the hint of a refusal, else at random so that two candidates come apart."""
    site = group.site
    membership, heartbeat_ns = site.membership, site.parameters.heartbeat_ns
    rivals = site.rivals(group.group)
    hint_ns = round_.hint_ns(len(membership.members) - membership.majority, rivals)
    group.waits_on = round_.holders(rivals)
    assert hint_ns >= 0
    if hint_ns:
        wait_ns = hint_ns + int(site.random.uniform(*HINT_JITTER_NS))
    else:
        wait_ns = int(site.random.uniform(heartbeat_ns / 2, heartbeat_ns * 2))
    group.not_before_ns = now_ns + min(wait_ns, site.parameters.silence_ns + heartbeat_ns)
    assert group.not_before_ns > now_ns


def lapse(group: Group, now_ns: int) -> bool:
    """End an ownership whose time is over; the kernel has cut already. Return whether it was."""
    assert group.state is GroupState.OWNER
    if now_ns < group.end_ns:
        return False
    site = group.site
    asked = f"{site.reachable(now_ns)} of {len(site.membership.members)} acceptors answer"
    leaving.close(group, f"the lease ran out without a renewal: {asked}", now_ns)
    site.emit("lease_lost", group.reason, group.name, Severity.CRITICAL, epoch=group.epoch)
    return True

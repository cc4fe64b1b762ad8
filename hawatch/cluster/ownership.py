"""One group's ownership on one director: candidate, holder, and the ways between.

Theory of operation. The gate in the kernel has two slots, each a timer and an active bit; packets pass while some
slot has both. A round (see `quorum`) goes: start the timer of the slot that is not in use, its bit cleared; wait
for the kernel's word; ask every acceptor; on enough yeses set the bit. The timer runs since before the first
request left, so it ends before any promise made for it does; whatever happens to this process meanwhile.

Invariants
* A request leaves only after the kernel has confirmed the timer that was started for it.
* A bit is set only for the current round, while its timer can still run.
* A release leaves only after the kernel has confirmed that the gate is closed, or when this director has not
  opened it since it was confirmed closed.
* The slot in use is never armed anew while it is the only one open.
* Own end: `end_ns`, counted from the order to arm, is never later than the kernel's.

A gate that a former process of this node left open is *adopted*: until it has surely ended, this director may have
it renewed but must not release it. Not handled here: freshness of messages (`sessions`), who is alive (`detector`).
"""

from __future__ import annotations

from hawatch.cluster import candidacy, handover
from hawatch.cluster.acceptor import Denied, Granted
from hawatch.cluster.effects import (
    Activate,
    AddAddresses,
    Announce,
    Arm,
    AskGateway,
    CloseGate,
    IpvsSync,
    RemoveAddresses,
    SyncRole,
)
from hawatch.cluster.fitness import HoldDown
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.parameters import in_units
from hawatch.cluster.quorum import Phase, Round, lost, unwinnable, won
from hawatch.cluster.site import Site
from hawatch.cluster.states import TRANSITIONS, Trigger
from hawatch.cluster.wire import BY_ADMIN, Claim, Deny, Grant, GroupState, Release, Request, identifier
from hawatch.model import NS_PER_MS, NS_PER_S, Severity

ANNOUNCE_AFTER_NS = tuple(after * NS_PER_MS for after in (0, 50, 200, 500, 1000))
ANNOUNCE_EVERY_NS = 30 * NS_PER_S
HINT_JITTER_NS = (1 * NS_PER_MS, 20 * NS_PER_MS)
"""A candidate comes back this much after a refusal said that the lease would end."""
ASKS_PER_ROUND = 3
"""A round's request is sent so often while answers are missing; acceptors repeat an answer, they don't extend it."""
GATE_DOUBTFUL_NS = 30 * NS_PER_S
"""A director whose gate did not work leaves groups to others for so long."""
TELL_REFUSAL_NS = 10 * NS_PER_S
"""That the kernel refuses is told at most so often."""
GATE_FAILURES_MAX = 3
"""An owner whose gate the kernel refuses so often in a row gives up."""


class Ownership:
    """One group on one director."""

    def __init__(self, settings: GroupSettings, site: Site, now_ns: int, *, adopted_slot: int | None = None) -> None:
        assert adopted_slot in (None, 0, 1)
        self.settings = settings
        self.site = site
        self.name = settings.name
        self.group = identifier(settings.name)
        self.state = GroupState.STANDBY
        self.reason = "this director has just started"
        self.round: Round | None = None
        self.number = 0
        self.slot_in_use = adopted_slot
        """The slot that was opened last; None when the gate is known to be closed."""
        self.adopted_until_ns = (
            now_ns + site.parameters.holder_ns + site.parameters.guard if adopted_slot is not None else 0
        )
        self.end_ns = 0
        self.owner_since_ns = 0
        self.epoch = 0
        self.epoch_seen = 0
        self.not_before_ns = 0
        self.waiting = ""
        self.defer_until_ns = -1
        self.invited = False
        self.invited_by_admin = False
        self.pinned = False
        self.forced = False
        self.wants_round = False
        self.opened = False
        """The kernel has confirmed gate and addresses since this director became the owner."""
        self.gate_failures = 0
        self.told_refusal_ns = now_ns - TELL_REFUSAL_NS
        self.lease_end_ns = -1
        """End of another node's lease as last seen at the own acceptor, and `free_ns` when to ask for it."""
        self.free_ns = 0
        self.free_since_ns = -1
        self.probing = 0
        self.answers: dict[str, bool] = {}
        self.probing_since_ns = -1
        self.hold_down = HoldDown(site.parameters.hold_down_ns)
        self.renewals = self.renewals_failed = self.refusals = self.acquisitions = 0
        self.kept_ns = 0
        self.close_ordered_ns = -1
        self.successor = 0
        self.release_flags = 0
        self.release: Release | None = None
        self.release_until_ns = 0
        self.announced_ns = -1
        self.evidence_text = ""
        site.commands.append(IpvsSync(self.name, SyncRole.BACKUP))
        if adopted_slot is None:
            site.commands.append(RemoveAddresses(self.name))

    # --- Moving between states ----------------------------------------------------------------------------

    def move(self, trigger: Trigger, reason: str) -> None:
        """Change the state as the table says; a pair that is not in the table is a mistake in the program."""
        following = TRANSITIONS[self.state].get(trigger)
        assert following is not None, (self.state, trigger)
        assert reason
        self.state, self.reason = following, reason

    def claim(self) -> Claim:
        """Return what this director says of the group in its heartbeats."""
        if self.state is GroupState.OWNER:
            return Claim(self.group, GroupState.OWNER if self.opened else GroupState.CANDIDATE, self.epoch)
        return Claim(self.group, self.state, self.epoch_seen)

    # --- Rounds -------------------------------------------------------------------------------------------

    def start_round(self, now_ns: int, *, forced: bool = False, evidence: bool = False) -> None:
        """Order the timer of the slot that is not in use; the requests follow when the kernel has confirmed."""
        assert self.state in (GroupState.CANDIDATE, GroupState.OWNER)
        assert self.round is None
        self.number += 1
        slot = self.number % 2 if self.slot_in_use is None else 1 - self.slot_in_use
        self.round = Round(self.number, slot, self.site.random.getrandbits(64), now_ns, evidence=evidence)
        self.round.forced = forced or self.forced
        self.wants_round = False
        self.site.commands.append(Arm(self.name, slot, self.site.parameters.holder_ns, self.number))
        if self.site.membership.quorum is QuorumMode.GATEWAY and not evidence:
            self.site.commands.append(AskGateway(self.name, self.number, self.site.parameters.round_ns))

    def armed(self, number: int, now_ns: int) -> None:
        """The kernel has started the timer: ask every acceptor, the own one first."""
        round_ = self.round
        if round_ is None or round_.number != number or round_.phase is not Phase.ARMING:
            return
        assert self.state in (GroupState.CANDIDATE, GroupState.OWNER)
        round_.phase = Phase.ASKING
        site = self.site
        epoch = self.epoch if self.state is GroupState.OWNER else max(self.epoch, self.epoch_seen) + 1
        round_.epoch = epoch
        lease_ns = site.parameters.lease_ns
        self.ask(round_, now_ns)
        reply = site.acceptor.request(site.me, (site.boot, number), self.group, lease_ns, epoch, now_ns)
        if isinstance(reply, Granted):
            self.granted(site.me, Grant(self.group, round_.nonce, reply.epoch), now_ns)
        elif isinstance(reply, Denied):
            denial = Deny(self.group, round_.nonce, reply.reason, reply.holder, reply.remaining_ns, reply.epoch)
            self.denied(site.me, denial, now_ns)

    def ask(self, round_: Round, now_ns: int) -> None:
        """Send the round's request, for the first time or again."""
        assert round_.phase is Phase.ASKING
        round_.asked_ns = now_ns
        request = Request(self.group, round_.number, round_.nonce, self.site.parameters.lease_ns, round_.epoch)
        self.site.send(request)

    def granted(self, acceptor: int, grant: Grant, now_ns: int) -> None:
        """Count a yes; it counts only for the round that is being asked."""
        self.epoch_seen = max(self.epoch_seen, grant.epoch)
        round_ = self.round
        if round_ is None or round_.nonce != grant.nonce or round_.phase is not Phase.ASKING:
            return
        round_.grants.add(acceptor)
        round_.epoch = max(round_.epoch, grant.epoch)
        self.judge(round_, now_ns)

    def denied(self, acceptor: int, denial: Deny, now_ns: int) -> None:
        """Count a no; enough of them end a candidacy, or an ownership, at once."""
        self.epoch_seen = max(self.epoch_seen, denial.epoch)
        round_ = self.round
        if round_ is None or round_.nonce != denial.nonce or round_.phase is not Phase.ASKING:
            return
        round_.denials[acceptor] = denial
        self.refusals += 1
        self.judge(round_, now_ns)

    def judge(self, round_: Round, now_ns: int) -> None:
        """Act when the answers so far are enough, one way or the other."""
        assert round_.phase is Phase.ASKING
        membership = self.site.membership
        mode, majority = membership.quorum, membership.majority
        count, holding = len(membership.members), self.state is GroupState.OWNER
        if won(round_, mode, majority, self.site.me, holding=holding):
            self.succeed(round_, now_ns)
        elif lost(round_, mode, count, majority):
            holder = next(denial.holder for denial in round_.denials.values() if denial.holder)
            self.fail(round_, f"{round_.refusals()} acceptors say that {self.site.name(holder)} has the lease", now_ns)
        elif not holding and unwinnable(round_, mode, self.site.answering(now_ns), majority, self.site.me):
            self.fail(round_, round_.refusal_words(), now_ns)

    def succeed(self, round_: Round, now_ns: int) -> None:
        """Open the slot of a round that was won, unless its time is over already."""
        end_ns = round_.started_ns + self.site.parameters.holder_ns
        if now_ns >= end_ns:
            self.fail(round_, f"the answers came {in_units(now_ns - round_.started_ns)} after asking, too late", now_ns)
            return
        assert now_ns >= round_.started_ns
        round_.phase = Phase.DONE
        self.round = None
        if len(round_.grants) >= self.site.membership.majority:
            self.forced = False
        self.end_ns = end_ns
        self.slot_in_use = round_.slot
        self.site.commands.append(Activate(self.name, round_.slot, round_.number))
        if self.state is GroupState.OWNER:
            self.renewals += 1
            self.move(Trigger.RENEWED, self.reason)
            self.keep_addresses(now_ns)
        else:
            self.acquire(round_, now_ns)

    def acquire(self, round_: Round, now_ns: int) -> None:
        """Become the owner."""
        site = self.site
        names = ", ".join(sorted(site.name(node) for node in round_.grants if node != site.me)) or "nobody else"
        if round_.forced:
            grounds = "an administrator forced it, without a majority"
        elif site.membership.quorum is QuorumMode.WITNESS or len(round_.grants) > 1:
            grounds = f"{names} granted the lease"
        else:
            grounds = self.evidence_text or "no other director answers"
        again = bool(self.adopted_until_ns)
        self.epoch = self.epoch_seen = max(round_.epoch, self.epoch + 1)
        self.adopted_until_ns = 0
        self.owner_since_ns = now_ns
        self.acquisitions += 1
        self.release, self.opened, self.gate_failures = None, False, 0
        self.pinned = self.invited_by_admin or round_.forced
        what = "goes on owning after a restart" if again else f"{self.waiting or 'no lease was out'}: taking over"
        self.move(Trigger.WON, f"{grounds}, {what}")
        self.invited, self.invited_by_admin, self.defer_until_ns = False, False, -1
        self.free_since_ns = self.probing_since_ns = -1
        self.open_up(now_ns)
        site.emit("takeover", self.reason, self.name, epoch=self.epoch, grants=len(round_.grants))

    def open_up(self, now_ns: int) -> None:
        """Order what an owner needs beside the gate: addresses, announcements, role."""
        assert self.state is GroupState.OWNER
        self.kept_ns = now_ns
        self.site.commands += [
            AddAddresses(self.name, self.site.parameters.address_lifetime_ns),
            Announce(self.name, *self.announcing()),
            IpvsSync(self.name, SyncRole.MASTER),
        ]

    def announcing(self) -> tuple[tuple[int, ...], int]:
        """Return when addresses are announced: after so much each, and then every so often."""
        return ANNOUNCE_AFTER_NS, ANNOUNCE_EVERY_NS

    def keep_addresses(self, now_ns: int) -> None:
        """Refresh the addresses' life twice a lease."""
        assert self.state is GroupState.OWNER
        if now_ns - self.kept_ns >= self.site.parameters.lease_ns // 2:
            self.kept_ns = now_ns
            self.site.commands.append(AddAddresses(self.name, self.site.parameters.address_lifetime_ns))

    def fail(self, round_: Round, reason: str, now_ns: int) -> None:
        """Give a round up. A candidate releases what it got; an owner keeps on unless others have the lease."""
        assert self.round is round_
        membership = self.site.membership
        hopeless = lost(round_, membership.quorum, len(membership.members), membership.majority)
        round_.phase = Phase.DONE
        self.round = None
        if self.state is GroupState.OWNER:
            self.renewals_failed += 1
            if hopeless:
                self.close(reason, now_ns)
            return
        assert self.state is GroupState.CANDIDATE
        self.move(Trigger.FAILED, f"could not get the lease: {reason}")
        self.waiting = ""
        if round_.forced:
            self.forced = False
        self.back_off(round_, now_ns)
        if self.slot_in_use is None:
            self.let_go(0, 0, now_ns)
        elif hopeless:
            self.tidy(reason, now_ns)

    def back_off(self, round_: Round, now_ns: int) -> None:
        """Choose when to ask again: by the hint of a refusal, else at random so that two candidates come apart."""
        membership, heartbeat_ns = self.site.membership, self.site.parameters.heartbeat_ns
        hint_ns = round_.hint_ns(len(membership.members) - membership.majority, self.site.rivals(self.group))
        assert hint_ns >= 0
        if hint_ns:
            wait_ns = hint_ns + int(self.site.random.uniform(*HINT_JITTER_NS))
        else:
            wait_ns = int(self.site.random.uniform(heartbeat_ns / 2, heartbeat_ns * 2))
        self.not_before_ns = now_ns + min(wait_ns, self.site.parameters.silence_ns + heartbeat_ns)
        assert self.not_before_ns > now_ns

    # --- Leaving ------------------------------------------------------------------------------------------

    def close(self, reason: str, now_ns: int, *, successor: int = 0, by_admin: bool = False) -> None:
        """Stop owning: the gate first; the rest when the kernel has confirmed that it is closed."""
        assert self.state is GroupState.OWNER
        self.move(Trigger.CLOSE, reason)
        self.order_close(now_ns)
        self.successor = successor
        self.release_flags = BY_ADMIN if by_admin else 0

    def tidy(self, reason: str, now_ns: int) -> None:
        """Close a gate that a former process of this node left behind."""
        assert self.state is GroupState.STANDBY
        assert self.slot_in_use is not None
        self.move(Trigger.TIDY, reason)
        self.order_close(now_ns)
        self.successor = self.release_flags = 0

    def order_close(self, now_ns: int) -> None:
        """Order the gate closed; ordered again every heartbeat if the kernel refuses."""
        assert self.state is GroupState.CLOSING
        if self.round is not None:
            self.round.phase = Phase.DONE
            self.round = None
        self.close_ordered_ns = now_ns
        self.forced = self.pinned = self.wants_round = self.opened = False
        self.site.commands.append(CloseGate(self.name))

    def closed(self, now_ns: int) -> None:
        """The kernel has closed the gate: release the lease, then clear away."""
        if self.state is not GroupState.CLOSING:
            return
        self.slot_in_use = None
        self.adopted_until_ns = self.end_ns = 0
        reason = self.reason
        self.move(Trigger.CLOSED, reason)
        self.let_go(self.successor, self.release_flags, now_ns)
        wait_ns = self.site.parameters.heartbeat_ns * 2
        self.not_before_ns = max(self.not_before_ns, now_ns + wait_ns) if self.successor else now_ns
        self.close_ordered_ns = -1
        self.site.commands += [RemoveAddresses(self.name), IpvsSync(self.name, SyncRole.BACKUP)]
        self.site.emit("release", reason, self.name, epoch=self.epoch)

    def let_go(self, successor: int, flags: int, now_ns: int) -> None:
        """Release the lease everywhere. Only with the gate closed."""
        assert self.slot_in_use is None, "a release with the gate open"
        assert self.state is GroupState.STANDBY
        site = self.site
        message = Release(self.group, self.number, successor, flags)
        site.acceptor.release(site.me, (site.boot, self.number), self.group)
        site.send(message)
        self.release, self.release_until_ns = message, now_ns + (site.parameters.lease_ns if successor else 0)

    def idle(self) -> bool:
        """Return whether nothing of this group is held here: no gate that could be open, no round."""
        return self.slot_in_use is None and self.round is None and self.state is not GroupState.CLOSING

    def invite(self, now_ns: int, *, by_admin: bool) -> None:
        """This director is to take the group next, without waiting for its turn."""
        if self.state is GroupState.STANDBY:
            self.invited, self.invited_by_admin = True, by_admin
            self.not_before_ns = min(self.not_before_ns, now_ns)
            self.defer_until_ns = -1

    def released(self, sender: int, successor: int, now_ns: int, *, by_admin: bool) -> None:
        """Another director let the group go, perhaps to this one: what it held up may be asked for again at once."""
        round_ = self.round
        if self.state is GroupState.CANDIDATE and round_ is not None and round_.phase is Phase.ASKING:
            round_.denials = {node: each for node, each in round_.denials.items() if each.holder != sender}
            self.ask(round_, now_ns)
        if self.state is not GroupState.STANDBY:
            return
        if successor == self.site.me:
            self.invite(now_ns, by_admin=by_admin)
        elif successor:
            self.defer_until_ns = now_ns + self.site.parameters.lease_ns
        else:  # an owner, or a candidate whose promises made ours fail
            soon_ns = now_ns + int(self.site.random.uniform(*HINT_JITTER_NS))
            self.not_before_ns = min(self.not_before_ns, soon_ns)

    def asked_to_hand_over(self, asker: int, successor: int, now_ns: int) -> None:
        """An administrator asks from another director to move the group."""
        if self.state is GroupState.OWNER and successor != self.site.me and self.site.hears(successor):
            reason = f"switched over to {self.site.name(successor)} by an administrator on {self.site.name(asker)}"
            self.site.emit("switchover", reason, self.name)
            self.close(reason, now_ns, successor=successor, by_admin=True)

    def gate_failed(self, reason: str, now_ns: int) -> None:
        """The kernel refused: a round ends without a request; a close is ordered again later."""
        site = self.site
        if now_ns - self.told_refusal_ns >= TELL_REFUSAL_NS:
            self.told_refusal_ns = now_ns
            site.emit("gate_failed", f"the kernel refused a change of the gate: {reason}", self.name, Severity.CRITICAL)
        self.gate_failures += 1
        if self.round is not None:
            self.fail(self.round, f"the kernel refused the gate's timer: {reason}", now_ns)
        if self.state is GroupState.OWNER and self.gate_failures >= GATE_FAILURES_MAX:
            site.gate_doubtful_until_ns = now_ns + GATE_DOUBTFUL_NS
            successor = handover.successor(self)
            if successor:  # else its time runs out by itself unless the kernel comes round
                words = f"the kernel refused the gate {self.gate_failures} times: {reason}"
                self.close(words, now_ns, successor=successor)

    def gate_opened(self) -> None:
        """The kernel has confirmed the gate and the addresses."""
        self.gate_failures = 0
        if self.state is GroupState.OWNER:
            self.opened = True
            self.site.gate_doubtful_until_ns = 0

    def gate_lost(self, now_ns: int) -> None:
        """Somebody removed the gate and it is back, closed: what was armed is gone, so ask anew at once."""
        if self.state is not GroupState.OWNER:
            return
        if self.round is not None:
            self.round.phase = Phase.DONE
            self.round = None
        self.site.emit(
            "gate_restored", "the gate was removed by another program and is back", self.name, Severity.WARNING
        )
        self.start_round(now_ns)

    # --- Time ---------------------------------------------------------------------------------------------

    def beat(self, now_ns: int) -> None:
        """Do what is due once a heartbeat."""
        match self.state:
            case GroupState.OWNER:
                self.expire_round(now_ns)
            case GroupState.CLOSING:
                self.order_close_again(now_ns)
            case GroupState.RELEASED if self.site.may_own(now_ns):
                self.move(Trigger.RESUME, "resumed")
            case GroupState.CONFLICT if now_ns >= self.site.clash_until_ns:
                self.move(Trigger.CLEAR, "its name is its own again")
        self.wake(now_ns)
        if self.state is GroupState.OWNER:
            self.renew(now_ns)
        if self.release is not None and now_ns < self.release_until_ns and self.state is not GroupState.OWNER:
            self.site.send(self.release)

    def wake(self, now_ns: int) -> None:
        """Look whether anything is due; called after everything that happens."""
        if self.round is not None:
            self.expire_round(now_ns)
            self.ask_again(now_ns)
        match self.state:
            case GroupState.OWNER:
                if not self.lapse(now_ns) and not handover.settle(self, now_ns) and self.wants_round:
                    self.renew(now_ns)
            case GroupState.CANDIDATE if not self.site.may_own(now_ns) and self.round is not None:
                self.fail(self.round, self.site.hindrance(now_ns), now_ns)
        if self.state is GroupState.STANDBY:
            candidacy.consider(self, now_ns)

    def ask_again(self, now_ns: int) -> None:
        """Send the request again when answers are missing: a lost datagram costs a third of a round, not all of it."""
        round_ = self.round
        if round_ is not None and round_.phase is Phase.ASKING and now_ns >= self.ask_again_ns(round_):
            self.ask(round_, now_ns)

    def ask_again_ns(self, round_: Round) -> int:
        """Return when the request is to be sent again."""
        return round_.asked_ns + self.site.parameters.round_ns // ASKS_PER_ROUND

    def renew(self, now_ns: int) -> None:
        """Start a round if enough acceptors can hear and be heard; else as soon as they answer."""
        assert self.state is GroupState.OWNER
        if self.round is not None:
            return
        if self.forced or self.site.proven(now_ns):
            self.start_round(now_ns)
        else:
            self.wants_round = True

    def expire_round(self, now_ns: int) -> None:
        """Give up a round that has not been answered in its time."""
        round_ = self.round
        if round_ is None or now_ns - round_.started_ns < self.site.parameters.round_ns:
            return
        spent = in_units(now_ns - round_.started_ns)
        if round_.forced and round_.phase is Phase.ASKING and not round_.refusals():
            self.succeed(round_, now_ns)
            return
        if round_.phase is Phase.ARMING:
            reason = f"the kernel has not confirmed the gate's timer in {spent}"
            self.site.emit("lease_late", reason, self.name, Severity.WARNING)
        else:
            reason = f"{len(round_.grants)} of {self.site.membership.majority} grants in {spent}"
        self.fail(round_, reason, now_ns)

    def lapse(self, now_ns: int) -> bool:
        """End an ownership whose time is over; the kernel has cut already."""
        assert self.state is GroupState.OWNER
        if now_ns < self.end_ns:
            return False
        asked = f"{self.site.reachable(now_ns)} of {len(self.site.membership.members)} acceptors answer"
        self.close(f"the lease ran out without a renewal: {asked}", now_ns)
        self.site.emit("lease_lost", self.reason, self.name, Severity.CRITICAL, epoch=self.epoch)
        return True

    def order_close_again(self, now_ns: int) -> None:
        """Order the gate closed again when the kernel keeps silent."""
        assert self.state is GroupState.CLOSING
        assert self.close_ordered_ns >= 0
        if now_ns - self.close_ordered_ns >= self.site.parameters.heartbeat_ns:
            self.close_ordered_ns = now_ns
            self.site.commands.append(CloseGate(self.name))

    def deadlines_ns(self) -> list[int]:
        """Return when this group must be looked at apart from the heartbeats; instants that are past don't count."""
        found = []
        if self.state is GroupState.OWNER:
            found.append(self.end_ns)
        if self.state is GroupState.STANDBY:
            found.append(self.not_before_ns)
        if self.round is not None:
            found.append(self.round.started_ns + self.site.parameters.round_ns)
            if self.round.phase is Phase.ASKING:
                found.append(self.ask_again_ns(self.round))
        return found

"""One group's ownership on one director: what happens goes in here, and is put to its part.

Theory of operation. A group is asked for when it is its turn (`candidacy`), in rounds (`rounds`), let go of when that
is better (`handover`), in good order (`leaving`). What the kernel reports, what other directors say and the passing of
time come in through the methods of this class; each of them leaves the group in a state of `states`.

A gate that a former process of this node left open is *adopted*: until it has surely ended, this director may have
it renewed but must not release it. Not handled here: freshness of messages (`sessions`), who is alive (`detector`).
"""

from __future__ import annotations

from hawatch.cluster import candidacy, handover, leaving, rounds
from hawatch.cluster.effects import Announce, RemoveAddresses
from hawatch.cluster.group import HINT_JITTER_NS, TELL_REFUSAL_NS, Group
from hawatch.cluster.membership import GroupSettings
from hawatch.cluster.quorum import Phase
from hawatch.cluster.site import Site
from hawatch.cluster.states import Trigger
from hawatch.cluster.wire import Deny, Grant, GroupState
from hawatch.model import NS_PER_S, Severity

GATE_DOUBTFUL_NS = 30 * NS_PER_S
"""A director whose gate did not work leaves groups to others for so long."""
GATE_FAILURES_MAX = 3
"""An owner whose gate the kernel refuses so often in a row gives up, if another director can go on."""


class Ownership(Group):
    """One group on one director."""

    def __init__(self, settings: GroupSettings, site: Site, now_ns: int, *, adopted_slot: int | None = None) -> None:
        super().__init__(settings, site, now_ns, adopted_slot=adopted_slot)
        if adopted_slot is None:
            site.commands.append(RemoveAddresses(self.name))

    # --- What other directors say -------------------------------------------------------------------------

    def granted(self, acceptor: int, grant: Grant, now_ns: int) -> None:
        """An acceptor said yes."""
        rounds.granted(self, acceptor, grant, now_ns)

    def denied(self, acceptor: int, denial: Deny, now_ns: int) -> None:
        """An acceptor said no."""
        rounds.denied(self, acceptor, denial, now_ns)

    def released(self, sender: int, successor: int, now_ns: int, *, by_admin: bool) -> None:
        """Another director let the group go, perhaps to this one: what it held up may be asked for again at once.

        Only what it held up. Two candidates that are refused because of a third node would wake each other for ever.
        """
        self.let_go = sender
        rounds.rival_gone(self, sender, now_ns)
        if self.state is not GroupState.STANDBY:
            return
        if successor == self.site.me:
            self.invite(now_ns, by_admin=by_admin)
        elif successor:
            self.defer_until_ns = now_ns + self.site.parameters.lease_ns
        elif self.waits_on is None or sender in self.waits_on:
            soon_ns = now_ns + int(self.site.random.uniform(*HINT_JITTER_NS))
            self.not_before_ns = min(self.not_before_ns, soon_ns)

    def invite(self, now_ns: int, *, by_admin: bool) -> None:
        """This director is to take the group next, without waiting for its turn."""
        if self.state is GroupState.STANDBY:
            self.invited, self.invited_by_admin = True, by_admin
            self.not_before_ns = min(self.not_before_ns, now_ns)
            self.defer_until_ns = -1

    def asked_to_hand_over(self, asker: int, successor: int, now_ns: int) -> None:
        """An administrator asks from another director to move the group."""
        site = self.site
        if self.state is GroupState.OWNER and self.could_be_taken_by(successor):
            reason = f"switched over to {site.name(successor)} by an administrator on {site.name(asker)}"
            site.emit("switchover", reason, self.name)
            leaving.close(self, reason, now_ns, successor=successor, by_admin=True)

    # --- What administrators say --------------------------------------------------------------------------

    def switch_over(self, successor: int, now_ns: int) -> None:
        """Hand the group to another director at once."""
        reason = f"switched over to {self.site.name(successor)} by an administrator"
        leaving.close(self, reason, now_ns, successor=successor, by_admin=True)

    def drop(self) -> None:
        """Let go of the group for good; it is `idle` when that is done."""
        self.dropped = True

    # --- What the kernel reports --------------------------------------------------------------------------

    def armed(self, number: int, now_ns: int) -> None:
        """The kernel has started a round's timer."""
        rounds.armed(self, number, now_ns)

    def gate_opened(self) -> None:
        """The kernel has confirmed the gate and the addresses."""
        self.gate_failures, self.told_refusal, self.opening = 0, "", False
        if self.state is GroupState.OWNER:
            self.opened = True
            self.confirmed = self.slot_in_use, self.end_ns
            self.site.gate_doubtful_until_ns = 0

    def closed(self, now_ns: int) -> None:
        """The kernel has closed the gate."""
        leaving.closed(self, now_ns)

    def gate_failed(self, reason: str, now_ns: int) -> None:
        """The kernel refused: a round ends without a request, or without effect; a close is ordered again later."""
        site = self.site
        if reason != self.told_refusal and now_ns - self.told_refusal_ns >= TELL_REFUSAL_NS:
            self.told_refusal, self.told_refusal_ns = reason, now_ns
            site.emit("gate_failed", f"the kernel refused a change of the gate: {reason}", self.name, Severity.CRITICAL)
        self.gate_failures += 1
        self.opening = False
        if self.round is not None:
            rounds.fail(self, self.round, f"the kernel refused the gate's timer: {reason}", now_ns)
        elif self.state is GroupState.OWNER and self.opened:
            self.slot_in_use, self.end_ns = self.confirmed  # the slot that was won is not open
        elif self.state is GroupState.OWNER and self.confirmed[0] is not None:
            self.slot_in_use = self.confirmed[0]  # adopted, and all that may be open
        if self.state is GroupState.OWNER and self.gate_failures >= GATE_FAILURES_MAX:
            site.gate_doubtful_until_ns = now_ns + GATE_DOUBTFUL_NS
            successor = handover.successor(self)
            if successor:  # else its time runs out by itself unless the kernel comes round
                words = f"the kernel refused the gate {self.gate_failures} times: {reason}"
                leaving.close(self, words, now_ns, successor=successor)

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
        rounds.start(self, now_ns)

    def network_healed(self) -> None:
        """A link came up: clients that were cut off with the former owner have not heard who owns now."""
        if self.state is GroupState.OWNER:
            self.site.commands.append(Announce(self.name, *self.announcing()))

    def addresses_changed(self, now_ns: int) -> None:
        """The configuration may name other addresses: an owner puts them up, and announces them."""
        if self.state is GroupState.OWNER:
            rounds.open_up(self, now_ns)

    # --- Time ---------------------------------------------------------------------------------------------

    def beat(self, now_ns: int) -> None:
        """Do what is due once a heartbeat."""
        match self.state:
            case GroupState.OWNER:
                rounds.expire(self, now_ns)
            case GroupState.CLOSING:
                leaving.order_close_again(self, now_ns)
            case GroupState.RELEASED if self.may_own(now_ns):
                self.move(Trigger.RESUME, "resumed")
            case GroupState.CONFLICT if now_ns >= self.site.clash_until_ns:
                self.move(Trigger.CLEAR, "its name is its own again")
        self.wake(now_ns)
        if self.state is GroupState.OWNER:
            rounds.renew(self, now_ns)
        if self.release is not None and now_ns < self.release_until_ns and self.state is not GroupState.OWNER:
            self.site.send(self.release)

    def wake(self, now_ns: int) -> None:
        """Look whether anything is due; called after everything that happens."""
        if self.round is not None:
            rounds.expire(self, now_ns)
            rounds.ask_again(self, now_ns)
        match self.state:
            case GroupState.OWNER:
                if not rounds.lapse(self, now_ns) and not handover.settle(self, now_ns) and self.wants_round:
                    rounds.renew(self, now_ns)
            case GroupState.CANDIDATE if not self.may_own(now_ns) and self.round is not None:
                rounds.fail(self, self.round, self.hindrance(now_ns), now_ns)
        if self.state is GroupState.STANDBY:
            candidacy.consider(self, now_ns)

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
                found.append(rounds.ask_again_ns(self, self.round))
        return found

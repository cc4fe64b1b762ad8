"""One group on one director, with a model of its gate, and acceptors that are asked by another director, too.

Whatever comes in whatever order: while a slot of the gate is open, a majority granted the round that opened it, and
each of those acceptors still has its promise, or was restarted and is silent for that. All clocks run alike here.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hawatch.cluster.acceptor import Acceptor, Denied, Granted
from hawatch.cluster.effects import (
    Activate,
    AdminAction,
    Announce,
    Arm,
    CloseGate,
    FitnessChanged,
    GateFailed,
    GroupsChanged,
    InstallGroups,
    Tick,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import GroupSettings, Member, Membership
from hawatch.cluster.node import Node
from hawatch.cluster.ownership import GATE_FAILURES_MAX, Ownership
from hawatch.cluster.parameters import PROFILES
from hawatch.cluster.quorum import Round
from hawatch.cluster.site import BROADCAST
from hawatch.cluster.wire import BY_ADMIN, READY, Deny, Grant, GroupState, Release, Request, identifier
from hawatch.model import NS_PER_MS
from tests.sim.kernel import Gate
from tests.unit.cluster.small_site import T_NS as SITE_T_NS
from tests.unit.cluster.small_site import SmallSite, adds_addresses

PARAMETERS = PROFILES["fast"]
T_NS, R_NS = PARAMETERS.lease_ns, PARAMETERS.heartbeat_ns
MEMBERS = (Member("a", ("192.0.2.1",)), Member("b", ("192.0.2.2",)), Member("w", ("192.0.2.3",), votes_only=True))
MEMBERSHIP = Membership("site", "a", MEMBERS, (GroupSettings("web", "a"),), PARAMETERS)
RING = KeyRing({1: bytes(32)}, 1)
A, B, W = (identifier(name) for name in "abw")
GROUP = identifier("web")
SENT_MAX = 30
INDEX = st.integers(0, SENT_MAX - 1)
PLACES = st.sampled_from([B, W])
BOTH = frozenset({B, W})
SUBSETS = st.sampled_from([BOTH, BOTH, BOTH, BOTH, frozenset({W}), frozenset({B}), frozenset()])


class Owning(RuleBasedStateMachine):
    """Director a, its gate, and the acceptors b and w; b asks for the group now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10**12
        self.boot = 0
        self.gate = Gate()
        self.others = {each: Acceptor(PARAMETERS, [GROUP], self.now_ns, silent=False) for each in (B, W)}
        self.sent: list[tuple[int, Request | Release]] = []
        self.answers: list[tuple[int, Grant | Deny]] = []
        self.rival_round = 0
        self.opened = 0
        self.round: Round | None = None
        self.granted: dict[tuple[int, int], frozenset[int]] = {}
        """Who granted the rounds that were won, by boot and number."""
        self.rests: list[frozenset[int]] = [frozenset(), frozenset()]
        """What each slot of the gate rests on."""

    @initialize()
    def start(self) -> None:
        self.restart(silent=False)

    # --- the director's process --------------------------------------------------------------------------------

    def restart(self, *, silent: bool) -> None:
        self.boot += 1
        slot = self.gate.slot_in_use(self.now_ns)
        adopted = {} if slot is None else {"web": slot}
        self.node = Node(
            MEMBERSHIP, RING, boot=self.boot, random=random.Random(self.boot), now_ns=self.now_ns, adopted=adopted,
            silent=silent,
        )  # fmt: skip
        self.kernel: list[Arm | Activate | CloseGate] = []
        self.collect()

    @property
    def group(self) -> Ownership:
        return self.node.groups["web"]

    def collect(self) -> None:
        """Take what the group wants done: changes of the gate in their order, and messages."""
        site = self.node.site
        for command in site.commands:
            if isinstance(command, Arm | Activate | CloseGate):
                self.kernel.append(command)
            if isinstance(command, Activate):
                assert self.round is not None
                assert self.round.number == command.number
                self.granted[self.boot, command.number] = frozenset(self.round.grants)
        self.round = self.group.round or self.round
        site.commands.clear()
        messages = site.outbox.pop(BROADCAST, [])
        self.sent += [(self.boot, each) for each in messages if isinstance(each, Request | Release)]
        del self.sent[:-SENT_MAX]
        site.outbox.clear()

    def heard(self) -> None:
        """Both others have answered lately."""
        for report in self.node.site.reports.values():
            report.proven_ns = self.now_ns

    @rule(by_ns=st.sampled_from([1, R_NS // 3, R_NS, 3 * R_NS, PARAMETERS.holder_ns, T_NS]), heard=st.booleans())
    def time_passes(self, by_ns: int, heard: bool) -> None:
        self.now_ns += by_ns
        if heard:
            self.heard()
            self.group.beat(self.now_ns)
        self.group.wake(self.now_ns)
        self.collect()

    @precondition(lambda self: self.gate.open(self.now_ns))
    @rule()
    def time_passes_until_just_before_the_gate_ends(self) -> None:
        self.now_ns = self.gate.end_ns() - 1

    def killed_and_restarted(self) -> None:
        self.restart(silent=True)

    def given_away_or_resumed(self, paused: bool) -> None:
        self.node.site.paused = paused
        self.group.wake(self.now_ns)
        self.collect()

    def switched_over(self) -> None:
        self.group.switch_over(B, self.now_ns)
        self.collect()

    # --- its kernel --------------------------------------------------------------------------------------------

    def kernel_works(self, refuses: bool) -> None:
        command = self.kernel.pop(0)
        if refuses:
            self.group.gate_failed("no memory", self.now_ns)
        else:
            self.take_effect(command)
        self.group.wake(self.now_ns)
        self.collect()

    def take_effect(self, command: Arm | Activate | CloseGate) -> None:
        match command:
            case Arm():
                self.gate.arm(command.slot, self.now_ns, command.duration_ns)
                self.rests[command.slot] = frozenset()
                self.group.armed(command.number, self.now_ns)
            case Activate():
                self.gate.activate(command.slot, self.now_ns)
                self.rests[command.slot] = self.granted[self.boot, command.number]
                self.opened += self.gate.open(self.now_ns)
                self.group.gate_opened()
            case CloseGate():
                self.gate.close()
                self.group.closed(self.now_ns)

    def gate_flushed(self) -> None:
        self.gate.close()
        self.group.gate_lost(self.now_ns)
        self.collect()

    # --- the network -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sent)
    @rule(at=INDEX, place=PLACES)
    def delivered(self, at: int, place: int) -> None:
        """A message arrives: the newest or an old one, for the first time or again."""
        boot, message = self.sent[-1 - at % len(self.sent)]
        acceptor, order = self.others[place], (boot, message.round)
        if isinstance(message, Release):
            acceptor.release(A, order, GROUP)
            return
        reply = acceptor.request(A, order, GROUP, message.lease_ns, message.epoch, self.now_ns)
        match reply:
            case Granted(epoch=epoch):
                self.answers.append((place, Grant(GROUP, message.nonce, epoch)))
            case Denied(reason=reason, holder=holder, remaining_ns=remaining_ns, epoch=epoch):
                self.answers.append((place, Deny(GROUP, message.nonce, reason, holder, remaining_ns, epoch)))
        del self.answers[:-SENT_MAX]

    @precondition(lambda self: self.answers)
    @rule(at=INDEX)
    def answered(self, at: int) -> None:
        place, answer = self.answers[-1 - at % len(self.answers)]
        if isinstance(answer, Grant):
            self.group.granted(place, answer, self.now_ns)
        else:
            self.group.denied(place, answer, self.now_ns)
        self.group.wake(self.now_ns)
        self.collect()

    @rule(
        asked=SUBSETS, answering=SUBSETS, late_ns=st.sampled_from([0, 0, 0, R_NS // 3, 3 * R_NS]), opens=st.booleans()
    )
    def round_goes(self, asked: frozenset[int], answering: frozenset[int], late_ns: int, opens: bool) -> None:
        """A round as far as it comes: some acceptors are asked, some of them heard, and the kernel opens or is late."""
        self.heard()
        self.group.beat(self.now_ns)
        self.collect()
        while self.kernel:
            self.kernel_works(refuses=False)
        for place in sorted(asked):
            if self.sent:
                self.delivered(0, place)
                if place in answering and self.answers:
                    self.answered(0)
        self.now_ns += late_ns
        while opens and self.kernel:
            self.kernel_works(refuses=False)

    @rule(asked=SUBSETS)
    def a_round_in_vain(self, asked: frozenset[int]) -> None:
        """Nobody is heard, and the time to ask again comes."""
        self.round_goes(asked, frozenset(), 0, opens=False)
        for _ in range(3):
            self.now_ns += R_NS
            self.heard()
            self.group.wake(self.now_ns)
            self.collect()

    # --- others ------------------------------------------------------------------------------------------------

    def rival_asks(self, places: tuple[int, ...]) -> None:
        self.rival_round += 1
        for place in places:
            acceptor = self.node.site.acceptor if place == A else self.others[place]
            acceptor.request(B, (1, self.rival_round), GROUP, T_NS, 0, self.now_ns)

    def rival_releases(self) -> None:
        for acceptor in (self.node.site.acceptor, *self.others.values()):
            acceptor.release(B, (1, self.rival_round), GROUP)
        self.group.released(B, 0, self.now_ns, by_admin=False)
        self.collect()

    def acceptor_restarts(self, place: int) -> None:
        self.others[place] = Acceptor(PARAMETERS, [GROUP], self.now_ns)

    @rule(places=st.sampled_from([(A, B, W), (B, W), (W,)]), releases=st.booleans())
    def rival(self, places: tuple[int, ...], releases: bool) -> None:
        if releases:
            self.rival_releases()
        else:
            self.rival_asks(places)

    @rule(what=st.sampled_from(range(7)), place=PLACES)
    def something_rare(self, what: int, place: int) -> None:
        """One rule for what is rare, so that the common ones are chosen often enough to come far."""
        if what == 0:
            self.killed_and_restarted()
        elif what <= 2:
            self.given_away_or_resumed(paused=what == 1)
        elif what == 3 and self.group.state is GroupState.OWNER:
            self.switched_over()
        elif what == 4:
            self.gate_flushed()
        elif what == 5:
            self.acceptor_restarts(place)
        elif self.kernel:
            self.kernel_works(refuses=True)

    @precondition(lambda self: self.kernel)
    @rule()
    def kernel_does_what_is_next(self) -> None:
        self.kernel_works(refuses=False)

    # --- what holds --------------------------------------------------------------------------------------------

    @invariant()
    def an_open_slot_rests_on_promises_that_are_kept(self) -> None:
        acceptors = {A: self.node.site.acceptor, **self.others}
        for slot in (0, 1):
            if self.gate.active[slot] and self.now_ns < self.gate.ends_ns[slot]:
                assert len(self.rests[slot]) >= MEMBERSHIP.majority, "open without a majority"
                for place in self.rests[slot]:
                    lease = acceptors[place].lease(GROUP, self.now_ns)
                    kept = lease is not None and lease.holder == A
                    assert kept or acceptors[place].silent_until_ns > self.now_ns, "open without a promise"

    @invariant()
    def the_own_end_is_not_after_the_kernel_s(self) -> None:
        group = self.group
        nothing_pending = group.opened and not self.kernel
        if group.state is GroupState.OWNER and nothing_pending and self.gate.open(self.now_ns):
            assert group.end_ns <= self.gate.end_ns()


TestOwning = Owning.TestCase
TestOwning.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_the_machine_gets_a_gate_open() -> None:
    """Else its invariant would say nothing."""
    machine = Owning()
    machine.start()
    machine.round_goes(BOTH, BOTH, 0, opens=True)
    assert machine.opened
    assert machine.group.state is GroupState.OWNER
    machine.an_open_slot_rests_on_promises_that_are_kept()


# --- what the kernel, other directors and other machines say -------------------------------------------------


def owned_by_a(**options: object) -> SmallSite:
    site = SmallSite(**options)  # type: ignore[arg-type]
    site.run(4 * SITE_T_NS)
    assert site.owned_by("a")
    return site


def test_a_wish_to_move_a_group_to_who_cannot_take_it_moves_nothing() -> None:
    site = owned_by_a()
    group = site.node("a").groups["web"]
    for successor in (A, W, B + 1):
        group.asked_to_hand_over(B, successor, site.now_ns)
        assert group.state is GroupState.OWNER
    site.node("a").site.reports[B].flags &= ~READY
    group.asked_to_hand_over(B, B, site.now_ns)
    assert group.state is GroupState.OWNER
    site.node("a").site.reports[B].flags |= READY
    group.asked_to_hand_over(B, B, site.now_ns)
    assert group.state is GroupState.CLOSING
    assert (group.successor, group.release_flags) == (B, BY_ADMIN)


def test_an_owner_whose_gate_fails_goes_on_while_nobody_else_could() -> None:
    site = owned_by_a()
    site.kill("b")
    site.run(2 * SITE_T_NS)
    place, group = site.places["a"], site.node("a").groups["web"]
    for _ in range(2 * GATE_FAILURES_MAX):
        site.give(place, place.life, GateFailed("web", "no memory"))
    assert group.state is GroupState.OWNER
    site.run(SITE_T_NS)
    assert site.open() == ["a"]
    assert not group.site.doubts_gate(site.now_ns), "a gate that works again is trusted"


def test_a_candidate_whose_gate_fails_releases_what_it_got_and_tries_again() -> None:
    site = SmallSite()
    place, group = site.places["b"], site.node("b").groups["web"]
    site.kill("a")
    site.run_until(lambda: group.round is not None)
    site.give(place, place.life, GateFailed("web", "no memory"))
    assert group.state is GroupState.STANDBY
    assert group.release is not None
    assert "no memory" in group.reason
    assert site.run_until(lambda: site.owned_by("b")) <= 3 * PROFILES["default"].heartbeat_ns


def test_who_finds_its_name_used_twice_lets_go_and_owns_nothing_for_two_leases() -> None:
    site = owned_by_a()
    node = site.node("a")
    boot = node.site.boot
    node.outdated(boot + 7, site.now_ns)
    assert node.site.boot == boot, "an owner does not change its boot"
    began_ns = site.now_ns
    site.give(site.places["a"], site.places["a"].life, Tick())
    site.run_until(lambda: site.owned_by("b"))
    assert site.now_ns - began_ns < 20 * NS_PER_MS
    site.run(PROFILES["default"].heartbeat_ns)
    assert site.state("a") is GroupState.CONFLICT
    assert site.event_names("a").count("name_conflict") == 1
    words = "another machine uses the name a: give each node its own name and restart this one"
    assert site.ask("a", AdminAction.TAKEOVER, "web").text == words
    site.run_until(lambda: site.owned_by("a"))  # it is preferred
    assert site.now_ns - began_ns >= 2 * SITE_T_NS
    assert site.two_owners == 0


def test_a_name_that_is_used_twice_is_told_once_and_a_boot_is_healed_once() -> None:
    site = owned_by_a()
    node = site.node("b")
    boot = node.site.boot
    node.outdated(boot + 7, site.now_ns)
    assert (node.site.boot, node.site.clash_until_ns) == (boot + 8, 0)
    for _ in range(3):
        site.now_ns += 1
        node.outdated(boot + 50, site.now_ns)
        assert node.site.boot == boot + 8
        assert node.site.clash_until_ns == site.now_ns + 2 * SITE_T_NS
    site.give(site.places["b"], site.places["b"].life, Tick())
    assert site.event_names("b").count("name_conflict") == 1


def test_addresses_that_the_configuration_adds_are_put_up_by_the_owner_alone() -> None:
    site = owned_by_a()
    for name, wanted in (("a", 1), ("b", 0)):
        place = site.places[name]
        place.commands.clear()
        site.give(place, place.life, GroupsChanged(site.groups))
        assert adds_addresses(place.commands) == wanted
        assert sum(isinstance(each, Announce) for each in place.commands) == wanted
        assert sum(isinstance(each, InstallGroups) for each in place.commands) == 1


def test_a_group_that_is_no_more_is_closed_before_the_gate_forgets_it() -> None:
    site = owned_by_a(groups=(GroupSettings("web", "a"), GroupSettings("mail", "a")))
    place = site.places["a"]
    site.silent_kernels = {"a"}
    place.commands.clear()
    site.give(place, place.life, GroupsChanged(site.groups[:1]))
    site.run(PROFILES["default"].heartbeat_ns // 2)
    assert site.open("mail") == ["a"]
    assert not any(isinstance(each, InstallGroups) for each in place.commands)
    site.silent_kernels = set()
    site.run(PROFILES["default"].heartbeat_ns)
    assert any(isinstance(each, InstallGroups) for each in place.commands)
    assert "mail" not in site.node("a").groups
    assert site.open("web") == ["a"]
    number = site.node("a").numbers["mail"]
    assert number > 0
    site.give(place, place.life, GroupsChanged(site.groups))
    assert site.node("a").groups["mail"].number >= number, "acceptors take nothing older"
    site.run(SITE_T_NS)
    assert len(site.open("mail")) == 1


def test_nothing_is_given_to_who_says_that_its_name_is_used_twice() -> None:
    site = owned_by_a()
    place, node = site.places["b"], site.node("b")
    node.reborn = True
    node.outdated(node.site.boot + 7, site.now_ns)
    site.give(place, place.life, FitnessChanged(100))
    for _ in range(40):
        node.site.clash_until_ns = site.now_ns + SITE_T_NS
        site.run(PROFILES["default"].heartbeat_ns // 2)
        assert site.open() == ["a"]
    refusal = site.ask("a", AdminAction.SWITCHOVER, "web", "b")
    assert refusal.text == "b could not take web now: has a name that another machine uses"
    assert site.ask("a", AdminAction.GIVEAWAY).text == "nobody could take web: b has a name that another machine uses"
    assert site.owned_by("a")

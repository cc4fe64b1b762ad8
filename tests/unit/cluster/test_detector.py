"""What a peer's silence means, through any sequence of beats, silences and pauses of this node's own."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hawatch.cluster.detector import Detector, LinkChange, LinkHealth, PeerChange, PeerHealth, PeerState, link_words
from hawatch.cluster.parameters import PROFILES

PARAMETERS = PROFILES["default"]
R_NS, T_NS = PARAMETERS.heartbeat_ns, PARAMETERS.lease_ns
PEER, LINKS = 7, ("192.0.2.1", "198.51.100.1")


def fresh(now_ns: int = 0) -> Detector:
    return Detector(PARAMETERS, {PEER: PeerHealth("b", [LinkHealth(each) for each in LINKS], now_ns)})


class Watching(RuleBasedStateMachine):
    """The last new beat of the peer and of each link are written down here by the plain rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10 * T_NS
        self.detector = fresh(self.now_ns)
        self.since_ns = self.now_ns
        self.heard_ns = -1
        self.newest = -1
        self.link_newest = [-1, -1]
        self.link_heard_ns = [-1, -1]
        self.up = [False, False]
        self.told: list[PeerChange | LinkChange] = []

    @rule(by_ns=st.sampled_from([1, R_NS, PARAMETERS.late_ns, T_NS - 1, T_NS, 3 * T_NS]))
    def time_passes(self, by_ns: int) -> None:
        self.now_ns += by_ns
        self.detector.check(self.now_ns)
        for link in (0, 1):
            if self.now_ns - max(self.link_heard_ns[link], self.since_ns) >= T_NS:
                self.up[link] = False

    @rule(link=st.integers(0, 2), ahead=st.integers(-3, 3))
    def a_beat_or_a_copy_of_one(self, link: int, ahead: int) -> None:
        beat = max(0, self.newest + ahead)
        new = self.detector.heard(PEER, link, beat, self.now_ns)
        assert new == (link < 2 and beat > self.newest)
        if link < 2 and beat > self.link_newest[link]:
            self.link_newest[link], self.link_heard_ns[link], self.up[link] = beat, self.now_ns, True
        if new:
            self.newest, self.heard_ns = beat, self.now_ns

    @rule()
    def this_node_was_stopped(self) -> None:
        self.now_ns += 2 * T_NS
        self.detector.paused(self.now_ns)
        self.since_ns = self.now_ns

    @rule()
    def the_peer_restarted(self) -> None:
        self.detector.restarted(PEER)
        self.newest, self.link_newest = -1, [-1, -1]

    @rule()
    def changes_are_told(self) -> None:
        self.told += self.detector.take_changes()
        assert self.detector.take_changes() == []

    @invariant()
    def a_peer_that_was_heard_lately_lives(self) -> None:
        health = self.detector.peers[PEER]
        silence_ns = self.now_ns - max(self.heard_ns, self.since_ns)
        if self.heard_ns == self.now_ns:
            assert health.state is PeerState.ALIVE
        if health.state is PeerState.DEAD:
            assert self.heard_ns < self.now_ns
        assert health.silence_ns(self.now_ns) == silence_ns
        assert health.phi(self.now_ns) >= 0
        assert [link.up for link in health.links] == self.up

    @invariant()
    def nobody_is_told_dead_twice(self) -> None:
        peers = [change.state for change in self.told if isinstance(change, PeerChange)]
        assert all(one is not other for one, other in itertools.pairwise(peers))


TestWatching = Watching.TestCase
TestWatching.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def states_after(silence_ns: int, *, heard: bool) -> PeerState:
    detector = fresh()
    if heard:
        detector.heard(PEER, 0, 1, 0)
    detector.check(silence_ns)
    return detector.peers[PEER].state


def test_late_and_dead_begin_exactly_where_they_should() -> None:
    assert states_after(PARAMETERS.late_ns - 1, heard=True) is PeerState.ALIVE
    assert states_after(PARAMETERS.late_ns, heard=True) is PeerState.LATE
    assert states_after(T_NS - 1, heard=True) is PeerState.LATE
    assert states_after(T_NS, heard=True) is PeerState.DEAD
    assert states_after(T_NS - 1, heard=False) is PeerState.UNKNOWN
    assert states_after(T_NS, heard=False) is PeerState.DEAD


def test_a_peer_that_is_late_and_comes_back_is_told_to_nobody() -> None:
    detector = fresh()
    detector.heard(PEER, 0, 1, 0)
    assert len(detector.take_changes()) == 2  # the peer and its link
    detector.check(PARAMETERS.late_ns)
    detector.heard(PEER, 0, 2, T_NS - 1)
    assert detector.peers[PEER].state is PeerState.ALIVE
    detector.check(2 * T_NS - 2)
    assert detector.peers[PEER].state is PeerState.LATE
    assert detector.take_changes() == []


def test_a_node_that_was_stopped_does_not_blame_others() -> None:
    detector = fresh()
    detector.heard(PEER, 0, 1, 0)
    detector.paused(10 * T_NS)
    detector.check(10 * T_NS + PARAMETERS.late_ns - 1)
    assert detector.peers[PEER].state is PeerState.ALIVE


def test_losses_and_round_trips_are_counted_by_link() -> None:
    detector = fresh()
    for beat in (1, 2, 5):
        detector.heard(PEER, 0, beat, beat * R_NS)
    detector.answered(PEER, 0, 42)
    detector.answered(PEER, 9, 43)  # no such link
    first, second = detector.peers[PEER].links
    assert (first.received, first.lost, first.round_trip_ns) == (3, 2, 42)
    assert (second.received, second.lost, second.round_trip_ns) == (0, 0, -1)


def test_the_words_of_a_silence() -> None:
    detector = fresh()
    detector.heard(PEER, 0, 1, 0)
    detector.take_changes()
    detector.check(T_NS)
    reasons = [change.reason for change in detector.take_changes()]
    assert reasons == ["b is dead on both links for 1.5 s", "nothing from b on 192.0.2.1 for 1.5 s"]
    assert (link_words(1), link_words(3)) == ("its link", "all 3 links")
    detector.heard(PEER, 1, 2, 2 * T_NS)
    assert [change.reason for change in detector.take_changes()] == [
        "b is heard on 198.51.100.1", "b is heard on 198.51.100.1",
    ]  # fmt: skip


def test_suspicion_grows_with_silence() -> None:
    detector = fresh()
    assert detector.peers[PEER].phi(T_NS) == 0
    for beat in range(1, 20):
        detector.heard(PEER, 0, beat, beat * R_NS)
    health = detector.peers[PEER]
    assert 0.4 < health.phi(20 * R_NS) < 0.5
    assert health.phi(30 * R_NS) > 4

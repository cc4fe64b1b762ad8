"""Freshness against a plain set of what was used, through any order of datagrams, copies and restarts."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hawatch.cluster.sessions import WINDOW, Session, Standing, Window


class Replays(RuleBasedStateMachine):
    """A sender with several boots, and somebody who sends copies of everything that was ever sent."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.boot, self.sequence = 5, 0
        self.sent: list[tuple[int, int]] = []
        self.used: set[tuple[int, int]] = set()
        self.proven = 0

    def deliver(self, boot: int, sequence: int) -> Standing:
        before = self.session.boot
        standing = self.session.admit(boot, sequence)
        if standing is Standing.FRESH:
            assert boot == before != 0, "only a believed boot is fresh"
            assert (boot, sequence) not in self.used, "a copy was used"
            self.used.add((boot, sequence))
        assert self.session.boot == before, "listening alone changes no belief"
        return standing

    @rule(skip=st.sampled_from([1, 1, 1, 2, 5, WINDOW - 1, WINDOW, WINDOW + 1]))
    def send(self, skip):
        self.sequence += skip
        self.sent.append((self.boot, self.sequence))
        standing = self.deliver(self.boot, self.sequence)
        if self.session.boot == self.boot:
            assert standing is Standing.FRESH
        else:
            assert standing is Standing.UNVERIFIED
            assert self.session.pending is not None

    @rule(skip=st.integers(1, 5))
    def send_and_lose(self, skip):
        self.sequence += skip
        self.sent.append((self.boot, self.sequence))

    @rule(data=st.data())
    def replay(self, data):
        if self.sent:
            boot, sequence = data.draw(st.sampled_from(self.sent[-400:]))
            standing = self.deliver(boot, sequence)
            if boot < self.session.boot:
                assert standing is Standing.OLD_BOOT

    @rule()
    def restart(self):
        self.boot, self.sequence = self.boot + 1, 0

    @rule()
    def answer_a_fresh_question(self):
        self.sequence += 1
        self.sent.append((self.boot, self.sequence))
        standing = self.deliver(self.boot, self.sequence)
        if standing is Standing.UNVERIFIED:
            assert self.session.verify(self.boot, self.sequence)
            assert self.session.boot == self.boot
            self.used |= {(self.boot, sequence) for boot, sequence in self.sent if boot == self.boot}

    @rule()
    def forget(self):
        """The receiver restarts: nothing that it used before may be used again."""
        self.session = Session()

    @invariant()
    def no_belief_without_proof(self):
        assert self.session.boot <= self.boot


TestReplays = Replays.TestCase
TestReplays.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_the_window_takes_each_number_once_and_in_any_order():
    window = Window(1, 0, all_seen=False)
    for sequence in (3, 1, 2):
        assert window.admit(sequence) is Standing.FRESH
        assert window.admit(sequence) is Standing.DUPLICATE
    assert window.admit(WINDOW + 3) is Standing.FRESH
    assert window.admit(3) is Standing.STALE
    assert window.admit(4) is Standing.FRESH
    assert window.admit(10 * WINDOW) is Standing.FRESH
    assert window.admit(9 * WINDOW) is Standing.STALE
    assert window.admit(9 * WINDOW + 1) is Standing.FRESH


def test_numbers_before_the_proof_are_spent():
    session = Session()
    assert session.admit(4, 10) is Standing.UNVERIFIED
    assert session.admit(4, 12) is Standing.UNVERIFIED
    assert session.verify(4, 10)
    assert session.admit(4, 11) is Standing.DUPLICATE
    assert session.admit(4, 12) is Standing.DUPLICATE
    assert session.admit(4, 13) is Standing.FRESH
    assert not session.verify(4, 13)


def test_a_copy_from_a_later_boot_blocks_nobody() -> None:
    """A node's clock went back, and somebody sends a datagram of its future: it never proves itself."""
    session = Session()
    assert session.admit(9, 5) is Standing.UNVERIFIED
    assert session.admit(4, 1) is Standing.UNVERIFIED
    assert session.verify(4, 1)
    assert session.boot == 4
    assert session.admit(9, 5) is Standing.UNVERIFIED
    assert session.admit(4, 2) is Standing.FRESH


def test_a_pending_boot_takes_nothing_from_the_believed_one():
    session = Session()
    session.admit(4, 1)
    assert session.verify(4, 1)
    assert session.admit(6, 1) is Standing.UNVERIFIED
    assert session.admit(4, 2) is Standing.FRESH
    assert not session.verify(5, 2)
    assert session.verify(6, 1)
    assert session.boot == 6
    assert session.admit(4, 3) is Standing.OLD_BOOT
    assert session.pending is None

"""The acceptor against a second, plainer account of its promises, through any sequence of what can arrive."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hawatch.cluster.acceptor import Acceptor, Denied, Granted
from hawatch.cluster.parameters import LeaseParameters
from hawatch.cluster.wire import DenyReason
from hawatch.model import NS_PER_MS

PARAMETERS = LeaseParameters(600 * NS_PER_MS, 120 * NS_PER_MS, lease_ns_max=900 * NS_PER_MS)
T_NS, GROUP, A, B = PARAMETERS.lease_ns, 77, 1, 2
NODES = st.sampled_from([A, B, 3])
ORDERS = st.tuples(st.integers(1, 3), st.integers(0, 6))


def fresh(now_ns: int = 0, *, silent: bool = False) -> Acceptor:
    return Acceptor(PARAMETERS, [GROUP], now_ns, silent=silent)


class Promises(RuleBasedStateMachine):
    """Holder, its order and its end are written down here by the plain rules; the acceptor must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1000
        self.silent_until_ns = 0
        self.holder, self.order, self.until_ns = 0, (0, 0), 0
        self.newest: dict[int, tuple[int, int]] = {}
        self.epoch = 0
        self.last = 0
        self.acceptor = fresh()

    @initialize(silent=st.booleans())
    def boot(self, silent):
        self.acceptor = Acceptor(PARAMETERS, [GROUP], self.now_ns, silent=silent)
        self.silent_until_ns = self.now_ns + PARAMETERS.silence_ns if silent else 0

    def held(self) -> bool:
        return self.holder != 0 and self.now_ns < self.until_ns

    @rule(by_ns=st.one_of(st.integers(0, 2 * T_NS), st.sampled_from([1, T_NS - 1, T_NS, PARAMETERS.silence_ns])))
    def time_passes(self, by_ns):
        self.now_ns += by_ns

    @rule(
        asker=NODES,
        order=ORDERS,
        lease_ns=st.sampled_from([1, T_NS, 900 * NS_PER_MS, 901 * NS_PER_MS]),
        epoch=st.integers(0, 9),
    )
    def request(self, asker, order, lease_ns, epoch):
        reply = self.acceptor.request(asker, order, GROUP, lease_ns, epoch, self.now_ns)
        if order < self.newest.get(asker, (0, 0)):
            assert reply is None
        elif order == self.newest.get(asker):
            mine = self.held() and (self.holder, self.order) == (asker, order)
            assert reply == (Granted(self.epoch) if mine else None)
        elif self.now_ns < self.silent_until_ns:
            assert reply == Denied(DenyReason.SILENT, 0, self.silent_until_ns - self.now_ns, self.epoch)
        elif lease_ns > PARAMETERS.longest_lease_ns:
            assert isinstance(reply, Denied)
            assert reply.reason is DenyReason.TOO_LONG
        elif self.held() and self.holder != asker:
            assert reply == Denied(DenyReason.HELD, self.holder, self.until_ns - self.now_ns, self.epoch)
        else:
            assert isinstance(reply, Granted)
            assert reply.epoch >= max(epoch, self.epoch + (self.last != asker))
            kept_ns = self.until_ns if self.held() else 0  # of the asker itself: what it has it keeps
            self.holder, self.order, self.until_ns = asker, order, max(self.now_ns + lease_ns, kept_ns)
            self.newest[asker], self.epoch, self.last = order, reply.epoch, asker

    @rule(asker=NODES, order=ORDERS)
    def release(self, asker, order):
        was_held = self.held()
        cleared = self.acceptor.release(asker, order, GROUP)
        self.newest[asker] = max(order, self.newest.get(asker, (0, 0)))
        if self.holder == asker and self.order <= order:
            assert cleared or not was_held
            self.holder = 0
        else:
            assert not cleared

    @rule()
    def another_group(self):
        reply = self.acceptor.request(A, (1, 1), GROUP + 1, T_NS, 1, self.now_ns)
        assert reply == Denied(DenyReason.UNKNOWN, 0, 0, 0)
        assert not self.acceptor.release(A, (1, 1), GROUP + 1)

    @invariant()
    def the_promise_is_the_same(self):
        lease = self.acceptor.lease(GROUP, self.now_ns)
        if self.held():
            assert lease is not None
            assert (lease.holder, (lease.boot, lease.round), lease.expires_ns) == (
                self.holder,
                self.order,
                self.until_ns,
            )
        else:
            assert lease is None


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_promise_ends_on_its_own_clock_and_not_before():
    acceptor = fresh()
    assert acceptor.request(A, (1, 1), GROUP, T_NS, 1, 0) == Granted(1)
    assert acceptor.request(B, (1, 1), GROUP, T_NS, 1, T_NS - 1) == Denied(DenyReason.HELD, A, 1, 1)
    assert acceptor.request(B, (1, 2), GROUP, T_NS, 1, T_NS) == Granted(2)


def test_a_repeated_request_is_answered_again_and_extends_nothing():
    acceptor = fresh()
    acceptor.request(A, (1, 1), GROUP, T_NS, 1, 0)
    assert acceptor.request(A, (1, 1), GROUP, T_NS, 1, 400) == Granted(1)
    assert acceptor.request(B, (1, 1), GROUP, T_NS, 1, T_NS) == Granted(2)
    assert acceptor.request(A, (1, 1), GROUP, T_NS, 1, T_NS + 1) is None


def test_a_refused_request_leaves_no_trace():
    acceptor = fresh()
    acceptor.request(A, (1, 1), GROUP, T_NS, 1, 0)
    acceptor.request(B, (9, 9), GROUP, T_NS, 8, 1)
    assert acceptor.request(B, (1, 1), GROUP, T_NS, 1, T_NS) == Granted(2)


def test_a_late_release_clears_nothing_newer():
    acceptor = fresh()
    acceptor.request(A, (1, 2), GROUP, T_NS, 1, 0)
    assert not acceptor.release(A, (1, 1), GROUP)
    assert acceptor.lease(GROUP, 1) is not None
    assert not acceptor.release(B, (1, 9), GROUP)
    assert acceptor.release(A, (1, 2), GROUP)
    assert acceptor.request(B, (1, 10), GROUP, T_NS, 1, 1) == Granted(2)


def test_a_release_that_overtakes_its_request_wins():
    acceptor = fresh()
    acceptor.release(A, (1, 5), GROUP)
    assert acceptor.request(A, (1, 5), GROUP, T_NS, 1, 0) is None
    assert acceptor.request(A, (1, 4), GROUP, T_NS, 1, 0) is None
    assert acceptor.request(A, (2, 1), GROUP, T_NS, 1, 0) == Granted(1)


def test_a_restarted_node_goes_on_with_its_own_lease():
    acceptor = fresh()
    acceptor.request(A, (1, 7), GROUP, T_NS, 1, 0)
    assert acceptor.request(A, (2, 1), GROUP, T_NS, 1, 10) == Granted(1)


@pytest.mark.parametrize("late_ns", [-1, 0])
def test_silence_ends_when_everything_promised_before_has_run_out(late_ns):
    acceptor = fresh(500, silent=True)
    reply = acceptor.request(A, (1, 1), GROUP, T_NS, 1, 500 + PARAMETERS.silence_ns + late_ns)
    assert reply == (Denied(DenyReason.SILENT, 0, 1, 0) if late_ns else Granted(1))


def test_a_holder_that_asks_for_a_shorter_lease_keeps_what_it_was_promised():
    """The gate that its former process left open may be as long as that."""
    acceptor = fresh()
    assert isinstance(acceptor.request(A, (1, 1), GROUP, T_NS, 0, 0), Granted)
    assert isinstance(acceptor.request(A, (2, 1), GROUP, T_NS // 2, 0, 10), Granted)
    assert acceptor.request(B, (1, 1), GROUP, T_NS, 0, T_NS - 1).reason is DenyReason.HELD
    assert isinstance(acceptor.request(A, (2, 2), GROUP, T_NS // 2, 0, T_NS - 1), Granted)
    assert acceptor.lease(GROUP, T_NS).expires_ns == T_NS - 1 + T_NS // 2


def test_a_group_that_a_reload_names_is_promised_when_what_others_may_own_by_another_name_has_run_out():
    acceptor = Acceptor(PARAMETERS, [GROUP], 0, silent=False)
    assert isinstance(acceptor.request(1, (1, 1), GROUP, T_NS, 0, 0), Granted)
    acceptor.change([GROUP + 1], 10)
    assert acceptor.request(1, (1, 2), GROUP, T_NS, 0, 20) == Denied(DenyReason.UNKNOWN, 0, 0, 0)
    ends_ns = 10 + PARAMETERS.silence_ns
    assert acceptor.request(2, (1, 1), GROUP + 1, T_NS, 0, 20) == Denied(DenyReason.SILENT, 0, ends_ns - 20, 0)
    assert isinstance(acceptor.request(2, (1, 2), GROUP + 1, T_NS, 0, ends_ns), Granted)
    acceptor.change([GROUP, GROUP + 1], ends_ns)
    assert isinstance(acceptor.request(2, (1, 3), GROUP + 1, T_NS, 0, ends_ns), Granted), "it was named before"
    assert acceptor.request(2, (1, 4), GROUP, T_NS, 0, ends_ns).reason is DenyReason.SILENT

from __future__ import annotations

from hawatch.agent.heartbeat_noise import BURST, DATAGRAMS_PER_S, TELL_INTERVAL_NS, Budget, Noise, NoiseLog
from hawatch.model import NS_PER_MS, NS_PER_S


def test_a_budget_is_spent_and_comes_back() -> None:
    budget = Budget(0)
    assert budget.allowed(0) == BURST
    budget.spend(BURST)
    assert budget.allowed(0) == 0
    assert budget.allowed(10 * NS_PER_MS) == DATAGRAMS_PER_S // 100
    assert budget.allowed(3600 * NS_PER_S) == BURST


def test_a_budget_bounds_a_flood_however_often_it_is_asked() -> None:
    budget, read = Budget(0), 0
    for now in range(0, 10 * NS_PER_S, NS_PER_MS):
        allowed = min(32, budget.allowed(now))
        budget.spend(allowed)
        read += allowed
    assert 10 * DATAGRAMS_PER_S <= read <= 10 * DATAGRAMS_PER_S + BURST


def test_a_clock_that_stands_still_gives_nothing() -> None:
    budget = Budget(NS_PER_S)
    budget.spend(BURST)
    assert budget.allowed(0) == 0
    assert budget.allowed(NS_PER_S) <= DATAGRAMS_PER_S


def test_a_debt_is_paid_soon() -> None:
    budget = Budget(0, per_s=20, burst=60)
    budget.spend(1_000_000)
    assert budget.allowed(3 * NS_PER_S) == 0
    assert budget.allowed(4 * NS_PER_S) == 20


def test_noise_is_told_at_once_and_then_once_a_minute() -> None:
    log = NoiseLog()
    assert log.event(0) is None
    log.note("10.99.0.1", "10.99.0.77", Noise.STRANGER, 3)
    log.note("10.99.0.1", "10.99.0.77", Noise.STRANGER, 4)
    log.note("10.99.0.1", "10.99.0.2", Noise.UNVERIFIED, 0)
    event = log.event(NS_PER_S)
    assert event is not None
    assert event.numbers == {"datagrams": 7}
    assert event.reason == (
        "datagrams that are no heartbeats, and change nothing: 7 on 10.99.0.1 from 10.99.0.77 (no member has this address)"
    )
    log.note("10.99.0.1", "10.99.0.77", Noise.STRANGER, 1_000_000)
    assert log.event(TELL_INTERVAL_NS) is None
    later = log.event(NS_PER_S + TELL_INTERVAL_NS)
    assert later is not None
    assert later.numbers == {"datagrams": 1_000_000}
    assert log.event(10 * TELL_INTERVAL_NS) is None
    assert log.total == 1_000_007

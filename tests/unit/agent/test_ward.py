from __future__ import annotations

import pytest

from hawatch.agent.ward import Ask, Kill, Limits, Start, Ward, WardState
from hawatch.model import NS_PER_MS, NS_PER_S

LIMITS = Limits(silence_ns=3 * NS_PER_S, good_ns=60 * NS_PER_S)
AT_ONCE = Limits(silence_ns=5 * NS_PER_S, good_ns=NS_PER_S, first_delay_ns=0, delay_max_ns=NS_PER_S)


def running(limits: Limits = LIMITS, now: int = 0) -> Ward:
    ward = Ward("prober", limits, now)
    assert ward.tick(now) == Start()
    ward.born(4711, now)
    return ward


def test_asks_every_second_and_is_content_with_answers() -> None:
    ward = running()
    for second in range(100):
        assert ward.due_ns() == second * NS_PER_S
        assert ward.tick(second * NS_PER_S) == Ask(second + 1)
        assert ward.tick(second * NS_PER_S + 1) is None
        ward.answered(second + 1)


def test_kills_after_silence_and_only_then() -> None:
    ward = running()
    for second in range(3):
        assert ward.tick(second * NS_PER_S) == Ask(second + 1)
    assert ward.tick(3 * NS_PER_S - 1) is None
    assert ward.due_ns() == 3 * NS_PER_S
    assert ward.tick(3 * NS_PER_S) == Kill("no answer for 3.0 s")
    assert ward.tick(4 * NS_PER_S) is None
    assert ward.due_ns() is None


def test_a_late_answer_counts_and_one_from_an_earlier_life_does_too() -> None:
    ward = running()
    ward.tick(0)
    ward.tick(NS_PER_S)
    ward.answered(1)
    assert ward.tick(4 * NS_PER_S) == Ask(3)
    ward.answered(99)
    assert ward.tick(7 * NS_PER_S) == Kill("no answer for 3.0 s")


def test_the_keepers_own_lateness_is_forgiven() -> None:
    ward = running()
    ward.tick(0)
    ward.forgive(10 * NS_PER_S)
    assert ward.tick(12 * NS_PER_S) == Ask(2)
    assert ward.tick(13 * NS_PER_S) == Kill("no answer for 3.0 s")


@pytest.mark.parametrize(
    ("limits", "lives_ns", "delays_ms"),
    [
        pytest.param(
            LIMITS, NS_PER_S, [50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000], id="bad"
        ),
        pytest.param(LIMITS, 60 * NS_PER_S, [50] * 12, id="good minutes"),
        pytest.param(AT_ONCE, 1, [0, 50, 100, 200, 400, 800, 1000, 1000], id="core that dies at once"),
        pytest.param(AT_ONCE, NS_PER_S, [0] * 100, id="core that is killed a hundred times"),
    ],
)
def test_back_off(limits: Limits, lives_ns: int, delays_ms: list[int]) -> None:
    now, ward, seen = 0, Ward("x", limits, 0), []
    for _ in delays_ms:
        assert ward.tick(now) == Start()
        ward.born(1, now)
        now += lives_ns
        delay = ward.died(now)
        seen.append(delay // NS_PER_MS)
        if delay:
            assert ward.tick(now + delay - 1) is None
        assert ward.due_ns() == now + delay
        now += delay
    assert seen == delays_ms
    assert ward.restarts == len(delays_ms)


def test_a_reborn_child_owes_nothing() -> None:
    ward = running()
    ward.tick(0)
    assert isinstance(ward.tick(3 * NS_PER_S), Kill)
    ward.died(3 * NS_PER_S)
    ward.born(2, 4 * NS_PER_S)
    assert ward.tick(4 * NS_PER_S) == Ask(2)
    assert ward.kill_reason == ""


def test_a_stopped_child_is_left_alone() -> None:
    ward = running()
    ward.stop()
    assert ward.state is WardState.STOPPED
    assert ward.tick(10**12) is None
    assert ward.due_ns() is None
    with pytest.raises(AssertionError):
        ward.died(0)

"""When checks run: phase, no drift, no bursts, no overlap."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hawatch.health.schedule import JITTER_NS_MAX, TICK_NS, Schedule
from hawatch.model import NS_PER_MS, NS_PER_S, Check


def check(number: int, interval_ns: int = 2 * NS_PER_S) -> Check:
    return Check(f"check {number}", "tcp", {}, "192.0.2.1", 80, interval_ns, interval_ns, 2, 3)


def schedule(count: int = 1, interval_ns: int = 2 * NS_PER_S, salt: str = "lvs1") -> Schedule:
    made = Schedule(salt, Random(1))
    made.assign([check(number, interval_ns) for number in range(count)], 0)
    return made


def starts(made: Schedule, until_ns: int, *, run_ns: int = 0) -> dict[str, list[int]]:
    """Run the schedule in virtual time; a run takes `run_ns`."""
    found: dict[str, list[int]] = {}
    running: list[tuple[int, object]] = []
    now_ns = 0
    while now_ns <= until_ns:
        for end_ns, slot in [one for one in running if one[0] <= now_ns]:
            slot.running = False
            running.remove((end_ns, slot))
        for slot in made.take_due(now_ns):
            found.setdefault(slot.check.id, []).append(now_ns)
            running.append((now_ns + run_ns, slot))
        now_ns += TICK_NS
    return found


def test_all_run_within_a_second_and_then_once_an_interval():
    found = starts(schedule(200), 21 * NS_PER_S)
    assert len(found) == 200
    for times in found.values():
        assert times[0] <= NS_PER_S + TICK_NS
        gaps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
        assert all(abs(gap - 2 * NS_PER_S) <= JITTER_NS_MAX + 2 * TICK_NS for gap in gaps)
        assert abs(times[-1] - times[1] - (len(times) - 2) * 2 * NS_PER_S) <= JITTER_NS_MAX + 2 * TICK_NS


def test_they_are_spread():
    found = starts(schedule(1000, NS_PER_S), 5 * NS_PER_S)
    late = [time for times in found.values() for time in times if time >= 3 * NS_PER_S]
    busiest = max(late.count(tick) for tick in set(late))
    assert busiest < 40


def test_two_directors_differ_and_a_restart_does_not():
    one, again, other = (starts(schedule(20, salt=salt), 4 * NS_PER_S) for salt in ("lvs1", "lvs1", "lvs2"))
    assert one == again
    assert one != other


def test_no_run_while_one_is_under_way():
    made = schedule(1, NS_PER_S)
    found = starts(made, 10 * NS_PER_S, run_ns=1500 * NS_PER_MS)
    (times,) = found.values()
    assert all(later - earlier >= 1500 * NS_PER_MS for earlier, later in itertools.pairwise(times))
    assert made.skipped > 0


def test_a_late_start_makes_no_burst():
    made = schedule(50, NS_PER_S)
    for slot in made.take_due(2 * NS_PER_S):
        slot.running = False
    late_ns = 60 * NS_PER_S
    due = made.take_due(late_ns)
    assert len(due) == 50
    for slot in due:
        slot.running = False
    assert made.take_due(late_ns) == []
    assert made.take_due(late_ns + 50 * NS_PER_MS) == []
    assert made.skipped > 50 * 50


def test_reassignment_keeps_what_does_not_change():
    made = schedule(3)
    due = {slot.check.id: slot.due_ns for slot in (made.slot(f"check {n}") for n in range(3))}
    made.assign([check(0), check(1, NS_PER_S), check(7)], NS_PER_S // 2)
    assert made.slot("check 0").due_ns == due["check 0"]
    assert made.slot("check 2") is None
    assert made.slot("check 7") is not None
    assert made.slot("check 1").interval_ns == NS_PER_S
    assert {slot.check.id for slot in made.take_due(3 * NS_PER_S)} == {"check 0", "check 1", "check 7"}


@given(st.lists(st.integers(0, 5 * NS_PER_S), min_size=1, max_size=40), st.integers(100 * NS_PER_MS, 10 * NS_PER_S))
def test_whatever_the_delays_nothing_runs_twice_at_once_or_in_the_past(delays, interval_ns):
    made = schedule(5, interval_ns)
    now_ns = 0
    for delay_ns in delays:
        now_ns += delay_ns
        due = made.take_due(now_ns)
        assert len({slot.check.id for slot in due}) == len(due)
        for slot in due:
            assert slot.due_ns > now_ns
            slot.running = False

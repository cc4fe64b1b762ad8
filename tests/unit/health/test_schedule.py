"""When checks run: phase, no drift, no bursts, no overlap."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.health.schedule import JITTER_NS_MAX, LATE_NS, TICK_NS, Schedule, Slot
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
            made.finish(slot)
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


def pause(made: Schedule, ends_ns: int, until_ns: int, *, step_ns: int = TICK_NS) -> dict[str, list[int]]:
    """Go on with a schedule that nobody looked at until `ends_ns`; runs take no time."""
    found: dict[str, list[int]] = {}
    for now_ns in range(ends_ns, until_ns, step_ns):
        for slot in made.take_due(now_ns):
            found.setdefault(slot.check.id, []).append(now_ns)
            made.finish(slot)
    return found


@pytest.mark.parametrize("interval_s", [1, 2, 60])
def test_a_pause_is_followed_by_no_burst(interval_s):
    made = schedule(1000, interval_s * NS_PER_S)
    pause(made, 0, 2 * NS_PER_S)
    ends_ns = 600 * NS_PER_S + 7
    found = pause(made, ends_ns, ends_ns + 2 * NS_PER_S)
    first = [times[0] for times in found.values()]
    assert len(first) == 1000, "all have run soon"
    assert max(first.count(tick) for tick in set(first)) < 130, "a tenth of a second's worth of starts and no more"
    assert max(first) - ends_ns <= NS_PER_S + JITTER_NS_MAX + TICK_NS
    assert made.late >= 900
    assert made.late_ns_max > 500 * NS_PER_S


def test_after_a_short_pause_nothing_is_more_than_twice_as_late():
    made = schedule(1000, NS_PER_S)
    begins_ns, ends_ns = 3 * NS_PER_S, 3 * NS_PER_S + 300 * NS_PER_MS
    pause(made, 0, begins_ns)
    overdue = {f"check {n}": made.slot(f"check {n}").due_ns for n in range(1000)}
    overdue = {check_id: due_ns for check_id, due_ns in overdue.items() if due_ns <= ends_ns}
    found = pause(made, ends_ns, ends_ns + NS_PER_S)
    assert len(overdue) > 250
    for check_id, due_ns in overdue.items():
        late_ns, extra_ns = ends_ns - due_ns, found[check_id][0] - ends_ns
        assert extra_ns <= (late_ns + TICK_NS if late_ns > LATE_NS else 0)
    first = [found[check_id][0] for check_id in overdue]
    assert max(first.count(tick) for tick in set(first)) < 130


def test_what_is_late_all_the_time_is_put_off_but_not_starved():
    made = schedule(50, NS_PER_S)
    found = pause(made, 0, 60 * NS_PER_S, step_ns=700 * NS_PER_MS)
    assert len(found) == 50
    assert min(len(times) for times in found.values()) >= 60 / 3


def test_missed_runs_are_not_made_up_for():
    made = schedule(50, NS_PER_S)
    found = pause(made, 60 * NS_PER_S, 65 * NS_PER_S)
    assert all(4 <= len(times) <= 6 for times in found.values())
    assert made.skipped > 50 * 50


def test_a_run_under_way_while_its_interval_changes_does_not_end_the_check():
    made = schedule(1)
    (slot,) = made.take_due(made.next_due_ns())
    made.assign([check(0, NS_PER_S)], NS_PER_S + TICK_NS)
    assert made.take_due(2 * NS_PER_S + 5 * TICK_NS) == [], "it runs still"
    made.finish(slot)
    assert pause(made, 2 * NS_PER_S + 6 * TICK_NS, 4 * NS_PER_S), "it goes on"


def test_a_check_that_goes_and_comes_while_it_runs_is_not_run_twice_at_once():
    made = schedule(1)
    (slot,) = made.take_due(made.next_due_ns())
    made.assign([], NS_PER_S)
    made.assign([check(0)], NS_PER_S)
    assert not pause(made, NS_PER_S, 6 * NS_PER_S), "the earlier run is not over"
    made.finish(slot)
    assert pause(made, 6 * NS_PER_S, 9 * NS_PER_S)


def test_reassignment_keeps_what_does_not_change():
    made = schedule(3)
    due = {slot.check.id: slot.due_ns for slot in (made.slot(f"check {n}") for n in range(3))}
    made.assign([check(0), check(1, NS_PER_S), check(7)], NS_PER_S // 2)
    assert made.slot("check 0").due_ns == due["check 0"]
    assert made.slot("check 2") is None
    assert made.slot("check 7") is not None
    assert made.slot("check 1").interval_ns == NS_PER_S
    assert pause(made, NS_PER_S // 2, 3 * NS_PER_S).keys() == {"check 0", "check 1", "check 7"}


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
            made.finish(slot)


INTERVALS_NS = (NS_PER_S // 2, NS_PER_S, 7 * NS_PER_S)
STEPS = st.one_of(
    st.tuples(st.just("look"), st.integers(1, 3 * NS_PER_S)),
    st.tuples(st.just("assign"), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(INTERVALS_NS)), max_size=5)),
    st.tuples(st.just("finish"), st.integers(0, 4)),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_comes_no_check_runs_twice_at_once_and_all_go_on(steps):
    made = Schedule("lvs1", Random(1))
    wanted: dict[str, Check] = {}
    under_way: dict[str, Slot] = {}
    now_ns = 0
    for kind, value in steps:
        if kind == "look":
            now_ns += value
            for slot in made.take_due(now_ns):
                assert slot.check.id in wanted
                assert slot.check.id not in under_way
                under_way[slot.check.id] = slot
        elif kind == "assign":
            wanted = {(one := check(number, interval_ns)).id: one for number, interval_ns in value}
            made.assign(wanted.values(), now_ns)
        elif (slot := under_way.pop(f"check {value}", None)) is not None:
            made.finish(slot)
    for slot in under_way.values():
        made.finish(slot)
    found = pause(made, now_ns, now_ns + 17 * NS_PER_S)
    assert found.keys() == wanted.keys(), "whatever was, each goes on"
    assert all(len(times) >= 2 for times in found.values())


def test_what_left_the_schedule_is_not_waited_for():
    made = schedule(3)
    assert made.slot("check 1") is not None
    due_ns = made.next_due_ns()
    assert due_ns is not None
    made.assign([], 0)
    assert (made.slot("check 1"), len(made), made.next_due_ns()) == (None, 0, None)

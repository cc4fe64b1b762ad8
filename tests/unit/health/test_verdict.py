"""Rise, fall and flap damping, by the number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.health.verdict import HOLD_NS_MAX, CheckJudge
from hawatch.model import NS_PER_S, Check, CheckState, Verdict

UP, DOWN, UNKNOWN = CheckState.UP, CheckState.DOWN, CheckState.UNKNOWN
WALL = 1_700_000_000 * NS_PER_S


def judge(rise: int = 2, fall: int = 3, known: Verdict | None = None) -> CheckJudge:
    check = Check("c", "tcp", {}, "192.0.2.1", 80, NS_PER_S, NS_PER_S, rise, fall)
    return CheckJudge(check, known, 0, WALL)


def play(one: CheckJudge, results: str, start_s: float = 0, step_s: float = 1) -> list[tuple[int, CheckState]]:
    """Feed results, "+" good and "-" bad; return where the state changed."""
    changes = []
    for index, result in enumerate(results):
        now_ns = int((start_s + index * step_s) * NS_PER_S)
        before = one.verdict.state
        one.take(ok=result == "+", reason="refused", now_ns=now_ns, wall_ns=WALL + now_ns)
        if one.verdict.state is not before:
            changes.append((index, one.verdict.state))
    return changes


@pytest.mark.parametrize(
    ("rise", "fall", "results", "changes"),
    [
        (2, 3, "+", [(0, UP)]),
        (2, 3, "-", [(0, DOWN)]),
        (2, 3, "+--+--+", [(0, UP)]),
        (2, 3, "+---", [(0, UP), (3, DOWN)]),
        (2, 3, "+---+-++", [(0, UP), (3, DOWN), (7, UP)]),
        (1, 1, "+-+", [(0, UP), (1, DOWN), (2, UP)]),
        (3, 2, "-++-+++", [(0, DOWN), (6, UP)]),
    ],
)
def test_rise_and_fall(rise, fall, results, changes):
    assert play(judge(rise, fall), results) == changes


def test_the_reason_is_the_latest():
    one = judge(fall=1)
    one.take(ok=False, reason="refused", now_ns=0, wall_ns=WALL)
    told = one.take(ok=False, reason="no greeting in 1 s", now_ns=NS_PER_S, wall_ns=WALL + NS_PER_S)
    assert told is not None
    assert (told.reason, told.since_wall_ns) == ("no greeting in 1 s", WALL)
    for second in (2, 60):
        assert one.take(ok=False, reason="no greeting in 1 s", now_ns=second * NS_PER_S, wall_ns=WALL) is None


def test_one_that_is_down_says_why_and_one_that_is_up_says_nothing():
    one = judge(rise=1, fall=1)
    assert one.take(ok=False, reason="refused", now_ns=0, wall_ns=WALL) == Verdict("c", DOWN, "refused", WALL)
    assert one.take(ok=True, reason="fine", now_ns=1, wall_ns=WALL + 1) == Verdict("c", UP, "", WALL + 1)


def test_that_it_answers_while_it_is_held_is_told_once():
    one = judge(rise=1, fall=1)
    play(one, "+-+-+-+-")
    told = [one.take(ok=True, reason="", now_ns=second * NS_PER_S, wall_ns=WALL) for second in range(8, 40)]
    assert [verdict is not None for verdict in told] == [True] + [False] * 31


def test_one_that_stays_up_has_no_news():
    one = judge(rise=1)
    up = one.take(ok=True, reason="", now_ns=0, wall_ns=WALL)
    assert up == Verdict("c", UP, "", WALL)
    for second in range(1, 5):
        assert one.take(ok=True, reason="", now_ns=second * NS_PER_S, wall_ns=WALL + second * NS_PER_S) is None
    assert one.verdict is up


def test_another_rise_and_fall_count_at_once():
    one = judge(rise=1, fall=1)
    play(one, "+")
    one.reschedule(Check("c", "tcp", {}, "192.0.2.1", 80, NS_PER_S, NS_PER_S, 2, 3))
    assert play(one, "---++") == [(2, DOWN), (4, UP)]


def test_a_reason_that_changes_at_every_run_is_told_now_and_then():
    one = judge(fall=1)
    told = [
        second
        for second in range(20)
        if one.take(ok=False, reason=f"451 busy at {second}", now_ns=second * NS_PER_S, wall_ns=WALL)
    ]
    assert told == [0, 1, 6, 11, 16]
    assert one.verdict.reason == "451 busy at 16"


def test_one_that_flaps_is_held_and_says_until_when():
    one = judge(rise=1, fall=1)
    play(one, "+-+-+-+-")
    assert one.verdict.state is DOWN
    assert one.verdict.held_until_wall_ns > WALL
    left_s = round((one.held_until_ns - 10 * NS_PER_S) / NS_PER_S)
    told = one.take(ok=True, reason="", now_ns=10 * NS_PER_S, wall_ns=WALL + 9999 * NS_PER_S)
    assert told is not None
    reason = f"answers again, but is held down for {left_s} s because it went down too often"
    assert (told.state, told.reason) == (DOWN, reason), "whatever the wall clock was set to"
    after_ns = one.held_until_ns + 1
    back = one.take(ok=True, reason="", now_ns=after_ns, wall_ns=WALL + after_ns)
    assert back is not None
    assert (back.state, back.held_until_wall_ns) == (UP, 0)


@pytest.mark.parametrize(("results", "held"), [("+-+-+-+-", True), ("+-+-+-", False), ("-+-+-+-", False)])
def test_the_fourth_time_within_seconds_is_too_often_and_the_first_result_counts_for_none(results, held):
    one = judge(rise=1, fall=1)
    play(one, results)
    assert (one.held_until_ns > 0) is (one.verdict.held_until_wall_ns > 0) is held


def test_how_long_it_is_held():
    """Each time costs 1000, which halve in a minute; until 1000 are left."""
    one = judge(rise=1, fall=1)
    play(one, "+-+-+-+-")
    penalty = sum(1000 * 0.5 ** (age_s / 60) for age_s in (0, 2, 4, 6))
    assert one.verdict.penalty == pytest.approx(penalty)
    assert one.held_until_ns / NS_PER_S == pytest.approx(7 + 60 * math.log2(penalty / 1000))
    assert one.verdict.held_until_wall_ns - WALL == one.held_until_ns
    assert one.verdict.penalty_wall_ns == one.verdict.since_wall_ns == WALL + 7 * NS_PER_S
    after_ns = one.held_until_ns
    back = one.take(ok=True, reason="", now_ns=after_ns, wall_ns=WALL + after_ns)
    assert back is not None
    assert (back.since_wall_ns, back.penalty_wall_ns) == (WALL + after_ns, WALL + 7 * NS_PER_S)


@pytest.mark.parametrize(
    ("penalty", "age_s", "held_s"),
    [(4000, 0, 60 * math.log2(5)), (4000, -3600, 60 * math.log2(5)), (4000, 60, 0), (10**9, 0, 600)],
)
def test_the_next_process_goes_on_from_what_it_went_down_before(penalty, age_s, held_s):
    known = Verdict("c", UP, penalty=penalty, penalty_wall_ns=WALL - age_s * NS_PER_S)
    one = judge(fall=1, known=known)
    one.take(ok=False, reason="refused", now_ns=0, wall_ns=WALL)
    assert one.held_until_ns / NS_PER_S == pytest.approx(held_s)


@pytest.mark.parametrize(("left_s", "held_s"), [(100, 100), (599, 599), (9999, 600)])
def test_the_next_process_holds_it_as_long_as_is_left_and_never_over_ten_minutes(left_s, held_s):
    known = Verdict("c", DOWN, held_until_wall_ns=WALL + left_s * NS_PER_S)
    check = Check("c", "tcp", {}, "192.0.2.1", 80, NS_PER_S, NS_PER_S, 1, 1)
    assert CheckJudge(check, known, 50 * NS_PER_S, WALL).held_until_ns == (50 + held_s) * NS_PER_S
    assert CheckJudge(check, Verdict("c", DOWN), 50 * NS_PER_S, WALL).held_until_ns == 0


def test_one_that_fails_now_and_then_is_not_held():
    one = judge(rise=1, fall=1)
    play(one, "+-+-+-+-+-+-", step_s=120)
    assert one.verdict.held_until_wall_ns == 0


def test_what_was_known_lives_on():
    one = judge(rise=1, fall=1)
    play(one, "+-+-+-+-")
    heir = judge(rise=1, fall=1, known=one.verdict)
    assert heir.verdict == one.verdict
    assert heir.take(ok=True, reason="", now_ns=NS_PER_S, wall_ns=WALL + 9 * NS_PER_S).state is DOWN
    calm = judge(rise=2, fall=3, known=Verdict("c", UP, since_wall_ns=5))
    assert play(calm, "--+---") == [(5, DOWN)]


@given(st.text("+-", min_size=1, max_size=200), st.integers(1, 4), st.integers(1, 4))
def test_what_holds_always(results, rise, fall):
    """No change without as many results in a row as it takes; no hold beyond its limit."""
    one = judge(rise, fall)
    changes = play(one, results)
    for index, state in changes[1:]:
        needed = rise if state is UP else fall
        assert results[index - needed + 1 : index + 1] == ("+" if state is UP else "-") * needed
    assert one.held_until_ns <= len(results) * NS_PER_S + HOLD_NS_MAX


STEPS = st.lists(
    st.tuples(
        st.sampled_from("+-+-h"),  # good, bad, or another process takes over
        st.integers(1, 30),  # seconds since the step before
        st.integers(-7200, 7200),  # how far the wall clock is set at a takeover
    ),
    min_size=1,
    max_size=120,
)


@given(STEPS, st.integers(1, 3), st.integers(1, 3))
def test_a_hold_is_kept_to_its_end_says_so_and_ends(steps, rise, fall):
    """Whatever comes, also a new process and a wall clock that was set: no way up within a hold, and always one after."""
    one = judge(rise, fall)
    now_ns, wall_ns = 0, WALL
    for kind, step_s, jump_s in steps:
        now_ns, wall_ns = now_ns + step_s * NS_PER_S, wall_ns + step_s * NS_PER_S
        if kind == "h":
            wall_ns += jump_s * NS_PER_S
            check = Check("c", "tcp", {}, "192.0.2.1", 80, NS_PER_S, NS_PER_S, rise, fall)
            one = CheckJudge(check, one.verdict, now_ns, wall_ns)
        held_until_ns, before = one.held_until_ns, one.verdict.state
        assert held_until_ns <= now_ns + HOLD_NS_MAX
        if kind != "h":
            one.take(ok=kind == "+", reason="refused", now_ns=now_ns, wall_ns=wall_ns)
        if before is DOWN and now_ns < held_until_ns:
            assert one.verdict.state is DOWN
            assert one.verdict.held_until_wall_ns > 0, "status can say until when"
        if one.verdict.state is UP:
            assert (one.held_until_ns, one.verdict.held_until_wall_ns, one.verdict.reason) == (0, 0, "")
    for _ in range(rise):
        now_ns, wall_ns = max(now_ns + NS_PER_S, one.held_until_ns + 1), wall_ns + NS_PER_S
        one.take(ok=True, reason="", now_ns=now_ns, wall_ns=wall_ns)
    assert one.verdict.state is UP

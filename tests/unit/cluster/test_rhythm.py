"""When a node beats: by its own clock, with another director's beat, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hawatch.cluster.rhythm import FOLLOW_PART, SLACK_PART, Rhythm

R_NS = 1_000_000


def test_beats_of_its_own_are_a_heartbeat_apart_however_late_one_is() -> None:
    rhythm = Rhythm(R_NS, 0)
    assert rhythm.beat(0) == 0
    assert rhythm.beat(R_NS + R_NS // 3) == R_NS // 3
    assert rhythm.next_ns == rhythm.due_ns == 2 * R_NS
    assert rhythm.beat(9 * R_NS) == 7 * R_NS
    assert rhythm.next_ns == 9 * R_NS + R_NS // 2, "what was missed is not made up for"


def test_a_beat_that_is_due_soon_goes_with_the_other_ones_and_the_next_waits_for_it() -> None:
    rhythm = Rhythm(R_NS, 0)
    rhythm.beat(0)
    rhythm.follow(R_NS - R_NS // FOLLOW_PART)
    assert rhythm.next_ns == R_NS - R_NS // FOLLOW_PART
    rhythm.beat(rhythm.next_ns)
    assert rhythm.waits
    assert rhythm.next_ns - rhythm.due_ns == R_NS // SLACK_PART
    rhythm.keep_own_time()
    assert not rhythm.waits
    assert rhythm.next_ns == R_NS - R_NS // FOLLOW_PART + R_NS
    rhythm.beat(rhythm.next_ns)
    assert not rhythm.waits, "nothing was followed since"


def test_one_that_is_due_already_is_not_put_off() -> None:
    rhythm = Rhythm(R_NS, 0)
    rhythm.beat(0)
    rhythm.follow(R_NS + 5)
    assert rhythm.next_ns == R_NS


def test_a_beat_that_is_not_due_soon_comes_sooner_each_time_until_it_is() -> None:
    rhythm = Rhythm(R_NS, 0)
    rhythm.beat(0)
    at_ns = R_NS // 8
    rhythm.follow(at_ns)
    assert (rhythm.next_ns, rhythm.due_ns, rhythm.following) == (R_NS - R_NS // SLACK_PART,) * 2 + (False,)


def test_keeping_its_own_time_puts_no_beat_off() -> None:
    rhythm = Rhythm(R_NS, 0)
    rhythm.beat(0)
    rhythm.follow(R_NS // 2 + 1)
    rhythm.keep_own_time()
    assert rhythm.next_ns == R_NS // 2 + 1


@given(st.lists(st.tuples(st.integers(0, R_NS), st.booleans()), max_size=40))
def test_no_two_beats_are_further_apart_than_heartbeat_and_slack(steps: list[tuple[int, bool]]) -> None:
    """Nor is one put off by what another director does."""
    rhythm, now_ns, last_ns = Rhythm(R_NS, 0), 0, 0
    rhythm.beat(0)
    for wait_ns, is_followed in steps:
        at_ns = now_ns + wait_ns
        while rhythm.next_ns <= at_ns:
            now_ns = max(now_ns, rhythm.next_ns)
            assert 0 <= now_ns - last_ns <= R_NS + R_NS // SLACK_PART
            rhythm.beat(now_ns)
            last_ns = now_ns
        now_ns = at_ns
        if is_followed:
            before_ns = rhythm.next_ns
            rhythm.follow(now_ns)
            assert rhythm.next_ns <= before_ns

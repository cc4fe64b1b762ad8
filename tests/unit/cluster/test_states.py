"""The tables of states: closed, reachable, enforced, and drawn in the documentation as they are."""

from __future__ import annotations

import itertools

import pytest

from hawatch.cluster import detector
from hawatch.cluster.states import TRANSITIONS, TransitionError, Trigger, following
from hawatch.cluster.wire import GroupState
from tests.diagrams import PAGE, page
from tests.unit.cluster.small_site import SmallSite

PAIRS = list(itertools.product(GroupState, Trigger))
MISSING = [(state, trigger) for state, trigger in PAIRS if trigger not in TRANSITIONS[state]]


@pytest.mark.parametrize(("state", "trigger"), MISSING)
def test_a_missing_pair_raises_and_changes_nothing(state: GroupState, trigger: Trigger) -> None:
    group = SmallSite().node("a").groups["web"]
    group.state, group.reason = state, "as it was"
    with pytest.raises(TransitionError, match=f"{state.name} cannot {trigger}"):
        group.move(trigger, "another reason")
    assert (group.state, group.reason) == (state, "as it was")


def test_a_pair_of_the_table_moves() -> None:
    for state, row in TRANSITIONS.items():
        assert all(following(state, trigger) is after for trigger, after in row.items())
    assert len(MISSING) + sum(map(len, TRANSITIONS.values())) == len(PAIRS)


def test_every_state_is_reached_and_left_and_an_owner_leaves_through_closing() -> None:
    reached = {after for row in TRANSITIONS.values() for after in row.values()}
    assert reached == set(TRANSITIONS) == set(GroupState)
    assert set(TRANSITIONS[GroupState.OWNER].values()) == {GroupState.OWNER, GroupState.CLOSING}
    assert {trigger for row in TRANSITIONS.values() for trigger in row} == set(Trigger)


def test_the_detector_knows_every_pair() -> None:
    assert set(detector.TRANSITIONS) == set(detector.PeerState)
    assert all(set(row) == set(detector.Sign) for row in detector.TRANSITIONS.values())


def test_the_documentation_draws_the_tables_as_they_are() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python -m tests.diagrams"

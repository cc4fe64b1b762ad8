"""The checks of one server are summed up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hawatch.health.seen import look
from hawatch.model import (
    Admin,
    CheckState,
    Destination,
    DestinationKey,
    ServerPlan,
    ServerState,
    Verdict,
)

SERVER = ServerPlan(Destination(DestinationKey("198.51.100.1", 80), weight=10), ("a", "b"))
UP, DOWN, UNKNOWN = CheckState.UP, CheckState.DOWN, CheckState.UNKNOWN


@pytest.mark.parametrize(
    ("a", "b", "state"),
    [(UP, UP, ServerState.UP), (UP, UNKNOWN, ServerState.UNKNOWN), (UNKNOWN, DOWN, ServerState.DOWN)],
)
def test_one_that_is_down_outweighs_one_unknown(a, b, state):
    seen = look(SERVER, Admin.NONE, {"a": Verdict("a", a), "b": Verdict("b", b)}, {}, None)
    assert seen.state is state
    assert seen.serves is (state is ServerState.UP)


def test_reasons_are_joined_once_each_and_the_least_weight_counts():
    verdicts = {"a": Verdict("a", DOWN, "refused", 1), "b": Verdict("b", DOWN, "refused", 2, 9)}
    seen = look(SERVER, Admin.NONE, verdicts, {"a": 3, "b": 5}, None)
    assert (seen.reason, seen.since_wall_ns, seen.held_until_wall_ns, seen.weight) == ("refused", 2, 9, 3)
    verdicts["b"] = Verdict("b", DOWN, "no greeting in 1 s")
    assert look(SERVER, Admin.NONE, verdicts, {}, None).reason == "refused; no greeting in 1 s"


def test_it_is_as_it_is_since_the_last_check_that_made_it_so():
    down = {"a": Verdict("a", DOWN, "refused", 5, 9), "b": Verdict("b", UP, since_wall_ns=7)}
    seen = look(SERVER, Admin.NONE, down, {}, None)
    assert (seen.since_wall_ns, seen.held_until_wall_ns) == (5, 9)
    up = {"a": Verdict("a", UP, since_wall_ns=5), "b": Verdict("b", UP, since_wall_ns=7)}
    assert look(SERVER, Admin.NONE, up, {}, None).since_wall_ns == 7
    never = look(SERVER, Admin.NONE, {}, {}, None)
    assert (never.since_wall_ns, never.held_until_wall_ns) == (0, 0)


def test_what_keeps_an_unknown_one_from_being_looked_at_is_its_reason():
    why = {"b": "no such device"}
    assert look(SERVER, Admin.NONE, {"a": Verdict("a", UP)}, {}, None, why).reason == "no such device"
    down = {"a": Verdict("a", DOWN, "refused"), "b": Verdict("b", UNKNOWN)}
    assert look(SERVER, Admin.NONE, down, {}, None, why).reason == "refused"
    both = {"a": Verdict("a", UP), "b": Verdict("b", UP)}
    assert look(SERVER, Admin.NONE, both, {}, None, why).reason == ""


def test_unknown_serves_when_the_kernel_has_it_and_no_administrator_took_it_out():
    assert look(SERVER, Admin.NONE, {}, {}, SERVER.destination).serves
    assert not look(SERVER, Admin.DRAINED, {}, {}, SERVER.destination).serves


@pytest.mark.parametrize(("weight", "serves"), [(0, False), (1, True)])
def test_it_serves_with_any_weight_but_0(weight, serves):
    both = {"a": Verdict("a", UP), "b": Verdict("b", UP)}
    assert look(SERVER, Admin.NONE, both, {"a": weight}, None).serves is serves
    assert look(SERVER, Admin.NONE, {}, {}, replace(SERVER.destination, weight=weight)).serves is serves

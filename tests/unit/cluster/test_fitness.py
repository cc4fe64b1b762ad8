"""Which of two directors is fitter, from what each of them sees; and how long it has to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.cluster.fitness import (
    BACKOFF_MAX,
    FITNESS_MAX,
    GATEWAY,
    HOLD_NS_MAX,
    INTERFACES,
    IPV6,
    MEMORY_FACTOR,
    PUNCTUAL,
    SERVERS,
    TURNS,
    Better,
    Contender,
    HoldDown,
    Punctuality,
    Sight,
    better,
    score,
)

ALL = INTERFACES + IPV6 + SERVERS + GATEWAY + PUNCTUAL
T_NS = 1000
B = Better(2, "b", "b is fitter")


@pytest.mark.parametrize(
    ("sight", "sure", "blind"),
    [
        (Sight(), True, False),  # no servers at all
        (Sight(0, 0, 3), False, False),  # not looked at yet
        (Sight(0, 2, 3), False, False),
        (Sight(1, 1, 3), True, False),
        (Sight(3, 3, 3), True, False),
        (Sight(0, 3, 3), True, True),
    ],
)
def test_what_is_not_known_yet_speaks_against_nobody(sight: Sight, sure: bool, blind: bool) -> None:
    assert (sight.sure, sight.blind) == (sure, blind)


@pytest.mark.parametrize(
    ("down", "lacking", "sight", "silent", "punctual", "points", "words"),
    [
        ((), (), Sight(), (), True, ALL, ""),
        (("eth0", "eth1"), (), Sight(), (), True, ALL - INTERFACES, "interface eth0, eth1 is down"),
        ((), ("eth1",), Sight(), (), True, ALL - IPV6, "interface eth1 has no IPv6"),
        ((), (), Sight(0, 3, 3), (), True, ALL - SERVERS, "none of 3 real servers is up as seen from here"),
        ((), (), Sight(0, 1, 3), (), True, ALL, ""),
        ((), (), Sight(), ("192.0.2.1",), True, ALL - GATEWAY, "no gateway of 192.0.2.1 answers"),
        ((), (), Sight(), (), False, ALL - PUNCTUAL, "this process is often late: its processors are busy"),
        (("eth0",), ("eth1",), Sight(0, 1, 1), ("g",), False, 0,
         "interface eth0 is down; interface eth1 has no IPv6; none of 1 real servers is up as seen from here; no gateway of g answers;"
         " this process is often late: its processors are busy"),
    ],
)  # fmt: skip
def test_the_score_and_what_is_missing(down, lacking, sight, silent, punctual, points, words) -> None:
    assert score(down, lacking, sight, silent, punctual=punctual) == (points, words)


def test_each_thing_is_worth_more_than_all_that_follow() -> None:
    worth = [INTERFACES, IPV6, SERVERS, GATEWAY, PUNCTUAL]
    assert all(each > sum(worth[place + 1 :]) for place, each in enumerate(worth))
    assert ALL <= FITNESS_MAX


def test_half_of_the_turns_late_is_not_punctual_and_less_is() -> None:
    punctuality = Punctuality(100)
    assert all(punctuality.note(101) for _ in range(TURNS // 2 - 1))
    assert not punctuality.note(101)
    assert not punctuality.note(100)
    for _ in range(TURNS // 2):
        punctuality.note(0)
    assert punctuality.note(0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=4),
    st.booleans(),
)
def test_the_order_has_no_cycles(fitness: list[tuple[int, bool]], failback: bool) -> None:
    """Wherever the group is, handing it on again and again comes to an end, and at a director that is as fit as any."""
    nodes = [Contender(place + 1, f"n{place}", each) for place, (each, _) in enumerate(fitness)]
    prefer = next((node.name for node, (_, preferred) in zip(nodes, fitness, strict=True) if preferred), "")
    owner = nodes[0]
    for _ in range(len(nodes)):
        others = [node for node in nodes if node is not owner]
        found = better(owner.fitness, others, prefer, own_preferred=owner.name == prefer, failback=failback)
        if found is None:
            break
        after = nodes[found.node - 1]
        assert (after.fitness, failback and after.name == prefer) > (owner.fitness, False)
        owner = after
    others = [node for node in nodes if node is not owner]
    assert better(owner.fitness, others, prefer, own_preferred=owner.name == prefer, failback=failback) is None
    assert owner.fitness == max(node.fitness for node in nodes)


def test_a_better_one_must_stay_better_for_the_whole_of_the_hold_down() -> None:
    hold_down = HoldDown(T_NS)
    assert not hold_down.consider(B, 0)
    assert not hold_down.consider(B, T_NS - 1)
    assert not hold_down.consider(None, T_NS)  # a break
    assert not hold_down.consider(B, T_NS + 1)
    assert not hold_down.consider(Better(3, "c", "c is fitter"), 2 * T_NS)  # another one
    assert not hold_down.consider(B, 2 * T_NS + 1)
    assert hold_down.consider(B, 3 * T_NS + 1)


@pytest.mark.parametrize(
    ("own", "other", "sees"),
    [
        (ALL - SERVERS, ALL, True),
        (ALL - SERVERS, ALL - GATEWAY, True),
        (ALL - SERVERS - INTERFACES, ALL, False),
        (ALL - GATEWAY, ALL, False),
        (ALL - PUNCTUAL, ALL, False),
    ],
)
def test_one_that_is_better_only_because_it_sees_a_server_must_stay_so_until_the_other_has_noticed_too(
    own: int, other: int, sees: bool
) -> None:
    found = better(own, [Contender(2, "b", other)], "", own_preferred=False, failback=True)
    assert found is not None
    assert found.sees is sees
    hold_down, needed_ns = HoldDown(T_NS), 5 * T_NS if sees else T_NS
    assert not hold_down.consider(found, 0, 5 * T_NS)
    assert not hold_down.consider(found, needed_ns - 1, 5 * T_NS)
    assert hold_down.consider(found, needed_ns, 5 * T_NS)
    assert hold_down.due_ns() == needed_ns


def test_a_hold_down_that_was_doubled_is_not_made_shorter() -> None:
    hold_down = HoldDown(T_NS, doublings=3)
    sees = Better(2, "b", "b is fitter", sees=True)
    assert not hold_down.consider(sees, 0, 5 * T_NS)
    assert hold_down.due_ns() == 40 * T_NS


def test_who_goes_to_and_fro_waits_longer_and_longer_where_directors_notice_far_apart_too() -> None:
    hold_down, now_ns, waits = HoldDown(T_NS), 0, []
    sees = Better(2, "b", "b is fitter", sees=True)
    for _ in range(4):
        began_ns = now_ns
        while not hold_down.consider(sees, now_ns, 60 * T_NS):
            now_ns = hold_down.due_ns()
        hold_down.handed_over(now_ns)
        waits.append((now_ns - began_ns) // T_NS)
    assert waits == [60, 60, 120, 240]
    long = HoldDown(HOLD_NS_MAX // 3, doublings=5)
    assert not long.consider(B, 0)
    assert long.due_ns() == HOLD_NS_MAX


def test_each_move_soon_after_the_last_doubles_the_hold_down_and_rest_forgives() -> None:
    hold_down, now_ns, waits = HoldDown(T_NS), 0, []
    for _ in range(BACKOFF_MAX + 3):
        began_ns = now_ns
        while not hold_down.consider(B, now_ns):
            now_ns = hold_down.due_ns()
        hold_down.handed_over(now_ns)
        waits.append((now_ns - began_ns) // T_NS)
    assert waits == [1, 1, 2, 4, 8, 16, 32, 32]
    now_ns += MEMORY_FACTOR * T_NS
    hold_down.handed_over(now_ns)
    assert hold_down.doublings == 0


@pytest.mark.parametrize(
    ("own", "own_preferred", "failback", "fitness", "wanted"),
    [
        (5, False, True, {"b": 5, "c": 5}, ""),
        (5, False, True, {"b": 6, "c": 6}, "b"),  # the first of two alike
        (5, False, True, {"b": 6, "c": 7}, "c"),
        (5, False, True, {"b": 7, "c": 6}, "b"),
        (5, False, True, {"p": 5}, "p"),
        (5, False, True, {"b": 6, "p": 6}, "p"),
        (5, False, True, {"b": 6, "p": 5}, "b"),  # fitness goes before the preference
        (5, False, True, {"p": 4}, ""),
        (5, True, True, {"b": 5}, ""),
        (5, True, True, {"b": 6}, "b"),
        # Where nothing falls back, the preference counts for nobody.
        (5, False, False, {"p": 5}, ""),
        (5, False, False, {"p": 6}, "p"),
        (5, False, False, {"b": 6, "p": 6}, "b"),
        (5, True, False, {"b": 5}, ""),
    ],
)
def test_who_is_better(own: int, own_preferred: bool, failback: bool, fitness: dict[str, int], wanted: str) -> None:
    nodes = [Contender(place, name, each) for place, (name, each) in enumerate(fitness.items(), 1)]
    found = better(own, nodes, "p", own_preferred=own_preferred, failback=failback)
    assert (found.name if found else "") == wanted
    if found is not None:
        fitter = fitness[wanted] > own
        words = f"{wanted} is fitter ({fitness[wanted]}) than this director (5)"
        assert found.reason == (words if fitter else "p is preferred and as fit as this director")

"""When the answers of a round make an owner, unmake one, or are no use waiting for: tables."""

from __future__ import annotations

import pytest

from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.quorum import Round, lost, unwinnable, won
from hawatch.cluster.wire import Deny, DenyReason

ME, B, W, X, Y = 1, 2, 3, 4, 5
WITNESS, GATEWAY, NONE = QuorumMode.WITNESS, QuorumMode.GATEWAY, QuorumMode.NONE
HELD, SILENT, TOO_LONG, MEMBERS, UNKNOWN = DenyReason


def a_round(*grants: int, evidence: bool = False, forced: bool = False, **denials: Deny) -> Round:
    names = {"me": ME, "b": B, "w": W, "x": X, "y": Y}
    return Round(
        1, 0, 1, 0, grants=set(grants), denials={names[name]: each for name, each in denials.items()},
        evidence=evidence, forced=forced,
    )  # fmt: skip


def no(reason: DenyReason, holder: int = 0, remaining_ns: int = 0) -> Deny:
    return Deny(9, 1, reason, holder, remaining_ns, 1)


@pytest.mark.parametrize(
    ("round_", "mode", "holding", "wanted"),
    [
        (a_round(ME), WITNESS, False, False),
        (a_round(ME), WITNESS, True, False),
        (a_round(ME, W), WITNESS, False, True),
        (a_round(B, W), WITNESS, False, True),  # the own acceptor is one of three
        (a_round(ME, evidence=True), WITNESS, True, False),
        # Without a witness: the other one's yes, an owner's gateway, or what was found out before.
        (a_round(ME), GATEWAY, False, False),
        (a_round(ME), GATEWAY, True, False),
        (a_round(ME), NONE, False, False),
        (a_round(ME), NONE, True, True),
        (a_round(), NONE, True, True),
        (a_round(B), GATEWAY, False, False),  # the own acceptor is silent
        (a_round(B), GATEWAY, True, True),
        (a_round(ME, B), GATEWAY, False, True),
        (a_round(ME, B), NONE, False, True),
        (a_round(ME, evidence=True), GATEWAY, False, True),
        (a_round(evidence=True), GATEWAY, False, False),
        (a_round(evidence=True), GATEWAY, True, True),
        (a_round(evidence=True), NONE, False, False),
    ],
)
def test_what_makes_and_keeps_an_owner(round_: Round, mode: QuorumMode, holding: bool, wanted: bool) -> None:
    assert won(round_, mode, 2, ME, holding=holding) is wanted


@pytest.mark.parametrize(
    ("round_", "mode", "members", "wanted"),
    [
        (a_round(b=no(HELD, B)), WITNESS, 3, False),
        (a_round(b=no(HELD, B), w=no(HELD, B)), WITNESS, 3, True),
        (a_round(b=no(HELD, B), w=no(SILENT)), WITNESS, 3, False),  # it may have promised to anybody
        (a_round(b=no(HELD, B), w=no(HELD, B)), WITNESS, 5, False),
        (a_round(b=no(HELD, B), w=no(HELD, B), x=no(HELD, B)), WITNESS, 5, True),
        (a_round(me=no(HELD, B), b=no(HELD, B)), GATEWAY, 2, False),
        (a_round(me=no(HELD, B), b=no(HELD, B)), NONE, 2, False),
    ],
)
def test_only_promises_to_another_end_an_ownership(round_: Round, mode: QuorumMode, members: int, wanted: bool) -> None:
    assert lost(round_, mode, members, members // 2 + 1) is wanted


@pytest.mark.parametrize(
    ("round_", "mode", "answering", "wanted"),
    [
        (a_round(), WITNESS, {ME, B, W}, False),
        (a_round(), WITNESS, {ME}, True),
        (a_round(ME), WITNESS, {ME, W}, False),
        (a_round(ME, b=no(HELD, B)), WITNESS, {ME, B, W}, False),
        (a_round(ME, b=no(HELD, B), w=no(SILENT)), WITNESS, {ME, B, W}, True),
        (a_round(ME, W), WITNESS, set(), False),  # a yes counts though nothing was heard since
        (a_round(), NONE, {ME}, False),
        (a_round(me=no(SILENT)), NONE, {ME, B}, True),
        (a_round(b=no(SILENT)), NONE, {ME, B}, False),
        (a_round(forced=True), WITNESS, {ME}, False),
        (a_round(forced=True, w=no(SILENT)), WITNESS, {ME, W}, False),
        (a_round(forced=True, w=no(HELD, B)), WITNESS, {ME, W}, True),
    ],
)
def test_what_cannot_be_won_is_not_waited_for(
    round_: Round, mode: QuorumMode, answering: set[int], wanted: bool
) -> None:
    assert unwinnable(round_, mode, answering, 2, ME) is wanted


@pytest.mark.parametrize(
    ("round_", "rivals", "wanted_ns", "holders"),
    [
        (a_round(), set(), 0, None),
        (a_round(b=no(HELD, B, 70)), set(), 70, {B}),
        (a_round(b=no(HELD, B, 70), w=no(HELD, B, 60)), set(), 60, {B}),
        (a_round(b=no(HELD, B, 70), w=no(HELD, X, 60)), {X}, 70, {B}),
        (a_round(w=no(HELD, X, 60)), {X}, 0, {X}),
        (a_round(w=no(SILENT, 0, 50)), set(), 0, set()),  # one may refuse without harm
        (a_round(b=no(SILENT, 0, 40), w=no(SILENT, 0, 50)), set(), 40, set()),
        (a_round(b=no(HELD, B, 70), w=no(SILENT, 0, 50)), set(), 70, {B}),
    ],
)
def test_how_long_refusals_say_to_wait_and_for_whom(
    round_: Round, rivals: set[int], wanted_ns: int, holders: set[int] | None
) -> None:
    assert round_.hint_ns(1, rivals) == wanted_ns
    assert round_.holders(rivals) == (None if holders is None else frozenset(holders))

"""Rounds: what the kernel and the acceptors say, early, late, or of another round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hawatch.cluster import rounds
from hawatch.cluster.effects import Activate, CloseGate, GateArmed, GateLost, GatewayAnswer, Send, Tick
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.quorum import Phase, Round
from hawatch.cluster.site import BROADCAST
from hawatch.cluster.wire import Codec, Datagram, Deny, DenyReason, Grant, GroupState, Request, identifier
from hawatch.model import NS_PER_MS
from tests.unit.cluster.small_site import PARAMETERS, T_NS, SmallSite

R_NS = PARAMETERS.heartbeat_ns
A, B, W = (identifier(name) for name in "abw")


def settled(quorum: QuorumMode = QuorumMode.WITNESS, prefer: str = "a") -> SmallSite:
    site = SmallSite(quorum, groups=(GroupSettings("web", prefer),))
    site.run(4 * T_NS)
    assert site.owned_by("a")
    return site


def renewing() -> tuple[SmallSite, Ownership, Round]:
    """Return a site at the moment at which its owner's kernel has been told to start a timer."""
    site = settled()
    group = site.node("a").groups["web"]
    site.run_until(lambda: group.round is not None)
    assert group.round is not None
    assert group.round.phase is Phase.ARMING
    return site, group, group.round


def candidate() -> tuple[SmallSite, Ownership, Round]:
    """Return a site at the moment at which its standby has asked the acceptors; none has answered but its own."""
    site = settled()
    site.kill("a")
    group = site.node("b").groups["web"]
    site.run_until(lambda: group.round is not None and group.round.phase is Phase.ASKING)
    assert group.round is not None
    assert group.state is GroupState.CANDIDATE
    return site, group, group.round


def sent_requests(site: SmallSite, name: str) -> list[Request]:
    """Return the requests that a node has sent to the witness by the first link."""
    node, address = site.node(name), site.members[site.places["w"].index].links[0]
    codec = Codec("test", [node.site.me], node.reception.codec.ring)
    sent = [each for each in site.places[name].commands if isinstance(each, Send) and each.address == address]
    datagrams = [codec.decode(each.data) for each in sent]
    return [
        message
        for each in datagrams
        if isinstance(each, Datagram)
        for message in each.messages
        if isinstance(message, Request)
    ]


def requests(group: Ownership) -> Iterator[Request]:
    return (each for each in group.site.outbox.get(BROADCAST, []) if isinstance(each, Request))


def test_only_the_timer_of_this_round_lets_the_request_leave() -> None:
    site, group, round_ = renewing()
    rounds.armed(group, round_.number - 1, site.now_ns)
    assert round_.phase is Phase.ARMING
    assert not list(requests(group))
    rounds.armed(group, round_.number, site.now_ns)
    assert [each.round for each in requests(group)] == [round_.number]
    rounds.armed(group, round_.number, site.now_ns)
    assert [each.round for each in requests(group)] == [round_.number]


def test_a_timer_that_is_confirmed_when_the_round_is_over_does_nothing() -> None:
    site, group, round_ = renewing()
    site.now_ns += R_NS
    site.give(site.places["a"], site.places["a"].life, Tick())
    if group.round is not None:
        assert group.round.number == round_.number + 1
    group.round = None
    site.give(site.places["a"], site.places["a"].life, GateArmed("web", round_.number))
    assert group.round is None


@pytest.mark.parametrize("nonce", [-1, 1])
def test_answers_to_another_round_count_for_nothing(nonce: int) -> None:
    site, group, round_ = candidate()
    rounds.granted(group, W, Grant(group.group, round_.nonce + nonce, 1), site.now_ns)
    rounds.denied(group, W, Deny(group.group, round_.nonce + nonce, DenyReason.HELD, A, T_NS, 1), site.now_ns)
    assert (round_.grants, round_.denials, group.state) == ({B}, {}, GroupState.CANDIDATE)
    rounds.granted(group, W, Grant(group.group, round_.nonce, 1), site.now_ns)
    assert group.state is GroupState.OWNER


@pytest.mark.parametrize("lasting", [False, True])
def test_a_request_that_is_lost_is_sent_again_after_each_third_of_the_round(lasting: bool) -> None:
    site = settled()
    site.kill("a")
    group = site.node("b").groups["web"]
    site.run_until(lambda: group.round is not None)
    site.cut.add(("b", "w"))
    site.run(NS_PER_MS)
    round_ = group.round
    assert round_ is not None
    assert round_.phase is Phase.ASKING
    if lasting:
        assert R_NS - 2 * NS_PER_MS <= site.run_until(lambda: group.round is not round_) <= R_NS
        assert sum(each.round == round_.number for each in sent_requests(site, "b")) == 3
    else:
        site.cut.clear()
        assert R_NS // 4 < site.run_until(lambda: site.owned_by("b")) < R_NS // 3 + NS_PER_MS
        assert group.number == round_.number


def test_yeses_that_come_when_the_timer_has_run_out_open_nothing() -> None:
    """The process was stopped, and takes in what had come for it before it looks at the time."""
    site, group, round_ = candidate()
    site.places["b"].commands.clear()
    late_ns = round_.started_ns + PARAMETERS.holder_ns
    rounds.granted(group, W, Grant(group.group, round_.nonce, 1), late_ns)
    assert group.state is GroupState.STANDBY
    assert "too late" in group.reason
    assert not any(isinstance(each, Activate) for each in group.site.commands)


def test_an_owner_that_a_majority_refuses_closes_at_once() -> None:
    site, group, round_ = renewing()
    rounds.armed(group, round_.number, site.now_ns)
    rounds.denied(group, B, Deny(group.group, round_.nonce, DenyReason.HELD, B, T_NS, 9), site.now_ns)
    assert group.state is GroupState.OWNER
    rounds.denied(group, W, Deny(group.group, round_.nonce, DenyReason.HELD, B, T_NS, 9), site.now_ns)
    assert group.state is GroupState.CLOSING
    assert group.reason == "2 acceptors say that b has the lease"


def test_an_owner_bears_refusals_of_acceptors_that_started_lately() -> None:
    site, group, round_ = renewing()
    rounds.armed(group, round_.number, site.now_ns)
    for node in (B, W):
        rounds.denied(group, node, Deny(group.group, round_.nonce, DenyReason.SILENT, 0, T_NS, 0), site.now_ns)
    assert group.state is GroupState.OWNER
    assert group.round is round_


def test_the_own_acceptor_s_no_counts_like_any() -> None:
    site, group, round_ = renewing()
    acceptor = group.site.acceptor
    acceptor.memory[group.group].lease = None
    assert acceptor.request(B, (1, 1), group.group, T_NS, 9, site.now_ns)
    rounds.armed(group, round_.number, site.now_ns)
    assert set(round_.denials) == {A}
    assert round_.denials[A].holder == B
    assert group.state is GroupState.OWNER
    rounds.denied(group, W, Deny(group.group, round_.nonce, DenyReason.HELD, B, T_NS, 9), site.now_ns)
    assert group.state is GroupState.CLOSING


def test_an_owner_that_heard_nobody_for_long_renews_as_soon_as_it_is_answered() -> None:
    """Its next heartbeat would be too late."""
    site = settled()
    group = site.node("a").groups["web"]
    site.run_until(lambda: group.round is not None)
    site.run_until(lambda: group.round is None)
    for other in ("b", "w"):
        site.separate("a", other)
    site.run(R_NS * 4 - R_NS // 4)
    site.cut.clear()
    for _ in range(20):
        site.run(R_NS // 8)
        assert site.open() == ["a"]
    assert group.acquisitions == 1
    assert site.two_owners == 0


def test_a_gate_that_is_lost_amid_a_round_is_asked_for_once() -> None:
    site, group, round_ = renewing()
    site.give(site.places["a"], site.places["a"].life, GateLost("web"))
    assert group.round is not None
    assert group.round.number == round_.number + 1
    assert round_.phase is Phase.DONE
    rounds.renew(group, site.now_ns)
    assert group.round.number == round_.number + 1


@pytest.mark.parametrize("quorum", list(QuorumMode))
def test_each_owner_has_a_higher_epoch_than_all_before_and_keeps_it(quorum: QuorumMode) -> None:
    site, epochs = settled(quorum, prefer=""), []
    for turn in range(4):
        owner, other = "ab"[turn % 2], "ba"[turn % 2]
        group = site.node(owner).groups["web"]
        epochs.append(group.epoch)
        site.run(3 * T_NS)
        assert site.owned_by(owner)
        assert group.epoch == epochs[-1]
        assert group.site.acceptor.memory[group.group].epoch == group.epoch, "a renewal raises nothing"
        site.kill(owner)
        site.run_until(lambda other=other: site.owned_by(other))
        site.boot(owner)
    assert epochs == sorted(set(epochs))


@pytest.mark.parametrize("reason", list(DenyReason))
def test_a_candidate_without_hope_gives_up_before_the_round_ends(reason: DenyReason) -> None:
    site, group, round_ = candidate()
    group.site.reports[A].proven_ns = -1
    rounds.denied(group, W, Deny(group.group, round_.nonce, reason, A, 50 * NS_PER_MS, 1), site.now_ns)
    assert group.state is GroupState.STANDBY
    wait_ns = group.not_before_ns - site.now_ns
    if reason is DenyReason.HELD:
        assert 50 * NS_PER_MS < wait_ns <= 70 * NS_PER_MS
    else:
        assert R_NS // 2 <= wait_ns <= 2 * R_NS


def test_a_gateway_s_answer_to_another_round_is_no_evidence_for_this_one() -> None:
    site = settled(QuorumMode.GATEWAY)
    site.kill("b")
    place, group = site.places["a"], site.node("a").groups["web"]
    site.run_until(lambda: group.round is not None)
    round_ = group.round
    assert round_ is not None
    rounds.armed(group, round_.number, site.now_ns)
    site.give(place, place.life, GatewayAnswer("web", round_.number - 1, True))
    assert (round_.evidence, group.round) == (False, round_)
    site.give(place, place.life, GatewayAnswer("web", round_.number, False))
    assert (round_.evidence, group.round) == (False, round_)
    site.give(place, place.life, GatewayAnswer("web", round_.number, True))
    assert (round_.evidence, round_.phase, group.state) == (True, Phase.DONE, GroupState.OWNER)


def test_a_candidate_that_finds_another_owner_closes_what_a_former_process_left_open() -> None:
    site, group, round_ = candidate()
    group.slot_in_use = 0
    for acceptor in (B, W):
        rounds.denied(group, acceptor, Deny(group.group, round_.nonce, DenyReason.HELD, A, T_NS, 9), site.now_ns)
    assert group.state is GroupState.CLOSING
    assert any(isinstance(each, CloseGate) for each in group.site.commands)

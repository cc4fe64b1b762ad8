"""When a director that waits asks: whose turn it is, and on what evidence where no majority decides."""

from __future__ import annotations

import pytest

from hawatch.cluster.effects import AdminAction, ArpProbeAnswer, FitnessChanged, GatewayAnswer, Tick
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.wire import GroupState
from hawatch.model import NS_PER_MS
from tests.unit.cluster.small_site import PARAMETERS, T_NS, SmallSite

R_NS = PARAMETERS.heartbeat_ns
BOUND_NS = T_NS + 60 * NS_PER_MS


def three(seed: int) -> SmallSite:
    """Return a site of three directors, the first of them the owner."""
    site = SmallSite(names="abc", groups=(GroupSettings("web"),), seed=seed)
    site.run(4 * T_NS)
    assert site.owned_by("a")
    return site


def with_the_last_fitter(seed: int) -> SmallSite:
    """Return such a site whose owner and whose last director are fitter than the other one."""
    site = three(seed)
    for name in "ac":
        site.give(site.places[name], site.places[name].life, FitnessChanged(15))
    site.run(2 * R_NS)
    return site


def acquisitions(site: SmallSite, name: str) -> int:
    return site.node(name).groups["web"].acquisitions


@pytest.mark.parametrize("seed", range(5))
def test_directors_that_are_as_fit_ask_in_the_order_of_their_names_in_the_configuration(seed: int) -> None:
    site = three(seed)
    site.kill("a")
    assert site.run_until(lambda: site.owned_by("b")) < BOUND_NS
    assert site.node("c").groups["web"].number == 0, "it has not even asked"


@pytest.mark.parametrize("seed", range(5))
def test_a_fitter_director_comes_first(seed: int) -> None:
    site = with_the_last_fitter(seed)
    site.kill("a")
    assert site.run_until(lambda: site.owned_by("c")) < BOUND_NS
    assert acquisitions(site, "b") == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_fitter_director_that_does_not_ask_is_not_waited_for_long(seed: int) -> None:
    site = with_the_last_fitter(seed)
    site.node("c").groups["web"].not_before_ns = site.now_ns + 60 * T_NS
    site.kill("a")
    assert site.run_until(lambda: site.owned_by("b")) < BOUND_NS + 3 * R_NS


@pytest.mark.parametrize("seed", range(5))
def test_the_director_that_an_administrator_named_is_left_the_group(seed: int) -> None:
    site = three(seed)
    answer = site.ask("a", AdminAction.SWITCHOVER, "web", "c")
    assert answer.done, answer
    assert answer.took_ns < 20 * NS_PER_MS
    assert site.node("b").groups["web"].number == 0, "it has not even asked"


def test_a_director_that_an_administrator_named_and_that_dies_is_waited_for_no_longer_than_a_lease() -> None:
    site = three(1)
    site.admin("a", AdminAction.SWITCHOVER, "web", "c")
    site.kill("c")
    assert site.run_until(lambda: site.owned_by("a") or site.owned_by("b")) < T_NS + R_NS
    assert site.two_owners == 0


def test_the_gate_of_a_former_process_that_nobody_renewed_is_closed_and_let_go_of() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    site.kill("a", power=False)
    for other in ("b", "w"):
        site.separate("a", other)
    site.boot("a", power=False)
    group = site.node("a").groups["web"]
    site.run(PARAMETERS.holder_ns - 10 * NS_PER_MS)
    assert not group.idle()
    site.run(R_NS + 30 * NS_PER_MS)
    assert group.idle()
    assert group.state is GroupState.STANDBY
    reasons = [event.reason for event in site.places["a"].events if event.name == "release"]
    assert reasons == ["the gate that a former process left open has run out"]


# --- without a witness ---------------------------------------------------------------------------------------


def probing(quorum: QuorumMode) -> tuple[SmallSite, Ownership]:
    """Return a site whose owner was lost a moment ago, and the other's group, which has just asked for evidence."""
    site = SmallSite(quorum)
    site.run(4 * T_NS)
    assert site.owned_by("a")
    site.kill("a")
    group = site.node("b").groups["web"]
    site.run_until(lambda: group.probing_since_ns >= 0)
    assert group.state is GroupState.STANDBY
    return site, group


def test_all_of_the_evidence_is_waited_for() -> None:
    for first, second in ((GatewayAnswer, ArpProbeAnswer), (ArpProbeAnswer, GatewayAnswer)):
        site, group = probing(QuorumMode.GATEWAY)
        place, good = site.places["b"], {GatewayAnswer: True, ArpProbeAnswer: ""}
        site.give(place, place.life, first("web", group.probing, good[first]))  # type: ignore[arg-type]
        assert group.state is GroupState.STANDBY
        site.give(place, place.life, second("web", group.probing, good[second]))  # type: ignore[arg-type]
        assert group.state is GroupState.CANDIDATE


def test_evidence_of_an_earlier_question_counts_for_nothing() -> None:
    site, group = probing(QuorumMode.NONE)
    place = site.places["b"]
    site.give(place, place.life, ArpProbeAnswer("web", group.probing - 1, ""))
    assert group.state is GroupState.STANDBY
    site.give(place, place.life, ArpProbeAnswer("web", group.probing, "02:00:00:00:00:01"))
    site.give(place, place.life, ArpProbeAnswer("web", group.probing, ""))
    assert group.state is GroupState.STANDBY, "somebody answers for the addresses"


@pytest.mark.parametrize("why", ["alive", "claim", "paused"])
def test_evidence_that_comes_when_things_have_changed_counts_for_nothing(why: str) -> None:
    site, group = probing(QuorumMode.NONE)
    place, node = site.places["b"], site.node("b")
    peer = node.site.directors[0]
    if why == "alive":
        node.site.detector.heard(peer, 0, 1 << 40, site.now_ns)
    elif why == "claim":
        claims = node.site.reports[peer].claims
        claims[group.group] = claims[group.group]._replace(heard_ns=site.now_ns, state=GroupState.OWNER)
    else:
        node.site.paused = True
    site.give(place, place.life, ArpProbeAnswer("web", group.probing, ""))
    assert group.state in (GroupState.STANDBY, GroupState.RELEASED)


def test_a_question_that_is_not_answered_is_asked_again() -> None:
    site, group = probing(QuorumMode.NONE)
    place, first = site.places["b"], group.probing
    for wanted in (first, first + 1):
        site.now_ns += R_NS
        site.give(place, place.life, Tick())
        assert group.probing == wanted


def test_a_director_whose_name_is_used_twice_owns_nothing_and_says_so() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    standby = site.node("b")
    standby.site.clash_until_ns = site.now_ns + 2 * T_NS
    site.run(T_NS)
    assert site.state("b") is GroupState.CONFLICT
    assert "another machine uses the name b" in standby.groups["web"].reason
    site.run(2 * T_NS)
    assert site.state("b") is GroupState.STANDBY


def test_a_director_waits_for_the_one_that_the_last_owner_chose_but_not_for_ever() -> None:
    site = three(1)
    site.kill("c")
    standby = site.node("b").groups["web"]
    site.kill("a")
    standby.defer_until_ns = until_ns = site.now_ns + 3 * T_NS
    site.run_until(lambda: "comes first" in standby.reason)
    assert standby.reason == "the last owner gave the group to another director, which comes first"
    site.run(until_ns - site.now_ns)
    assert standby.number == 0, "it has not even asked"

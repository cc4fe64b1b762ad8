"""The rows of the failure table, and what administrators do, with whole nodes on a perfect network."""

from __future__ import annotations

import pytest

from hawatch.cluster.effects import (
    AdminAction,
    Announce,
    Arm,
    FitnessChanged,
    GateArmed,
    GateFailed,
    GateLost,
    GateOpened,
    GroupsChanged,
    ProbeAddresses,
    RememberPins,
    Send,
    Tick,
)
from hawatch.cluster.fitness import GATEWAY, INTERFACES, IPV6, PUNCTUAL, SERVERS
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.parameters import PROFILES
from hawatch.cluster.quorum import Round
from hawatch.cluster.report import report
from hawatch.cluster.rounds import missing
from hawatch.cluster.wire import Claim, Codec, Datagram, Grant, GroupState, Heartbeat, Ping, Pong, Request, identifier
from hawatch.model import NS_PER_MS, NS_PER_S
from tests.unit.cluster.small_site import DELAY_NS, PARAMETERS, RING, T_NS, Gate, SmallSite

R_NS = PARAMETERS.heartbeat_ns
ALL = INTERFACES + IPV6 + SERVERS + GATEWAY + PUNCTUAL


def settled(quorum: QuorumMode = QuorumMode.WITNESS, **options: object) -> SmallSite:
    site = SmallSite(quorum, **options)  # type: ignore[arg-type]
    took_ns = site.run_until(lambda: site.owned_by("a"))
    assert took_ns < PARAMETERS.silence_ns + T_NS
    site.run(2 * T_NS)
    assert site.owned_by("a")
    return site


@pytest.mark.parametrize("quorum", list(QuorumMode))
@pytest.mark.parametrize("seed", range(5))
def test_at_boot_the_preferred_director_owns(quorum: QuorumMode, seed: int) -> None:
    site = SmallSite(quorum, seed=seed)
    took_ns = site.run_until(lambda: bool(site.open()))
    assert site.open() == ["a"]
    assert PARAMETERS.silence_ns < took_ns < PARAMETERS.silence_ns + T_NS
    site.run(60 * NS_PER_S)
    assert site.two_owners == 0
    group = site.node("a").groups["web"]
    assert group.acquisitions == 1
    assert group.renewals > 150


@pytest.mark.parametrize("late_ms", [300, 700, 1200])
def test_at_boot_the_preferred_director_owns_though_its_agent_starts_last(late_ms: int) -> None:
    site = SmallSite()
    site.kill("a")
    site.run(late_ms * NS_PER_MS)
    site.boot("a")
    took_ns = late_ms * NS_PER_MS + site.run_until(lambda: bool(site.open()))
    assert site.open() == ["a"]
    assert took_ns < PARAMETERS.silence_ns + T_NS
    site.run(4 * T_NS)
    assert site.node("b").groups["web"].acquisitions == 0


@pytest.mark.parametrize("quorum", list(QuorumMode))
def test_an_owner_without_power_is_followed_within_a_lease(quorum: QuorumMode) -> None:
    site = settled(quorum)
    site.kill("a")
    took_ns = site.run_until(lambda: site.owned_by("b"))
    extra_ns = 60 * NS_PER_MS if quorum is QuorumMode.WITNESS else 2 * T_NS
    assert took_ns < T_NS + extra_ns
    assert site.two_owners == 0
    assert "takeover" in site.event_names("b")
    assert "director_dead" in site.event_names("b") or site.run_until(lambda: False, T_NS)


def test_an_agent_killed_for_good_is_followed_when_its_gate_has_run_out() -> None:
    site = settled()
    site.kill("a", power=False)
    assert site.run_until(lambda: site.owned_by("b")) < T_NS + 60 * NS_PER_MS
    assert site.two_owners == 0


@pytest.mark.parametrize("after_ms", [1, 50, 200, 500])
def test_an_agent_that_is_back_at_once_goes_on_owning(after_ms: int) -> None:
    site = settled()
    before = site.node("b").groups["web"].acquisitions
    for _ in range(20):
        site.kill("a", power=False)
        site.run(after_ms * NS_PER_MS)
        site.boot("a", power=False)
        site.run_until(lambda: site.owned_by("a"), R_NS)
        for _ in range(100):
            site.run(T_NS // 50)
            assert site.open() == ["a"]
    assert site.two_owners == 0
    assert site.node("b").groups["web"].acquisitions == before


def test_a_frozen_owner_is_followed_and_joins_again() -> None:
    site = settled()
    node, site.places["a"].node = site.places["a"].node, None
    assert site.run_until(lambda: site.owned_by("b")) < T_NS + 60 * NS_PER_MS
    site.run(10 * NS_PER_S)
    site.places["a"].node = node
    from hawatch.cluster.effects import Tick  # the thaw

    site.give(site.places["a"], site.places["a"].life, Tick())
    site.run(100 * NS_PER_MS)
    assert site.state("a") is GroupState.STANDBY
    assert {"lease_lost", "lease_late"} <= set(site.event_names("a"))
    assert site.run_until(lambda: site.owned_by("a")) < 3 * T_NS  # it is preferred
    assert site.two_owners == 0


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_node_that_was_stopped_for_less_than_a_lease_names_itself(who: str) -> None:
    """Half a heartbeat late is told, with the number; nobody is called dead, and the owner stays."""
    site = settled()
    before = {name: len(site.event_names(name)) for name in ("a", "b")}
    node, site.places[who].node = site.places[who].node, None
    site.run(R_NS + R_NS // 2)
    site.places[who].node = node
    from hawatch.cluster.effects import Tick  # the thaw

    site.give(site.places[who], site.places[who].life, Tick())
    site.run(10 * R_NS)
    new = {name: site.event_names(name)[count:] for name, count in before.items()}
    assert new == {who: ["lease_late"], ({"a", "b"} - {who}).pop(): []}
    (late,) = [event for event in site.places[who].events if event.name == "lease_late"]
    assert R_NS // NS_PER_MS // 2 <= late.numbers["late_ms"] <= 3 * R_NS // NS_PER_MS // 2
    assert late.reason.startswith(f"{who} itself was ")
    assert site.open() == ["a"]
    assert site.two_owners == 0


@pytest.mark.parametrize("quorum", [QuorumMode.WITNESS, QuorumMode.NONE])
def test_a_standby_that_was_stopped_for_long_calls_nobody_dead_and_looks_for_no_evidence(quorum: QuorumMode) -> None:
    site = settled(quorum)
    place = site.places["b"]
    node, place.node = place.node, None
    site.run(10 * T_NS)
    place.node = node
    place.events.clear()
    place.commands.clear()
    site.give(place, place.life, Tick())
    site.run(4 * T_NS)
    assert site.event_names("b") == ["lease_late"]
    assert not any(isinstance(each, ProbeAddresses) for each in place.commands)
    assert site.open() == ["a"]


def test_a_majority_that_was_lost_while_a_node_was_stopped_is_told_a_lease_later() -> None:
    site = settled()
    place = site.places["b"]
    node, place.node = place.node, None
    site.run(10 * T_NS)
    place.node = node
    for other in "aw":
        site.kill(other)
    site.give(place, place.life, Tick())
    site.run(T_NS - R_NS)
    assert "quorum_lost" not in site.event_names("b")
    site.run(2 * R_NS)
    assert site.event_names("b").count("quorum_lost") == 1


@pytest.mark.parametrize("cuts", [[("a", "b")], [("a", "w")], [("b", "w")]])
def test_one_cut_path_changes_nothing(cuts: list[tuple[str, str]]) -> None:
    site = settled()
    for one, other in cuts:
        site.separate(one, other)
    for _ in range(200):
        site.run(50 * NS_PER_MS)
        assert site.open() == ["a"]
    assert site.two_owners == 0


@pytest.mark.parametrize("who", ["b", "w"])
def test_the_loss_and_return_of_another_node_changes_nothing(who: str) -> None:
    site = settled()
    site.kill(who)
    for _ in range(100):
        site.run(50 * NS_PER_MS)
        assert site.open() == ["a"]
    site.boot(who)
    for _ in range(100):
        site.run(50 * NS_PER_MS)
        assert site.open() == ["a"]


def test_an_owner_that_hears_nobody_is_followed_within_two_leases() -> None:
    site = settled()
    site.cut |= {("b", "a"), ("w", "a")}
    assert site.run_until(lambda: site.owned_by("b")) < 2 * T_NS
    assert site.two_owners == 0
    assert site.open() == ["b"]


def test_an_owner_announces_its_addresses_again_when_a_cut_has_healed() -> None:
    site = settled()
    for other in ("b", "w"):
        site.separate("a", other)
    site.run_until(lambda: site.owned_by("b"))
    site.run(10 * T_NS)
    before = len(site.places["b"].commands)
    site.cut.clear()
    site.run(2 * R_NS)
    assert any(isinstance(each, Announce) for each in site.places["b"].commands[before:])
    assert not any(isinstance(each, Announce) for each in site.places["a"].commands[-200:])


def test_a_minority_owns_nothing_and_a_majority_does_again() -> None:
    site = settled()
    site.kill("b")
    site.kill("w")
    site.run(2 * T_NS)
    assert site.open() == []
    assert "quorum_lost" in site.event_names("a")
    assert "only 1 of 3" in site.node("a").groups["web"].reason
    site.boot("w")
    assert site.run_until(lambda: site.owned_by("a")) < 3 * T_NS
    assert "quorum_regained" in site.event_names("a")


# --- administrators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("quorum", list(QuorumMode))
def test_a_switchover_takes_milliseconds(where: str, quorum: QuorumMode) -> None:
    site = settled(quorum)
    answer = site.ask(where, AdminAction.SWITCHOVER, "web", "b")
    assert answer.done, answer
    assert answer.text == "b owns web"
    assert answer.took_ns < 20 * NS_PER_MS
    site.run(30 * NS_PER_S)
    assert site.owned_by("b")  # an administrator's choice does not fall back
    answer = site.ask(where, AdminAction.SWITCHOVER, "web", "a")
    assert answer.done, answer
    assert site.owned_by("a")
    assert site.two_owners == 0


def test_switchovers_that_cannot_be_are_refused() -> None:
    site = settled()
    assert 'no group "x"; known groups: web' in site.ask("a", AdminAction.SWITCHOVER, "x").text
    assert 'no director "w"; known directors: a, b' in site.ask("a", AdminAction.SWITCHOVER, "web", "w").text
    assert site.ask("a", AdminAction.SWITCHOVER, "web", "a").text == "a owns every group already"
    site.kill("b")
    site.run(2 * T_NS)
    assert site.ask("a", AdminAction.SWITCHOVER, "web").text == "no other director could take web now: b is dead"
    assert site.owned_by("a")


def test_a_giveaway_lasts_until_resume_and_over_restarts() -> None:
    site = settled()
    assert site.ask("a", AdminAction.GIVEAWAY).done
    assert site.owned_by("b")
    site.run(R_NS)
    assert site.state("a") is GroupState.RELEASED
    site.kill("a")
    site.boot("a")
    site.run(5 * T_NS)
    assert site.owned_by("b")
    assert site.state("a") is GroupState.RELEASED
    assert "given away" in site.node("a").groups["web"].reason
    assert site.ask("a", AdminAction.RESUME).done
    assert not site.ask("a", AdminAction.RESUME).done
    site.kill("b")
    assert site.run_until(lambda: site.owned_by("a")) < 2 * T_NS


def test_a_giveaway_to_nobody_is_refused() -> None:
    site = settled()
    site.kill("b")
    site.run(2 * T_NS)
    answer = site.ask("a", AdminAction.GIVEAWAY)
    assert not answer.done
    assert "nobody could take web: b is dead" in answer.text
    assert site.owned_by("a")


def test_a_stopped_director_hands_over_at_once() -> None:
    site = settled()
    site.admin("a", AdminAction.STOP)
    assert site.run_until(lambda: site.owned_by("b")) < 20 * NS_PER_MS
    assert site.places["a"].stopped


def test_a_release_that_reaches_the_witness_after_the_successor_s_question_costs_milliseconds() -> None:
    site = settled()
    site.slow["a", "w"] = 3 * NS_PER_MS
    site.admin("a", AdminAction.STOP)
    site.run_until(lambda: site.places["a"].stopped)
    site.kill("a", power=False)
    assert site.run_until(lambda: site.owned_by("b")) < 20 * NS_PER_MS
    assert site.two_owners == 0


def test_a_release_that_the_witness_never_hears_is_asked_for_early_once_a_round() -> None:
    site = settled()
    site.cut.add(("a", "w"))
    site.admin("a", AdminAction.STOP)
    site.run_until(lambda: site.places["a"].stopped)
    site.kill("a", power=False)
    node = site.places["b"].node
    assert node is not None
    before = node.groups["web"].refusals
    site.run(R_NS)
    assert 2 <= node.groups["web"].refusals - before <= 5, "asked early once, and then every third of a round"
    assert site.run_until(lambda: site.owned_by("b")) < T_NS + 60 * NS_PER_MS
    assert site.two_owners == 0


def test_a_forced_takeover_owns_without_a_majority() -> None:
    site = settled()
    site.kill("a")
    site.kill("w")
    site.run(2 * T_NS)
    answer = site.ask("b", AdminAction.TAKEOVER, "web")
    assert answer.done, answer
    for _ in range(100):
        site.run(50 * NS_PER_MS)
        assert site.open() == ["b"]
    site.boot("w")
    site.run(10 * NS_PER_S)
    assert site.owned_by("b")
    assert not site.node("b").groups["web"].forced


def forced() -> SmallSite:
    """Return a site of which only b is left, forced to own."""
    site = settled()
    site.kill("a")
    site.kill("w")
    site.run(2 * T_NS)
    assert site.ask("b", AdminAction.TAKEOVER, "web").done
    return site


def test_a_forced_takeover_outlives_the_core() -> None:
    site = forced()
    site.kill("b", power=False)
    site.run(PARAMETERS.holder_ns // 4)
    site.boot("b", power=False)
    for _ in range(100):
        site.run(50 * NS_PER_MS)
        assert site.open() == ["b"]
    site.boot("w")
    site.run(10 * NS_PER_S)
    assert site.owned_by("b")
    assert not site.node("b").groups["web"].forced
    assert site.places["b"].pins == RememberPins(("web",), ())


def test_a_forced_takeover_ends_with_its_gate() -> None:
    site = forced()
    site.kill("b", power=False)
    site.run(2 * T_NS)
    site.boot("b", power=False)
    site.run(10 * T_NS)
    assert site.open() == []


def test_what_is_kept_on_disk_is_ordered_after_what_the_promise_rests_on() -> None:
    site = settled()
    assert site.ask("a", AdminAction.SWITCHOVER, "web", "b").done
    assert site.ask("b", AdminAction.SWITCHOVER, "web", "a").done
    for name, count in (("a", 1), ("b", 2)):
        batches = [
            batch for batch in site.places[name].batches if any(isinstance(each, RememberPins) for each in batch)
        ]
        assert len(batches) == count
        assert all(isinstance(batch[-1], RememberPins) for batch in batches)


def test_a_forced_takeover_is_refused_by_a_majority_that_promised_it_to_another() -> None:
    site = settled()
    site.cut |= {("a", "b"), ("b", "a")}
    site.run(2 * T_NS)
    answer = site.ask("b", AdminAction.TAKEOVER, "web")
    assert not answer.done
    assert site.owned_by("a")
    assert site.two_owners == 0


def share_mail(site: SmallSite, *names: str) -> None:
    """Let the configuration of these nodes name one more group."""
    site.groups = (*site.groups, GroupSettings("mail", "a"))
    for name in names:
        place = site.places[name]
        place.gates["mail"] = Gate()
        site.give(place, place.life, GroupsChanged(site.groups))


def test_a_group_that_a_witness_learns_by_a_reload_is_as_safe_as_any() -> None:
    site = settled()
    share_mail(site, "a", "b", "w")
    site.run(3 * T_NS)
    site.kill("b")
    site.run(3 * T_NS)
    assert site.owned_by("a", "mail")


def test_who_does_not_know_a_group_is_named() -> None:
    site = settled()
    share_mail(site, "a", "b")
    site.run(3 * T_NS)
    assert site.owned_by("a", "mail")

    def reason() -> str:
        return next(each["reason"] for each in report(site.node("a"), site.now_ns)["groups"] if each["name"] == "mail")  # type: ignore[attr-defined]

    assert reason().endswith("; w does not know this group: reload it there")
    site.kill("b")
    site.run(3 * T_NS)
    assert site.open("mail") == []
    assert "1 acceptors (w) do not know this group: reload their configuration" in reason()
    place = site.places["w"]
    site.give(place, place.life, GroupsChanged(site.groups))
    site.run(2 * T_NS)
    assert site.owned_by("a", "mail")
    assert "know" not in reason()


@pytest.mark.parametrize("order", ["aw", "wa", "bw", "wb", "ab", "ba"])
def test_a_group_that_gets_another_name_never_has_two_owners(order: str) -> None:
    """Its addresses are the same: who reloads owns the new name, who does not the old one."""
    site = settled()
    site.groups = (GroupSettings("www", "a"),)

    def both() -> bool:
        return bool(site.open("web")) and bool(site.open("www"))

    for name in [*order, *(name for name in "abw" if name not in order)]:
        place = site.places[name]
        place.gates["www"] = Gate()
        site.give(place, place.life, GroupsChanged(site.groups))
        site.run_until(both, 10 * T_NS)
        assert not both(), name
    assert site.owned_by("a", "www")


def test_nothing_is_given_to_a_director_that_does_not_know_the_group() -> None:
    site = settled()
    share_mail(site, "a", "b", "w")
    site.run(3 * T_NS)
    place = site.places["a"]
    site.give(place, place.life, GroupsChanged(site.groups[1:]))  # which prefers it, and it is as fit
    site.run(3 * T_NS)
    assert site.owned_by("b", "web")
    lost = site.run_until(lambda: site.open("web") != ["b"], 60 * NS_PER_S)
    assert lost >= 60 * NS_PER_S
    answer = site.ask("b", AdminAction.SWITCHOVER, "web", "a")
    assert (answer.done, answer.text) == (False, "a could not take web now: does not know this group: reload it there")
    assert "web" in site.ask("b", AdminAction.GIVEAWAY).text
    assert site.owned_by("b", "web")


def test_who_gives_no_answer_is_named() -> None:
    group = settled().node("b").groups["web"]
    round_ = Round(1, 0, 1, 0)
    assert missing(group, round_) == "no answer from a, w"
    round_.grants.add(identifier("w"))
    assert missing(group, round_) == "no answer from a"


@pytest.mark.parametrize("quorum", list(QuorumMode))
def test_a_lost_majority_is_told_where_one_is_needed(quorum: QuorumMode) -> None:
    site = settled(quorum)
    site.kill("b")
    if quorum is QuorumMode.WITNESS:
        site.kill("w")
    site.run(3 * T_NS)
    assert ("quorum_lost" in site.event_names("a")) == (quorum is QuorumMode.WITNESS)
    assert (site.open() == ["a"]) == (quorum is not QuorumMode.WITNESS)


# --- fitness, gates, weaker quorums --------------------------------------------------------------------------


def test_a_fitter_director_gets_the_group_after_the_hold_down() -> None:
    site = settled()
    place = site.places["b"]
    site.give(place, place.life, FitnessChanged(100, "all servers answer"))
    took_ns = site.run_until(lambda: site.owned_by("b"))
    assert PARAMETERS.hold_down_ns <= took_ns < PARAMETERS.hold_down_ns + 2 * R_NS
    assert "b is fitter (100) than this director (0)" in [event.reason for event in site.places["a"].events]


def test_no_failback_where_it_is_not_wanted() -> None:
    site = settled(groups=(GroupSettings("web", "a", failback=False),))
    site.kill("a")
    site.run(3 * T_NS)
    site.boot("a")
    site.run(20 * NS_PER_S)
    assert site.owned_by("b")


def test_a_gate_that_was_removed_is_open_again_within_a_round() -> None:
    site = settled()
    place = site.places["a"]
    from tests.unit.cluster.small_site import Gate

    place.gates["web"] = Gate()
    site.give(place, place.life, GateLost("web"))
    assert site.run_until(lambda: bool(site.open())) < 10 * NS_PER_MS
    site.run(T_NS)
    assert site.owned_by("a")


def test_a_gate_that_the_kernel_refuses_is_given_up() -> None:
    site = settled()
    place = site.places["a"]
    for _ in range(3):
        site.give(place, place.life, GateFailed("web", "no memory"))
    assert site.state("a") is GroupState.CLOSING
    assert site.run_until(lambda: site.owned_by("b")) < 20 * NS_PER_MS
    site.run(20 * NS_PER_S)
    assert site.owned_by("b")


def test_a_director_whose_gate_was_refused_lately_owns_what_nobody_else_can() -> None:
    site = settled()
    place = site.places["a"]
    for _ in range(3):
        site.give(place, place.life, GateFailed("web", "no memory"))
    site.run_until(lambda: site.owned_by("b"))
    site.run(T_NS)
    assert site.node("a").site.doubts_gate(site.now_ns)
    site.kill("b")
    assert site.run_until(lambda: site.owned_by("a")) < 2 * T_NS
    assert site.two_owners == 0


def test_a_refusal_is_told_once_for_each_sentence_until_the_gate_works() -> None:
    site = settled()
    place = site.places["b"]
    for event in (*[GateFailed("web", "no memory")] * 5, GateFailed("web", "busy"), GateOpened("web", 1)):
        site.give(place, place.life, event)
        site.run(11 * NS_PER_S)
    site.give(place, place.life, GateFailed("web", "busy"))
    told = [event.reason.rpartition(": ")[2] for event in place.events if event.name == "gate_failed"]
    assert told == ["no memory", "busy", "busy"]


@pytest.mark.parametrize("quorum", [QuorumMode.GATEWAY, QuorumMode.NONE])
def test_without_a_witness_an_owner_that_still_answers_on_the_clients_network_keeps_the_group(
    quorum: QuorumMode,
) -> None:
    site = settled(quorum)
    site.separate("a", "b")
    site.run(20 * NS_PER_S)
    assert site.open() == ["a"]
    assert site.two_owners == 0
    assert site.run_until(lambda: "so its owner lives" in site.node("b").groups["web"].reason) < 2 * T_NS


def test_with_a_gateway_a_director_that_is_cut_off_does_not_take_over() -> None:
    site = settled(QuorumMode.GATEWAY)
    site.kill("a")
    site.gateway = False
    site.run(20 * NS_PER_S)
    assert site.open() == []
    assert "gateway does not answer" in site.node("b").groups["web"].reason
    site.gateway = True
    assert site.run_until(lambda: site.owned_by("b")) < 2 * T_NS


@pytest.mark.parametrize("quorum", [QuorumMode.GATEWAY, QuorumMode.NONE])
def test_two_owners_that_meet_become_one(quorum: QuorumMode) -> None:
    site = settled(quorum)
    site.arp_answers = False
    site.separate("a", "b")
    site.run(5 * T_NS)
    assert site.open() == ["a", "b"]  # best effort, as it says
    site.cut.clear()
    site.run(2 * T_NS)
    assert len(site.open()) == 1


def test_directors_that_see_no_server_or_do_not_know_yet_are_handed_nothing() -> None:
    site = settled()
    a, b = site.places["a"], site.places["b"]
    site.give(b, b.life, FitnessChanged(15, sure=False))
    site.run(10 * T_NS)
    assert site.owned_by("a")
    site.give(b, b.life, FitnessChanged(11, "none of 3 real servers is up as seen from here"))
    site.give(a, a.life, FitnessChanged(11, "none of 3 real servers is up as seen from here"))
    site.run(10 * T_NS)
    assert site.owned_by("a")
    site.give(b, b.life, FitnessChanged(15))
    assert site.run_until(lambda: site.owned_by("b")) >= PARAMETERS.hold_down_ns
    reasons = [event.reason for event in a.events if event.name == "release"]
    assert reasons == ["b is fitter (15) than this director (11): none of 3 real servers is up as seen from here"]
    site.give(a, a.life, FitnessChanged(15))
    assert site.run_until(lambda: site.owned_by("a")) >= PARAMETERS.hold_down_ns  # it is preferred
    assert site.two_owners == 0


def test_a_release_wakes_only_who_waits_for_it() -> None:
    """Two candidates that a third director's lease stands in the way of would else wake each other for ever."""
    site = settled()
    group, holder = site.node("b").groups["web"], site.node("a").site.me
    waits_ns = group.not_before_ns = site.now_ns + T_NS
    group.waits_on = frozenset({holder})
    group.released(site.node("w").site.me, 0, site.now_ns, by_admin=False)
    assert group.not_before_ns == waits_ns
    group.released(holder, 0, site.now_ns, by_admin=False)
    assert group.not_before_ns < waits_ns


def test_a_beat_and_the_request_for_the_lease_are_one_datagram() -> None:
    """What is due with a renewal waits for the gate to be armed, and for nothing else."""
    site = settled()
    node = site.node("a")
    now_ns = node.rhythm.next_ns
    ordered = node.handle(Tick(), now_ns)
    (arm,) = [each for each in ordered if isinstance(each, Arm)]
    assert not [each for each in ordered if isinstance(each, Send)]
    sent = [each for each in node.handle(GateArmed("web", arm.number), now_ns) if isinstance(each, Send)]
    assert len({each.data for each in sent}) == 1
    datagram = Codec("test", [node.site.me], node.reception.codec.ring).decode(sent[0].data)
    assert isinstance(datagram, Datagram)
    assert [type(each) for each in datagram.messages] == [Ping, Heartbeat, Claim, Request]


def sent_by(site: SmallSite, name: str, to: str) -> list[Datagram]:
    """Take out what a node has sent to another one by the first link."""
    node, address = site.node(name), site.members[site.places[to].index].links[0]
    codec = Codec("test", [node.site.me], node.reception.codec.ring)
    commands, site.places[name].commands = site.places[name].commands, []
    sent = [codec.decode(each.data) for each in commands if isinstance(each, Send) and each.address == address]
    assert all(isinstance(each, Datagram) for each in sent)
    return [each for each in sent if isinstance(each, Datagram)]


@pytest.mark.parametrize("due", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_a_standbys_beat_goes_with_its_answer_to_the_owners(due: float) -> None:
    site = settled()
    site.run_until(lambda: site.node("a").rhythm.next_ns > site.now_ns + R_NS * 19 // 20)
    site.node("b").rhythm.next_ns = site.now_ns + int(due * R_NS)
    site.run(10 * R_NS)
    sent_by(site, "b", "a")
    site.run(20 * R_NS)
    sent = sent_by(site, "b", "a")
    assert len(sent) == 20
    assert {tuple(type(each) for each in one.messages) for one in sent} == {(Pong, Grant, Ping, Heartbeat, Claim)}
    beats = [message.beat for one in sent for message in one.messages if isinstance(message, Heartbeat)]
    assert beats == list(range(beats[0], beats[0] + 20))


def test_a_standby_beats_on_without_an_owner() -> None:
    site = settled()
    site.run(10 * R_NS)
    site.kill("a")
    sent_by(site, "b", "w")
    site.run(3 * R_NS)
    assert site.state("b") is GroupState.STANDBY
    beats = [one for one in sent_by(site, "b", "w") if any(isinstance(each, Heartbeat) for each in one.messages)]
    assert len(beats) in {2, 3}


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_slot_that_the_kernel_does_not_open_is_not_relied_on(refusals: int) -> None:
    """The one that is open is left alone by the next rounds, and its end is the owner's."""
    site = settled()
    gate, group = site.places["a"].gates["web"], site.node("a").groups["web"]
    site.refusing = {"a"}
    for _ in range(8 * refusals):
        site.run(R_NS // 8)
        assert site.open() == ["a"]
        ends_ns = [end for end, active in zip(gate.ends_ns, gate.active, strict=True) if active]
        assert group.end_ns <= max(ends_ns)
    assert group.gate_failures == refusals
    site.refusing = set()
    for _ in range(40):
        site.run(R_NS // 8)
        assert site.open() == ["a"]
    assert site.node("b").groups["web"].acquisitions == 0


def test_a_slot_that_the_kernel_does_not_open_is_not_relied_on_by_who_was_forced_either() -> None:
    """Its rounds end when the next one is due: that one waits for the kernel's word."""
    site = forced()
    site.run(4 * R_NS)
    group = site.node("b").groups["web"]
    site.refusing = {"b"}
    for _ in range(8):
        site.run(R_NS // 8)
        assert site.open() == ["b"]
    assert group.gate_failures == 1
    site.refusing = set()
    renewals = group.renewals
    for _ in range(80):
        site.run(R_NS // 8)
        assert site.open() == ["b"]
    assert group.renewals >= renewals + 9


def test_an_adopted_slot_is_left_alone_until_the_kernel_has_opened_another_one() -> None:
    site = settled()
    site.kill("a", power=False)
    site.run(R_NS // 2)
    site.refusing = {"a"}
    site.boot("a", power=False)
    group = site.node("a").groups["web"]
    site.run_until(lambda: group.gate_failures == 1)
    site.refusing = set()
    assert site.run_until(lambda: not site.open(), 4 * T_NS) == 4 * T_NS
    assert site.owned_by("a")
    assert site.two_owners == 0


def test_directors_without_an_owner_keep_their_own_time() -> None:
    site = SmallSite()
    for name in "ab":
        site.admin(name, AdminAction.GIVEAWAY)
    site.run(6 * T_NS)
    assert site.open() == []
    beats = {name: site.node(name).beats for name in "ab"}
    site.run(80 * R_NS)
    assert {name: site.node(name).beats - count for name, count in beats.items()} == dict.fromkeys("ab", 80)


@pytest.mark.parametrize("profile", PROFILES)
def test_an_address_outlives_every_lease(profile: str) -> None:
    """Whatever renewals are lost."""
    parameters = PROFILES[profile]
    for lost in range(4):
        site = SmallSite(parameters=parameters)
        site.run(4 * parameters.lease_ns)
        site.run(parameters.heartbeat_ns // 3)
        group, owned = site.node("a").groups["web"], 0
        for turn in range(40):
            site.cut = {("a", "b"), ("a", "w")} if turn % (lost + 1) else set()
            site.run(parameters.heartbeat_ns)
            if group.state is GroupState.OWNER:
                owned += 1
                assert group.end_ns + NS_PER_S // 4 < group.kept_ns + parameters.address_lifetime_ns
        assert owned > 20


def test_owners_keep_their_own_time() -> None:
    """Each renews every heartbeat, whenever the other one does."""
    site = SmallSite(groups=(GroupSettings("web", "a"), GroupSettings("mail", "b")))
    site.run(6 * T_NS)
    assert (site.owned_by("a", "web"), site.owned_by("b", "mail")) == (True, True)
    due_ns = {name: site.node(name).rhythm.next_ns for name in "ab"}
    renewals = {name: site.node(name).groups[group].renewals for name, group in (("a", "web"), ("b", "mail"))}
    site.run(20 * R_NS)
    assert {name: site.node(name).rhythm.next_ns - at_ns for name, at_ns in due_ns.items()} == dict.fromkeys(
        "ab", 20 * R_NS
    )
    for name, group in (("a", "web"), ("b", "mail")):
        assert site.node(name).groups[group].renewals == renewals[name] + 20


def test_who_was_a_standby_a_moment_ago_renews_in_time() -> None:
    """A heartbeat after its last beat: it does not wait for the former owner's any more."""
    site = settled()
    site.run(10 * R_NS)
    node = site.node("b")
    site.run_until(lambda: node.rhythm.due_ns >= site.now_ns + R_NS)
    beat_ns = site.now_ns
    assert node.rhythm.next_ns > beat_ns + R_NS
    assert site.ask("b", AdminAction.SWITCHOVER, "web", "b").done
    site.run_until(lambda: node.groups["web"].renewals == 1)
    assert site.now_ns - beat_ns < R_NS + 4 * DELAY_NS


def test_nobody_is_followed_for_a_group_that_is_shared_no_more() -> None:
    site = settled()
    assert site.node("b").site.leader() == identifier("a")
    share_mail(site, "a", "b", "w")
    site.groups = site.groups[1:]
    for name in "ba":
        place = site.places[name]
        site.give(place, place.life, GroupsChanged(site.groups))
    assert site.ask("a", AdminAction.GIVEAWAY).done
    site.run_until(lambda: site.owned_by("b", "mail"))
    site.run(3 * T_NS)
    assert (site.node("a").site.leader(), site.node("b").site.leader()) == (identifier("b"), 0)


def test_several_groups_move_apart() -> None:
    site = SmallSite(groups=(GroupSettings("web", "a"), GroupSettings("mail", "b")))
    site.run(4 * T_NS)
    assert site.open("web") == ["a"]
    assert site.open("mail") == ["b"]
    site.kill("a")
    site.run(2 * T_NS)
    assert site.open("web") == site.open("mail") == ["b"]


def test_the_status_says_why() -> None:
    site = settled()
    found = report(site.node("a"), site.now_ns)
    assert found["quorum"] == {
        "mode": "witness", "held": True, "acceptors": 3, "reachable": 3, "lease_ms": 1500, "reason": "3 of 3 nodes answer, 2 are needed",
    }  # fmt: skip
    groups = found["groups"]
    assert isinstance(groups, list)
    assert groups[0]["owner"] == "a"
    assert "granted the lease" in groups[0]["reason"]
    assert report(site.node("b"), site.now_ns)["groups"][0]["reason"] == "a has the lease"  # type: ignore[index]


def test_a_standby_that_has_just_started_shows_the_owners_epoch() -> None:
    site = settled()
    site.kill("b")
    site.run(T_NS)
    site.boot("b")
    site.run(T_NS)
    epochs = [report(site.node(name), site.now_ns)["groups"][0]["epoch"] for name in "ab"]  # type: ignore[index]
    assert site.open("web") == ["a"]
    assert epochs[0] == epochs[1] > 0


def test_the_status_counts_refusals_and_round_trips() -> None:
    site = settled()
    site.run(T_NS)
    found = report(site.node("a"), site.now_ns)
    (group,) = found["groups"]  # type: ignore[misc]
    refused = {(one["acceptor"], one["reason"]): one["count"] for one in group["refused"]}
    assert {reason for _, reason in refused} <= {"held", "silent", "too_long"}
    assert {acceptor for acceptor, _ in refused} <= {"a", "b", "w"}
    assert sum(refused.values()) == group["refusals"]
    assert group["owned_ms"] >= T_NS // NS_PER_MS
    directors, witnesses = found["directors"], found["witnesses"]
    assert isinstance(directors, list)
    assert isinstance(witnesses, list)
    for peer in (*directors, *witnesses):
        assert {link["round_trip_ms"] for link in peer["links"]} == {2 * DELAY_NS / NS_PER_MS}
    node = site.node("a")
    assert set(node.reception.asked_ns) == set(node.reception.nonces)


def test_a_boot_number_that_went_back_is_healed() -> None:
    site = settled()
    site.kill("b")
    site.places["b"].boot = 10
    site.boot("b")
    site.run(3 * T_NS)
    site.kill("a")
    assert site.run_until(lambda: site.owned_by("b")) < 2 * T_NS


def test_a_node_names_the_groups_that_it_owns() -> None:
    site = settled(groups=(GroupSettings("web", "a"), GroupSettings("mail", "b")))
    assert (site.node("a").owned(), site.node("b").owned()) == ({"web"}, {"mail"})


def test_a_node_goes_on_with_other_keys_at_once() -> None:
    site = settled()
    both = KeyRing({**RING.keys, 2: bytes(range(32, 64))}, 2)
    site.node("a").use_keys(both)
    site.run_until(lambda: not site.open())
    assert site.two_owners == 0
    for name in "bw":
        site.node(name).use_keys(both)
    site.run_until(lambda: bool(site.open()))
    assert site.two_owners == 0


def test_the_quorum_says_what_is_missing() -> None:
    site = SmallSite()

    def reason() -> str:
        quorum = report(site.node("a"), site.now_ns)["quorum"]
        assert isinstance(quorum, dict)
        return str(quorum["reason"])

    site.run(4 * T_NS)
    assert reason() == "3 of 3 nodes answer, 2 are needed"
    site.kill("b")
    site.kill("w")
    site.run(2 * T_NS)
    assert reason() == "only 1 of 3 nodes answer, 2 are needed: see the others and the links"


@pytest.mark.parametrize("first", ["a", "b"])
def test_servers_that_are_all_gone_and_back_move_nothing(first: str) -> None:
    """One director notices four leases before the other one."""
    site, apart_ns = settled(), 4 * T_NS
    second = "b" if first == "a" else "a"
    for name in "ab":
        site.give(site.places[name], site.places[name].life, FitnessChanged(ALL))
    epoch = site.node("a").groups["web"].epoch
    for points in (ALL - SERVERS, ALL):
        for name in (first, second):
            site.give(site.places[name], site.places[name].life, FitnessChanged(points, apart_ns=apart_ns))
            site.run(apart_ns - R_NS)
        site.run(8 * T_NS)
    assert site.owned_by("a")
    assert site.node("a").groups["web"].epoch == epoch


def test_a_director_that_alone_sees_no_server_hands_over_when_the_other_must_have_noticed() -> None:
    site, apart_ns = settled(), 4 * T_NS
    for name, points in (("a", ALL - SERVERS), ("b", ALL)):
        site.give(site.places[name], site.places[name].life, FitnessChanged(points, apart_ns=apart_ns))
    took_ns = site.run_until(lambda: site.owned_by("b"))
    assert apart_ns <= took_ns <= apart_ns + 2 * R_NS

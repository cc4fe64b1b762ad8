"""What administrators ask for: refused at once in words, or answered when it is done, or when its time is over."""

from __future__ import annotations

from hawatch.cluster.effects import AdminAction, AdminCommand, Answer, FitnessChanged, GroupsChanged
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.report import differences
from hawatch.cluster.requests import PENDING_MAX
from hawatch.cluster.telling import DIFFER_NS
from hawatch.cluster.wire import GroupState, identifier
from hawatch.model import NS_PER_MS, NS_PER_S, Severity
from tests.unit.cluster.small_site import PARAMETERS, T_NS, Gate, SmallSite

R_NS = PARAMETERS.heartbeat_ns
LIMIT_NS = 3 * T_NS + NS_PER_S


def settled(*names: str, quorum: QuorumMode = QuorumMode.WITNESS) -> SmallSite:
    site = SmallSite(quorum, groups=tuple(GroupSettings(name, "a") for name in names or ("web",)))
    site.run(4 * T_NS)
    assert all(site.owned_by("a", group.name) for group in site.groups)
    return site


def lonely() -> SmallSite:
    """Return a site of which only b is left, and owns nothing."""
    site = settled()
    site.kill("a")
    site.kill("w")
    site.run(2 * T_NS)
    return site


def test_a_takeover_from_an_owner_that_is_heard_is_refused_and_leaves_no_trace() -> None:
    site = settled()
    assert site.ask("a", AdminAction.TAKEOVER, "web").text == "a owns web already"
    assert site.ask("b", AdminAction.TAKEOVER, "web").text == "a owns web and is heard: use switchover"
    assert not site.node("b").groups["web"].forced
    site.run(4 * T_NS)
    assert site.open() == ["a"]


def test_who_was_given_away_takes_nothing_by_request_either() -> None:
    site = settled()
    assert site.ask("b", AdminAction.GIVEAWAY).text == "b owns nothing and takes nothing until resume"
    assert site.ask("b", AdminAction.TAKEOVER, "web").text.startswith("this director was given away")
    assert site.ask("b", AdminAction.SWITCHOVER, "web").text.startswith("this director was given away")
    site.run(R_NS)
    assert site.ask("a", AdminAction.SWITCHOVER, "web", "b").text == "b could not take web now: was given away"
    assert site.ask("a", AdminAction.GIVEAWAY).text == "nobody could take web: b was given away"
    assert site.owned_by("a")
    assert site.ask("b", AdminAction.RESUME).text == "b may own groups again"
    site.run(R_NS)
    assert site.ask("a", AdminAction.GIVEAWAY).text == "b owns web"


def test_a_giveaway_is_answered_when_others_own_each_group() -> None:
    site = settled("web", "mail")
    answer = site.ask("a", AdminAction.GIVEAWAY)
    assert (answer.done, answer.text) == (True, "b owns web, b owns mail")
    assert site.owned_by("b", "web")
    assert site.owned_by("b", "mail")


def test_a_group_that_nobody_owns_is_moved_only_to_where_it_is_asked_for() -> None:
    site = lonely()
    assert site.ask("b", AdminAction.SWITCHOVER, "web").text == "only 1 of 3 nodes answer this one"
    site.boot("a")
    site.run(R_NS)
    assert site.open() == []
    assert site.ask("b", AdminAction.SWITCHOVER, "web", "a").text == "nobody owns web: ask on a itself"
    answer = site.ask("b", AdminAction.SWITCHOVER, "web")
    assert (answer.done, answer.text) == (True, "b owns web")


def test_a_director_whose_kernel_refuses_the_gate_is_not_switched_to() -> None:
    site = settled()
    site.node("b").site.gate_doubtful_until_ns = site.now_ns + T_NS
    words = "the kernel refused changes of the gate lately: see nftables"
    assert site.ask("b", AdminAction.SWITCHOVER, "web").text == words
    assert site.owned_by("a")


def test_what_cannot_be_done_in_its_time_is_answered_then() -> None:
    site = settled()
    site.cut.add(("b", "a"))  # the wish does not arrive, the owner's heartbeats do
    answer = site.admin("b", AdminAction.SWITCHOVER, "web")
    took_ns = site.run_until(lambda: answer() is not None, 2 * LIMIT_NS)
    found = answer()
    assert found is not None
    assert (found.done, found.text) == (False, "not done after 5.5 s: web: a has the lease")
    assert LIMIT_NS == took_ns == found.took_ns
    assert site.owned_by("a")
    assert site.node("b").requests.pending == []


def test_a_wish_that_is_lost_is_said_again() -> None:
    site = settled()
    site.separate("a", "b")
    answer = site.admin("b", AdminAction.SWITCHOVER, "web")
    site.run(R_NS // 2)
    site.cut.clear()
    site.run_until(lambda: answer() is not None)
    found = answer()
    assert found is not None
    assert (found.done, found.text) == (True, "b owns web")
    assert found.took_ns < 2 * R_NS


def test_a_switchover_is_done_only_when_the_gate_is_open() -> None:
    site = settled()
    site.refusing = {"b"}
    answer = site.admin("a", AdminAction.SWITCHOVER, "web", "b")
    there = site.admin("b", AdminAction.SWITCHOVER, "web", "b")
    site.run(R_NS // 2)
    assert site.state("b") is GroupState.OWNER
    assert (answer(), there()) == (None, None)


def test_a_group_that_the_configuration_drops_meanwhile_is_answered_for() -> None:
    site = settled("web", "mail")
    site.separate("a", "b")
    answer = site.admin("b", AdminAction.SWITCHOVER, "mail")
    place = site.places["b"]
    site.give(place, place.life, GroupsChanged(site.groups[:1]))
    found = answer()
    assert found is not None
    assert (found.done, found.text) == (False, "the configuration does not name mail any more")
    assert site.ask("b", AdminAction.SWITCHOVER, "mail").text == 'there is no group "mail"; known groups: web'


def test_more_requests_than_hands_are_refused() -> None:
    site = settled()
    site.separate("a", "b")
    answers = [site.admin("b", AdminAction.SWITCHOVER, "web") for _ in range(PENDING_MAX + 1)]
    assert [answer() for answer in answers[:-1]] == [None] * PENDING_MAX
    last = answers[-1]()
    assert last is not None
    assert (last.done, last.text) == (False, f"{PENDING_MAX} requests are under way already")


def test_a_stop_ends_only_when_no_gate_is_open_and_no_round_is_asked() -> None:
    site = settled("web", "mail")
    site.silent_kernels = {"a"}
    site.admin("a", AdminAction.STOP)
    site.run(R_NS // 2)
    assert site.open("web") == site.open("mail") == ["a"]
    assert not site.places["a"].stopped
    site.silent_kernels = set()
    site.run_until(lambda: site.places["a"].stopped, 2 * R_NS)
    assert site.places["a"].stopped
    assert site.places["a"].gates == {"web": Gate(), "mail": Gate()}


def test_a_stopped_director_is_asked_for_nothing_more() -> None:
    site = settled()
    site.admin("b", AdminAction.STOP)
    assert site.places["b"].stopped
    assert site.ask("b", AdminAction.TAKEOVER, "web").text == "this director is being stopped"
    site.run(R_NS)
    assert site.ask("a", AdminAction.SWITCHOVER, "web", "b").text == "b could not take web now: was given away"


def test_each_request_is_answered_once() -> None:
    site = settled()
    place = site.places["a"]
    for request, action in enumerate((AdminAction.GIVEAWAY, AdminAction.GIVEAWAY, AdminAction.RESUME), 500):
        site.give(place, place.life, AdminCommand(request, action, "", ""))
    site.run(3 * LIMIT_NS)
    answers = [each.request for each in place.commands if isinstance(each, Answer)]
    assert sorted(answers) == [500, 501, 502]


def test_a_forced_takeover_that_a_witness_refuses_is_answered_at_once() -> None:
    site = settled()
    site.separate("a", "b")
    site.run(2 * T_NS)  # so that the own acceptor has nothing against it
    answer = site.ask("b", AdminAction.TAKEOVER, "web")
    assert (answer.done, answer.took_ns < 10 * NS_PER_MS) == (False, True)
    assert "1 acceptors (w) promised it to another" in answer.text
    assert not site.node("b").groups["web"].forced
    assert site.open() == ["a"]


def test_a_director_whose_name_is_used_twice_is_not_switched_to() -> None:
    site = settled()
    site.node("b").site.clash_until_ns = site.now_ns + 4 * T_NS
    site.run(2 * R_NS)
    answer = site.ask("a", AdminAction.SWITCHOVER, "web", "b")
    assert (answer.done, answer.text) == (False, "b could not take web now: has a name that another machine uses")
    assert site.owned_by("a")


def other_addresses(site: SmallSite, name: str) -> None:
    """Have a director reload a file by which the group has other addresses."""
    place = site.places[name]
    site.give(place, place.life, GroupsChanged((GroupSettings("web", "a", addresses=7),)))


def test_nothing_is_handed_for_a_preference_to_a_director_by_whose_file_the_group_has_other_addresses() -> None:
    site = settled()
    other_addresses(site, "b")
    site.run(2 * R_NS)
    words = "has other addresses in this group by its file: make the files the same, and reload both"
    assert site.ask("a", AdminAction.SWITCHOVER, "web").text == f"web: b {words}; --to b moves it"
    assert site.ask("b", AdminAction.SWITCHOVER, "web").text == f"web: a {words}; --to b moves it"
    assert differences(site.node("a")) == [f"web: b {words}"]
    assert differences(site.node("b")) == [f"web: a {words}"]
    assert differences(site.node("b"), [GroupSettings("web", addresses=0)]) == [], "that would make them the same"
    for to_come in ([GroupSettings("web", addresses=8)], [GroupSettings("mail", addresses=0)]):
        assert differences(site.node("b"), to_come) == [f"web: a {words}"]
    assert site.owned_by("a")
    other_addresses(site, "a")
    site.run(2 * R_NS)
    assert differences(site.node("a")) == []
    assert site.ask("a", AdminAction.SWITCHOVER, "web").done
    assert site.owned_by("b")


def test_a_group_goes_to_a_director_with_other_addresses_where_it_must() -> None:
    site = settled()
    other_addresses(site, "b")
    site.run(2 * R_NS)
    assert site.ask("a", AdminAction.SWITCHOVER, "web", "b").done
    assert site.owned_by("b")
    site.run(8 * T_NS)
    assert site.owned_by("b"), "the preferred director does not get it back"
    site.node("b").groups["web"].pinned = False
    site.run(8 * T_NS)
    assert site.owned_by("b"), "not even when nobody chose"
    site.give(site.places["a"], site.places["a"].life, FitnessChanged(9))
    site.run_until(lambda: site.owned_by("a"))
    assert site.owned_by("a"), "but when it is fitter"
    answer = site.ask("a", AdminAction.GIVEAWAY)
    assert (answer.done, answer.text) == (True, "b owns web")


def test_a_director_with_other_addresses_takes_over_all_the_same() -> None:
    site = settled()
    other_addresses(site, "b")
    site.run(2 * R_NS)
    site.kill("a")
    site.run_until(lambda: site.owned_by("b"))
    assert differences(site.node("b")), "the last that was heard of it"
    site.run(4 * T_NS)
    assert differences(site.node("b")) == []


def test_files_that_differ_for_long_are_told_once() -> None:
    site = settled()
    other_addresses(site, "b")
    site.run(DIFFER_NS - R_NS)
    assert "addresses_differ" not in site.event_names("a")
    site.run(DIFFER_NS)
    (event,) = [each for each in site.places["a"].events if each.name == "addresses_differ"]
    assert (event.group, event.severity) == ("web", Severity.WARNING)
    assert event.reason.startswith("b has other addresses in this group by its file")
    other_addresses(site, "a")
    site.run(2 * R_NS)
    other_addresses(site, "a")
    site.give(site.places["a"], site.places["a"].life, GroupsChanged((GroupSettings("web", "a", addresses=8),)))
    site.run(2 * DIFFER_NS)
    assert site.event_names("a").count("addresses_differ") == 2


def test_a_split_beat_whose_second_part_is_lost_makes_no_group_unknown() -> None:
    site = settled()
    group = site.node("a").groups["web"]
    report = group.site.reports[identifier("b")]
    report.claims[group.group] = report.claims[group.group]._replace(heard_ns=report.beat_ns - R_NS)
    assert group.could_be_taken_by(identifier("b"))
    report.claims[group.group] = report.claims[group.group]._replace(heard_ns=report.beat_ns - 3 * R_NS)
    assert not group.could_be_taken_by(identifier("b"))

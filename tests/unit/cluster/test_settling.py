"""A changed list of members takes effect when every member has it; a shorter lease waits for the longer one."""

from __future__ import annotations

from dataclasses import replace

from hawatch.cluster.effects import Command, RememberRun
from hawatch.cluster.membership import FormerRun, Member, QuorumMode
from hawatch.cluster.report import report
from hawatch.cluster.wire import DenyReason
from tests.unit.cluster.small_site import PARAMETERS, T_NS, SmallSite

OTHER = FormerRun(members=77, lease_ns=T_NS, settled=True)


def kept(commands: list[Command]) -> list[FormerRun]:
    return [command.run for command in commands if isinstance(command, RememberRun)]


def restarted(former: dict[str, FormerRun | None], quorum: QuorumMode = QuorumMode.WITNESS) -> SmallSite:
    """Return a site whose nodes were all started with what their former processes kept."""
    names = "" if set(former) <= set("abw") else "".join(sorted(former))
    site = SmallSite(quorum, names=names)
    site.former = former
    for name in former:
        site.kill(name)
        site.places[name].commands.clear()
    for name in former:
        site.boot(name)
    return site


def test_a_first_start_waits_for_nobody() -> None:
    site = restarted({"a": None})
    assert site.node("a").site.acceptor.settled
    members = site.membership("a").digest
    assert kept(site.places["a"].commands) == [FormerRun(members, T_NS, settled=True)]


def test_the_list_is_the_same_whatever_its_order_and_whoever_looks() -> None:
    site = SmallSite()
    digests = {site.membership(name).digest for name in site.places}
    turned = replace(site.membership("a"), members=site.members[::-1])
    assert digests == {turned.digest}
    voter = tuple(replace(each, votes_only=True) if each.name == "b" else each for each in site.members)
    assert replace(site.membership("a"), members=voter).digest not in digests
    assert replace(site.membership("a"), members=(*site.members, Member("x", ("10.0.0.9",)))).digest not in digests


def test_a_changed_list_takes_effect_when_all_have_it_and_a_silence_later() -> None:
    site = restarted(dict.fromkeys("abw", OTHER))
    site.kill("w")
    site.run(5 * T_NS)
    assert site.open() == []
    assert not site.node("a").site.acceptor.settled
    words = "the list of members was changed: it takes effect when w has been seen with it"
    assert site.node("a").groups["web"].reason == words
    assert report(site.node("a"), site.now_ns)["quorum"]["reason"] == words  # type: ignore[index]
    assert all(not run.settled for run in kept(site.places["a"].commands))
    site.boot("w")
    began_ns = site.now_ns
    site.run_until(lambda: bool(site.open()))
    assert PARAMETERS.silence_ns < site.now_ns - began_ns < PARAMETERS.silence_ns + T_NS
    assert all(site.node(name).site.acceptor.settled for name in "abw"), "the witness is told by a director"
    site.run(T_NS)
    assert kept(site.places["w"].commands)[-1] == FormerRun(site.membership("a").digest, T_NS, settled=True)


def test_a_list_that_had_not_taken_effect_is_waited_for_again() -> None:
    site = SmallSite()
    members = site.membership("a").digest
    site = restarted({"a": FormerRun(members, T_NS, settled=False)})
    assert not site.node("a").site.acceptor.settled


def test_who_has_another_list_is_not_served_and_named() -> None:
    site = SmallSite()
    site.run(4 * T_NS)
    assert site.owned_by("a")
    site.members = (*site.members, Member("x", ("10.0.0.9", "10.1.0.9"), votes_only=True))
    site.kill("w")
    site.boot("w")
    site.members = site.members[:-1]
    site.run(T_NS)
    assert site.owned_by("a"), "b still grants"
    found = report(site.node("a"), site.now_ns)
    assert found["quorum"]["reason"].startswith("w has another list of directors and witnesses")  # type: ignore[index]
    assert [each["members"] for each in found["witnesses"]] == ["other"]  # type: ignore[attr-defined]
    assert [each["members"] for each in found["directors"]] == ["same"]  # type: ignore[attr-defined]
    site.kill("b")
    site.run(2 * T_NS)
    assert site.open() == []
    assert site.node("a").groups["web"].refused[site.node("w").site.me, DenyReason.MEMBERS] > 0
    assert "1 acceptors (w) have another list of members" in site.node("a").groups["web"].reason


def test_silence_covers_the_longest_lease_that_a_former_process_could_have_promised() -> None:
    site = SmallSite()
    members = site.membership("a").digest
    site = restarted({"a": FormerRun(members, 3 * T_NS, settled=True)})
    acceptor = site.node("a").site.acceptor
    assert acceptor.silent_until_ns - site.now_ns == PARAMETERS.silence_after_ns(3 * T_NS) > 3 * T_NS
    assert kept(site.places["a"].commands) == [], "what is kept is true still"
    site.run(4 * T_NS)
    assert kept(site.places["a"].commands) == [FormerRun(members, T_NS, settled=True)]


def test_a_longer_lease_is_kept_before_it_is_promised() -> None:
    members = SmallSite().membership("a").digest
    site = restarted({"a": FormerRun(members, T_NS // 2, settled=True)})
    assert kept(site.places["a"].commands) == [FormerRun(members, T_NS, settled=True)]


def test_witnesses_that_do_not_hear_each_other_are_told_by_a_director() -> None:
    site = restarted(dict.fromkeys("abcvw", OTHER))
    site.separate("v", "w")
    took_ns = site.run_until(lambda: bool(site.open()))
    assert PARAMETERS.silence_ns < took_ns < PARAMETERS.silence_ns + T_NS
    assert all(site.node(name).site.acceptor.settled for name in "vw")


def test_a_lone_director_needs_nobody_to_tell_it_that_all_have_the_new_list() -> None:
    site = restarted(dict.fromkeys("avw", OTHER))
    site.separate("v", "w")
    assert site.run_until(lambda: site.owned_by("a")) < PARAMETERS.silence_ns + T_NS


def test_two_directors_without_a_witness_wait_for_nobody() -> None:
    site = restarted(dict.fromkeys("ab", OTHER), QuorumMode.NONE)
    site.kill("b")
    assert site.run_until(lambda: site.owned_by("a")) < 3 * T_NS

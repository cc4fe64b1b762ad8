"""Two directors see the same failures: an administrator hears of each once, whatever becomes of the owner."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings
from msgspec.structs import replace as change

from hawatch.agent.events import Record
from hawatch.console.history import Owner
from hawatch.console.rules import Policy, Rule
from hawatch.console.sharing import note_owners
from hawatch.model import NS_PER_S
from tests.unit.console.records import record
from tests.unit.console.test_policy import Play

NODES = ("lvs1", "lvs2")


class Pair:
    """Both directors' policies, fed with what they see, and with who owns the group."""

    def __init__(self, owner: str = "lvs1", first_group: str = "web", **rule: object) -> None:
        rules = (Rule("email/ops", **rule),)  # type: ignore[arg-type]
        self.play = {node: Play(Policy(rules, node=node, first_group=first_group, directors=NODES)) for node in NODES}
        self.alive = set(NODES)
        if first_group:
            self.own(0, owner)

    def own(self, at_s: float, owner: str, group: str = "web") -> None:
        for node in self.alive:
            it = self.play[node]
            it.until(at_s)
            it.history.apply(note_owners(it.policy, it.history, {group: owner}, it.now_ns))

    def both(self, at_s: float, name: str, server: str = "192.168.1.1:80", group: str = "web") -> None:
        for node in sorted(self.alive):
            self.one(node, at_s, name, server, group)

    def one(self, node: str, at_s: float, name: str, server: str = "192.168.1.1:80", group: str = "web") -> None:
        it = self.play[node]
        it.until(at_s)
        it.feed(self.seen(node, at_s, name, server, group))

    @staticmethod
    def seen(node: str, at_s: float, name: str, server: str, group: str) -> Record:
        return change(record(name, at_s, "http", server, group), node=node)

    def until(self, at_s: float) -> None:
        for node in self.alive:
            self.play[node].until(at_s)

    def dies(self, node: str, at_s: float) -> None:
        """A node is gone: the other one hears nothing of it, and owns the group."""
        self.until(at_s)
        self.alive.remove(node)
        (left,) = self.alive
        if self.play[left].policy.first_group:
            self.own(at_s, "")
        dead = record("director_dead", at_s, severity="critical", peer=node)
        self.play[left].feed(change(dead, node=left))
        if self.play[left].policy.first_group:
            self.own(at_s + 1, left)

    def told(self, node: str, *, of: str = "server ") -> list[tuple[float, str]]:
        return [
            (at_s, str(item.kind))
            for at_s, message in self.play[node].sent
            for item in message.items
            if item.subject.startswith(of)
        ]


def test_the_owner_tells():
    pair = Pair()
    pair.both(10, "server_down")
    pair.both(70, "server_up")
    assert pair.told("lvs1") == [(10, "down"), (70, "up")]
    assert pair.told("lvs2") == []


def test_each_group_is_told_of_by_its_own_owner():
    pair = Pair()
    for it in pair.play.values():
        it.history.apply(note_owners(it.policy, it.history, {"web": "lvs1", "mail": "lvs2"}, it.now_ns))
    pair.both(10, "server_down", group="mail")
    pair.both(20, "server_down", "192.168.1.2:80", group="web")
    pair.both(30, "server_down", "192.168.1.3:80", group="")
    assert pair.told("lvs1") == [(20, "down"), (30, "down")]
    assert pair.told("lvs2") == [(10, "down")]


def test_a_service_without_a_group_is_the_first_groups_owners():
    pair = Pair()
    pair.both(10, "server_down", group="")
    assert (pair.told("lvs1"), pair.told("lvs2")) == ([(10, "down")], [])
    other = Pair(owner="lvs2")
    other.both(10, "server_down", group="")
    assert (other.told("lvs1"), other.told("lvs2")) == ([], [(10, "down")])


def test_after_a_switchover_the_successor_tells_what_still_fails_and_its_end():
    pair = Pair(every_ns=600 * NS_PER_S)
    pair.both(10, "server_down")
    pair.own(60, "lvs2")
    pair.until(670)
    pair.both(700, "server_up")
    assert pair.told("lvs1") == [(10, "down"), (700, "up")]
    assert pair.told("lvs2") == [(65, "down"), (665, "again"), (700, "up")]


def test_who_told_the_beginning_tells_the_end_though_the_successor_never_saw_it():
    pair = Pair(every_ns=60 * NS_PER_S)
    pair.one("lvs1", 10, "server_down")
    pair.own(20, "lvs2")
    pair.until(400)  # whoever repeats it meanwhile
    pair.one("lvs1", 500, "server_up")
    assert pair.told("lvs1") == [(10, "down"), (500, "up")]
    assert pair.told("lvs2") == []


def test_a_failure_around_a_switchover_is_not_left_to_each_other():
    pair = Pair()
    pair.one("lvs2", 1, "server_down")
    pair.own(2, "lvs2")
    pair.one("lvs1", 3, "server_down")
    pair.until(60)
    assert (pair.told("lvs1"), pair.told("lvs2")) == ([], [(7, "down")])
    pair.both(70, "server_up")
    assert (pair.told("lvs1"), pair.told("lvs2")[1:]) == ([], [(70, "up")])


def test_what_only_the_other_director_saw_is_told_when_it_takes_over_however_old_it_is():
    pair = Pair(at_most=1, every_ns=60 * NS_PER_S)
    pair.one("lvs2", 10, "service_down", server="")
    pair.until(3600)
    assert pair.told("lvs2", of="service ") == []
    pair.dies("lvs1", 3600)
    pair.until(7200)
    assert pair.told("lvs2", of="service ") == [(3605, "down")]


def test_without_any_group_the_first_director_that_is_alive_tells():
    pair = Pair(first_group="", burst=9)
    pair.both(10, "server_down", group="")
    pair.both(70, "server_up", group="")
    assert (pair.told("lvs1"), pair.told("lvs2")) == ([(10, "down"), (70, "up")], [])
    pair.both(80, "server_down", "a:80", group="")
    pair.dies("lvs1", 90)
    pair.both(95, "server_down", "b:80", group="")
    pair.until(200)
    assert pair.told("lvs2") == [(95, "down"), (95, "down")]
    alive = change(record("director_alive", 200, peer="lvs1"), node="lvs2")
    pair.play["lvs2"].feed(alive)
    pair.both(210, "server_down", "c:80", group="")
    pair.until(300)
    assert len(pair.told("lvs2")) == 2


def test_what_a_dying_owner_may_not_have_told_is_told_again():
    pair = Pair()
    pair.both(10, "server_down")
    pair.dies("lvs1", 12)
    pair.until(100)
    assert pair.told("lvs2") == [(17, "down")]
    pair.both(200, "server_up")
    assert [kind for _, kind in pair.told("lvs2")] == ["down", "up"]


def test_nobody_known_to_own_it_everybody_tells_after_a_while():
    pair = Pair(owner="")
    pair.both(10, "server_down")
    pair.until(60)
    assert pair.told("lvs1") == pair.told("lvs2") == [(15, "down")]


def test_an_agent_that_starts_waits_for_the_news_of_who_owns():
    pair = Pair(owner="")
    pair.both(10, "server_down")
    pair.own(12, "lvs1")
    pair.until(60)
    assert (pair.told("lvs1"), pair.told("lvs2")) == ([(15, "down")], [])


def test_ones_own_matters_are_told_by_oneself():
    pair = Pair(burst=9)
    for name in ("link_down", "worker_lost", "takeover"):
        pair.play["lvs2"].feed(change(record(name, 1, group="web", severity="warning"), node="lvs2"))
    assert [kind for _, kind in pair.told("lvs2", of="")] == ["down", "down", "notice"]


def test_every_director_tells_where_the_rule_says_so():
    pair = Pair(everywhere=True)
    pair.both(10, "server_down")
    assert pair.told("lvs1") == pair.told("lvs2") == [(10, "down")]


def test_a_single_director_has_nobody_to_leave_it_to():
    it = Play(Policy((Rule("email/ops"),)))
    it.history.apply(note_owners(it.policy, it.history, {"web": "lvs9"}, it.now_ns))
    it.at(1, "server_down", group="web")
    assert it.log() == [(1, ["down"])]


def test_groups_that_are_gone_are_forgotten():
    it = Play(replace(Policy(), node="lvs1"))
    it.history.apply(note_owners(it.policy, it.history, {"web": "lvs1", "mail": "lvs2"}, 0))
    assert note_owners(it.policy, it.history, {"web": "lvs1"}, 0) == {("owner", "mail"): None}
    it.until(9999)
    it.feed(None)
    assert it.history.entries["owner", "mail"] == Owner("lvs2")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["server_down", "server_up", "lvs1", "lvs2"]),
        st.sampled_from([NODES, NODES, ("lvs1",), ("lvs2",)]),
        st.integers(0, 2),
        st.integers(1, 50),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_no_failure_and_no_end_is_left_to_each_other(steps):
    """Ownership moves at any time, and each failure and each end is seen by both or by one of them; nobody dies."""
    pair, now_s, owner = Pair(burst=1000, at_most=1), 0, "lvs1"
    began = {}  # (node, server): when what it sees as failing began
    for what, seen_by, number, wait_s in steps:
        now_s += wait_s
        if what in NODES:
            owner = what
            pair.own(now_s, owner)
            continue
        for node in seen_by:
            pair.one(node, now_s, what, f"s{number}:80")
            told = pair.told(node, of=f"server web http s{number}:80")
            if what == "server_down":
                began.setdefault((node, number), now_s)
            elif (node, number) in began:
                lasted_from_s = began.pop((node, number))
                kinds = [kind for at_s, kind in told if at_s >= lasted_from_s]
                assert kinds in (["down", "up"], ["up"], []), "each beginning that was told gets its one end"
    pair.until(now_s + 1000)
    for (node, number), began_s in began.items():
        kinds = [kind for at_s, kind in pair.told(node, of=f"server web http s{number}:80") if at_s >= began_s]
        assert kinds == ["down"] or (kinds == [] and node != owner), "what the owner sees, the owner has told"


MOVES = st.lists(st.tuples(st.sampled_from(["server_down", "server_up"]), st.integers(0, 3), st.integers(1, 50)))


@given(MOVES)
@settings(max_examples=100, deadline=None)
def test_as_long_as_one_of_them_owns_the_group_everything_is_told_once(steps):
    pair, now_s, failing, wanted = Pair(burst=1000), 0, set(), []
    for what, number, wait_s in steps:
        now_s += wait_s
        pair.both(now_s, what, f"s{number}:80")
        if (what == "server_down") == (number not in failing):
            failing ^= {number}
            wanted.append((now_s, what.removeprefix("server_")))
    pair.until(now_s + 1000)
    assert pair.told("lvs1") == wanted
    assert pair.told("lvs2") == []

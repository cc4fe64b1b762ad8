"""Two directors see the same failures: an administrator hears of each once, whatever becomes of the owner."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings
from msgspec.structs import replace as change

from hawatch.agent.events import Record
from hawatch.console.history import Owner
from hawatch.console.rules import Policy, Rule
from hawatch.console.sharing import DOUBT_NS, note_owners
from hawatch.model import NS_PER_S
from tests.unit.console.records import record
from tests.unit.console.test_policy import Play

NODES = ("lvs1", "lvs2")


class Pair:
    """Both directors' policies, fed with what both see, and with who owns the group."""

    def __init__(self, owner: str = "lvs1", **rule: object) -> None:
        rules = (Rule("email/ops", **rule),)  # type: ignore[arg-type]
        self.play = {node: Play(Policy(rules, node=node, first_group="web")) for node in NODES}
        self.alive = set(NODES)
        self.own(0, owner)

    def own(self, at_s: float, owner: str, group: str = "web") -> None:
        for node in self.alive:
            it = self.play[node]
            it.until(at_s)
            it.history.apply(note_owners(it.policy, it.history, {group: owner}, it.now_ns))

    def both(self, at_s: float, name: str, server: str = "192.168.1.1:80", group: str = "web") -> None:
        for node in self.alive:
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
        self.own(at_s, "")
        self.play[left].feed(record("director_dead", at_s, severity="critical", peer=node))
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


def test_a_service_without_a_group_is_the_first_groups_owners():
    pair = Pair()
    pair.both(10, "server_down", group="")
    assert (pair.told("lvs1"), pair.told("lvs2")) == ([(10, "down")], [])


def test_after_a_switchover_the_successor_tells_the_end():
    pair = Pair(every_ns=600 * NS_PER_S)
    pair.both(10, "server_down")
    pair.own(60, "lvs2")
    pair.until(620)
    pair.both(700, "server_up")
    assert pair.told("lvs1") == [(10, "down")]
    assert pair.told("lvs2")[-1] == (700, "up")
    assert [kind for _, kind in pair.told("lvs2")] == ["again", "up"]


def test_what_a_dying_owner_may_not_have_told_is_told_again():
    pair = Pair()
    pair.both(10, "server_down")
    pair.dies("lvs1", 12)
    pair.until(100)
    assert pair.told("lvs2") == [(17, "down")]
    pair.both(200, "server_up")
    assert [kind for _, kind in pair.told("lvs2")] == ["down", "up"]


def test_what_it_told_long_before_is_not():
    pair = Pair()
    pair.both(10, "server_down")
    pair.dies("lvs1", 11 + DOUBT_NS / NS_PER_S)
    pair.until(1000)
    assert pair.told("lvs2") == []
    pair.both(1100, "server_up")
    assert pair.told("lvs2") == [(1100, "up")]


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
    st.tuples(st.sampled_from(["server_down", "server_up", "lvs1", "lvs2"]), st.integers(0, 3), st.integers(1, 50)),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_with_both_alive_each_failure_and_each_end_is_told_once_by_one_of_them(steps):
    """Ownership moves at any time; nobody dies."""
    pair, now_s, failing, wanted = Pair(burst=1000), 0, set(), []
    for what, number, wait_s in steps:
        now_s += wait_s
        if what in NODES:
            pair.own(now_s, what)
            continue
        server = f"s{number}:80"
        pair.both(now_s, what, server)
        if what == "server_down" and server not in failing:
            failing.add(server)
            wanted.append((now_s, "down", server))
        elif what == "server_up" and server in failing:
            failing.remove(server)
            wanted.append((now_s, "up", server))
    pair.until(now_s + 1000)
    told = [
        (at_s, str(item.kind), item.record.server)
        for node in NODES
        for at_s, message in pair.play[node].sent
        for item in message.items
    ]
    assert sorted(told) == sorted(wanted)

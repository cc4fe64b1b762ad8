"""The policy: conversations with exact times, and what must hold whatever happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hawatch.console.history import Flow, History, Item, ItemKind, Told, Trouble
from hawatch.console.period import parse_period
from hawatch.console.policy import HELD_MAX, acknowledge, decide, next_due_ns
from hawatch.console.rules import Dependency, Policy, Rule
from hawatch.console.subjects import Match, subject_of
from hawatch.model import NS_PER_S, Severity
from tests.unit.console.records import START_NS, record

S = NS_PER_S


class Play:
    """Feeds events and lets time pass; notes what is sent, as (seconds, items)."""

    def __init__(self, policy):
        self.policy = policy
        self.history = History()
        self.now_ns = START_NS
        self.sent = []

    def feed(self, event):
        decision = decide(self.policy, self.history, event, self.now_ns)
        self.history.apply(decision.changes)
        for message in decision.messages:
            self.sent.append(((self.now_ns - START_NS) / S, message))
        return decision

    def until(self, at_s):
        end_ns = START_NS + round(at_s * S)
        for _ in range(10_000):
            due_ns = next_due_ns(self.policy, self.history)
            if due_ns is None or due_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            self.feed(None)
        else:
            raise AssertionError("time stands still")
        self.now_ns = end_ns

    def at(self, at_s, name, service="http", server="192.168.1.1:80", **rest):
        self.until(at_s)
        return self.feed(record(name, at_s, service, server, **rest))

    def log(self):
        return [(at_s, [str(item.kind) for item in message.items]) for at_s, message in self.sent]


def play(*dependencies, **rule):
    return Play(Policy((Rule("email/ops", **rule),), dependencies))


def test_down_and_up_at_once():
    it = play()
    it.at(1, "server_down")
    it.at(61, "server_up")
    it.until(3600)
    assert it.log() == [(1, ["down"]), (61, ["up"])]
    up = it.sent[1][1].items[0]
    assert up.since_ns == START_NS + 1 * S


def test_nothing_is_decided_twice_from_one_history():
    it = play()
    down = record("server_down", 1, "http", "a:1")
    decision = decide(it.policy, it.history, down, it.now_ns)
    assert it.history.entries == {}
    assert decision == decide(it.policy, it.history, down, it.now_ns)


def test_well_again_is_told_only_after_failing():
    it = play()
    it.at(1, "server_up")
    it.until(3600)
    assert it.log() == []


def test_a_short_failure_is_not_told():
    it = play(after_ns=60 * S)
    it.at(1, "server_down")
    it.at(60, "server_up")
    it.at(100, "server_down")
    it.until(3600)
    assert it.log() == [(160, ["down"])]


def test_after_so_many_failures():
    it = play(after_failures=3, within_ns=100 * S)
    for at_s in (0, 60, 120, 150):
        it.at(at_s, "server_down")
        it.at(at_s + 5, "server_up")
    assert it.log() == [(150, ["down"]), (155, ["up"])]


def test_one_failure_that_lasts_counts_as_many():
    it = play(after_failures=3, within_ns=100 * S)
    it.at(0, "server_down")
    it.until(3600)
    assert it.log() == [(100, ["down"])]


def test_so_many_failures_count_without_ends_between_them_too():
    it = play(after_failures=3, within_ns=100 * S)
    for at_s in (0, 10, 20):
        it.at(at_s, "server_down")
    assert it.log() == [(20, ["down"])]


def test_failures_are_remembered_as_long_as_any_rule_counts_them():
    it = Play(Policy((Rule("email/a", within_ns=100 * S), Rule("email/b", after_failures=2, within_ns=1000 * S))))
    it.at(0, "server_down")
    it.at(5, "server_up")
    it.at(200, "server_down", server="192.168.1.2:80")
    it.at(400, "server_down")
    assert (it.sent[-1][0], it.sent[-1][1].rule) == (400, "email/b")


def test_every_and_at_most():
    it = play(every_ns=600 * S, at_most=3)
    it.at(0, "server_down")
    it.until(7200)
    it.at(7300, "server_up")
    it.until(8000)
    assert it.log() == [(0, ["down"]), (600, ["again"]), (1200, ["again"]), (7300, ["up"])]


def test_a_second_failure_without_an_end_is_the_same_trouble():
    it = play(every_ns=600 * S)
    it.at(0, "server_down")
    it.at(30, "server_down", reason="another one")
    it.until(600)
    assert it.log() == [(0, ["down"]), (600, ["again"])]
    again = it.sent[1][1].items[0]
    assert (again.record.reason, again.since_ns, again.count) == ("another one", START_NS, 1)


def test_choices():
    down = record("server_down", 0, "http", "192.168.1.1:80", group="web")
    assert Rule("r").wants(down)
    assert not Rule("r", least=Severity.CRITICAL).wants(down)
    assert Rule("r", events=frozenset({"server_down"}), least=Severity.CRITICAL).wants(down)
    assert not Rule("r", events=frozenset({"takeover"})).wants(down)
    assert not Rule("r", services=frozenset({"smtp"})).wants(down)
    assert not Rule("r", groups=frozenset({"mail"})).wants(down)
    assert Rule("r", services=frozenset({"smtp", "http"}), groups=frozenset({"mail", "web"})).wants(down)
    assert Rule("r", servers=frozenset({"192.168.1.1"})).wants(down)
    assert Rule("r", servers=frozenset({"192.168.1.1", "192.168.1.9"})).wants(down)
    assert not Rule("r", servers=frozenset({"192.168.1.2"})).wants(down)
    failed = record("alert_failed", severity="warning", alert="email/ops")
    assert not Rule("email/ops").wants(failed)
    assert Rule("email/other").wants(failed)


def test_an_event_without_an_end_is_told_once():
    it = play(every_ns=60 * S)
    it.at(0, "takeover", "", "", group="web")
    it.until(3600)
    assert it.log() == [(0, ["notice"])]


def test_an_event_that_a_rule_does_not_name_is_not_told():
    it = play(events=frozenset({"takeover"}))
    it.at(0, "config_rejected", "", "", severity="critical")
    it.at(1, "takeover", "", "", group="web")
    assert it.log() == [(1, ["notice"])]


def test_ends_alone_when_only_they_are_named():
    it = play(events=frozenset({"server_up"}))
    it.at(0, "server_down")
    it.at(9, "server_up")
    it.at(20, "server_up")
    assert it.log() == [(9, ["notice"]), (20, ["notice"])]
    assert [message.items[0].since_ns for _, message in it.sent] == [START_NS, 0], "the second ends nothing"
    link = play(events=frozenset({"server_up", "link_down"}))
    link.at(9, "server_up")
    assert link.log() == [(9, ["notice"])], "what begins otherwise is no beginning of it"
    other = play(events=frozenset({"server_up"}), services=frozenset({"smtp"}))
    other.at(9, "server_up")
    assert other.log() == []


def test_ends_are_told_after_beginnings_when_both_are_named_or_all_events_are():
    for choice in ({"events": frozenset({"server_down", "server_up"})}, {"least": Severity.INFO}):
        it = play(after_ns=60 * S, **choice)
        it.at(0, "server_down")
        it.at(9, "server_up")
        it.at(20, "server_up")
        it.until(3600)
        assert it.log() == []


def test_no_ends_where_they_are_not_wanted():
    it = play(tell_up=False)
    it.at(0, "server_down")
    it.at(9, "server_up")
    it.until(3600)
    assert it.log() == [(0, ["down"])]


def test_held_until_morning():
    it = play(period=parse_period("hr {8am-5pm}", UTC), every_ns=3600 * S)
    it.at(100, "server_down")
    it.until(8 * 3600 + 10)
    assert it.log() == [(8 * 3600, ["down"])]
    it.at(20 * 3600, "server_up")
    it.until(33 * 3600)
    assert it.log()[-1] == (32 * 3600, ["up"])


def test_what_came_and_went_at_night_is_not_told():
    it = play(period=parse_period("hr {8am-5pm}", UTC))
    it.at(100, "server_down")
    it.at(200, "server_up")
    it.until(86400)
    assert it.log() == []


def test_dropped_outside_the_period():
    it = play(period=parse_period("hr {8am-5pm}", UTC), hold=False)
    it.at(100, "server_down")
    it.at(150, "takeover", "", "")
    it.until(86400)
    assert it.log() == []
    noon_s = 86400 + 12 * 3600
    it.at(noon_s, "takeover", "", "")
    it.at(noon_s, "server_down", server="192.168.1.2:80")
    assert it.log() == [(noon_s, ["notice"]), (noon_s, ["down"])]
    always = play(hold=False)
    always.at(100, "takeover", "", "")
    assert always.log() == [(100, ["notice"])]


def test_acknowledged_is_not_told_again_until_it_fails_anew():
    it = play(every_ns=600 * S)
    it.at(0, "server_down")
    changes, records = acknowledge(it.history, Match(service="http"), "on it")
    it.history.apply(changes)
    assert [each.server for each in records] == ["192.168.1.1:80"]
    assert [trouble.acknowledged for trouble in changes.values()] == ["on it"]
    assert [each.acknowledged for each in acknowledge(it.history, Match(), "")[0].values()] == ["acknowledged"]
    it.at(3600, "server_up")
    it.at(3700, "server_down")
    it.until(4000)
    assert it.log() == [(0, ["down"]), (3600, ["up"]), (3700, ["down"])]
    assert acknowledge(it.history, Match(service="smtp"), "") == ({}, [])
    it.at(4100, "server_up")
    assert acknowledge(it.history, Match(), "late") == ({}, []), "it is over"


SWITCH = Dependency(Match(service="http"), Match(service="switch"))


def test_a_switch_explains_its_servers():
    it = play(SWITCH)
    for number in range(40):
        it.at(0, "server_down", server=f"192.168.1.{number}:80")
    it.at(2, "service_down", "switch", "")
    it.until(600)
    assert it.log() == [(2, ["down"])]
    for number in range(39):
        it.at(700, "server_up", server=f"192.168.1.{number}:80")
    it.at(701, "service_up", "switch", "")
    it.until(1000)
    assert it.log() == [(2, ["down"]), (701, ["up"]), (706, ["down"])]
    assert it.sent[-1][1].items[0].record.server == "192.168.1.39:80"


def test_a_switch_that_is_well_explains_no_more():
    it = play(SWITCH)
    it.at(0, "server_down")
    it.at(2, "service_down", "switch", "")
    it.at(700, "service_up", "switch", "")
    it.until(800)
    assert it.log() == [(2, ["down"]), (700, ["up"]), (705, ["down"])]


def test_without_the_parent_the_child_is_told_after_settling():
    it = play(SWITCH)
    it.at(0, "server_down")
    it.until(600)
    assert it.log() == [(5, ["down"])]


def test_two_that_depend_on_each_other_are_told_once():
    it = play(SWITCH, Dependency(Match(service="switch"), Match(service="http")))
    it.at(0, "server_down")
    it.at(1, "service_down", "switch", "")
    it.until(600)
    assert it.log() == [(5, ["down"])]
    assert it.sent[0][1].items[0].record.service == "http"


def test_a_thousand_events_of_a_dead_switch_are_three_messages():
    it = play()
    for number in range(1000):
        it.at(number / 1000, "server_down", f"service{number // 20}", f"192.168.1.{number % 20}:80")
    it.until(86400)
    assert [len(message.items) for _, message in it.sent] == [1, 1, 998]
    for number in range(1000):
        it.at(86500 + number / 1000, "server_up", f"service{number // 20}", f"192.168.1.{number % 20}:80")
    it.until(90000)
    assert len(it.sent) == 6


def test_a_storm_lasts_until_a_window_was_calm():
    it = play(burst=2, digest_ns=60 * S)
    for number, at_s in enumerate((0, 1, 2, 3, 70, 200)):
        it.at(at_s, "server_down", server=f"192.168.1.{number}:80")
    it.until(600)
    assert it.log() == [(0, ["down"]), (1, ["down"]), (60, ["down"] * 2), (120, ["down"]), (200, ["down"])]
    assert not any(isinstance(entry, Item) for entry in it.history.entries.values()), "what was sent is forgotten"


def test_what_comes_first_after_a_window_ends_it():
    it = play(burst=1)
    for number, at_s in enumerate((0, 2, 61)):
        it.now_ns = START_NS + at_s * S
        it.feed(record("server_down", at_s, "http", f"192.168.1.{number}:80"))
    it.until(600)
    assert it.log() == [(0, ["down"]), (61, ["down"]), (121, ["down"])]


def test_a_window_is_waited_for_whatever_else_is_due():
    it = play(burst=1, after_ns=30 * S)
    for number, at_s in enumerate((0, 5, 20)):
        it.at(at_s, "server_down", server=f"192.168.1.{number}:80")
    it.until(600)
    assert it.log() == [(30, ["down"]), (90, ["down", "down"])]


def test_a_digest_has_a_limit():
    it = play()
    for number in range(HELD_MAX + 12):
        it.feed(record("server_down", 1, "s", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:80"))
    it.until(100)
    assert (len(it.sent[-1][1].items), it.sent[-1][1].more) == (HELD_MAX, 10)


def test_what_is_of_no_use_is_forgotten():
    it = play()
    it.at(0, "server_down")
    it.at(5, "server_up")
    it.until(100)
    it.now_ns += 700 * S
    it.feed(None)
    assert it.history.entries == {}
    it.at(900, "server_down")
    it.policy = Policy()
    assert next_due_ns(it.policy, it.history) is None, "the window of a rule that is no more ends by itself"
    it.feed(None)
    assert [type(entry) for entry in it.history.entries.values()] == [Trouble]


# --- whatever happens ----------------------------------------------------------------------------------------------

RULES = st.builds(
    Rule,
    name=st.just("email/ops"),
    after_ns=st.sampled_from([0, 30 * S]),
    after_failures=st.sampled_from([1, 1, 3]),
    within_ns=st.just(300 * S),
    every_ns=st.sampled_from([0, 60 * S]),
    at_most=st.sampled_from([0, 1, 3]),
    period=st.sampled_from([None, None, parse_period("min {0-9}", UTC)]),
    hold=st.booleans(),
    burst=st.integers(0, 3),
    digest_ns=st.just(60 * S),
)
SUBJECTS = [("http", "a:80"), ("http", "b:80"), ("switch", "c:1")]


class Whatever(RuleBasedStateMachine):
    """Events in any order, time in any steps, restarts between: the promises hold."""

    @initialize(one=RULES, depends=st.booleans())
    def begin(self, one, depends):
        self.rule = one
        self.it = Play(Policy((one,), (SWITCH,) if depends else ()))
        self.failing = {}
        self.read = 0
        self.told_down = {}
        self.now_s = 0.0

    def see(self):
        for _, message in self.it.sent[self.read :]:
            assert message.items
            for item in message.items:
                if item.kind is ItemKind.UP:
                    assert self.told_down.pop(item.subject), "well again without failing"
                else:
                    self.told_down[item.subject] = self.told_down.get(item.subject, 0) + 1
                    if item.kind is ItemKind.DOWN and not self.ends_are_dropped():
                        assert self.told_down[item.subject] == 1, "a new failure without an end of the old one"
                    if self.rule.at_most and not self.ends_are_dropped():
                        assert self.told_down[item.subject] <= self.rule.at_most
        self.read = len(self.it.sent)

    def ends_are_dropped(self):
        """Outside its period a rule without hold tells nothing, the end of what it told included."""
        return self.rule.period is not None and not self.rule.hold

    @rule(subject=st.sampled_from(SUBJECTS), wait_s=st.sampled_from([0, 0.001, 1, 40, 700]))
    def fails(self, subject, wait_s):
        self.now_s += wait_s
        event = record("server_down", self.now_s, *subject)
        self.it.at(self.now_s, "server_down", *subject)
        self.failing.setdefault(subject_of(event), self.now_s)
        self.see()

    @rule(subject=st.sampled_from(SUBJECTS), wait_s=st.sampled_from([0, 0.001, 1, 40]))
    def recovers(self, subject, wait_s):
        self.now_s += wait_s
        self.it.at(self.now_s, "server_up", *subject)
        self.failing.pop(subject_of(record("server_up", 0, *subject)), None)
        self.see()

    @rule(wait_s=st.sampled_from([5, 61, 3600]))
    def time_passes(self, wait_s):
        self.now_s += wait_s
        self.it.until(self.now_s)
        self.see()

    @rule()
    def acknowledged(self):
        changes, _ = acknowledge(self.it.history, Match(service="http"), "seen")
        self.it.history.apply(changes)

    @invariant()
    def rate_is_bounded(self):
        if not hasattr(self, "it"):
            return
        times = [at_s for at_s, _ in self.it.sent]
        for first in times:
            near = sum(first <= at_s < first + 60 for at_s in times)
            assert near <= 2 * self.rule.burst + 2

    @invariant()
    def what_fails_long_enough_is_told_or_has_a_reason(self):
        if not hasattr(self, "it"):
            return
        for subject, since_s in self.failing.items():
            told = self.it.history.entries.get(("told", "email/ops", subject))
            assert isinstance(told, Told)
            if self.now_s - since_s > 301 and not told.count and not told.due_ns:
                trouble = self.it.history.entries[("trouble", subject)]
                dropped = self.rule.period is not None and not self.rule.hold
                assert trouble.acknowledged or told.explained or dropped


Whatever.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestWhatever = Whatever.TestCase


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 90)), max_size=60))
@settings(max_examples=600, deadline=None)
def test_the_sum_of_what_is_told_is_true(steps):
    """Without limits, reading all messages to the end one knows exactly what fails now."""
    it, failing, now_s = play(), set(), 0
    for number, down, wait_s in steps:
        now_s += wait_s
        it.at(now_s, "server_down" if down else "server_up", "http", f"s{number}:80")
        (failing.add if down else failing.discard)(f"server http s{number}:80")
    it.until(now_s + 600)
    believed = set()
    for _, message in it.sent:
        for item in message.items:
            (believed.discard if item.kind is ItemKind.UP else believed.add)(item.subject)
    assert believed == failing
    keys = [message.key for _, message in it.sent]
    assert len(keys) == len(set(keys))


def test_flow_of_another_rule_is_its_own():
    rules = (Rule("email/a", burst=0), Rule("email/b"))
    it = Play(Policy(rules))
    it.at(0, "server_down")
    assert isinstance(it.history.entries["flow", "email/a"], Flow)
    assert [message.rule for _, message in it.sent] == ["email/b"]
    it.until(60)
    assert [message.rule for _, message in it.sent] == ["email/b", "email/a"]
    assert replace(rules[0], burst=2).name == "email/a"

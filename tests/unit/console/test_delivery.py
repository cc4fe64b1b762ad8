"""Delivery: what is sent to whom and when, and what is told of what fails."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from hawatch.actions.outgoing import SendError
from hawatch.console.delivery import Delivery
from hawatch.console.history import Item, ItemKind, Message
from hawatch.console.rules import Rule
from hawatch.console.spool import Spool
from hawatch.console.store import SCHEMA
from hawatch.console.targets import Target
from hawatch.model import NS_PER_S, Severity
from tests.unit.console.records import START_NS, record

LATER, LOST, NEVER = SendError("451 later"), SendError("no answer", perhaps_taken=True), SendError("550", for_good=True)


class Site:
    """A delivery, and a mail server that answers with what it is told to."""

    def __init__(self):
        self.database = sqlite3.connect(":memory:")
        self.database.executescript(SCHEMA)
        self.spool = Spool(self.database)
        self.told, self.taken, self.answers, self.asked = [], [], {}, 0
        self.delivery = Delivery(self, "lvs1", "epn", self.now_ns, self.told.append, self.status)
        self.delivery.targets = {"email/ops": Target(Rule("email/ops"), ("a", "b"), self.send)}

    def now_ns(self):
        return START_NS + round(trio.current_time() * NS_PER_S)

    async def work(self, job):
        return job(self.spool)

    async def status(self):
        self.asked += 1
        return b'{"node": "lvs1", "time": "now", "services": [{"name": "http", "state": "down"}]}'

    async def send(self, message, recipient):
        self.taken.append((round(trio.current_time()), recipient, message))
        if self.answers.get(recipient):
            answer = self.answers[recipient].pop(0)
            if isinstance(answer, Exception):
                raise answer
            await trio.sleep(answer)
        return ""

    def add(self, number, *recipients):
        one = record("server_down", 0, "http", f"192.168.1.{number}:80", reason=f"reason {number}")
        item = Item(ItemKind.DOWN, f"server {number}", one)
        self.spool.add(Message("email/ops", f"key{number}", (item,)), recipients, self.now_ns())
        self.delivery.wake()

    def log(self):
        return [(at_s, recipient, message.happenings[0].reason) for at_s, recipient, message in self.taken]


@pytest.fixture
async def site(nursery):
    one = Site()
    nursery.start_soon(one.delivery.run)
    yield one
    one.database.close()


async def test_each_recipient_has_its_letters_in_order_and_none_waits_for_another(site, autojump_clock):
    site.answers["a"] = [LATER]
    for number in (1, 2):
        site.add(number, "a", "b")
    await trio.sleep(60)
    assert sorted(site.log()) == [
        (0, "a", "reason 1"), (0, "b", "reason 1"), (0, "b", "reason 2"), (5, "a", "reason 1"), (5, "a", "reason 2"),
    ]  # fmt: skip
    assert (site.delivery.sent, site.delivery.failures) == ({"email/ops": 4}, {"email/ops": 1})
    assert site.delivery.problems == {}, "the last attempt succeeded"


async def test_while_a_letter_is_under_way_its_recipient_gets_no_other(site, autojump_clock):
    site.answers["a"] = [60]
    for number in (1, 2):
        site.add(number, "a")
        await trio.sleep(10)
    site.add(3, "b")
    await trio.sleep(100)
    assert site.log() == [(0, "a", "reason 1"), (20, "b", "reason 3"), (60, "a", "reason 2")]


async def test_a_letter_is_tried_again_when_it_is_due_whatever_came_meanwhile(site, autojump_clock):
    site.answers["a"] = [LATER]
    site.add(1, "a")
    await trio.sleep(3)
    site.add(2, "b")
    await trio.sleep(10)
    assert site.log() == [(0, "a", "reason 1"), (3, "b", "reason 2"), (5, "a", "reason 1")]


async def test_the_third_failure_of_a_letter_is_told_once_and_its_problem_shown(site, autojump_clock):
    site.answers["a"] = [LATER] * 5
    site.add(1, "a")
    await trio.sleep(19)
    assert site.told == []
    await trio.sleep(200)
    (event,) = site.told
    assert (event.name, event.severity) == ("alert_failed", Severity.WARNING)
    assert event.reason == "email/ops to a: a message failed 3 times and is tried again: 451 later"
    assert event.numbers == {"alert": "email/ops", "attempts": 3}
    assert site.delivery.problems == {"email/ops": "451 later"}
    assert [at_s for at_s, *_ in site.log()] == [0, 5, 20, 50, 110]


async def test_what_is_refused_for_good_is_given_up_told_and_logged_and_the_next_one_sent(site, autojump_clock, capsys):
    site.answers["a"] = [NEVER]
    for number in (1, 2):
        site.add(number, "a")
    await trio.sleep(1)
    assert site.log() == [(0, "a", "reason 1"), (0, "a", "reason 2")]
    assert [event.reason for event in site.told] == ["email/ops to a: a message is given up: 550"]
    assert capsys.readouterr().err == "hawatch console: not sent by email/ops: reason 1\n"


async def test_only_what_may_have_arrived_is_marked(site, autojump_clock):
    site.answers |= {"a": [LOST], "b": [LATER]}
    site.add(1, "a", "b")
    await trio.sleep(60)
    assert sorted((at_s, recipient, message.twice) for at_s, recipient, message in site.taken) == [
        (0, "a", False), (0, "b", False), (5, "a", True), (5, "b", False),
    ]  # fmt: skip


async def test_a_mistake_in_what_sends_costs_one_attempt(site, autojump_clock):
    site.answers["a"] = [ZeroDivisionError("oops")]
    site.add(1, "a")
    await trio.sleep(4)
    assert site.delivery.problems == {"email/ops": "the alert raised ZeroDivisionError('oops')"}
    await trio.sleep(2)
    assert [(at_s, message.twice) for at_s, _, message in site.taken] == [(0, False), (5, True)]


async def test_how_things_stand_is_asked_once_for_letters_that_go_together_and_is_in_each(site, autojump_clock):
    for number in range(4):
        site.add(number, "a", "b")
    await trio.sleep(3)
    assert len(site.taken) == 8
    assert site.asked <= 2
    assert all("\nhttp at now: down, 0 of 0 servers up\n" in message.body for _, _, message in site.taken)
    site.add(9, "a")
    await trio.sleep(1)
    assert site.asked <= 3


async def test_a_test_and_a_digest_are_sent_without_asking_how_things_stand(site, autojump_clock):
    item = Item(ItemKind.DOWN, "server", record("server_down", 0, "http", "192.168.1.1:80"))
    for each in (Message("email/ops", "k1", (), test=True), Message("email/ops", "k2", (item, item))):
        site.spool.add(each, ("a",), site.now_ns())
    site.delivery.wake()
    await trio.sleep(1)
    assert [message.subject.partition(";")[0] for _, _, message in site.taken] == [
        "[epn] test of email/ops", "[epn] 1 DOWN",
    ]  # fmt: skip
    assert site.asked == 0


async def test_an_alert_that_is_no_more_sends_nothing(site, autojump_clock):
    site.delivery.targets = {}
    site.add(1, "a")
    await trio.sleep(60)
    assert site.taken == []


async def test_a_template_that_cannot_be_used_is_told_below_the_text_that_is_built_in(site, autojump_clock):
    site.delivery.targets = {"email/ops": Target(Rule("email/ops"), ("a",), site.send, template="/none")}
    site.add(1, "a")
    await trio.sleep(1)
    ((_, _, message),) = site.taken
    assert message.subject == "[epn] http 192.168.1.1:80 DOWN: reason 1"
    assert message.body.endswith("\n\nThe template could not be used: /none: No such file or directory")

"""What messages say."""

from __future__ import annotations

import pytest

from hawatch.console.history import Item, ItemKind, Message
from hawatch.console.templates import Templates
from hawatch.console.words import LINES_MAX, duration, render
from hawatch.model import NS_PER_S
from tests.unit.console.records import START_NS, record


def item(kind="down", name="server_down", at_s=0, server="192.168.1.1:80", since_s=0, count=0, **rest):
    one = record(name, at_s, "http", server, "web", **rest)
    return Item(ItemKind(kind), f"server http {server}", one, START_NS + since_s * NS_PER_S, count)


def rendered(*items, more=0, **rest):
    return render(Message("email/ops", "k", items, more), cluster="epn", node="lvs1", created_ns=START_NS, **rest)


def test_a_failure():
    message = rendered(item(reason="HTTP 503, wanted 200", weight=1))
    assert message.subject == "[epn] http 192.168.1.1:80 DOWN: HTTP 503, wanted 200"
    for line in ("Reason:   HTTP 503, wanted 200", "Time:     2026-01-01T00:00:00.000Z", "Group:    web", "weight: 1"):
        assert line in message.body
    assert "hawatch ctl ack http" in message.body
    assert message.begins


def test_the_state_around_it():
    state = "http at noon: up, 1 of 2 servers up\n  192.168.1.1:80  down  HTTP 503\n"
    assert f"\n\n{state}\nLook:" in rendered(item(), state=state).body.replace("\nweight", "\n\nweight")


def test_its_end_and_its_repetition():
    up = rendered(item("up", "server_up", 200))
    assert up.subject == "[epn] http 192.168.1.1:80 up after 3 min 20 s"
    assert "Lasted:   3 min 20 s" in up.body
    assert up.threads == rendered(item()).threads
    assert not up.begins
    assert "(still, told 2 times)" in rendered(item("again", count=2)).subject


def test_the_end_that_the_other_director_tells_comes_below_the_beginning():
    seen_here, seen_there = rendered(item()), rendered(item("up", "server_up", 200, since_s=1))
    assert seen_here.threads != seen_there.threads
    assert seen_here.above == seen_there.above != ()
    assert rendered(item(server="192.168.1.2:80")).above != seen_here.above
    own = Item(ItemKind.DOWN, "worker prober lvs1", record("worker_lost", worker="prober"))
    assert rendered(own).above == ()


def test_an_event_without_servers():
    one = Item(ItemKind.NOTICE, "takeover web", record("takeover", group="web", reason="lvs2 is dead"))
    message = rendered(one)
    assert message.subject == "[epn] web TAKEOVER: lvs2 is dead"
    assert "ctl ack" not in message.body


def test_a_digest():
    items = [item(server=f"192.168.1.{n}:80") for n in range(60)]
    message = rendered(*items, item("up", "server_up", 9, server="192.168.1.3:80"), more=5)
    assert message.subject.startswith("[epn] 59 DOWN, 1 up again, 5 more; http 192.168.1.0:80 DOWN")
    assert "66 things happened" in message.body
    assert f"... and {61 - LINES_MAX + 5} more" in message.body
    assert (len(message.happenings), message.more) == (61, 5)


def test_a_test():
    message = render(Message("email/ops", "k", (), test=True), cluster="epn", node="lvs1", created_ns=START_NS)
    assert message.subject == "[epn] test of email/ops"
    assert "Nothing has failed" in message.body


def test_the_administrators_template():
    own = rendered(item(), templates=Templates("$service/$server"))
    assert own.body == "http/192.168.1.1:80"
    assert own.subject == "[epn] http 192.168.1.1:80 DOWN: server_down for a reason"
    assert rendered(item(), templates=Templates("Subject: $server!\n\nx")).subject == "192.168.1.1:80!"
    assert rendered(item(), item(), templates=Templates(digest="$count: $what")).body.startswith("2: 1 DOWN")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (18_180, "5 h 3 min"), (187_200, "2 d 4 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words

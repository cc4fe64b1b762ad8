"""What messages say."""

from __future__ import annotations

import pytest

from hawatch.actions.outgoing import Happening
from hawatch.console.history import Item, ItemKind, Message
from hawatch.console.subjects import PAIRS, Phase
from hawatch.console.templates import PLACES, Templates
from hawatch.console.words import LINES_MAX, WORDS, duration, render
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


def test_all_that_a_mail_says():
    message = rendered(item(reason="HTTP 503, wanted 200", weight=1, checks=2), state="http at noon: up\n")
    assert message.body == (
        "http 192.168.1.1:80 DOWN: HTTP 503, wanted 200\n\n"
        "Reason:   HTTP 503, wanted 200\n"
        "Time:     2026-01-01T00:00:00.000Z\n"
        "Director: lvs1\n"
        "Group:    web\n"
        "Service:  http\n"
        "Server:   192.168.1.1:80\n\n"
        "checks: 2\n"
        "weight: 1\n\n"
        "http at noon: up\n\n"
        "Look:      hawatch ctl status\n"
        "History:   hawatch ctl events --service http\n"
        "Seen to:   hawatch ctl ack http"
    )
    assert (message.date_s, message.severity, message.cluster, message.node) == (
        START_NS / NS_PER_S, "warning", "epn", "lvs1",
    )  # fmt: skip
    assert (message.key, message.twice, message.test) == ("k", False, False)
    assert rendered(item(), twice=True).twice


def test_what_programs_are_told():
    (down,) = rendered(item(reason="HTTP 503", weight=1)).happenings
    assert down == Happening(
        "down", "server_down", "2026-01-01T00:00:00.000Z", "warning", "lvs1", "HTTP 503", "web", "http",
        "192.168.1.1:80", START_NS / NS_PER_S, None, {"weight": 1}, "server_down",
    )  # fmt: skip
    (up,) = rendered(item("up", "server_up", 200)).happenings
    assert (up.kind, up.lasted_s, up.failure, up.severity) == ("up", 200.0, "server_down", "info")
    (once,) = rendered(Item(ItemKind.UP, "s", record("server_up", 200))).happenings
    assert once.lasted_s is None, "nobody knows since when"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("server_down", "DOWN"),
        ("service_down", "DOWN, no server left"),
        ("director_dead", "DIRECTOR DEAD"),
        ("witness_dead", "WITNESS DEAD"),
        ("link_down", "LINK DOWN"),
        ("quorum_lost", "QUORUM LOST"),
        ("worker_lost", "PROCESS LOST"),
        ("journal_broken", "JOURNAL BROKEN"),
        ("server_up", "up"),
        ("service_up", "up"),
        ("director_alive", "director alive"),
        ("witness_alive", "witness alive"),
        ("link_up", "link up"),
        ("quorum_regained", "quorum regained"),
        ("worker_restarted", "process restarted"),
        ("journal_mended", "journal mended"),
        ("server_removed", "removed"),
        ("service_removed", "removed"),
        ("director_removed", "director removed"),
        ("witness_removed", "witness removed"),
        ("link_removed", "link removed"),
        ("worker_removed", "process removed"),
        ("server_standby", "left to the owner"),
        ("service_standby", "left to the owner"),
    ],
)
def test_what_fails_is_said_in_capitals_and_what_is_well_is_not(name, words):
    phase = PAIRS[name][1]
    message = rendered(Item(ItemKind(phase), "s", record(name, 60, "http", reason="so it is"), START_NS))
    assert message.subject == f"[epn] http {words}" + (": so it is" if phase is Phase.DOWN else " after 1 min")


def test_each_event_that_comes_in_a_pair_has_its_words():
    assert set(WORDS) == set(PAIRS)


@pytest.mark.parametrize(
    ("service", "server", "group", "words"),
    [
        ("http", "192.168.1.1:80", "web", "http 192.168.1.1:80"),
        ("", "192.168.1.1:80", "web", "192.168.1.1:80"),
        ("http", "", "web", "http"),
        ("", "", "web", "web"),
        ("", "", "", "lvs1"),
    ],
)
def test_what_it_is_about(service, server, group, words):
    one = Item(ItemKind.NOTICE, "s", record("takeover", 0, service, server, group, "so it is"))
    assert rendered(one).subject == f"[epn] {words} TAKEOVER: so it is"


def test_a_long_reason_is_cut_in_the_headline_and_whole_below():
    fits, long = "x" * 300, "x" * 301
    assert rendered(item(reason=fits)).subject.endswith(f": {fits}")
    message = rendered(item(reason=long))
    assert message.subject.endswith(f": {'x' * 297}...")
    assert f"Reason:   {long}\n" in message.body


def test_an_end_without_a_known_beginning_and_one_before_its_beginning():
    once = rendered(Item(ItemKind.UP, "s", record("server_up", 200, "http", "a:80")))
    assert once.subject == "[epn] http a:80 up"
    assert "Lasted" not in once.body
    assert "Lasted" not in rendered(item(since_s=-60)).body
    back = rendered(item("up", "server_up", 100, since_s=200))
    assert back.subject == "[epn] http 192.168.1.1:80 up after 0 s"


@pytest.mark.parametrize(("kind", "begins"), [("down", True), ("notice", True), ("again", False), ("up", False)])
def test_what_begins_a_thread(kind, begins):
    assert rendered(item(kind)).begins is begins
    assert not rendered(item(kind), item(kind, server="192.168.1.2:80")).begins


def test_a_thread_is_of_one_failure_and_the_one_above_of_a_day():
    day_s = 86400
    assert rendered(item(since_s=1)).threads != rendered(item(since_s=2)).threads
    assert rendered(item(since_s=1)).above == rendered(item(since_s=day_s - 1)).above
    assert rendered(item(since_s=1)).above != rendered(item(since_s=day_s)).above
    first, second = (Item(ItemKind.NOTICE, "s", record("server_up", at_s)) for at_s in (1, 2))
    assert rendered(first).threads != rendered(second).threads
    assert rendered(first).above == rendered(second).above
    assert rendered(item(), item(), item(server="b:80")).threads == (
        *rendered(item()).threads,
        *rendered(item(server="b:80")).threads,
    )


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
    assert message.body.endswith("\n\nLook:      hawatch ctl status\nHistory:   hawatch ctl events")
    assert "Group:    web\n" in message.body
    assert "Service:" not in message.body


def test_a_digest():
    items = [item(server=f"192.168.1.{n}:80") for n in range(60)]
    message = rendered(*items, item("up", "server_up", 9, server="192.168.1.3:80"), more=5)
    assert message.subject.startswith("[epn] 59 DOWN, 1 up again, 5 more; http 192.168.1.0:80 DOWN")
    assert "66 things happened" in message.body
    assert f"... and {61 - LINES_MAX + 5} more" in message.body
    assert (len(message.happenings), message.more) == (61, 5)


def test_all_that_a_digest_says():
    takeover = Item(ItemKind.NOTICE, "takeover web", record("takeover", 2, group="web", reason="lvs2 is dead"))
    message = rendered(
        item(reason="refused"), takeover, item("again", at_s=3, server="192.168.1.2:80", reason="mute", count=1)
    )
    what = "2 DOWN, 1 other; http 192.168.1.1:80 DOWN: refused"
    assert message.subject == f"[epn] {what}"
    assert message.body == (
        f"3 things happened: {what}\n\n"
        "2026-01-01T00:00:00.000Z  http 192.168.1.1:80 DOWN: refused\n"
        "2026-01-01T00:00:02.000Z  web TAKEOVER: lvs2 is dead\n"
        "2026-01-01T00:00:03.000Z  http 192.168.1.2:80 DOWN: mute (still, told 1 times)\n\n"
        "Look:      hawatch ctl status\n"
        "History:   hawatch ctl events"
    )


def test_a_digest_spells_out_so_many_lines():
    for count, left in ((LINES_MAX, False), (LINES_MAX + 1, True)):
        message = rendered(*(item(server=f"192.168.1.{n}:80") for n in range(count)))
        assert message.body.count("Z  http ") == LINES_MAX
        assert ("... and 1 more: hawatch ctl events\n" in message.body) is left


def test_the_gravest_comes_first_and_gives_its_severity():
    grave = item(name="service_down", server="", reason="no server serves", severity="critical")
    message = rendered(item(), grave, item(server="192.168.1.2:80"))
    assert message.subject == "[epn] 3 DOWN; http DOWN, no server left: no server serves"
    assert message.severity == "critical"
    well = rendered(item("up", "server_up", 9), item("up", "server_up", 9, server="192.168.1.2:80"))
    assert (well.subject, well.severity) == ("[epn] 2 up again", "info")


def test_a_test():
    message = render(Message("email/ops", "k", (), test=True), cluster="epn", node="lvs1", created_ns=START_NS)
    assert message.subject == "[epn] test of email/ops"
    assert message.body == "This is a test of the alert email/ops, asked for on lvs1.\nNothing has failed."
    assert (message.test, message.begins, message.severity, message.happenings) == (True, False, "info", ())


def test_the_administrators_template():
    own = rendered(item(), templates=Templates("$service/$server"))
    assert own.body == "http/192.168.1.1:80"
    assert own.subject == "[epn] http 192.168.1.1:80 DOWN: server_down for a reason"
    assert rendered(item(), templates=Templates("Subject: $server!\n\nx")).subject == "192.168.1.1:80!"
    assert rendered(item(), item(), templates=Templates(digest="$count: $what")).body.startswith("2: 1 DOWN")


def test_every_place_of_a_template_is_filled():
    text = "$cluster $node $name $severity $group $service $server $time $reason"
    own = rendered(item(reason="refused"), templates=Templates(text, "never"))
    assert own.body == "epn lvs1 server_down warning web http 192.168.1.1:80 2026-01-01T00:00:00.000Z refused"
    for kind, items in (("single", [item()]), ("digest", [item(), item()])):
        every = " ".join(f"${{{name}}}" for name in sorted(PLACES[kind]))
        assert "$" not in rendered(*items, templates=Templates(every, every)).body
    assert rendered(item(), item(), templates=Templates("never", "$cluster $node")).body == "epn lvs1"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (60, "1 min"), (200, "3 min 20 s"), (3599, "59 min 59 s"),
     (3600, "1 h"), (18_180, "5 h 3 min"), (86_399, "23 h 59 min"), (86_400, "1 d"), (187_200, "2 d 4 h")],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words

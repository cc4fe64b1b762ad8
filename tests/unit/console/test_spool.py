"""The spool: order, back-off, marks."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest

from hawatch.console.history import Item, ItemKind, Message
from hawatch.console.spool import BACKOFF_NS, BIG, GIVE_UP_NS, WAITING_MAX, Counts, Spool, backoff_ns
from hawatch.console.store import SCHEMA
from hawatch.model import NS_PER_S
from tests.unit.console.records import record

S = NS_PER_S


def message(number, rule="email/ops"):
    item = Item(ItemKind.DOWN, f"server {number}", record("server_down", number))
    return Message(rule, f"key{number}", (item,))


@pytest.fixture
def spool():
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    yield Spool(database)
    database.close()


def test_in_order_for_each_recipient(spool):
    for number in range(3):
        spool.add(message(number), ("a", "b"), number)
    assert spool.heads("email/ops") == [("a", 0), ("b", 0)]
    first = spool.begin("email/ops", "a", 100)
    assert (first.message, first.attempts, first.twice) == (message_of(first, 0), 0, False)
    assert spool.again(first, "451 later", 100, twice=False)
    assert spool.begin("email/ops", "a", 100) is None
    other = spool.begin("email/ops", "b", 100)
    spool.sent(other, 100)
    assert spool.begin("email/ops", "b", 101).message.key == "key1"
    again = spool.begin("email/ops", "a", 100 + BACKOFF_NS[0])
    assert (again.message.key, again.attempts) == ("key0", 1)
    spool.sent(again, 5)
    assert spool.begin("email/ops", "a", 100).message.key == "key1"


def message_of(letter, number):
    assert letter.message.key == f"key{number}"
    return letter.message


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"rule": 1}', b'{"rule": "\xff"}', b"\0" * 50])
def test_a_damaged_letter_is_given_up_and_holds_up_no_other(spool, body):
    for number in range(2):
        spool.add(message(number), ("a",), number)
    spool.database.execute("UPDATE letter SET body = ? WHERE key = 'key0'", (body,))
    assert spool.begin("email/ops", "a", 100) is None
    assert spool.begin("email/ops", "a", 100).message.key == "key1"
    assert spool.counts()["email/ops"] == Counts(waiting=1, sent=0, failed=1)


def test_the_same_message_is_put_in_once(spool):
    spool.add(message(1), ("a",), 0)
    spool.add(message(1), ("a", "b"), 5)
    assert spool.heads("email/ops") == [("a", 0), ("b", 5)]


def test_what_was_interrupted_may_come_twice(spool):
    spool.add(message(1), ("a",), 0)
    spool.begin("email/ops", "a", 0)
    spool.mark_interrupted()
    assert spool.begin("email/ops", "a", 0).twice


def test_an_answer_that_was_lost_marks_it(spool):
    spool.add(message(1), ("a",), 0)
    spool.again(spool.begin("email/ops", "a", 0), "no answer", 0, twice=True)
    assert spool.begin("email/ops", "a", BACKOFF_NS[0]).twice
    spool.add(message(2), ("a", "b"), 0)
    assert not spool.begin("email/ops", "b", 0).twice, "only the one that was asked for"


def test_given_up_when_too_old(spool):
    spool.add(message(1), ("a",), 0)
    assert not spool.again(spool.begin("email/ops", "a", 0), "451", GIVE_UP_NS, twice=False)
    assert spool.heads("email/ops") == []
    counts = spool.counts()["email/ops"]
    assert (counts.waiting, counts.sent, counts.failed) == (0, 0, 1)


def test_back_off_grows_to_its_limit():
    assert [backoff_ns(n) // S for n in range(1, 9)] == [5, 15, 30, 60, 120, 300, 300, 300]


def test_each_attempt_waits_longer_and_after_two_days_none_follows(spool):
    spool.add(message(1), ("a",), 0)
    now_ns, waits = 0, []
    while True:
        letter = spool.begin("email/ops", "a", now_ns)
        assert letter.attempts == len(waits)
        if not spool.again(letter, "451", now_ns, twice=False):
            break
        ((_, due_ns),) = spool.heads("email/ops")
        assert spool.begin("email/ops", "a", due_ns - 1) is None
        waits.append((due_ns - now_ns) // S)
        now_ns = due_ns
    assert waits[:8] == [5, 15, 30, 60, 120, 300, 300, 300]
    assert now_ns - 300 * S < 2 * 86400 * S <= now_ns
    assert outcomes(spool) == [("failed", "451", len(waits) + 1, now_ns)]
    spool.forget(now_ns)
    assert spool.counts()["email/ops"] == Counts(waiting=0, sent=0, failed=1)
    spool.forget(now_ns + 1)
    assert spool.counts() == {}


def outcomes(spool):
    return spool.database.execute("SELECT state, error, attempts, done_ns FROM letter ORDER BY seq").fetchall()


def test_what_becomes_of_a_letter_is_written_down(spool):
    for number in range(4):
        spool.add(message(number), ("a",), 0)
    spool.sent(spool.begin("email/ops", "a", 0), 7)
    spool.failed(spool.begin("email/ops", "a", 0), "550 no", 8)
    spool.database.execute("UPDATE letter SET body = 'x' WHERE key = 'key2'")
    assert spool.begin("email/ops", "a", 9) is None
    spool.begin("email/ops", "a", 10)
    sent, failed, damaged, sending = outcomes(spool)
    assert (sent, failed, sending) == (("sent", "", 1, 7), ("failed", "550 no", 1, 8), ("sending", "", 0, 0))
    assert damaged[0] == "failed"
    assert damaged[1].startswith("it cannot be read, the file is damaged: ")
    assert damaged[3] == 9
    assert spool.counts()["email/ops"] == Counts(waiting=1, sent=1, failed=2)
    spool.add(message(5), ("a",), 3)
    assert spool.waiting() == {"email/ops": (2, 0)}


def test_a_spool_that_is_full_gives_up_what_is_new(spool):
    spool.database.executemany(
        "INSERT INTO letter (target, recipient, key, body, created_ns, due_ns) VALUES ('email/ops', 'a', ?, '', 0, 0)",
        [(f"k{n}",) for n in range(WAITING_MAX)],
    )
    spool.add(message(1), ("a", "b"), 9)
    assert spool.counts()["email/ops"].failed == 1
    assert outcomes(spool)[-2:] == [("failed", "5000 messages were waiting already", 0, 9), ("waiting", "", 0, 0)]
    assert spool.begin("email/ops", "b", 9) is not None


def test_what_waits_is_bounded_in_bytes_too(spool):
    spool = Spool(spool.database, 4 << 20)
    spool.database.executemany(
        "INSERT INTO letter (target, recipient, key, body, created_ns, due_ns) VALUES ('email/ops', 'a', ?, ?, 0, 0)",
        [(f"k{n}", b" " * (1 << 20)) for n in range(4)],
    )
    spool.add(message(1), ("a",), 9)
    big = message(2).items * (BIG // 100)
    spool.add(msgspec.structs.replace(message(2), items=big), ("a", "b"), 9)
    rows = spool.database.execute("SELECT recipient, state, error, length(body) FROM letter WHERE created_ns = 9")
    assert [(who, state, error, size > 0) for who, state, error, size in rows] == [
        ("a", "waiting", "", True),
        ("a", "failed", "4 MiB were waiting already", False),
        ("b", "waiting", "", True),
    ]
    spool.forget(10)
    assert spool.counts()["email/ops"].failed == 0, "what was given up goes when its time has come"


def test_alerts_that_are_no_more(spool):
    spool.add(message(1), ("a",), 0)
    spool.add(message(2, "email/new"), ("a",), 0)
    spool.forget_targets({"email/new"}, 7)
    assert spool.heads("email/ops") == []
    assert spool.heads("email/new") == [("a", 0)]
    assert outcomes(spool)[0] == ("failed", "the configuration has this alert no more", 0, 7)
    spool.forget(8)
    assert "email/ops" not in spool.counts()

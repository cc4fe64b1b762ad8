"""Questions to the journal."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hawatch.console.journal import Filter, downtime, select
from hawatch.console.store import SCHEMA, event_ns
from hawatch.model import NS_PER_S
from tests.unit.console.records import START_NS, record

S = NS_PER_S


def journal(records):
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    for number, one in enumerate(records):
        database.execute(
            "INSERT INTO event (node, id, at_ns, name, severity, grp, service, server, body) VALUES (?,?,?,?,?,?,?,?,?)",
            (one.node, number, event_ns(one), one.name, one.severity, one.group, one.service, one.server,
             msgspec.json.encode(one)),
        )  # fmt: skip
    return database


RECORDS = [
    record("agent_started", 0),
    record("server_down", 1, "http", "192.168.1.1:80", "web"),
    record("server_down", 2, "http", "[2001:db8::1]:80", "web"),
    record("service_down", 3, "http", "", "web"),
    record("server_down", 4, "smtp", "192.168.1.11:25", "mail"),
    record("server_up", 5, "http", "192.168.1.1:80", "web"),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [0, 1, 2, 3, 4, 5]),
        (Filter(service="http"), [1, 2, 3, 5]),
        (Filter(server="192.168.1.1"), [1, 5]),
        (Filter(server="192.168.1.1:80"), [1, 5]),
        (Filter(server="2001:db8::1"), [2]),
        (Filter(server="192.168.1._"), []),
        (Filter(server="%"), []),
        (Filter(names=("server_up", "service_down")), [3, 5]),
        (Filter(least="warning"), [1, 2, 3, 4]),
        (Filter(least="critical"), [3]),
        (Filter(group="mail"), [4]),
        (Filter(since_ns=START_NS + 2 * S, until_ns=START_NS + 4 * S), [2, 3]),
    ],
)
def test_filters_in_file_and_in_memory(wanted, found):
    database = journal(RECORDS)
    assert select(database, wanted, 100) == [RECORDS[each] for each in found]
    assert [each for each in RECORDS if wanted(each)] == [RECORDS[each] for each in found]
    assert select(database, wanted, 1) == [RECORDS[each] for each in found[-1:]]
    database.close()


def report(records, since_s, until_s, **wanted):
    database = journal(records)
    found = downtime(database, START_NS + since_s * S, START_NS + until_s * S, Filter(**wanted))
    database.close()
    return {(one.kind, one.service or one.group, one.server): one for one in found}


def test_downtime():
    found = report(
        [
            record("server_down", 0, "http", "a:80", "web", reason="refused"),
            record("server_up", 20, "http", "a:80", "web"),
            record("server_down", 50, "http", "a:80", "web", reason="503"),
            record("server_down", 60, "http", "b:80", "web"),
            record("service_down", 60, "http", "", "web"),
            record("service_up", 70, "http", "", "web"),
            record("service_down", 65, "https", "", "web"),
            record("service_up", 75, "https", "", "web"),
            record("server_up", 80, "http", "b:80", "web"),
        ],
        10,
        110,
    )
    a = found["server", "http", "a:80"]
    assert (a.outages, a.down_s, a.longest_s, a.availability, a.down_now) == (2, 70, 60, pytest.approx(0.3), True)
    assert a.last_reason == "503"
    assert found["server", "http", "b:80"].down_s == 20
    assert found["service", "http", ""].down_s == 10
    group = found["group", "web", ""]
    assert (group.outages, group.down_s, group.down_now) == (1, 15, False)


def test_only_what_is_asked_for():
    records = [record("server_down", 0, name, "a:80", "web") for name in ("http", "smtp")]
    assert set(report(records, 10, 20, service="http")) == {("server", "http", "a:80")}
    assert report(records, 10, 20, server="b") == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30), st.integers(0, 300), st.integers(1, 300))
@example([(False, 0), (True, 0)], 1, 1)  # within one millisecond
def test_downtime_is_what_a_stopwatch_says(steps, since_s, length_s):
    records, at_s = [], 0
    state = [False] * 2000
    for down, wait_s in steps:
        at_s += wait_s
        records.append(record("server_down" if down else "server_up", at_s, "http", "a:80"))
        state[at_s:] = [down] * (2000 - at_s)
    one = report(records, since_s, since_s + length_s).get(("server", "http", "a:80"))
    assert (one.down_s if one else 0) == sum(state[since_s : since_s + length_s])


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"time": 1}', b'{"time": "\xff"}'])
def test_a_damaged_event_costs_itself_only(body):
    database = journal(RECORDS)
    database.execute("UPDATE event SET body = ? WHERE id = 1", (body,))
    assert select(database, Filter(), 100) == [RECORDS[0], *RECORDS[2:]]
    lines = downtime(database, START_NS, START_NS + 10 * S, Filter(server="192.168.1.1"))
    assert [(line.outages, line.last_reason) for line in lines if line.kind == "server"] == [(1, "")]

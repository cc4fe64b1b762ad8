"""Failures that are over in the status though no event said so."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from hawatch.console.ends import ENDS_MAX, QUIET_NS, Quorum, find_ends, quiet_troubles, read_status
from hawatch.console.history import ItemKind, Owner
from hawatch.console.subjects import PAIRS, Phase, phase_of, subject_of
from hawatch.model import NS_PER_S, Severity
from tests.unit.console.records import record
from tests.unit.console.test_policy import play

DOWN = [
    record("server_down", 0, "http", "192.168.1.1:80", "web"),
    record("server_down", 0, "http6", "[2001:db8::1]:80"),
    record("service_down", 0, "http", group="web"),
    record("director_dead", 0, peer="lvs2"),
    record("witness_dead", 0, peer="rs1"),
    record("link_down", 0, peer="lvs2", address="10.99.0.2"),
    record("quorum_lost", 0),
    record("worker_lost", 0, worker="prober"),
    record("journal_broken", 0),
]


def status(*, well, servers=("192.168.1.1",), services=("http", "http6")):
    def state(good, bad):
        return good if well else bad

    links = [{"address": "10.99.0.2", "state": state("up", "down")}, {"address": "192.168.1.6", "state": "up"}]
    return read_status(
        msgspec.json.encode(
            {
                "time": "2026-01-01T00:01:00Z",
                "services": [
                    {"name": name, "state": state("up", "down"), "servers": [
                        {"address": address, "port": 80, "state": state("up", "down"), "reason": "x"}
                        for address in (servers if name == "http" else ["2001:db8::1"])
                    ]}
                    for name in services
                ],
                "directors": [{"name": "lvs2", "state": state("alive", "dead"), "links": links}],
                "witnesses": [{"name": "rs1", "state": state("alive", "dead")}],
                "quorum": {"held": well, "mode": "witness"},
                "workers": [{"name": "prober", "state": state("running", "lost")}],
            }
        )
    )  # fmt: skip


def failing():
    it = play()
    for each in DOWN:
        it.feed(each)
    it.until(60)
    return it


def test_what_is_well_ends():
    it = failing()
    troubles = quiet_troubles(it.history, it.now_ns)
    assert len(troubles) == len(DOWN)
    assert find_ends(troubles, status(well=False), journal_well=False) == {}
    ends = find_ends(troubles, status(well=True), journal_well=True)
    assert set(ends) == {subject_of(each) for each in DOWN}
    assert {(each.reason, each.severity) for each in ends.values()} == {
        ("it is well: that was not seen when it happened", Severity.INFO)
    }
    for subject, event in ends.items():
        as_told = record(event.name, 61, event.service, event.server, event.group, **event.numbers)
        assert phase_of(as_told) is Phase.UP
        assert subject_of(as_told) == subject
        it.feed(as_told)
    assert quiet_troubles(it.history, it.now_ns) == {}


def test_every_kind_of_failure_can_end():
    assert {noun for noun, _ in PAIRS.values()} == {PAIRS[each.name][0] for each in DOWN}


def test_what_is_no_longer_configured_ends():
    it = failing()
    troubles = quiet_troubles(it.history, it.now_ns)
    ends = find_ends(troubles, status(well=False, servers=("192.168.1.7",)), journal_well=False)
    assert [(event.name, event.server, event.reason) for event in ends.values()] == [
        ("server_removed", "192.168.1.1:80", "the configuration has it no more")
    ]
    ends = find_ends(troubles, status(well=False, services=("http6",)), journal_well=False)
    assert {event.name for event in ends.values()} == {"server_removed", "service_removed"}


def test_a_member_a_link_or_a_process_that_is_no_longer_configured_ends():
    it = failing()
    alone = msgspec.structs.replace(
        status(well=False), directors=[], witnesses=[], workers=[], quorum=Quorum(held=True)
    )
    ends = find_ends(quiet_troubles(it.history, it.now_ns), alone, journal_well=False)
    assert {event.name for event in ends.values()} == {
        "director_removed", "witness_removed", "link_removed", "worker_removed", "quorum_regained",
    }  # fmt: skip
    for subject, event in ends.items():
        assert subject_of(record(event.name, 61, **event.numbers)) == subject
        it.feed(record(event.name, 61, **event.numbers))
    assert not ends.keys() & quiet_troubles(it.history, it.now_ns).keys()


def test_no_member_ends_while_the_lease_cannot_even_begin():
    it = failing()
    troubles = quiet_troubles(it.history, it.now_ns)
    broken = msgspec.structs.replace(status(well=False), directors=[], witnesses=[])
    assert find_ends(troubles, broken, journal_well=False) == {}
    fewer = msgspec.structs.replace(broken, services=broken.services[:1])
    assert {event.name for event in find_ends(troubles, fewer, journal_well=False).values()} == {"server_removed"}


def test_a_member_ends_while_any_other_one_is_known():
    it = failing()
    troubles, seen = quiet_troubles(it.history, it.now_ns), status(well=False)
    for kind, gone in (("directors", {"director_removed", "link_removed"}), ("witnesses", {"witness_removed"})):
        fewer = msgspec.structs.replace(seen, **{kind: []})
        assert {event.name for event in find_ends(troubles, fewer, journal_well=False).values()} == gone


def test_so_many_ends_are_told_at_once_and_the_others_follow():
    it = play()
    for number in range(ENDS_MAX + 7):
        it.feed(record("server_down", 0, "http", f"192.168.1.{number}:80"))
    it.until(60)
    told = []
    for _ in range(3):
        ends = find_ends(quiet_troubles(it.history, it.now_ns), status(well=True, services=()), journal_well=True)
        told.append(len(ends))
        for event in ends.values():
            it.feed(record(event.name, 61, event.service, event.server))
    assert told == [ENDS_MAX, 7, 0]


def test_what_is_disabled_or_on_standby_ends():
    it = failing()
    it.policy = replace(it.policy, node="lvs1", first_group="web")
    it.history.entries["owner", "web"] = Owner("lvs2")
    seen = status(well=False)
    seen.services[0].servers[0].state = "disabled"
    troubles = quiet_troubles(it.history, it.now_ns)
    (event,) = find_ends(troubles, seen, journal_well=False).values()
    assert (event.name, event.server) == ("server_removed", "192.168.1.1:80")
    assert event.reason == "it is disabled: nobody asks whether it works"
    seen.services[0].servers[0].state, seen.services[0].state = "unknown", "standby"
    ends = find_ends(troubles, seen, journal_well=False)
    assert {event.name for event in ends.values()} == {"server_standby", "service_standby"}
    assert {event.reason for event in ends.values()} == {
        "this director is standby: the owner of the group tells how it is"
    }
    for subject, event in ends.items():
        it.feed(record(event.name, 61, event.service, event.server, event.group))
        assert subject not in quiet_troubles(it.history, it.now_ns)
    it.until(1000)
    kinds = {item.kind for _, message in it.sent for item in message.items}
    assert kinds == {ItemKind.DOWN}, "the failure itself may last: the owner tells its end"


def test_what_has_just_failed_is_left_alone():
    it = play()
    it.at(0, "server_down")
    it.at(50, "server_down")
    it.until(50 + QUIET_NS / NS_PER_S - 1)
    assert quiet_troubles(it.history, it.now_ns) == {}
    it.until(50 + QUIET_NS / NS_PER_S)
    assert len(quiet_troubles(it.history, it.now_ns)) == 1


def test_a_status_that_is_none():
    assert read_status(b"") is None
    assert read_status(b'{"time": 3}') is None

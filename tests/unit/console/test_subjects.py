"""What events are about."""

from __future__ import annotations

import pytest

from hawatch.console.subjects import ENDS_HERE, PAIRS, Match, Phase, failure_of, phase_of, same_server, subject_of
from tests.unit.console.records import record


def test_the_two_events_of_a_pair_have_one_subject():
    for name, (noun, phase) in PAIRS.items():
        others = [other for other, (same, opposite) in PAIRS.items() if same == noun and opposite is not phase]
        assert others
        arguments = {"service": "http", "server": "192.168.1.1:80", "peer": "lvs2"}
        assert subject_of(record(name, **arguments)) == subject_of(record(others[0], **arguments))


def test_subjects_differ_by_what_they_are_about():
    assert subject_of(record("link_down", peer="lvs2", address="10.0.0.1")) != subject_of(
        record("link_down", peer="lvs2", address="10.0.0.2")
    )
    assert subject_of(record("server_down", service="a", server="s")) != subject_of(record("service_down", service="a"))


@pytest.mark.parametrize(
    ("event", "subject", "failure"),
    [
        (record("server_up", 0, "http", "a:80", "web", weight=1), "server web http a:80", "server_down"),
        (record("service_removed", 0, "http"), "service http", "service_down"),
        (record("director_alive", peer="lvs2"), "director lvs2 lvs1", "director_dead"),
        (record("link_down", peer="lvs2", address="10.0.0.1"), "link lvs2 10.0.0.1 lvs1", "link_down"),
        (record("worker_restarted", worker="prober", pid=7), "worker prober lvs1", "worker_lost"),
        (record("quorum_lost"), "quorum lvs1", "quorum_lost"),
        (record("takeover", group="web"), "takeover web lvs1", ""),
    ],
)
def test_a_subject_names_what_every_director_sees_alike_and_whose_matter_the_rest_is(event, subject, failure):
    assert subject_of(event) == subject
    assert failure_of(event) == failure


def test_a_standby_ends_what_it_knows_of_a_failure():
    assert {name for name in PAIRS if name.endswith("_standby")} == ENDS_HERE


def test_phases():
    assert phase_of(record("server_down")) is Phase.DOWN
    assert phase_of(record("server_up")) is Phase.UP
    assert phase_of(record("takeover")) is Phase.NOTICE


@pytest.mark.parametrize(
    ("wanted", "server", "same"),
    [
        ("192.168.1.1", "192.168.1.1:80", True),
        ("192.168.1.1:80", "192.168.1.1:80", True),
        ("192.168.1.1:443", "192.168.1.1:80", False),
        ("192.168.1.1", "192.168.1.11:80", False),
        ("2001:db8::1", "[2001:db8::1]:80", True),
        ("[2001:db8::1]", "[2001:db8::1]:80", True),
        ("192.168.1.1", "", False),
    ],
)
def test_servers_by_address(wanted, server, same):
    assert same_server(wanted, server) is same


def test_matches():
    down = record("server_down", service="http", server="192.168.1.1:80", group="web")
    assert Match()(down)
    assert Match(group="web", service="http", server="192.168.1.1", name="server_down")(down)
    for other in (Match(group="x"), Match(service="x"), Match(server="192.168.1.2"), Match(name="server_up")):
        assert not other(down)

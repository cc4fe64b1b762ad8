"""How things stand around a failure."""

from __future__ import annotations

import json

from hawatch.console.surroundings import SERVERS_MAX, surroundings


def status(count=3):
    servers = [{"address": "192.168.1.1", "port": 80, "state": "down", "reason": "HTTP 503", "weight": 0}]
    servers = [{"address": f"192.168.1.{n + 1}", "port": 80, "state": "up"} for n in range(1, count)] + servers
    return json.dumps(
        {
            "node": "lvs2", "time": "2026-01-01T00:00:00Z",
            "services": [{"name": "http", "state": "up", "servers": servers}],
            "groups": [{"name": "web", "state": "standby", "owner": "lvs1", "reason": "lvs1 renews its lease"}],
        }
    ).encode()  # fmt: skip


def test_a_service_with_what_fails_first():
    assert surroundings(status(), "http", "web").splitlines() == [
        "http at 2026-01-01T00:00:00Z: up, 2 of 3 servers up",
        "  192.168.1.1:80  down  HTTP 503",
        "  192.168.1.2:80  up",
        "  192.168.1.3:80  up",
    ]


def test_many_servers_are_not_all_listed():
    lines = surroundings(status(100), "http", "").splitlines()
    assert len(lines) == SERVERS_MAX + 2
    assert lines[-1] == "  ... and 80 more"


def test_names_are_as_wide_as_the_longest_that_is_shown():
    servers = [
        {"address": "2001:db8::1", "port": 8080, "state": "up"},
        {"address": "192.0.2.1", "port": 80, "state": "up"},
    ]
    data = json.dumps({"node": "a", "time": "noon", "services": [{"name": "http", "state": "up", "servers": servers}]})
    assert surroundings(data.encode(), "http", "") == (
        "http at noon: up, 2 of 2 servers up\n  [2001:db8::1]:8080  up\n  192.0.2.1:80        up\n"
    )


def test_a_sorry_server_is_shown_as_one_and_counts_for_none():
    told = json.loads(status())
    told["services"][0]["servers"].append({"address": "192.168.1.99", "port": 80, "state": "up", "sorry": True})
    lines = surroundings(json.dumps(told).encode(), "http", "web").splitlines()
    assert lines[0].endswith("2 of 3 servers up")
    assert lines[-1] == "  192.168.1.99:80  up (sorry)"


def test_a_group():
    words = surroundings(status(), "", "web")
    assert words == "web at 2026-01-01T00:00:00Z: lvs1 owns it; lvs2 is standby: lvs1 renews its lease\n"


def test_nothing_known():
    assert surroundings(b"", "http", "web") == surroundings(status(), "smtp", "") == ""


def test_a_service_without_servers_and_a_group_without_owner():
    data = (
        b'{"node": "lvs2", "time": "noon", "services": [{"name": "http", "state": "unknown"}],'
        b' "groups": [{"name": "web", "state": "standby", "owner": ""}]}'
    )
    assert surroundings(data, "http", "web") == "http at noon: unknown, 0 of 0 servers up\n"
    assert surroundings(data, "", "web") == "web at noon: nobody is known to own it; lvs2 is standby\n"

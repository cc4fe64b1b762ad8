from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hawatch.control.render import Style, age, duration, render_changes, render_event, render_status

NOW = datetime(2026, 1, 1, 1, 0, 0, tzinfo=UTC)
STATUS = {
    "cluster": "epn", "node": "lvs1", "version": "0.1.0", "uptime_s": 3700,
    "quorum": {"mode": "none", "held": True, "acceptors": 0, "reachable": 0, "reason": "a single director"},
    "warnings": ["the disk is full"],
    "directors": [],
    "groups": [{"name": "web", "state": "owner", "owner": "lvs1", "epoch": 0, "gate": "none",
                "addresses": ["192.0.2.110/32"], "reason": ""}],
    "services": [{"name": "http", "address": "192.0.2.110", "port": 80, "protocol": "tcp", "scheduler": "wlc",
                  "servers": [
        {"address": "192.0.2.1", "port": 80, "state": "up", "weight": 1, "reason": "", "latency_ms": 0.84,
         "since": "2026-01-01T00:00:00Z"},
        {"address": "192.0.2.22", "port": 8080, "state": "down", "weight": 0, "in_table": False,
         "reason": "HTTP 503, wanted 200",
         "since": "2026-01-01T00:59:30Z", "latency_ms": None}]}],
    "workers": [{"name": "prober", "state": "running", "pid": 4711, "restarts": 1}],
}  # fmt: skip
PLAIN = """\
lvs1  cluster epn, hawatch 0.1.0, up 1h 1m
quorum none: a single director
! the disk is full

Groups
  web  owner  owner lvs1    192.0.2.110/32

http  tcp 192.0.2.110:80  wlc  1 of 2 up
  192.0.2.1:80     up    weight 1     0.8 ms  for 1h 0m
  192.0.2.22:8080  down  not in IPVS          for 30s      HTTP 503, wanted 200

Workers
  prober  running  process 4711  1 restart"""


def test_status_is_aligned_and_reasons_are_whole() -> None:
    assert render_status(STATUS, Style(), NOW) == PLAIN


def test_colour_adds_nothing_but_colour() -> None:
    coloured = render_status(STATUS, Style(colour=True), NOW)
    assert "\x1b[31mdown\x1b[0m" in coloured
    stripped = coloured
    for code in ("0", "1", "2", "31", "32", "33"):
        stripped = stripped.replace(f"\x1b[{code}m", "")
    assert stripped == PLAIN


def test_an_event_is_one_line_that_cannot_steer_the_terminal() -> None:
    event = {"time": "T", "node": "lvs1", "name": "server_down", "severity": "warning", "service": "http",
             "server": "192.0.2.1:80", "reason": "got \x1b[2J", "numbers": {"runs": 3}}  # fmt: skip
    assert render_event(event, Style()) == "T lvs1 server_down http 192.0.2.1:80: got ?[2J (runs=3)"
    assert "\x1b[33mserver_down" in render_event(event, Style(colour=True))


def test_changes() -> None:
    assert render_changes({"changes": ["a", "b"], "text": "none"}) == "a\nb"
    assert render_changes({"changes": [], "text": "none"}) == "none"
    assert render_changes({}) == "nothing to change"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3600, "1h 0m"), (90061, "1d 1h"), (-5, "0s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_age_of_what_is_no_time() -> None:
    assert age("soon", NOW) == "soon"

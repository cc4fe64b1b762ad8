"""The words of the commands that the console answers."""

from __future__ import annotations

import argparse
import time

import pytest

from hawatch.cli import ctl
from hawatch.cli.ctl_console import console_answers, instant_ns, render_report
from hawatch.control import protocol
from tests.unit.cli.test_ctl import parse


def test_instants():
    now_ns = time.time_ns()
    assert abs(instant_ns("2h") - (now_ns - 7200 * 10**9)) < 10**9
    assert instant_ns("1970-01-02T00:00:00+00:00") == 86400 * 10**9
    for text in ("yesterday", "5", "5y", "2026-13-01"):
        with pytest.raises(argparse.ArgumentTypeError):
            instant_ns(text)


def test_words_become_requests():
    day = "1970-01-02T00:00:00+00:00"
    words = ("events", "--since", day, "--name", "a", "--name", "b", "--server", "s", "--severity", "warning")
    assert ctl.make_request(parse(*words)) == protocol.Events(
        since_ns=86400 * 10**9, names=("a", "b"), server="s", severity="warning"
    )
    report = ctl.make_request(parse("report", "--group", "web"))
    assert isinstance(report, protocol.Report)
    assert report.group == "web"
    assert abs(report.since_ns - (time.time_ns() - 30 * 86400 * 10**9)) < 60 * 10**9
    assert ctl.make_request(parse("ack", "http", "s", "-m", "on it")) == protocol.Ack(
        service="http", server="s", text="on it"
    )
    assert ctl.make_request(parse("alert-test")) == protocol.AlertTest()


def test_who_answers(tmp_path):
    def asked(*words):
        return console_answers(parse("--runtime-dir", str(tmp_path), *words))

    assert asked("report")
    assert asked("ack", "all")
    assert not asked("events")
    assert not asked("status")
    assert not asked("events", "--since", "1h")  # nobody listens on console.sock
    assert not asked("events", "--follow", "--service", "x")


def test_a_report_is_a_table():
    line = {
        "kind": "server", "group": "web", "service": "http", "server": "192.0.2.1:80", "outages": 2, "down_s": 3725.2,
        "longest_s": 60, "availability": 0.99951, "down_now": True, "last_reason": "x",
    }  # fmt: skip
    group = {**line, "kind": "group", "service": "", "server": "", "down_now": False}
    text = render_report({"lines": [group, line]}).splitlines()
    assert text[0].split() == ["outages", "down", "longest", "available"]
    assert text[1].split() == ["group", "web", "2", "1:02:05", "0:01:00", "99.951", "%"]
    assert text[2].startswith("server http 192.0.2.1:80")
    assert text[2].endswith("DOWN NOW")
    assert "no outage" in render_report({"lines": []})

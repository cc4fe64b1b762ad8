"""A message and its failures."""

from __future__ import annotations

from hawatch.actions.outgoing import Happening, Outgoing, SendError

DOWN = Happening(
    "down", "server_down", "2026-01-01T00:00:00.000Z", "warning", "lvs1", "HTTP 503, wanted 200",
    "web", "http", "192.168.1.1:80", 1_767_225_600.0, failure="server_down",
)  # fmt: skip
UP = Happening(
    "up", "server_up", "2026-01-01T00:01:00.000Z", "info", "lvs1", "its probes pass again",
    "web", "http", "192.168.1.1:80", 1_767_225_600.0, 60.0, failure="server_down",
)  # fmt: skip


def outgoing(*happenings, **rest):
    values = {
        "key": "k1",
        "subject": "[epn] http 192.168.1.1:80 DOWN: HTTP 503, wanted 200",
        "body": "It is down.\n.\nÜber und aus.",
        "date_s": 1_767_225_660.0,
        "severity": "warning",
        "happenings": happenings or (DOWN,),
        "threads": ("email/ops server http 192.168.1.1:80 1",),
        "cluster": "epn",
        "node": "lvs1",
    }
    return Outgoing(**{**values, **rest})


def test_a_failure_says_whether_to_try_again():
    assert not SendError("451").for_good
    assert SendError("550", for_good=True).for_good
    assert SendError("lost", perhaps_taken=True).perhaps_taken


def test_a_message_is_hashable_and_whole():
    assert outgoing() == outgoing()
    assert outgoing(twice=True) != outgoing()

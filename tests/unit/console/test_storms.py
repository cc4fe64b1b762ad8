"""The console under kills, a stop, a mail server's bad day and a dead switch: short here, long in tests/bench/console."""

from __future__ import annotations

import os

import pytest

from tests.unit.console import storms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_killed_again_and_again_under_load(make_site, postfix):
    """The journal is whole, and every alert arrives once or is marked as perhaps twice."""
    site = make_site('events = ["server_disabled"]', "burst = 20", 'digest = "1s"', tls="none")
    outcome = storms.kill(site, postfix, kills=5)
    assert outcome.events > outcome.letters > 5
    print(outcome)


def test_stopped_it_costs_nothing_and_catches_up(make_site, postfix):
    site = make_site(servers=12)
    outcome = storms.stop(site, seconds=3)
    assert outcome.during.events > 100
    assert " DOWN" in postfix.wait_mails(1)[0]["Subject"], "what was told meanwhile is sent"
    print(outcome)


def test_a_mail_server_that_is_down_refusing_hanging_and_well_again(make_site, postfix, monkeypatch):
    monkeypatch.setitem(os.environ, "HAWATCH_TEST_BACKOFF_S", "0.5")
    site = make_site("burst = 100", servers=6)
    outcome = storms.mail_troubles(site, postfix, seconds=3, limit_s=60)
    assert outcome["mails"] == 12
    assert outcome["marked"] >= 1, "the one that hung after DATA"
    print(outcome)


def test_a_dead_switch_is_three_messages(make_site, postfix):
    outcome = storms.switch_dies(make_site(), postfix, digest="12s", quiet_s=16)
    assert outcome.events >= storms.SERVICES * storms.SERVERS
    assert " DOWN; " in outcome.subjects[-1]
    print(outcome)

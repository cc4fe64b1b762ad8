"""Latencies of a service's probes: what is added up, and that it never falls."""

from __future__ import annotations

from hawatch.agent.measures import LATENCY_BOUNDS_US, CheckCounts
from hawatch.config.load import load_text
from hawatch.config.plan import make_plan
from hawatch.console.latencies import Latencies
from tests.unit.console.numbers import CONFIG, PLAN, histogram

SHARED = """
[[service]]
name = "again"
address = "192.0.2.111"
port = 80
probe = { type = "http", path = "/health" }
[[service.server]]
address = "192.0.2.1"
"""
HTTP, PING = ("http", "http"), ("six", "ping")


def plan(text):
    return make_plan(load_text(text), "")


def row(check, *latencies):
    return CheckCounts(check, 1, len(latencies), 0, histogram(LATENCY_BOUNDS_US, *latencies))


def counted(latencies):
    return {user: (sum(now.counts), now.sum_us) for user, now in latencies.by_service()}


def checks(made, kind):
    return [check.id for check in made.checks.values() if check.type == kind]


def test_the_checks_of_a_service_are_added_up():
    latencies = Latencies()
    latencies.adopt(PLAN)
    first, second = checks(PLAN, "http")
    for _ in range(2):  # told twice, counted once
        latencies.take(row(first, 800, 900))
        latencies.take(row(second, 7_000_000))
        latencies.take(row("of another configuration", 1))
    assert counted(latencies) == {HTTP: (3, 7_001_700), PING: (0, 0)}
    latencies.take(row(first, 800, 900, 1000))
    assert counted(latencies)[HTTP] == (4, 7_002_700)


def test_a_prober_that_begins_anew():
    latencies = Latencies()
    latencies.adopt(PLAN)
    first = checks(PLAN, "http")[0]
    latencies.take(row(first, 800, 900))
    latencies.take(row(first, 100))
    assert counted(latencies)[HTTP] == (3, 1800)


def test_a_check_of_two_services_counts_in_both():
    made = plan(CONFIG + SHARED)
    latencies = Latencies()
    latencies.adopt(made)
    latencies.take(row(checks(made, "http")[0], 800))
    assert counted(latencies) == {HTTP: (1, 800), ("again", "http"): (1, 800), PING: (0, 0)}


def test_what_was_counted_stays_when_a_check_goes():
    latencies = Latencies()
    latencies.adopt(PLAN)
    first, second = checks(PLAN, "http")
    latencies.take(row(first, 800))
    latencies.take(row(second, 900))
    smaller = plan(CONFIG.replace('[[service.server]]\naddress = "192.0.2.2"\n', ""))
    latencies.adopt(smaller)
    latencies.take(row(second, 900))
    assert counted(latencies)[HTTP] == (2, 1700)
    latencies.adopt(PLAN)
    latencies.take(row(first, 800))
    assert counted(latencies)[HTTP] == (2, 1700), "what goes on is not counted again"
    latencies.adopt(plan(CONFIG.split("[[service]]")[0] + "[[service]]" + CONFIG.split("[[service]]")[2]))
    assert counted(latencies) == {PING: (0, 0)}, "a service that is gone is forgotten"

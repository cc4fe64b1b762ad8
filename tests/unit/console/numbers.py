"""Numbers of a made-up site in which every metric has a value."""

from __future__ import annotations

from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.measures import (
    LAG_BOUNDS_US,
    LATENCY_BOUNDS_US,
    CheckCounts,
    CoreMeasures,
    Histogram,
    ProbeCounts,
    ServerMeasures,
    ServiceMeasures,
    WorkerMeasures,
)
from hawatch.config.alerts import Detail
from hawatch.config.load import load_text
from hawatch.config.plan import make_plan
from hawatch.console.collector import ConsoleNumbers, Snapshot
from hawatch.console.exposition import portions
from hawatch.console.latencies import Latencies
from hawatch.console.measures import Measures
from hawatch.console.processes import Usage

CONFIG = """
[[service]]
name = "http"
address = "192.0.2.110"
port = 80
probe = { type = "http", path = "/health" }
[[service.server]]
address = "192.0.2.1"
weight = 3
[[service.server]]
address = "192.0.2.2"
[[service]]
name = "six"
address = "2001:db8::110"
port = 80
probe = { type = "ping" }
[[service.server]]
address = "2001:db8::1"
"""
PLAN = make_plan(load_text(CONFIG), "")
SITE = {
    "quorum": {"mode": "witness", "held": True, "acceptors": 3, "reachable": 2, "lease_ms": 1500},
    "directors": [
        {"name": "lvs2", "state": "alive", "silent_ms": 120, "phi": 0.1, "links": [
            {"address": "10.99.0.2", "state": "up", "received": 100, "lost": 2, "round_trip_ms": 0.25},
            {"address": "192.0.2.6", "state": "down", "received": 0, "lost": 0, "round_trip_ms": None}]}],
    "witnesses": [{"name": "rs1", "state": "dead", "silent_ms": 9000, "phi": 9.0, "links": []}],
    "groups": [
        {"name": "web", "state": "owner", "owner": "lvs1", "epoch": 4, "lease_left_ms": 1234, "owned_ms": 61000,
         "acquisitions": 1, "renewals": 200, "renewals_failed": 1, "refusals": 2,
         "refused": [{"acceptor": "rs1", "reason": "held", "count": 2}]},
        {"name": "mail", "state": "standby", "owner": "lvs2", "epoch": 2, "lease_left_ms": 0, "owned_ms": 0,
         "acquisitions": 0, "renewals": 0, "renewals_failed": 0, "refusals": 0, "refused": []}],
    "rejected": {"stale": 3},
}  # fmt: skip
NUMBERS = ConsoleNumbers(
    cluster="epn", node="lvs1", taken={"server_down": 7}, events_waiting=1, journal_bytes=8192, journal_on_disk=True,
    journal_committed_ns=1_700_000_000_500_000_000, alerts=("email/ops", "webhook/chat"), sent={"email/ops": 3},
    failures={"email/ops": 1}, waiting={"email/ops": (2, 1_700_000_000_000_000_000)},
    usages={"core": Usage(1.25, 4096)}, scrapes=2, gather_s=0.05,
)  # fmt: skip
COUNTS = Counts(5, 2, 1, 40, 400, 300, 4000, 3000, 4, 40, 30, 400, 300)


def histogram(bounds, *values):
    made = Histogram(bounds)
    for value in values:
        made.note(value)
    return made.now()


def snapshot(found: Measures | None, detail: Detail = Detail.SERVER) -> Snapshot:
    return Snapshot(found, PLAN, Latencies(), NUMBERS, detail)


def render(found: Measures | None, detail: Detail = Detail.SERVER) -> bytes:
    """Return what a scrape gets."""
    return b"".join(portions(snapshot(found, detail)))


def measures(site=SITE, many=0) -> Measures:
    """Return numbers of the site, and of so many more services without a check."""
    up, down = (
        CheckCounts(check, state, 10, 4, histogram(LATENCY_BOUNDS_US, 800, 800, 30_000, 9_000_000))
        for check, state in zip(list(PLAN.checks)[:2], (1, 0), strict=True)
    )
    unknown = CheckCounts("of an earlier configuration", -1, 1, 1, histogram(LATENCY_BOUNDS_US))
    core = CoreMeasures(
        number=1, started_wall_ns=1_700_000_000_000_000_000, warnings=1, lag=histogram(LAG_BOUNDS_US, 300, 700),
        workers=[WorkerMeasures("core", True, 10, 0, 0.0, 0), WorkerMeasures("prober", False, 0, 2, 12.5, 3)],
        counters=["prober"], site=site, ipvs_read_wall_ns=1_700_000_001_000_000_000, ipvs_read_took_ns=2_000_000,
        ipvs_refused=0,
    )  # fmt: skip
    servers = [
        ServerMeasures("192.0.2.1:80", "up", "", 3, 3, False, 840, COUNTS),
        ServerMeasures("192.0.2.2:80", "draining", "drained", 0, 1, False, -1, None),
    ]
    unprobed = [ServerMeasures("[2001:db8::1]:80", "unknown", "", 0, 1, False, -1, None)]
    services = [
        ServiceMeasures("http", "web", "up", COUNTS, servers),
        ServiceMeasures("six", "", "unknown", None, unprobed),
        *(ServiceMeasures(f"more{number}", "", "up", COUNTS, servers) for number in range(many)),
    ]
    parts = [ProbeCounts([up], 1, 2, 3), ProbeCounts([down, unknown], 1, 2, 3)]
    return Measures(1, core, services, True, {"prober": parts}, {"prober"})

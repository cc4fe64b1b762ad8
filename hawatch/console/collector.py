"""From numbers to metrics: what there is to tell at one moment, by metric. `exposition` makes it text.

Whatever grows with the site is done in portions: a generator here yields after each, and the page has its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hawatch import __version__
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.measures import (
    LAG_BOUNDS_US,
    LATENCY_BOUNDS_US,
    CheckCounts,
    HistogramNow,
    ProbeCounts,
    ServerMeasures,
    WorkerMeasures,
)
from hawatch.config.alerts import Detail
from hawatch.console.catalogue import CATALOGUE
from hawatch.console.latencies import Latencies
from hawatch.console.measures import Measures
from hawatch.console.processes import Usage
from hawatch.model import NS_PER_S, Admin, Check, Plan, ServerState

US_PER_S, MS_PER_S = 1_000_000, 1000
BOUNDS_US = {
    "core_lag_seconds": LAG_BOUNDS_US,
    "probe_latency_seconds": LATENCY_BOUNDS_US,
    "check_latency_seconds": LATENCY_BOUNDS_US,
}
CHECKS_PER_PORTION = 20
GROUP_STATES = ("owner", "standby", "candidate", "released", "conflict")
TOTALS = {
    "connections_total": "connections",
    "incoming_packets_total": "packets_in",
    "outgoing_packets_total": "packets_out",
    "incoming_bytes_total": "bytes_in",
    "outgoing_bytes_total": "bytes_out",
    "connections_per_second": "connections_per_s",
    "incoming_packets_per_second": "packets_in_per_s",
    "outgoing_packets_per_second": "packets_out_per_s",
    "incoming_bytes_per_second": "bytes_in_per_s",
    "outgoing_bytes_per_second": "bytes_out_per_s",
}
OPEN = {
    "active_connections": "active",
    "inactive_connections": "inactive",
    "persistent_connections": "persistent",
}
SERVER_COUNTS = OPEN | TOTALS


@dataclass(frozen=True, slots=True)
class ConsoleNumbers:
    """What the console knows of itself."""

    cluster: str = ""
    node: str = ""
    taken: Mapping[str, int] = field(default_factory=dict)
    """Events by name."""
    events_waiting: int = 0
    journal_bytes: int = 0
    journal_on_disk: bool = True
    journal_committed_ns: int = 0
    alerts: tuple[str, ...] = ()
    sent: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By alert: how many letters, and when the oldest was made."""
    usages: Mapping[str, Usage] = field(default_factory=dict)
    """By process."""
    scrapes: int = 0
    gather_s: float = 0.0


class Families:
    """Values by metric, as they are found."""

    def __init__(self) -> None:
        self.values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in CATALOGUE}
        self.histograms: dict[str, list[tuple[tuple[str, ...], HistogramNow]]] = {name: [] for name in BOUNDS_US}

    def add(self, name: str, value: float, *labels: str) -> None:
        """Add a value; name and labels are the catalogue's."""
        assert name not in self.histograms, name
        self.values[name][labels] = value

    def add_counts(self, prefix: str, names: Mapping[str, str], counts: Counts, labels: tuple[str, ...]) -> None:
        """Add what the kernel counted; `names` has the attribute of each metric."""
        for name, attribute in names.items():
            self.values[prefix + name][labels] = getattr(counts, attribute)

    def add_histogram(self, name: str, now: HistogramNow, *labels: str) -> None:
        """Add a histogram."""
        self.histograms[name].append((labels, now))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment."""

    measures: Measures | None
    plan: Plan
    latencies: Latencies
    console: ConsoleNumbers
    detail: Detail = Detail.SERVER

    def fill(self, families: Families) -> Iterator[None]:
        """Add everything, and yield after each portion."""
        measures = self.measures
        families.add("core_up", measures is not None)
        _console(families, self.console)
        if measures is None:
            return
        assert measures.core is not None
        _core(families, measures)
        _groups(families, measures.core.site)
        _peers(families, measures.core.site)
        yield from _services(families, measures, servers=self.detail is not Detail.SERVICE)
        yield from _latencies(families, measures, self.plan, self.latencies)
        if self.detail is not Detail.SERVICE:
            yield from _probes(families, measures, self.plan, histograms=self.detail is Detail.CHECK)


def _core(families: Families, measures: Measures) -> None:
    core = measures.core
    assert core is not None
    families.add("start_time_seconds", core.started_wall_ns / NS_PER_S)
    families.add("warnings", core.warnings)
    families.add_histogram("core_lag_seconds", core.lag)
    families.add("ipvs_refused_services", core.ipvs_refused)
    if core.ipvs_read_wall_ns:
        families.add("ipvs_read_timestamp_seconds", core.ipvs_read_wall_ns / NS_PER_S)
        families.add("ipvs_read_duration_seconds", core.ipvs_read_took_ns / NS_PER_S)
    for worker in core.workers:
        _worker(families, worker, measures.counts.get(worker.name, []))


def _worker(families: Families, worker: WorkerMeasures, counts: list[ProbeCounts]) -> None:
    families.add("worker_running", worker.running, worker.name)
    families.add("worker_restarts_total", worker.restarts, worker.name)
    if not counts:
        return
    families.add("worker_lateness_seconds", worker.late_ms_max / MS_PER_S, worker.name)
    families.add("worker_checks_in_flight", worker.in_flight, worker.name)
    families.add("worker_late_checks_total", counts[-1].late, worker.name)
    families.add("worker_skipped_checks_total", counts[-1].skipped, worker.name)
    families.add("worker_discarded_results_total", counts[-1].discarded, worker.name)


def _services(families: Families, measures: Measures, *, servers: bool) -> Iterator[None]:
    for service in measures.services:
        name, real = service.name, [server for server in service.servers if not server.sorry]
        families.add("service_info", 1, name, service.group)
        if service.state in ("up", "down"):
            families.add("service_up", service.state == "up", name)
        families.add("service_servers", len(real), name)
        families.add("service_servers_up", sum(server.state == ServerState.UP for server in real), name)
        if service.counts is not None:
            families.add_counts("ipvs_service_", TOTALS, service.counts, (name,))
        if servers:
            for server in service.servers:
                _server(families, server, name)
        yield


def _server(families: Families, server: ServerMeasures, service: str) -> None:
    which = (service, server.server)
    if server.state != ServerState.UNKNOWN:
        families.add("server_up", server.state == ServerState.UP, *which)
    families.add("server_drained", server.admin == Admin.DRAINED, *which)
    families.add("server_disabled", server.admin == Admin.DISABLED, *which)
    families.add("server_weight", server.weight, *which)
    families.add("server_weight_configured", server.configured, *which)
    if server.latency_us >= 0:
        families.add("server_latency_seconds", server.latency_us / US_PER_S, *which)
    if server.counts is not None:
        families.add_counts("ipvs_server_", SERVER_COUNTS, server.counts, which)


def _rows(measures: Measures) -> Iterator[CheckCounts]:
    return (row for parts in measures.counts.values() for part in parts for row in part.checks)


def _latencies(families: Families, measures: Measures, plan: Plan, latencies: Latencies) -> Iterator[None]:
    latencies.adopt(plan)
    for number, row in enumerate(_rows(measures)):
        latencies.take(row)
        if number % CHECKS_PER_PORTION == 0:
            yield
    for labels, now in latencies.by_service():
        families.add_histogram("probe_latency_seconds", now, *labels)


def _probes(families: Families, measures: Measures, plan: Plan, *, histograms: bool) -> Iterator[None]:
    for service in plan.services:
        for server in (*service.servers, *((service.sorry,) if service.sorry else ())):
            for check in server.checks:
                labels = _check_labels(plan.checks[check])
                families.add("probe_info", 1, *labels, service.name, str(server.destination.key))
        yield
    for number, row in enumerate(_rows(measures)):
        found = plan.checks.get(row.check)
        if found is None:
            continue  # of the configuration before this one
        labels = _check_labels(found)
        if row.up >= 0:
            families.add("probe_up", row.up, *labels)
        families.add("probe_runs_total", row.runs, *labels)
        families.add("probe_failures_total", row.failures, *labels)
        if histograms:
            families.add_histogram("check_latency_seconds", row.latency, *labels)
        if number % CHECKS_PER_PORTION == 0:
            yield


def _check_labels(check: Check) -> tuple[str, str, str]:
    host = f"[{check.address}]" if ":" in check.address and check.port is not None else check.address
    return check.id, check.type, host if check.port is None else f"{host}:{check.port}"


def _groups(families: Families, site: Mapping[str, Any]) -> None:
    quorum = site["quorum"]
    families.add("quorum_held", quorum["held"])
    families.add("quorum_acceptors", quorum["acceptors"])
    families.add("quorum_reachable", quorum["reachable"])
    if "lease_ms" in quorum:
        families.add("lease_duration_seconds", quorum["lease_ms"] / MS_PER_S)
    for group in site["groups"]:
        name, owner = group["name"], group["state"] == "owner"
        families.add("group_owner", owner, name)
        families.add("group_epoch", group["epoch"], name)
        for state in GROUP_STATES:
            families.add("group_state", group["state"] == state, name, state)
        if "renewals" not in group:
            continue
        if owner:
            families.add("group_owned_seconds", group["owned_ms"] / MS_PER_S, name)
            families.add("lease_remaining_seconds", group["lease_left_ms"] / MS_PER_S, name)
        families.add("lease_acquisitions_total", group["acquisitions"], name)
        families.add("lease_renewals_total", group["renewals"], name)
        families.add("lease_renewal_failures_total", group["renewals_failed"], name)
        for refused in group["refused"]:
            families.add("lease_refusals_total", refused["count"], name, refused["acceptor"], refused["reason"])


def _peers(families: Families, site: Mapping[str, Any]) -> None:
    for role, key in (("director", "directors"), ("witness", "witnesses")):
        for peer in site.get(key, ()):
            families.add("peer_up", peer["state"] in ("alive", "late"), peer["name"], role)
            families.add("peer_silence_seconds", peer["silent_ms"] / MS_PER_S, peer["name"], role)
            for link in peer["links"]:
                which = (peer["name"], link["address"])
                families.add("link_up", link["state"] == "up", *which)
                families.add("link_heartbeats_received_total", link["received"], *which)
                families.add("link_heartbeats_lost_total", link["lost"], *which)
                if link.get("round_trip_ms") is not None:
                    families.add("link_round_trip_seconds", link["round_trip_ms"] / MS_PER_S, *which)
    for reason, count in site.get("rejected", {}).items():
        families.add("datagrams_rejected_total", count, reason)


def _console(families: Families, numbers: ConsoleNumbers) -> None:
    families.add("build_info", 1, __version__)
    families.add("node_info", 1, numbers.cluster, numbers.node)
    for name, usage in numbers.usages.items():
        families.add("process_cpu_seconds_total", usage.cpu_s, name)
        families.add("process_resident_memory_bytes", usage.resident_bytes, name)
    for name, count in sorted(numbers.taken.items()):
        families.add("events_total", count, name)
    families.add("events_waiting", numbers.events_waiting)
    families.add("journal_size_bytes", numbers.journal_bytes)
    families.add("journal_on_disk", numbers.journal_on_disk)
    if numbers.journal_committed_ns:
        families.add("journal_last_commit_timestamp_seconds", numbers.journal_committed_ns / NS_PER_S)
    for alert in numbers.alerts:
        waiting, oldest_ns = numbers.waiting.get(alert, (0, 0))
        families.add("alerts_sent_total", numbers.sent.get(alert, 0), alert)
        families.add("alert_attempts_failed_total", numbers.failures.get(alert, 0), alert)
        families.add("alerts_waiting", waiting, alert)
        if waiting:
            families.add("alerts_oldest_waiting_timestamp_seconds", oldest_ns / NS_PER_S, alert)
    families.add("console_scrapes_total", numbers.scrapes)
    families.add("console_gather_seconds", numbers.gather_s)

"""From numbers to metrics: what prometheus-client collects at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hawatch import __version__
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.measures import LAG_BOUNDS_US, LATENCY_BOUNDS_US, HistogramNow, ProbeCounts, WorkerMeasures
from hawatch.console.catalogue import CATALOGUE, Kind, Spec
from hawatch.console.measures import Measures
from hawatch.console.processes import Usage
from hawatch.model import NS_PER_S, Admin, Check, Plan, ServerState

US_PER_S, MS_PER_S = 1_000_000, 1000
BOUNDS_US = {"core_lag_seconds": LAG_BOUNDS_US, "probe_latency_seconds": LATENCY_BOUNDS_US}
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
    """Values by metric, as they are found; made into what prometheus-client wants one metric at a time.

    Samples of that are fifty times as big as a value here, and a large site has tens of thousands.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in CATALOGUE}
        self._histograms: dict[str, list[tuple[tuple[str, ...], HistogramNow]]] = {name: [] for name in BOUNDS_US}

    def add(self, name: str, value: float, *labels: str) -> None:
        """Add a value; name and labels are the catalogue's."""
        assert name not in self._histograms, name
        self._values[name].append((labels, value))

    def add_histogram(self, name: str, now: HistogramNow, *labels: str) -> None:
        """Add a histogram."""
        self._histograms[name].append((labels, now))

    def drain(self) -> Iterator[Metric]:
        """Yield every metric that has a value, in the catalogue's order, and forget it."""
        for name, spec in CATALOGUE.items():
            values = self._values.pop(name)
            if spec.kind is Kind.HISTOGRAM:
                yield from _histogram(spec, BOUNDS_US[name], self._histograms.pop(name))
            elif values:
                kind = GaugeMetricFamily if spec.kind is Kind.GAUGE else CounterMetricFamily
                family = kind(spec.name, spec.help, labels=spec.labels)
                for labels, value in values:
                    assert len(labels) == len(spec.labels), (name, labels)
                    family.add_metric(labels, float(value))
                yield family


def _histogram(
    spec: Spec, bounds_us: tuple[int, ...], rows: list[tuple[tuple[str, ...], HistogramNow]]
) -> Iterator[Metric]:
    bounds = [repr(bound / US_PER_S) for bound in bounds_us] + ["+Inf"]
    family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
    for labels, now in rows:
        buckets = list(zip(bounds, map(float, accumulate(now.counts)), strict=True))
        family.add_metric(labels, buckets, now.sum_us / US_PER_S)
    if rows:
        yield family


class Snapshot:
    """One moment, as prometheus-client collects it."""

    def __init__(self, measures: Measures | None, plan: Plan, console: ConsoleNumbers) -> None:
        self._measures = measures
        self._plan = plan
        self._console = console

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, in the catalogue's order."""
        families = Families()
        measures = self._measures
        families.add("core_up", measures is not None)
        if measures is not None:
            assert measures.core is not None
            _core(families, measures)
            _services(families, measures)
            _probes(families, measures, self._plan)
            _groups(families, measures.core.site)
            _peers(families, measures.core.site)
        _console(families, self._console)
        yield from families.drain()


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


def _services(families: Families, measures: Measures) -> None:
    for service in measures.services:
        name, servers = service.name, [server for server in service.servers if not server.sorry]
        families.add("service_info", 1, name, service.group)
        if service.state in ("up", "down"):
            families.add("service_up", service.state == "up", name)
        families.add("service_servers", len(servers), name)
        families.add("service_servers_up", sum(server.state == ServerState.UP for server in servers), name)
        if service.counts is not None:
            _counts(families, "ipvs_service_", TOTALS, service.counts, name)
        for server in service.servers:
            which = (name, server.server)
            if server.state != ServerState.UNKNOWN:
                families.add("server_up", server.state == ServerState.UP, *which)
            families.add("server_drained", server.admin == Admin.DRAINED, *which)
            families.add("server_disabled", server.admin == Admin.DISABLED, *which)
            families.add("server_weight", server.weight, *which)
            families.add("server_weight_configured", server.configured, *which)
            if server.latency_us >= 0:
                families.add("server_latency_seconds", server.latency_us / US_PER_S, *which)
            if server.counts is not None:
                _counts(families, "ipvs_server_", OPEN | TOTALS, server.counts, *which)


def _counts(families: Families, prefix: str, names: Mapping[str, str], counts: Counts, *labels: str) -> None:
    for name, attribute in names.items():
        families.add(prefix + name, getattr(counts, attribute), *labels)


def _probes(families: Families, measures: Measures, plan: Plan) -> None:
    for service in plan.services:
        for server in (*service.servers, *((service.sorry,) if service.sorry else ())):
            for check in server.checks:
                labels = _check_labels(plan.checks[check])
                families.add("probe_info", 1, *labels, service.name, str(server.destination.key))
    for parts in measures.counts.values():
        for row in (row for part in parts for row in part.checks):
            found = plan.checks.get(row.check)
            if found is None:
                continue  # of the configuration before this one
            labels = _check_labels(found)
            if row.up >= 0:
                families.add("probe_up", row.up, *labels)
            families.add("probe_runs_total", row.runs, *labels)
            families.add("probe_failures_total", row.failures, *labels)
            families.add_histogram("probe_latency_seconds", row.latency, *labels)


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

"""Metrics for Prometheus, and two questions for those who watch the watcher: /livez and /readyz.

What is told is read from the core's status when it is asked for; nothing is counted twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hawatch.agent.settings import Settings
from hawatch.console.delivery import Delivery

SERVER = ("service", "server")


class Measured(Protocol):
    """What the metrics need of the console."""

    settings: Settings
    delivery: Delivery
    linked: bool
    taken: int

    async def fresh_status(self) -> bytes:
        """Return the core's status, new if it answers in time."""


class Snapshot:
    """One moment, as prometheus-client collects it."""

    def __init__(self, status: Any, console: Measured) -> None:
        self._status = status
        self._console = console

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._servers(self._status.get("services", ()))
        yield from self._site(self._status)
        yield from self._alerts()

    def _servers(self, services: Iterable[Any]) -> Iterator[Metric]:
        up = GaugeMetricFamily("hawatch_server_up", "1: the server is up", labels=[*SERVER, "state"])
        weight = GaugeMetricFamily("hawatch_server_weight", "Weight in IPVS", labels=SERVER)
        latency = GaugeMetricFamily("hawatch_server_latency_seconds", "Latency of the last good probe", labels=SERVER)
        for service in services:
            for server in service["servers"]:
                which = [service["name"], f"{server['address']}:{server['port']}"]
                up.add_metric([*which, server["state"]], float(server["state"] == "up"))
                weight.add_metric(which, server["weight"])
                if server.get("latency_ms") is not None:
                    latency.add_metric(which, server["latency_ms"] / 1000)
        yield from (up, weight, latency)

    def _site(self, status: Any) -> Iterator[Metric]:
        owner = GaugeMetricFamily("hawatch_group_owner", "1: this director owns the group", labels=["group"])
        for group in status.get("groups", ()):
            owner.add_metric([group["name"]], float(group["state"] == "owner"))
        quorum = GaugeMetricFamily("hawatch_quorum_held", "1: there is a quorum")
        quorum.add_metric([], float(bool(status.get("quorum", {}).get("held"))))
        restarts = CounterMetricFamily("hawatch_worker_restarts", "Restarts of a process", labels=["worker"])
        running = GaugeMetricFamily("hawatch_worker_running", "1: the process runs", labels=["worker"])
        for worker in status.get("workers", ()):
            restarts.add_metric([worker["name"]], worker["restarts"])
            running.add_metric([worker["name"]], float(worker["state"] == "running"))
        warnings = GaugeMetricFamily("hawatch_warnings", "Warnings that status shows")
        warnings.add_metric([], len(status.get("warnings", ())))
        yield from (owner, quorum, restarts, running, warnings)

    def _alerts(self) -> Iterator[Metric]:
        delivery = self._console.delivery
        sent = CounterMetricFamily("hawatch_alerts_sent", "Messages sent by this console", labels=["alert"])
        failed = CounterMetricFamily("hawatch_alert_attempts_failed", "Attempts that failed", labels=["alert"])
        for name in delivery.targets:
            sent.add_metric([name], delivery.sent.get(name, 0))
            failed.add_metric([name], delivery.failures.get(name, 0))
        events = CounterMetricFamily("hawatch_events", "Events that this console has taken in")
        events.add_metric([], self._console.taken)
        yield from (sent, failed, events)


async def exposition(console: Measured) -> bytes:
    """Return the metrics as Prometheus reads them."""
    status = json.loads(await console.fresh_status() or b"{}")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot(status, console))
    return bytes(generate_latest(registry))


async def answer(console: Measured, path: str) -> tuple[int, str, bytes]:
    """Return status, content type and body for a path."""
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, await exposition(console)
    if path == "/livez":
        return 200, "text/plain", b"ok\n"
    if path == "/readyz":
        return (200, "text/plain", b"ok\n") if console.linked else (503, "text/plain", b"no channel to the core\n")
    return 404, "text/plain", b"there are /metrics, /livez and /readyz\n"

"""Metrics for Prometheus, and two questions for those who watch the watcher: /livez and /readyz.

What is told is read from the core's status when it is asked for; nothing is counted twice. The server understands GET
and nothing else, answers and closes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hawatch.agent.settings import Settings
from hawatch.config.fields import split_host_port
from hawatch.console.delivery import Delivery

HEAD_MAX = 8192
LIMIT_S = 10.0
RETRY_S = 5.0
CLIENTS_MAX = 16
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


async def serve_client(console: Measured, stream: trio.SocketStream) -> None:
    """Answer one request."""
    with trio.move_on_after(LIMIT_S):
        try:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < HEAD_MAX:
                data = await stream.receive_some(HEAD_MAX)
                if not data:
                    return
                head += data
            words = head.split(b"\r\n")[0].decode("ascii", "replace").split(" ")
            if len(words) != 3 or words[0] != "GET":
                status, kind, body = 405, "text/plain", b"GET only\n"
            else:
                status, kind, body = await answer(console, words[1].partition("?")[0])
            lines = (
                f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            )
            await stream.send_all(lines.encode() + b"\r\n" + body)
            await stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            return


async def serve_metrics(console: Measured) -> None:
    """Serve where the configuration says, for ever; another place after a reload."""
    limit = trio.CapacityLimiter(CLIENTS_MAX)

    async def handle(stream: trio.SocketStream) -> None:
        async with limit:
            await serve_client(console, stream)

    while True:
        listen = console.settings.config.console.listen
        if listen:
            host, port = split_host_port(listen)
            assert port is not None, listen
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_moved, console, listen, nursery.cancel_scope)
                    await trio.serve_tcp(handle, port, host=host)
            except* OSError as errors:
                print(f"hawatch console: {listen}: {errors.exceptions[0]}", file=sys.stderr, flush=True)
        await trio.sleep(RETRY_S)


async def _until_moved(console: Measured, listen: str, scope: trio.CancelScope) -> None:
    while console.settings.config.console.listen == listen:  # noqa: ASYNC110 - a reload may take a second
        await trio.sleep(1)
    scope.cancel()

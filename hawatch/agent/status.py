"""The status object: everything that the agent knows of itself, in the words of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import trio

from hawatch import __version__
from hawatch.actions.ipvs import Reading
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.child import CORE
from hawatch.agent.core_lag import LagMeter
from hawatch.agent.core_workers import Worker, WorkerState
from hawatch.agent.messages import CheckSummary
from hawatch.agent.settings import Settings
from hawatch.health.decide import ServerStatus, ServiceStatus
from hawatch.model import NS_PER_S, ServerPlan, ServerState, ServicePlan

SERVERS_PER_SLICE = 100
"""After so many servers the core's other tasks get their turn."""

STARTING = "the agent has just started"
NOT_KEPT = "this director does not keep the service's table now"

Object = dict[str, object]


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the status is made of."""

    settings: Settings
    ownership: Mapping[str, object]
    servers: Mapping[str, Sequence[ServerStatus]]
    """By service."""
    services: Mapping[str, ServiceStatus]
    summaries: Mapping[str, CheckSummary]
    reading: Reading
    """What the kernel counts, when its table was last read."""
    workers: Sequence[Worker]
    warnings: Sequence[str]
    lag: LagMeter
    started_wall_ns: int
    now_wall_ns: int


async def encode_status(inputs: StatusInputs) -> bytes:
    """Return the status as JSON, made in slices."""
    services: list[msgspec.Raw] = []
    servers = 0
    for service in inputs.settings.plan.services:
        services.append(msgspec.Raw(msgspec.json.encode(describe_service(service, inputs))))
        servers += len(service.servers)
        if servers >= SERVERS_PER_SLICE:
            servers = 0
            await trio.lowlevel.checkpoint()
    status: Object = {
        "cluster": inputs.settings.config.cluster.name,
        "node": inputs.settings.node,
        "version": __version__,
        "time": iso_seconds(inputs.now_wall_ns),
        "uptime_s": max(0, inputs.now_wall_ns - inputs.started_wall_ns) // NS_PER_S,
        **inputs.ownership,
        "services": services,
        "workers": [describe_worker(worker) for worker in inputs.workers],
        "warnings": [*inputs.warnings, *worker_warnings(inputs.workers)],
        "loop_lag_ms": {
            "p50": round(inputs.lag.quantile_ms(0.5), 2),
            "p99_9": round(inputs.lag.quantile_ms(0.999), 2),
            "max": round(inputs.lag.max_ms(), 2),
        },
    }
    return msgspec.json.encode(status)


def describe_service(service: ServicePlan, inputs: StatusInputs) -> Object:
    """Return a service with its servers, the sorry server last."""
    key = service.virtual.key
    status = inputs.services.get(service.name)
    rows = {(row.server, row.sorry): row for row in inputs.servers.get(service.name, ())}
    plans = [(server, False) for server in service.servers] + ([(service.sorry, True)] if service.sorry else [])
    described: Object = {
        "name": service.name,
        "group": service.group,
        "address": key.address,
        "port": key.port,
        "protocol": key.protocol,
        "scheduler": service.virtual.scheduler,
        "state": status.state if status else "unknown",
        "reason": status.reason if status else STARTING,
        "servers": [
            describe_server(
                server,
                rows.get((str(server.destination.key), sorry)),
                inputs,
                sorry=sorry,
                absent=NOT_KEPT if status else STARTING,
            )
            | describe_traffic(inputs.reading.destinations.get(key, {}).get(server.destination.key))
            for server, sorry in plans
        ],
    }
    if key.fwmark:
        described["fwmark"] = key.fwmark
    return described


def describe_server(
    server: ServerPlan, row: ServerStatus | None, inputs: StatusInputs, *, sorry: bool, absent: str
) -> Object:
    """Return one server: its state, the weight that it has in IPVS, and why; `absent` says why there is no row."""
    key = server.destination.key
    described: Object = {
        "address": key.address,
        "port": key.port,
        "state": row.state if row else ServerState.UNKNOWN,
        "weight": row.weight if row else 0,
        "in_table": row.in_table if row else False,
        "reason": row.reason if row else absent,
        "since": iso_seconds((row.since_wall_ns if row else 0) or inputs.started_wall_ns),
        "latency_ms": latency_ms(server, inputs.summaries),
    }
    if row is not None and row.held_until_wall_ns > inputs.now_wall_ns:
        until = iso_seconds(row.held_until_wall_ns)
        described["held_until"] = until
        described["reason"] = f"{row.reason}; held out for flapping until {until}"
    if sorry:
        described["sorry"] = True
    return described


def describe_traffic(counts: Counts | None) -> Object:
    """Return what the kernel counts of a server; nothing when the kernel does not have it."""
    if counts is None:
        return {}
    return {
        "active": counts.active,
        "inactive": counts.inactive,
        "connections_per_s": counts.connections_per_s,
        "bytes_in_per_s": counts.bytes_in_per_s,
        "bytes_out_per_s": counts.bytes_out_per_s,
    }


def latency_ms(server: ServerPlan, summaries: Mapping[str, CheckSummary]) -> float | None:
    """Return the longest of the last latencies of a server's checks; None when none has succeeded lately."""
    found = [summaries[check].latency_us for check in server.checks if check in summaries]
    known = [latency_us for latency_us in found if latency_us >= 0]
    return max(known) / 1000 if known else None


def describe_worker(worker: Worker) -> Object:
    """Return one process of the agent."""
    described: Object = {
        "name": worker.name,
        "state": worker.state,
        "pid": worker.pid,
        "restarts": worker.restarts,
        "reason": worker.reason,
    }
    if worker.name != CORE:
        late_ms_max = max(worker.late_ms, default=0.0)
        described |= {"late_ms_max": late_ms_max, "discarded": worker.discarded, "in_flight": worker.in_flight}
    return described


def worker_warnings(workers: Sequence[Worker]) -> list[str]:
    """Return a sentence for each worker that is gone."""
    return [
        f"{worker.name} is gone since {iso_seconds(worker.lost_wall_ns)} ({worker.reason}): "
        "its servers keep their last states until it is back"
        for worker in workers
        if worker.state is WorkerState.LOST
    ]


def iso_seconds(wall_ns: int) -> str:
    """Return an instant in UTC, to the second."""
    return f"{datetime.fromtimestamp(wall_ns // NS_PER_S, UTC):%Y-%m-%dT%H:%M:%SZ}"

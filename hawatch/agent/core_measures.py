"""What the core tells the console in numbers, in parts between which its other tasks get their turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Protocol

import trio

from hawatch.actions.ipvs import Reading
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.core_lag import LagMeter
from hawatch.agent.core_table import TableKeeper
from hawatch.agent.core_workers import Worker, Workers, WorkerState
from hawatch.agent.measures import (
    CoreMeasures,
    ServerMeasures,
    ServiceMeasures,
    ServicesMeasured,
    WorkerMeasures,
)
from hawatch.agent.messages import CheckSummary, ConsoleMessage
from hawatch.agent.ownership import Ownership
from hawatch.agent.settings import Settings
from hawatch.health.decide import ServerStatus, ServiceStatus
from hawatch.model import Admin, DestinationKey, ServerPlan, ServerState, ServiceKey, ServicePlan

SERVERS_PER_PART = 50
"""After so many servers a part is sent, and the core's other tasks get their turn."""


class View(Protocol):
    """What is measured of the core."""

    settings: Settings
    ownership: Ownership
    table: TableKeeper
    workers: Workers
    lag: LagMeter
    started_wall_ns: int

    def warnings(self) -> list[str]:
        """Return what is not as it should be."""

    def admin_words(self) -> Mapping[tuple[str, str], Admin]:
        """Return what the administrator said, by service and server."""


async def measure(core: View, number: int) -> AsyncGenerator[ConsoleMessage, None]:
    """Yield the parts of the answer with this number; ask the probers for theirs, which follow when they come."""
    table = core.table
    yield CoreMeasures(
        number=number,
        started_wall_ns=core.started_wall_ns,
        warnings=len(core.warnings()),
        lag=core.lag.histogram.now(),
        workers=[_worker(worker) for worker in core.workers.by_name.values()],
        counters=core.workers.ask_counts(number),
        site=dict(core.ownership.status()),
        ipvs_read_wall_ns=table.read_wall_ns,
        ipvs_read_took_ns=table.read_took_ns,
        ipvs_refused=table.refused(),
    )
    part: list[ServiceMeasures] = []
    servers = 0
    admin = core.admin_words()
    for service in core.settings.plan.services:
        part.append(_service(service, core, admin))
        servers += len(service.servers) + 1
        if servers >= SERVERS_PER_PART:
            yield ServicesMeasured(number, part, last=False)
            part, servers = [], 0
            await trio.lowlevel.checkpoint()
    yield ServicesMeasured(number, part, last=True)


def _worker(worker: Worker) -> WorkerMeasures:
    return WorkerMeasures(
        name=worker.name,
        running=worker.state is WorkerState.RUNNING,
        pid=worker.pid,
        restarts=worker.restarts,
        late_ms_max=max(worker.late_ms, default=0.0),
        in_flight=worker.in_flight,
    )


def _service(service: ServicePlan, core: View, admin: Mapping[tuple[str, str], Admin]) -> ServiceMeasures:
    table, key = core.table, service.virtual.key
    status: ServiceStatus | None = table.services.get(service.name)
    rows = {(row.server, row.sorry): row for row in table.servers.get(service.name, ())}
    return ServiceMeasures(
        name=service.name,
        group=service.group,
        state=status.state if status else "unknown",
        counts=table.reading.services.get(key),
        servers=[
            _server(plan, rows.get((str(plan.destination.key), sorry)), core, admin, service, sorry=sorry)
            for plan, sorry in _plans(service)
        ],
    )


def _plans(service: ServicePlan) -> Iterator[tuple[ServerPlan, bool]]:
    for server in service.servers:
        yield server, False
    if service.sorry is not None:
        yield service.sorry, True


def _server(
    plan: ServerPlan,
    row: ServerStatus | None,
    core: View,
    admin: Mapping[tuple[str, str], Admin],
    service: ServicePlan,
    *,
    sorry: bool,
) -> ServerMeasures:
    key = plan.destination.key
    server = str(key)
    in_table = row is not None and row.in_table
    return ServerMeasures(
        server=server,
        state=row.state if row else ServerState.UNKNOWN,
        admin=admin.get((service.name, server), Admin.NONE),
        weight=row.weight if row else 0,
        configured=plan.destination.weight,
        sorry=sorry,
        latency_us=_latency_us(plan, core.workers.summaries),
        counts=_counts(core.table.reading, service.virtual.key, key) if in_table or not sorry else None,
    )


def _counts(reading: Reading, service: ServiceKey, server: DestinationKey) -> Counts | None:
    return reading.destinations.get(service, {}).get(server)


def _latency_us(server: ServerPlan, summaries: Mapping[str, CheckSummary]) -> int:
    """Return the longest of the last latencies of a server's checks."""
    return max((summaries[check].latency_us for check in server.checks if check in summaries), default=-1)

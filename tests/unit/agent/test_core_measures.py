"""What the core tells in numbers: everything, in small parts, with the kernel's counts where they belong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from hawatch.actions.ipvs import Reading
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.core_console import console_frame, cut_frames
from hawatch.agent.core_lag import LagMeter
from hawatch.agent.core_measures import SERVERS_PER_PART, measure
from hawatch.agent.core_table import TableKeeper
from hawatch.agent.core_workers import Workers
from hawatch.agent.measures import CoreMeasures, ServicesMeasured
from hawatch.agent.messages import CheckSummary
from hawatch.agent.ownership import SingleOwnership
from hawatch.config.load import load_text
from hawatch.config.plan import make_plan
from hawatch.health.decide import ServerStatus, ServiceStatus
from hawatch.model import Admin, ServerState
from tests.unit.agent.keeper_site import settings


def config(services, servers):
    text = ""
    for number in range(services):
        text += f'[[service]]\nname = "s{number}"\naddress = "10.1.{number}.1"\nport = 80\n'
        text += 'sorry_server = "10.9.9.9:80"\nprobe = { type = "tcp" }\n'
        for server in range(servers):
            text += f'[[service.server]]\naddress = "10.2.{number}.{server + 1}"\nweight = 7\n'
    return text


class Core:
    def __init__(self, services=1, servers=2):
        self.settings = settings()
        self.plan = make_plan(load_text(config(services, servers)), "")
        object.__setattr__(self.settings, "plan", self.plan)
        self.ownership = SingleOwnership(self.settings)
        self.table = TableKeeper(self.plan, list, SimpleNamespace(read=lambda: None))
        self.workers = Workers(self.plan, list, list, lambda: 1, list)
        self.lag, self.started_wall_ns = LagMeter(), 5

    def warnings(self):
        return ["one"]

    def admin_words(self):
        return {("s0", "10.2.0.2:80"): Admin.DRAINED}


async def parts_of(core):
    """Return the parts as the console gets them."""
    buffer = bytearray()
    async for part in measure(core, 9):
        buffer += console_frame(part)
    return list(cut_frames(buffer))


async def test_everything_in_parts():
    core = Core(services=100, servers=20)
    first, *rest = await parts_of(core)
    assert isinstance(first, CoreMeasures)
    assert (first.number, first.started_wall_ns, first.warnings, first.counters) == (9, 5, 1, [])
    assert first.site["quorum"]["held"] is True
    assert [part.last for part in rest] == [False] * (len(rest) - 1) + [True]
    services = [service for part in rest for service in part.services]
    assert [service.name for service in services] == [f"s{number}" for number in range(100)]
    assert max(sum(len(one.servers) for one in part.services) for part in rest) <= SERVERS_PER_PART + 21


async def test_others_have_their_turn_between_the_parts():
    turns, core = 0, Core(services=100, servers=20)

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        parts = [part async for part in measure(core, 9)]
        nursery.cancel_scope.cancel()
    assert turns >= len(parts) - 4  # nobody is first always


async def test_a_server():
    core = Core()
    service = core.plan.services[0]
    key, (one, two) = service.virtual.key, service.servers
    counts = Counts(1, 2, 3, 4)
    core.table.reading = Reading({}, {key: counts}, {key: {one.destination.key: counts}})
    core.table.services["s0"] = ServiceStatus("s0", "up", "")
    core.table.servers["s0"] = (ServerStatus("s0", "10.2.0.1:80", ServerState.UP, 7, True, ""),)
    core.workers.summaries[one.checks[0]] = CheckSummary(one.checks[0], 1, 0, 840, "")
    _, told = await parts_of(core)
    assert isinstance(told, ServicesMeasured)
    (found,) = told.services
    assert (found.state, found.counts) == ("up", counts)
    first, second, sorry = found.servers
    assert (first.state, first.weight, first.configured, first.latency_us, first.counts) == ("up", 7, 7, 840, counts)
    assert (second.state, second.admin, second.weight, second.counts) == ("unknown", "drained", 0, None)
    assert (sorry.server, sorry.sorry, sorry.latency_us) == ("10.9.9.9:80", True, -1)
    assert two.checks != one.checks


@pytest.mark.parametrize("services", [0, 1])
async def test_the_end_is_always_told(services):
    parts = await parts_of(Core(services=services))
    assert parts[-1].last

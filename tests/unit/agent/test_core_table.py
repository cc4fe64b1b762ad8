from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import trio

from hawatch.actions.ipvs import Failure, Reading
from hawatch.agent.core_table import RECONCILE_INTERVAL_MAX_S, RECONCILE_INTERVAL_S, TableKeeper, reconcile_interval_s
from hawatch.agent.kernel import Table
from hawatch.agent.memento import Memento, make_memento
from hawatch.errors import KernelError
from hawatch.health.table import Change, apply_to
from hawatch.model import (
    Admin,
    Destination,
    DestinationKey,
    Event,
    Family,
    IpvsTimeouts,
    OnAllDown,
    OnFail,
    Plan,
    ServerPlan,
    ServiceKey,
    ServicePlan,
    VirtualService,
)

CLOCK_RATE = 20.0
"""The table's pauses take so many times less than by the clock; its thread needs some time of its own."""


@pytest.mark.parametrize(
    ("took_s", "interval_s"),
    [(0.0, RECONCILE_INTERVAL_S), (0.01, RECONCILE_INTERVAL_S), (0.1, 5.0), (10.0, RECONCILE_INTERVAL_MAX_S)],
)
def test_a_big_table_is_read_less_often(took_s: float, interval_s: float) -> None:
    assert reconcile_interval_s(took_s) == interval_s


def service(name: str, port: int, group: str = "") -> ServicePlan:
    servers = (ServerPlan(Destination(DestinationKey("198.51.100.1", 80)), ()),)
    virtual = VirtualService(ServiceKey(Family.IPV4, "tcp", "192.0.2.1", port))
    return ServicePlan(name, group, virtual, servers, None, OnFail.REMOVE, OnAllDown.KEEP_LAST)


class StubbornKernel:
    """A table in memory; it refuses changes as long as it is told to, as a whole or one by one."""

    def __init__(self) -> None:
        self.table: Table = {}
        self.breaks = self.refuses = False

    def read_counted(self) -> Reading:
        return Reading(table=dict(self.table))

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        if self.breaks:
            raise KernelError("no buffer space")
        if self.refuses:
            return [Failure(change, 16, "busy") for change in changes]
        self.table = apply_to(self.table, changes)
        return []

    def set_timeouts(self, timeouts: IpvsTimeouts) -> bool:
        return False

    def read_counts(self, services):
        return {}

    def close(self) -> None:
        pass


class Site:
    """A table keeper with its kernel, its events, and what it sees of the core."""

    verdicts: Mapping = {}
    weights: Mapping = {}
    hindrances: Mapping = {}

    def __init__(self, plan: Plan) -> None:
        self.workers = self
        self.inactive: frozenset[str] = frozenset()
        self.events: list[Event] = []
        self.kernel = StubbornKernel()
        self.keeper = TableKeeper(plan, self.emit, Memento(make_memento()))
        self.keeper.set_kernel(self.kernel, self.kernel)

    def emit(self, events) -> None:
        self.events.extend(event for event in events if event.name.startswith("ipvs"))

    def all_complete(self) -> bool:
        return True

    def admin_words(self) -> Mapping[tuple[str, str], Admin]:
        return {}

    def inactive_groups(self) -> frozenset[str]:
        return self.inactive

    def services(self) -> int:
        return len(self.kernel.table)


async def wait(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        await trio.sleep(0.1)
    raise AssertionError("never came true")


@pytest.mark.parametrize("how", ["breaks", "refuses"])
@pytest.mark.parametrize("why", ["reload", "standby"])
async def test_a_removal_that_the_kernel_refuses_is_told_once_and_tried_again(
    how: str, why: str, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = CLOCK_RATE
    both = Plan((service("a", 80), service("b", 81, "web")), {})
    site = Site(both)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.keeper.run, site)
        await wait(lambda: site.services() == 2)
        setattr(site.kernel, how, True)
        if why == "reload":
            site.keeper.set_plan(Plan(both.services[:1], {}))
        else:
            site.inactive = frozenset({"web"})
            site.keeper.wake_all()
        await wait(lambda: bool(site.events))
        await trio.sleep(RECONCILE_INTERVAL_S + 1)  # it is tried again meanwhile
        assert [(event.name, event.service) for event in site.events] == [("ipvs_refused", "b")]
        assert site.keeper.refused() == 1
        assert site.keeper.problems()[0].startswith("service b is to be removed: ")
        assert site.services() == 2
        setattr(site.kernel, how, False)
        await wait(lambda: site.services() == 1)
        await wait(lambda: site.keeper.problems() == [])
        nursery.cancel_scope.cancel()
    assert len(site.events) == 1


async def test_a_service_that_is_wanted_again_is_not_removed_after_all(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = CLOCK_RATE
    both = Plan((service("a", 80), service("b", 81)), {})
    site = Site(both)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.keeper.run, site)
        await wait(lambda: site.services() == 2)
        site.kernel.refuses = True
        site.keeper.set_plan(Plan(both.services[:1], {}))
        await wait(lambda: bool(site.events))
        site.kernel.refuses = False
        site.keeper.set_plan(both)
        await wait(lambda: site.keeper.problems() == [])
        await trio.sleep(RECONCILE_INTERVAL_S + 1)
        assert site.services() == 2
        nursery.cancel_scope.cancel()

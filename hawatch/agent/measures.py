"""Numbers for metrics: how they are kept, and how they pass from prober and core to the console.

Nothing here is needed for a decision. The console asks, at most once in a while; the core answers with what it knows,
in parts that take it a fraction of a millisecond each, and passes the question on to the probers. What a prober counts
goes through the core as bytes that it does not look into. Everything counts since the start of the process that
counts; no text is made before the console.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Any

import msgspec

from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.messages import ConsoleMessage, WorkMessage

LATENCY_BOUNDS_US = (1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000)
"""Upper bounds of the buckets of a check's latency; one more has what is longer."""
LAG_BOUNDS_US = (500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000)
"""Upper bounds of the buckets of the core's lateness."""


class HistogramNow(msgspec.Struct, frozen=True, array_like=True):
    """A histogram at one moment."""

    counts: list[int]
    """Of each bucket, not summed up; the last one has what is above every bound."""
    sum_us: int


class Histogram:
    """Counts durations in buckets of fixed bounds, so that it never grows."""

    __slots__ = ("_bounds", "_counts", "_sum_us")

    def __init__(self, bounds_us: tuple[int, ...]) -> None:
        assert list(bounds_us) == sorted(set(bounds_us)), bounds_us
        self._bounds = bounds_us
        self._counts = array("Q", bytes(8 * (len(bounds_us) + 1)))
        self._sum_us = 0

    def note(self, duration_us: int) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, duration_us)] += 1
        self._sum_us += duration_us

    def now(self) -> HistogramNow:
        """Return what was counted so far."""
        return HistogramNow(self._counts.tolist(), self._sum_us)


# --- Between core and prober --------------------------------------------------------------------------------


class WantCounts(WorkMessage, frozen=True, tag=True):
    """Core to prober: answered with `Counted`, in several parts."""

    number: int


class Counted(WorkMessage, frozen=True, tag=True):
    """Prober to core, which passes it on: a part of the answer."""

    number: int
    data: bytes
    """`ProbeCounts`, encoded."""
    last: bool


class CheckCounts(msgspec.Struct, frozen=True, array_like=True):
    """One check since its prober began with it."""

    check: str
    up: int
    """1, 0, or -1 when it is not known yet."""
    runs: int
    failures: int
    latency: HistogramNow
    """Of the runs that succeeded."""


class ProbeCounts(msgspec.Struct, frozen=True, array_like=True):
    """A part of what a prober has counted; what is not of a check is in every part."""

    checks: list[CheckCounts]
    late: int
    """Starts that were noticeably late."""
    skipped: int
    """Runs left out, for the one before had not ended or this process was late."""
    discarded: int
    """Failures that say nothing of a server."""


# --- Between core and console -------------------------------------------------------------------------------


class WantMeasures(ConsoleMessage, frozen=True, tag=True):
    """Console to core: answered with `CoreMeasures`, `ServicesMeasured` and `WorkerCounted`."""

    number: int


class WorkerMeasures(msgspec.Struct, frozen=True, array_like=True):
    """One process of the agent."""

    name: str
    running: bool
    pid: int
    restarts: int
    late_ms_max: float
    in_flight: int


class CoreMeasures(ConsoleMessage, frozen=True, tag=True):
    """Core to console: the beginning of an answer."""

    number: int
    started_wall_ns: int
    warnings: int
    lag: HistogramNow
    workers: list[WorkerMeasures]
    counters: list[str]
    """Workers that were asked for what they count."""
    site: dict[str, Any]
    """What the ownership says of quorum, directors and groups."""
    ipvs_read_wall_ns: int
    """When the kernel's table was last read; 0: never."""
    ipvs_read_took_ns: int
    ipvs_refused: int
    """Services of which the kernel refuses a change now."""


class ServerMeasures(msgspec.Struct, frozen=True, array_like=True):
    """One server of a service."""

    server: str
    state: str
    admin: str
    """What an administrator said of it."""
    weight: int
    """What it has in IPVS."""
    configured: int
    sorry: bool
    latency_us: int
    """Of the last good probe; -1: none lately."""
    counts: Counts | None
    """None: the kernel does not have it."""


class ServiceMeasures(msgspec.Struct, frozen=True, array_like=True):
    """One service."""

    name: str
    group: str
    state: str
    counts: Counts | None
    servers: list[ServerMeasures]


class ServicesMeasured(ConsoleMessage, frozen=True, tag=True):
    """Core to console: some of the services."""

    number: int
    services: list[ServiceMeasures]
    last: bool


class WorkerCounted(ConsoleMessage, frozen=True, tag=True):
    """Core to console: what a prober has counted, as it came."""

    worker: str
    number: int
    data: bytes
    last: bool

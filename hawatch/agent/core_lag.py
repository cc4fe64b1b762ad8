"""The core's own lateness: measured all the time, told to the service manager, shown in status."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import trio

from hawatch.agent.measures import LAG_BOUNDS_US, Histogram
from hawatch.agent.pace import next_turn
from hawatch.agent.process import notify_service_manager
from hawatch.model import NS_PER_MS, NS_PER_S

MEASURE_INTERVAL_S = 1.0
WINDOW = 1000
"""Measurements remembered: one a second, and those of the lease's turns."""


class LagMeter:
    """How late the core's loop ran what was due, over the last measurements."""

    def __init__(self) -> None:
        self._late_ns: deque[int] = deque(maxlen=WINDOW)
        self.histogram = Histogram(LAG_BOUNDS_US)
        """Of all measurements since the core's start."""

    def note(self, late_ns: int) -> None:
        """Remember one measurement."""
        self._late_ns.append(max(0, late_ns))
        self.histogram.note(max(0, late_ns) // 1000)

    def quantile_ms(self, fraction: float) -> float:
        """Return the lateness that this fraction of the measurements did not exceed; 0.0 without any."""
        assert 0.0 <= fraction <= 1.0, fraction
        if not self._late_ns:
            return 0.0
        ordered = sorted(self._late_ns)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] / NS_PER_MS

    def max_ms(self) -> float:
        """Return the worst of the last measurements."""
        return max(self._late_ns, default=0) / NS_PER_MS


async def measure_lag(meter: LagMeter, status_line: Callable[[], str]) -> None:
    """Measure until cancelled; feed the service manager's watchdog while the loop runs.

    The watchdog is fed by this loop and by nothing else: a core that cannot decide is not alive.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    told = ""
    while True:
        due = next_turn(MEASURE_INTERVAL_S)
        await trio.sleep_until(due)
        meter.note(int((trio.current_time() - due) * NS_PER_S))
        if address:
            line = status_line()
            notify_service_manager(address, "WATCHDOG=1" if line == told else f"WATCHDOG=1\nSTATUS={line}")
            told = line

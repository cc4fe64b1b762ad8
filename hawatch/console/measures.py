"""The core's and the probers' numbers as the console has them: asked for when somebody wants to know, and shared.

Those who ask within `SHARED_S` get the same numbers, so that many readers cost the core no more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import trio

from hawatch.agent.measures import (
    CoreMeasures,
    ProbeCounts,
    ServiceMeasures,
    ServicesMeasured,
    WantMeasures,
    WorkerCounted,
)
from hawatch.agent.messages import ConsoleMessage
from hawatch.console.latencies import Latencies

SHARED_S = 1.0
"""Numbers so new are not asked for again."""
ANSWER_WAIT_S = 3.0
"""The core and its probers may take so long."""

_decoder = msgspec.msgpack.Decoder(ProbeCounts)


@dataclass(slots=True)
class Measures:
    """One answer, as far as it has come."""

    number: int
    core: CoreMeasures | None = None
    services: list[ServiceMeasures] = field(default_factory=list)
    services_complete: bool = False
    counts: dict[str, list[ProbeCounts]] = field(default_factory=dict)
    """By worker."""
    counted: set[str] = field(default_factory=set)
    """Workers whose counts are complete."""

    @property
    def core_complete(self) -> bool:
        """Tell whether the core has told everything."""
        return self.core is not None and self.services_complete

    @property
    def complete(self) -> bool:
        """Tell whether nothing is missing."""
        return self.core is not None and self.services_complete and set(self.core.counters) <= self.counted


class MeasureKeeper:
    """Asks the core, and keeps the answer for those who want it."""

    def __init__(self, send: Callable[[ConsoleMessage], None], linked: Callable[[], bool]) -> None:
        self.latencies = Latencies()
        self._send = send
        self._linked = linked
        self._number = 0
        self._coming = Measures(0)
        self._done = trio.Event()
        self._lock = trio.Lock()
        self._at_s = -SHARED_S

    def take(self, message: CoreMeasures | ServicesMeasured | WorkerCounted) -> None:
        """Take in a part of the answer; parts of an older one are passed over."""
        coming = self._coming
        if message.number != coming.number:
            return
        match message:
            case CoreMeasures():
                coming.core = message
            case ServicesMeasured(services=services, last=last):
                coming.services += services
                coming.services_complete = last
            case WorkerCounted(worker=worker, data=data, last=last):
                coming.counts.setdefault(worker, []).append(_decoder.decode(data))
                if last:
                    coming.counted.add(worker)
        if coming.complete:
            self._done.set()

    async def fresh(self) -> Measures | None:
        """Return the numbers of now, without what did not come in time; None when the core does not answer."""
        async with self._lock:
            if trio.current_time() - self._at_s >= SHARED_S:
                await self._ask()
            found = self._coming
            return found if found.core_complete else None

    async def _ask(self) -> None:
        self._number += 1
        self._coming, self._done = Measures(self._number), trio.Event()
        if not self._linked():
            return
        self._send(WantMeasures(self._number))
        with trio.move_on_after(ANSWER_WAIT_S):
            await self._done.wait()
        self._at_s = trio.current_time()

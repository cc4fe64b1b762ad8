"""The IPVS table: from verdicts and the administrator's words to the kernel, and back from the kernel.

Theory of operation
-------------------
One task decides and applies. It runs when something has changed, and applies in the main thread what it decided:
a change takes the kernel much less than a millisecond, and they go out in batches. Another task reads the kernel's
table in a thread every few seconds. What it finds counts only if nothing was applied while it read.

The first decision waits for the kernel's table and for what the probers know, so that a core that is born anew
decides by the same things as the one before it, and finds nothing to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import trio

from hawatch.agent.core_workers import Workers
from hawatch.agent.kernel import Kernel
from hawatch.agent.state import AdminState
from hawatch.errors import KernelError
from hawatch.health.table import Decision, Inputs, Memory, decide, diff
from hawatch.model import DestinationKey, Event, Plan, ServerState, ServiceKey, Severity, Table

FIRST_WAIT_S = 3.0
"""The first decision waits for the probers no longer."""
RECONCILE_INTERVAL_S = 5.0
GATHER_S = 0.002
"""Verdicts that come together are decided on together."""


class View(Protocol):
    """What the table needs of the core."""

    workers: Workers
    admin: AdminState


class TableKeeper:
    """Keeps the kernel's table as the configuration, the verdicts and the administrator want it."""

    def __init__(self, plan: Plan, emit: Callable[[Iterable[Event]], None]) -> None:
        self.kernel: Kernel | None = None
        self.decision: Decision | None = None
        self._plan = plan
        self._emit = emit
        self._memory = Memory()
        self._table: Table = {}
        self._owned = _keys(plan)
        self._woken = trio.Event()
        self._settled = trio.Event()
        self._generation = 0
        """Counts what was applied: a reading during which it rose is stale."""
        self._read_problem = ""
        self._refusals: dict[str, None] = {}

    def wake(self) -> None:
        """Something has changed: decide soon."""
        self._woken.set()

    def set_plan(self, plan: Plan) -> None:
        """Go on by a new plan; what only the old one had is taken out of the kernel."""
        self._owned = self._owned | _keys(plan)
        self._plan = plan

    async def settle(self) -> None:
        """Return when a decision that began after this call has been applied."""
        settled = self._settled
        self._woken.set()
        await settled.wait()

    # --- tasks -----------------------------------------------------------------------------------------------

    async def run(self, view: View) -> None:
        """Keep the table until cancelled."""
        await self._reread()
        await self._wait_first(view)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reconcile)
            while True:
                self._woken = trio.Event()
                settled, self._settled = self._settled, trio.Event()
                self._act(view)
                settled.set()
                await self._woken.wait()
                await trio.sleep(GATHER_S)

    async def _wait_first(self, view: View) -> None:
        with trio.move_on_after(FIRST_WAIT_S):
            while not view.workers.all_complete():
                self._woken = trio.Event()
                await self._woken.wait()

    async def _reconcile(self) -> None:
        while True:
            await trio.sleep(RECONCILE_INTERVAL_S)
            if await self._reread():
                self.wake()

    async def _reread(self) -> bool:
        """Read the kernel's table in a thread; tell whether it is another one than we thought."""
        if self.kernel is None:
            return False
        generation = self._generation
        try:
            table = await trio.to_thread.run_sync(self.kernel.read)
        except KernelError as error:
            self._note_read_problem(f"the IPVS table cannot be read: {error}")
            return False
        self._note_read_problem("")
        if generation != self._generation or table == self._table:
            return False
        self._table = table
        return True

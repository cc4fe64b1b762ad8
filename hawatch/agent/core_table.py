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
from hawatch.agent.ownership import Ownership
from hawatch.errors import KernelError
from hawatch.health.table import Decision, Inputs, Memory, decide, diff
from hawatch.model import Admin, DestinationKey, Event, Plan, ServerState, ServiceKey, Severity, Table

FIRST_WAIT_S = 3.0
"""The first decision waits for the probers no longer."""
RECONCILE_INTERVAL_S = 5.0
DRIFT_SHOWN_MAX = 10
"""Changes by hand that one event spells out."""
GATHER_S = 0.002
"""Verdicts that come together are decided on together."""


class View(Protocol):
    """What the table needs of the core."""

    workers: Workers
    ownership: Ownership

    def admin_by_key(self) -> Mapping[tuple[str, DestinationKey], Admin]:
        """Return what the administrator said, by service and server."""


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
        self._reread_differs = False
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
        self._reread_differs = self.decision is not None
        return True

    # --- decide and apply ------------------------------------------------------------------------------------

    def _act(self, view: View) -> None:
        """Decide on what is known now, and make the kernel's table so."""
        inputs = Inputs(
            verdicts=view.workers.verdicts,
            admin=view.admin_by_key(),
            weights=view.workers.weights(),
            kernel=self._table,
            owned_groups=view.ownership.owned(),
        )
        self.decision = decision = decide(self._plan, inputs, self._memory)
        self._memory = decision.memory
        if self.kernel is not None:
            self._apply(self.kernel, decision.wanted)
        self._emit(decision.events)

    def _apply(self, kernel: Kernel, wanted: Table) -> None:
        changes, drift = diff(self._table, wanted, self._owned)
        if self._reread_differs and drift:
            self._emit([_drift_event(drift)])
        self._reread_differs = False
        if not changes:
            return
        self._generation += 1
        try:
            refusals = list(kernel.apply(changes))
        except KernelError as error:
            refusals = [str(error)]
        self._note_refusals(refusals)
        if not refusals:
            self._table = {key: entry for key, entry in self._table.items() if key not in self._owned} | dict(wanted)
            self._owned = _keys(self._plan)

    def _note_refusals(self, refusals: list[str]) -> None:
        """Tell of what the kernel refuses once, not each time that it is tried again."""
        for text in refusals:
            if text not in self._refusals:
                self._emit([Event("ipvs_refused", f"{text}; it is tried again", Severity.WARNING)])
        self._refusals = dict.fromkeys(refusals)

    def _note_read_problem(self, text: str) -> None:
        if text and not self._read_problem:
            self._emit([Event("ipvs_unreadable", text, Severity.WARNING)])
        self._read_problem = text

    # --- what others ask -------------------------------------------------------------------------------------

    async def connections(self) -> Mapping[tuple[ServiceKey, DestinationKey], int]:
        """Return the connections of each destination, read by a thread."""
        if self.kernel is None:
            return {}
        return await trio.to_thread.run_sync(self.kernel.connections)

    def problems(self) -> list[str]:
        """Return what is wrong, a sentence each."""
        return [*self._refusals, self._read_problem]

    def count_up(self) -> tuple[int, int]:
        """Return how many servers are up, and how many there are."""
        servers = self.decision.servers.values() if self.decision else ()
        return sum(server.state is ServerState.UP for server in servers), len(servers)


def _keys(plan: Plan) -> frozenset[ServiceKey]:
    """Return the services that a plan keeps in the kernel."""
    return frozenset(service.virtual.key for service in plan.services)


def _drift_event(drift: Iterable[object]) -> Event:
    """Return the event that tells of what somebody else changed in our services."""
    texts = [str(each) for each in drift]
    shown = "; ".join(texts[:DRIFT_SHOWN_MAX]) + ("; ..." if len(texts) > DRIFT_SHOWN_MAX else "")
    reason = f"the IPVS table was changed by someone else and is put back: {shown}"
    return Event("ipvs_drift", reason, Severity.WARNING, numbers={"changes": len(texts)})

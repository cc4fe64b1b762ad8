"""The IPVS table: from verdicts and the administrator's words to the kernel, and back from the kernel.

Theory of operation
-------------------
One task decides and applies. It runs when something has changed, looks at the services that this concerns, and sends
the kernel what is to be otherwise in the main thread, many changes to a packet: that takes much less than a
millisecond. What concerns many services is done in slices, between which the core's other tasks get their turn.

Another task reads the kernel's table in a thread every few seconds, through a connection of its own. What it finds
counts only if nothing was applied while it read. Where it differs from what we left there somebody else was at work:
that is put back, with an event. Services that are not ours do not concern us.

The first decision waits for the kernel's table and for what the probers know, so that a core that is born anew
decides by the same things as the one before it, and finds nothing to change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import trio

from hawatch.actions.ipvs import Reading
from hawatch.agent.core_workers import Workers
from hawatch.agent.kernel import Kernel, Table
from hawatch.agent.memento import Memento
from hawatch.agent.settings import wall_ns
from hawatch.errors import KernelError
from hawatch.health.decide import Decision, Inputs, Memory, ServerStatus, ServiceStatus, decide
from hawatch.health.table import (
    Change,
    apply_to,
    describe,
    diff,
    service_of,
)
from hawatch.model import (
    NS_PER_MS,
    NS_PER_S,
    Admin,
    DestinationKey,
    Event,
    IpvsTimeouts,
    Plan,
    ServerState,
    ServiceKey,
    Severity,
)
from hawatch.model import Protocol as Transport

FIRST_WAIT_S = 3.0
"""The first decision waits for the probers no longer."""
RECONCILE_INTERVAL_S = 3.0
"""The kernel's table is read so often, if it can be read quickly."""
RECONCILE_SHARE = 50
"""Reading takes at most one part in so many of the time: a big table is read less often."""
RECONCILE_INTERVAL_MAX_S = 30.0
REREAD_PAUSE_S = 0.25
"""Between readings that refusals ask for: somebody who changes our services all the time is not raced."""
DRIFT_SHOWN_MAX = 10
"""Changes by hand that one event spells out."""
GATHER_S = 0.001
"""Verdicts that come together are decided on together."""
SLICE_SERVERS = 50
"""Servers decided on before the core's other tasks get their turn."""

Emit = Callable[[Iterable[Event]], None]


class View(Protocol):
    """What the table needs of the core."""

    workers: Workers

    def admin_words(self) -> Mapping[tuple[str, str], Admin]:
        """Return what the administrator said, by service and server."""

    def inactive_groups(self) -> frozenset[str]:
        """Return the groups whose services are not kept in the table now."""


class TableKeeper:
    """Keeps the kernel's table as the configuration, the verdicts and the administrator want it."""

    def __init__(self, plan: Plan, emit: Emit, memento: Memento) -> None:
        self.servers: dict[str, tuple[ServerStatus, ...]] = {}
        """By service; empty before the first decision."""
        self.services: dict[str, ServiceStatus] = {}
        self.reading = Reading()
        """The kernel's table as it was read last, for those who want to know what the kernel counts."""
        self.read_wall_ns = 0
        """When that was; 0: never."""
        self.read_took_ns = 0
        self._kernel: Kernel | None = None
        self._reader: Kernel | None = None
        self._reader_lock = trio.Lock()
        self._emit = emit
        self._memento = memento
        self._memory: Memory = memento.read() or {}
        self._table: Table = {}
        self._names: dict[ServiceKey, str] = {}
        """The plan's services by what the kernel knows them by."""
        self._left_over: dict[ServiceKey, str] = {}
        """Services that are to be removed from the kernel, by what they were called."""
        """Services of earlier plans that the present one does not have."""
        self._dirty: set[str] = set()
        self._drifted: set[str] = set()
        self._woken = trio.Event()
        self._settled = trio.Event()
        self._generation = 0
        """Counts what was applied: a reading during which it rose is stale."""
        self._reread_now = trio.Event()
        self._uncertain: set[ServiceKey] = set()
        """Services of which the kernel refused a change: what they hold now is not known until the next reading."""
        self._timeouts: IpvsTimeouts | None = None
        self._read_problem = ""
        self._refusals: dict[str, tuple[str, ...]] = {}
        self._unremoved: dict[ServiceKey, tuple[str, str]] = {}
        """Services that the kernel does not let go of: name and reason."""
        self.set_plan(plan)

    # --- what wakes it ---------------------------------------------------------------------------------------

    def set_plan(self, plan: Plan) -> None:
        """Go on by a new plan; what only the old one had is taken out of the kernel."""
        self._plan = plan
        earlier, self._names = self._names, {service.virtual.key: service.name for service in plan.services}
        left_over = self._left_over | earlier
        self._left_over = {key: name for key, name in left_over.items() if key not in self._names}
        self._by_check: dict[str, list[str]] = {}
        for service in plan.services:
            for server in (*service.servers, *((service.sorry,) if service.sorry else ())):
                for check in server.checks:
                    self._by_check.setdefault(check, []).append(service.name)
        names = {service.name for service in plan.services}
        self.servers = {name: rows for name, rows in self.servers.items() if name in names}
        self.services = {name: row for name, row in self.services.items() if name in names}
        self._refusals = {name: texts for name, texts in self._refusals.items() if name in names}
        self.wake_all()

    def wake(self, checks: Iterable[str]) -> None:
        """The verdicts of these checks have changed: decide soon."""
        for check in checks:
            self._dirty.update(self._by_check.get(check, ()))
        self._woken.set()

    def wake_all(self) -> None:
        """Anything may have changed: decide on everything soon."""
        self._dirty.update(service.name for service in self._plan.services)
        self._woken.set()

    async def settle(self, services: Iterable[str]) -> None:
        """Decide on these services, and return when that has been applied."""
        self._dirty.update(services)
        settled = self._settled
        self._woken.set()
        await settled.wait()

    def set_kernel(self, kernel: Kernel, reader: Kernel) -> None:
        """Use these connections: one to change the table with, one to read it with from a thread."""
        self._kernel, self._reader = kernel, reader

    @property
    def has_kernel(self) -> bool:
        """Tell whether there is a connection to the kernel; without services none is needed."""
        return self._kernel is not None

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
                await self._act(view)
                settled.set()
                await self._woken.wait()
                await trio.sleep(GATHER_S)

    async def _wait_first(self, view: View) -> None:
        """Let the probers say what they know before the first decision; without checks there is nothing to know."""
        if not self._plan.checks:
            return
        with trio.move_on_after(FIRST_WAIT_S):
            while not view.workers.all_complete():
                self._woken = trio.Event()
                await self._woken.wait()

    async def _reconcile(self) -> None:
        while True:
            asked = False
            with trio.move_on_after(reconcile_interval_s(self.read_took_ns / NS_PER_S)):
                await self._reread_now.wait()
                asked = True
            self._reread_now = trio.Event()
            await self._reread()
            if asked:
                await trio.sleep(REREAD_PAUSE_S)
            else:
                self._dirty.update(self._refusals)
            if self._dirty or (self._unremoved and not asked):
                self._woken.set()

    async def _reread(self) -> None:
        """Read the kernel's table in a thread, and mark the services that are not as we left them."""
        reader = self._reader
        if reader is None:
            return
        generation = self._generation
        began_s = trio.current_time()
        try:
            async with self._reader_lock:
                reading = await trio.to_thread.run_sync(reader.read_counted)
        except KernelError as error:
            self._note_read_problem(f"the IPVS table cannot be read: {error}")
            return
        self.read_took_ns = int((trio.current_time() - began_s) * NS_PER_S)
        self.reading, self.read_wall_ns = reading, wall_ns()
        self._note_read_problem("")
        if generation != self._generation:
            return
        table = dict(reading.table)
        before, self._table = self._table, table
        for service in self._plan.services:
            key = service.virtual.key
            if service.name in self.services and before.get(key) != table.get(key):
                self._dirty.add(service.name)
                if key not in self._uncertain:
                    self._drifted.add(service.name)
        self._uncertain.clear()

    # --- decide and apply ------------------------------------------------------------------------------------

    async def _act(self, view: View) -> None:
        """Decide on the services that something has changed for, and make the kernel's table so."""
        dirty, self._dirty = self._dirty, set()
        drifted, self._drifted = self._drifted, set()
        plan = self._plan
        self._set_timeouts(plan)
        for names in _slices(plan, dirty):
            if plan is not self._plan:
                self._dirty |= dirty  # a new plan came in between: begin anew with that
                return
            self._decide(view, plan, names, names & drifted)
            await trio.lowlevel.checkpoint()
        self._remove_unwanted(view)

    def _decide(self, view: View, plan: Plan, names: set[str], drifted: set[str]) -> None:
        inputs = Inputs(
            verdicts=view.workers.verdicts,
            admin=view.admin_words(),
            kernel=self._table,
            weights=view.workers.weights,
            hindrances=view.workers.hindrances,
            inactive_groups=view.inactive_groups(),
        )
        decision = decide(plan, inputs, self._memory, names)
        self._apply(decision, drifted)
        rows: dict[str, list[ServerStatus]] = {name: [] for name in names}
        for row in decision.servers:
            rows[row.service].append(row)
        self.servers.update({name: tuple(found) for name, found in rows.items()})
        self.services.update({status.name: status for status in decision.services})
        changed = any(self._memory.get(name) != decision.memory.get(name) for name in names)
        if changed or len(self._memory) != len(decision.memory):
            self._memory = decision.memory
            self._memento.write(decision.memory)
        self._emit(_timed(decision, wall_ns()))

    def _apply(self, decision: Decision, drifted: set[str]) -> None:
        if self._kernel is None:
            return
        present = {key: self._table[key] for key in decision.wanted if key in self._table}
        changes = diff(present, decision.wanted)
        names = self._names
        refused = self._send(self._kernel, changes, present)
        self._note_refusals({names[key] for key in decision.wanted}, names, refused)
        for name in drifted:
            drift = [change for change in changes if names[service_of(change)] == name]
            if drift:
                self._emit([_drift_event(drift, name)])

    def _remove_unwanted(self, view: View) -> None:
        """Take out services of ours that are not wanted any more: of an earlier plan, or of an inactive group."""
        inactive = view.inactive_groups()
        gone, self._left_over = self._left_over, {}
        if inactive:
            gone |= {service.virtual.key: service.name for service in self._plan.services if service.group in inactive}
        present = {key: self._table[key] for key in gone if key in self._table}
        refused = []
        if present and self._kernel is not None:
            refused = self._send(self._kernel, diff(present, {}, gone), present)
        told, self._unremoved = self._unremoved, {}
        for change, text in refused:
            key = service_of(change)
            self._unremoved[key] = gone[key], text
            if key not in self._names:
                self._left_over[key] = gone[key]
            if key not in told:
                self._emit([_refused_event(text, gone[key])])

    def _send(self, kernel: Kernel, changes: tuple[Change, ...], present: Table) -> list[tuple[Change, str]]:
        """Send changes of the services in `present`, remember what comes of them; return what was refused."""
        if not changes:
            return []
        self._generation += 1
        try:
            refused = [(failure.change, failure.reason) for failure in kernel.apply(changes)]
        except KernelError as error:
            refused = [(change, str(error)) for change in changes]  # some may have been carried out
        if refused:
            self._uncertain |= {service_of(change) for change in changes}
            self._reread_now.set()
            return refused
        left = apply_to(present, changes)
        for key in present.keys() - left.keys():
            del self._table[key]
        self._table.update(left)
        return []

    def _set_timeouts(self, plan: Plan) -> None:
        """Set the connection timeouts, when they are new."""
        if self._kernel is None or self._timeouts == plan.timeouts:
            return
        self._timeouts = plan.timeouts
        try:
            self._kernel.set_timeouts(plan.timeouts)
        except KernelError as error:
            self._emit([Event("ipvs_refused", f"the connection timeouts: {error}", Severity.WARNING)])

    def _note_refusals(
        self, concerned: set[str], names: Mapping[ServiceKey, str], refused: list[tuple[Change, str]]
    ) -> None:
        """Tell of what the kernel refuses once, not each time that it is tried again."""
        known = {text for texts in self._refusals.values() for text in texts}
        for name in concerned:
            self._refusals.pop(name, None)
        for change, text in refused:
            name = names[service_of(change)]
            self._refusals[name] = (*self._refusals.get(name, ()), text)
            if text not in known:
                self._emit([_refused_event(text, name)])

    def _note_read_problem(self, text: str) -> None:
        if text and not self._read_problem:
            self._emit([Event("ipvs_unreadable", text, Severity.WARNING)])
        self._read_problem = text

    # --- what others ask -------------------------------------------------------------------------------------

    async def connections(self, services: Iterable[ServiceKey]) -> dict[tuple[ServiceKey, DestinationKey], int]:
        """Return the connections of the destinations of some services, read by a thread.

        Of TCP's only the established ones count: a director with direct routing remembers a closed connection for
        two minutes, and nobody need wait for that. Of the other protocols all count.
        """
        reader = self._reader
        if reader is None:
            return {}
        async with self._reader_lock:
            counts = await trio.to_thread.run_sync(reader.read_counts, tuple(services))
        return {
            (service, key): count.active if service.protocol == Transport.TCP else count.active + count.inactive
            for service, destinations in counts.items()
            for key, count in destinations.items()
        }

    def problems(self) -> list[str]:
        """Return what is wrong, a sentence each."""
        refusals = [f"service {name}: {text}" for name, texts in self._refusals.items() for text in texts]
        refusals += [f"service {name} is to be removed: {text}" for name, text in self._unremoved.values()]
        return [*refusals, *([self._read_problem] if self._read_problem else [])]

    def refused(self) -> int:
        """Return how many services there are of which the kernel refuses a change."""
        return len(self._refusals) + len(self._unremoved)

    def count_up(self) -> tuple[int, int]:
        """Return how many servers are up, and how many there are."""
        rows = [row for found in self.servers.values() for row in found if not row.sorry]
        return sum(row.state is ServerState.UP for row in rows), len(rows)

    def count_seen(self) -> tuple[int, int, int]:
        """Return how many servers are up, have a verdict, and are looked at; without those taken out by hand."""
        if not self.servers and self._plan.services:
            return 0, 0, 1  # nothing has been decided yet
        states = Counter(row.state for found in self.servers.values() for row in found if not row.sorry)
        up_count, down_count = states[ServerState.UP], states[ServerState.DOWN]
        return up_count, up_count + down_count, up_count + down_count + states[ServerState.UNKNOWN]


def reconcile_interval_s(read_took_s: float) -> float:
    """Return how long to wait before the table is read again, given how long the last reading took."""
    return min(max(RECONCILE_INTERVAL_S, RECONCILE_SHARE * read_took_s), RECONCILE_INTERVAL_MAX_S)


def _slices(plan: Plan, dirty: set[str]) -> Iterator[set[str]]:
    """Yield the names of the services to decide on, so many at a time that it takes no long time."""
    names: set[str] = set()
    servers = 0
    for service in plan.services:
        if service.name in dirty:
            names.add(service.name)
            servers += len(service.servers) + 1
        if servers >= SLICE_SERVERS:
            yield names
            names, servers = set(), 0
    if names:
        yield names


def _timed(decision: Decision, now_wall_ns: int) -> Iterator[Event]:
    """Yield the events of a decision that the kernel has now; a server's with the time since its verdict."""
    since = {(row.service, row.server): row.since_wall_ns for row in decision.servers} if decision.events else {}
    for event in decision.events:
        verdict_ns = since.get((event.service, event.server), 0)
        if verdict_ns:
            kernel_ms = max(0, now_wall_ns - verdict_ns) / NS_PER_MS
            event = replace(event, numbers={**event.numbers, "kernel_ms": round(kernel_ms, 1)})
        yield event


def _refused_event(text: str, service: str) -> Event:
    return Event("ipvs_refused", f"{text}; it is tried again", Severity.WARNING, service=service)


def _drift_event(drift: list[Change], service: str) -> Event:
    """Return the event that tells of what somebody else changed in a service of ours."""
    shown = "; ".join(describe(change) for change in drift[:DRIFT_SHOWN_MAX])
    more = "; ..." if len(drift) > DRIFT_SHOWN_MAX else ""
    reason = f"somebody else changed the IPVS table, it is put back: {shown}{more}"
    return Event("ipvs_drift", reason, Severity.WARNING, service=service, numbers={"changes": len(drift)})

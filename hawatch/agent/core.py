"""The core: the process that decides, and acts on the kernel.

Theory of operation
-------------------
One `Core` object holds the state; independent tasks work on it, and none waits for another:

* the leash: answers the keeper, takes new work channels and what became of the workers;
* a work channel for each prober: verdicts come in, assignments go out;
* the table: verdicts and the administrator's words -> wanted table -> difference -> kernel, and a reading of the
  kernel's table every few seconds;
* ownership of the groups;
* the ctl server; the lag meter, which also feeds the service manager's watchdog.

No probe, mail, fsync or plug-in runs here: files are written by threads, and nothing waits for them but the ctl
command whose answer depends on it. The state is touched by the main thread only.

A task that raises ends the core with a traceback: the keeper starts it anew at once, from what the probers and the
kernel know. Nothing that it did in the kernel is undone by that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import trio

from hawatch.agent.admin_keeper import AdminKeeper
from hawatch.agent.child import CONSOLE, CORE
from hawatch.agent.core_commands import Commands
from hawatch.agent.core_console import ConsoleLink
from hawatch.agent.core_lag import LagMeter, measure_lag
from hawatch.agent.core_measures import measure
from hawatch.agent.core_reload import Prepared, prepare_reload
from hawatch.agent.core_socket import CtlSocket
from hawatch.agent.core_table import TableKeeper
from hawatch.agent.core_workers import Workers
from hawatch.agent.events import EventLog, EventWriter
from hawatch.agent.kernel import KernelSource
from hawatch.agent.link import receive_leash, send_leash
from hawatch.agent.memento import Memento
from hawatch.agent.messages import (
    Adopt,
    AreYouThere,
    IAmHere,
    LeashMessage,
    Link,
    Listener,
    Reload,
    Stop,
    WantLink,
    WantListener,
    WorkerLost,
    WorkerStarted,
)
from hawatch.agent.ownership import Ownership, OwnershipSource, own_alone
from hawatch.agent.priority import run_promptly
from hawatch.agent.process import notify_service_manager
from hawatch.agent.settings import Settings, wall_ns
from hawatch.agent.state import AdminState
from hawatch.agent.status import StatusInputs, encode_status
from hawatch.config.diff import groups_of_addresses
from hawatch.errors import ConfigError, HawatchError, KernelError, RefusedError
from hawatch.model import Admin, DestinationKey, Event, Plan, ServiceKey, Severity

REASONS_SHOWN_MAX = 20
"""Changes or mistakes that one event spells out."""
SWITCH_INTERVAL_S = 0.0005
"""A thread that reads the kernel's table gives way to the core's loop within so long."""
STOP_EVENTS_S = 1.0
"""The last events may take so long to be written."""

SETTLE_S = 1.0
"""What ctl shows is in the events file before; a file that cannot be written is waited for so long."""
SETTLE_POLL_S = 0.001
REMEMBER_S = 1.0
"""A reload waits so long for what is left to the next start."""


@dataclass(frozen=True, slots=True)
class Legacy:
    """What all cores of one agent have in common, made by the keeper."""

    memento: int
    """Descriptor of the file for `Memento`."""
    started_wall_ns: int
    """When the agent was started."""
    ownership: OwnershipSource = own_alone
    """Makes what decides on ownership."""


class Core:
    """The state of one core and what ties its tasks together."""

    def __init__(self, settings: Settings, leash: socket.socket, kernels: KernelSource, legacy: Legacy) -> None:
        self.settings = settings
        self.events = EventLog(settings.node, wall_ns)
        self.writer = EventWriter(settings.places.events_file)
        self.events.listen(self.writer.write)
        self.admin = AdminKeeper(settings.places.admin_file, settings.plan, self.events.emit)
        gaveaway = self.admin.state.gaveaway
        self.ownership: Ownership = legacy.ownership(settings, gaveaway, self.admin.remember_giveaway)
        self.ownership.watch_servers(lambda: self.table.count_seen())
        self.lag = LagMeter()
        self.ownership.tell_lateness(self.lag.note)
        self.started_wall_ns = legacy.started_wall_ns
        self._leash = leash
        self._kernels = kernels
        self._reload_lock = trio.Lock()
        self._remembering = trio.CapacityLimiter(1)
        """However many reloads give up a disk that hangs, one thread waits for it."""
        self._reload_problem = ""
        self.stopping = ""
        self.ctl = CtlSocket(
            settings.places, Commands(self).handle, self.events.emit, lambda: send_leash(leash, WantListener())
        )
        self.table = TableKeeper(settings.plan, self.events.emit, Memento(legacy.memento))
        self.console = ConsoleLink(
            self.events,
            self.status,
            lambda: self._want_link(CONSOLE),
            lambda number: measure(self, number),
            lambda: self.ownership.owners(),
        )
        self.workers = Workers(
            settings.plan, self.events.emit, self.table.wake, wall_ns, self._want_link, self.console.pass_on
        )

    # --- life ------------------------------------------------------------------------------------------------

    async def run(self, listener: socket.socket) -> None:
        """Run until the keeper says stop or is gone."""
        if self.settings.plan.services:
            self.table.set_kernel(self._kernels.open(), self._kernels.open())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._remember_events)
            nursery.start_soon(self.table.run, self)
            nursery.start_soon(self.ownership.run, self.events.emit, self.table.wake_all)
            nursery.start_soon(self.ctl.serve, listener)
            nursery.start_soon(measure_lag, self.lag, self._status_line)
            nursery.start_soon(self.admin.run)
            notify_service_manager(os.environ.get("NOTIFY_SOCKET", ""), "READY=1")
            await self._obey(nursery)
            if self.stopping:  # without the keeper another agent goes on with what is owned
                await self.ownership.stop()
                await self._leave_table()
            nursery.cancel_scope.cancel()
        await self._end()

    async def _leave_table(self) -> None:
        """Take out what only an owner has in the table: as a real server we are to forward nothing from now on."""
        inactive = self.inactive_groups()
        services = [service.name for service in self.settings.plan.services if service.group in inactive]
        if services:
            with trio.move_on_after(SETTLE_S):
                await self.table.settle(services)

    async def _end(self) -> None:
        self.events.emit([Event("agent_stopped", self.stopping or "the keeper is gone")])
        self.writer.close(STOP_EVENTS_S)

    async def _remember_events(self) -> None:
        """Take in what earlier processes wrote; a thread reads it."""
        self.events.put_before(await trio.to_thread.run_sync(self.writer.wait_earlier, abandon_on_cancel=True))

    def _status_line(self) -> str:
        up_count, count = self.table.count_up()
        return f"{self.settings.node}: {up_count} of {count} servers up"

    # --- the keeper ------------------------------------------------------------------------------------------

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Do what the keeper says; return when it says stop or is gone."""
        while not self.stopping:
            await trio.lowlevel.wait_readable(self._leash)
            try:
                received = receive_leash(self._leash)
            except BlockingIOError:
                continue
            if received is None:
                return
            self._obey_one(*received, nursery)

    def _obey_one(self, message: LeashMessage, descriptor: int | None, nursery: trio.Nursery) -> None:
        match message:
            case AreYouThere(number=number):
                send_leash(self._leash, IAmHere(number))
            case Link(worker=worker) if descriptor is not None and worker == CONSOLE:
                nursery.start_soon(self.console.work, descriptor)
            case Link(worker=worker) if descriptor is not None:
                nursery.start_soon(self.workers.work, worker, descriptor)
            case Listener() if descriptor is not None:
                self.ctl.take(descriptor)
            case WorkerLost():
                self.workers.lost(message)
            case WorkerStarted():
                self._worker_started(message)
            case Reload():
                nursery.start_soon(self._reload_by_signal)
            case Stop(reason=reason):
                self.stopping = reason
            case _:
                print(f"hawatch core: the keeper sent {type(message).__name__}", file=sys.stderr, flush=True)

    def _want_link(self, worker: str) -> None:
        send_leash(self._leash, WantLink(worker))

    def _worker_started(self, message: WorkerStarted) -> None:
        self.workers.started(message)
        if message.worker == CORE and message.restarts == 0:
            reason = f"hawatch runs on {self.settings.node} with {len(self.settings.plan.services)} services"
            self.events.emit([Event("agent_started", reason, numbers={"pid": os.getppid()})])
            if self.settings.clock_warning:
                self.events.emit([Event("clock_may_stop", self.settings.clock_warning, Severity.WARNING)])

    # --- reload ----------------------------------------------------------------------------------------------

    async def _reload_by_signal(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        stamp = f"RELOADING=1\nMONOTONIC_USEC={trio.current_time() * 1e6:.0f}"
        notify_service_manager(address, stamp)
        with contextlib.suppress(HawatchError):  # told as an event
            await self.reload()
        notify_service_manager(address, "READY=1")

    async def reload(self) -> list[str]:
        """Apply the configuration file: all of it, or nothing. Return what has changed."""
        async with self._reload_lock:
            try:
                prepared = await trio.to_thread.run_sync(
                    prepare_reload, self.settings, self._kernels, self.table.has_kernel
                )
            except (ConfigError, KernelError, RefusedError) as error:
                self._reload_problem = str(error).splitlines()[0]
                self.events.emit([_rejected(error)])
                raise
            self._reload_problem = ""
            changes = prepared.changes
            if changes:
                try:
                    async with self.admin.lock:
                        changes += self._adopt(prepared)
                except (RefusedError, trio.Cancelled) as error:
                    for kernel in prepared.kernels:
                        kernel.close()
                    if isinstance(error, RefusedError):
                        self.events.emit([_rejected(error)])
                    raise
                finally:
                    os.close(prepared.descriptor)
            else:
                self.ownership.set_settings(self.settings)  # the key file may be another one
            numbers = {"changes": len(changes)}
            same = "the file is the same" + ("; the keys were read again" if self.reads_keys() else "")
            reason = "; ".join(changes[:REASONS_SHOWN_MAX]) or same
            self.events.emit([Event("config_reloaded", reason, numbers=numbers)])
            with trio.move_on_after(REMEMBER_S):  # a disk that hangs costs the next start its head start
                await trio.to_thread.run_sync(prepared.remember, abandon_on_cancel=True, limiter=self._remembering)
            return changes

    def _adopt(self, prepared: Prepared) -> list[str]:
        """Make new settings the ones in force, and return what that means beside what the file says.

        The keeper is told first: the next core is born with them.
        """
        settings = prepared.settings
        before, after = (groups_of_addresses(each.config.group) for each in (self.settings, settings))
        if after.keys() - before.keys() and (differing := self.ownership.differing_after(settings)):
            raise RefusedError(f"{differing[0]}; before that no address is added, and nothing was changed")
        if not send_leash(self._leash, Adopt(), prepared.descriptor):
            raise RefusedError("the keeper does not listen; nothing was changed")
        told = self.admin.follow(settings.plan)
        self.settings = settings
        if prepared.kernels:
            self.table.set_kernel(*prepared.kernels)
        self.table.set_plan(settings.plan)
        self.workers.set_plan(settings.plan)
        self.ownership.set_settings(settings)
        return told

    # --- what the commands need ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return the plan in force."""
        return self.settings.plan

    async def set_admin(self, state: AdminState, events: list[Event]) -> None:
        """Write down what the administrator says, then act on it. The keeper's lock must be held."""
        await self.admin.say(state, self.settings.plan)
        self.events.emit(events)
        await self.table.settle({event.service for event in events})

    def admin_words(self) -> Mapping[tuple[str, str], Admin]:
        """Return what the administrator said, by service and server."""
        return self.admin.state.entries()

    def inactive_groups(self) -> frozenset[str]:
        """Return the groups whose services only their owner keeps in the table, which is not us now."""
        owned = self.ownership.owned()
        return frozenset(
            group.name for group in self.settings.config.group if group.ipvs == "owner" and group.name not in owned
        )

    async def events_settled(self, number: int) -> None:
        """Return when an event is where a kill cannot take it from; a disk that hangs is not waited for."""
        with trio.move_on_after(SETTLE_S):
            while self.writer.settled_id < number:  # noqa: ASYNC110 - a thread says so
                await trio.sleep(SETTLE_POLL_S)

    async def connections(self, services: Iterable[ServiceKey]) -> Mapping[tuple[ServiceKey, DestinationKey], int]:
        """Return how many connections each destination of these services has."""
        return await self.table.connections(services)

    def reads_keys(self) -> bool:
        """Tell whether a reload reads the cluster's keys again."""
        return self.settings.config.leased

    async def status(self) -> bytes:
        """Return the status as JSON."""
        return await encode_status(
            StatusInputs(
                settings=self.settings,
                ownership=self.ownership.status(),
                servers=self.table.servers,
                services=self.table.services,
                summaries=self.workers.summaries,
                reading=self.table.reading,
                workers=list(self.workers.by_name.values()),
                warnings=self.warnings(),
                lag=self.lag,
                started_wall_ns=self.started_wall_ns,
                now_wall_ns=wall_ns(),
            )
        )

    def warnings(self) -> list[str]:
        """Return what is not as it should be, a sentence each."""
        found = [self.admin.problem, self.ctl.problem, self.writer.problem, *self.ownership.warnings()]
        found += [*self.table.problems(), *self.workers.problems(), *self.console.warnings, self.settings.clock_warning]
        if self._reload_problem:
            found.append(f"the last reload was refused, the earlier configuration is in force: {self._reload_problem}")
        return [text for text in [*found, *self.settings.warnings] if text]


def _rejected(error: HawatchError) -> Event:
    lines = str(error).splitlines()
    more = f"; and {len(lines) - REASONS_SHOWN_MAX} more" if len(lines) > REASONS_SHOWN_MAX else ""
    reason = "; ".join(lines[:REASONS_SHOWN_MAX]) + more
    return Event("config_rejected", reason, Severity.WARNING, numbers={"problems": len(lines)})


def run_core(
    settings: Settings, leash: socket.socket, listener: socket.socket, kernels: KernelSource, legacy: Legacy
) -> None:
    """Be the core of an agent: returns when the keeper says stop or is gone."""
    leash.setblocking(False)
    listener.setblocking(False)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for problem in run_promptly("the core"):
        print(f"hawatch core: {problem}", file=sys.stderr, flush=True)

    async def main() -> None:
        await Core(settings, leash, kernels, legacy).run(listener)

    trio.run(main)

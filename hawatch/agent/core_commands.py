"""What each ctl command does in the core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
import trio

from hawatch.agent.admin_keeper import AdminKeeper
from hawatch.agent.core_admin import Change, Verb, apply_changes, decide_admin, drain_ended, find_servers
from hawatch.agent.events import EventLog, Record
from hawatch.agent.ownership import Ownership
from hawatch.agent.state import AdminState
from hawatch.console.journal import make_filter
from hawatch.control import protocol
from hawatch.control.protocol import Done, EventLine, Progress, Refused, Reply, raw
from hawatch.control.server import Send
from hawatch.errors import ConfigError, HawatchError, RefusedError
from hawatch.model import DestinationKey, Event, Plan, ServiceKey, ServicePlan

DRAIN_POLL_S = 0.5
"""How often the connections of a server that is being drained are counted."""
PROGRESS_INTERVAL_S = 2.0
"""Progress is told no more often."""
HEARTBEAT_S = 20.0
"""Progress is told no less often, so that the client knows that we are there."""
FOLLOW_LIMIT = 2000
"""Events that wait for a follower before it is dropped."""

VERBS: dict[type[protocol.ServerRequest], Verb] = {
    protocol.Drain: Verb.DRAIN,
    protocol.Undrain: Verb.UNDRAIN,
    protocol.Disable: Verb.DISABLE,
    protocol.Enable: Verb.ENABLE,
}


class Agent(Protocol):
    """What the commands need of the core."""

    events: EventLog
    admin: AdminKeeper
    ownership: Ownership

    def plan(self) -> Plan:
        """Return the plan in force."""

    async def status(self) -> bytes:
        """Return the status as JSON."""

    async def set_admin(self, state: AdminState, events: list[Event]) -> None:
        """Write down what the administrator says, then act on it; raise RefusedError if it cannot be written."""

    async def reload(self) -> list[str]:
        """Apply the configuration file and return what has changed; raise ConfigError or KernelError."""

    def reads_keys(self) -> bool:
        """Tell whether a reload reads the cluster's keys again."""

    async def events_settled(self, number: int) -> None:
        """Return when the event with this number is in the events file, or cannot be."""

    async def connections(self, services: Iterable[ServiceKey]) -> Mapping[tuple[ServiceKey, DestinationKey], int]:
        """Return how many connections each destination of some services has in the kernel."""


class Commands:
    """Carries out the requests of ctl clients."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def handle(self, request: protocol.AnyRequest, send: Send) -> Reply:
        """Carry out one request and return the final reply."""
        try:
            match request:
                case protocol.Status():
                    return Done(data=msgspec.Raw(await self._agent.status()))
                case protocol.Events():
                    return await self._events(request, send)
                case protocol.Reload():
                    return await self._reload()
                case protocol.Drain() | protocol.Undrain() | protocol.Disable() | protocol.Enable():
                    return await self._server(request, send)
                case protocol.Report() | protocol.Ack() | protocol.AlertTest():
                    return Refused(reason="that is the console's to answer, on console.sock")
                case _:
                    return await self._ownership(request)
        except HawatchError as error:
            return Refused(reason=str(error))

    async def _ownership(
        self, request: protocol.Switchover | protocol.Takeover | protocol.Giveaway | protocol.Resume
    ) -> Reply:
        ownership = self._agent.ownership
        if who := protocol.asker(request):
            self._agent.events.emit([Event("asked", f"{who} asked for: {_asked(request)}", group=_group(request))])
        match request:
            case protocol.Switchover(group=group, to=to):
                return Done(data=raw(await ownership.switchover(group, to)))
            case protocol.Takeover(force=False):
                raise RefusedError("takeover wants --force: only when the other directors are known to be off")
            case protocol.Takeover(group=group):
                return Done(data=raw(await ownership.takeover(group)))
            case protocol.Giveaway():
                told = await ownership.giveaway()
                await self._agent.admin.settle()
                return Done(data=raw(told))
            case protocol.Resume():
                told = await ownership.resume()
                await self._agent.admin.settle()
                return Done(data=raw(told))

    async def _reload(self) -> Reply:
        try:
            changes = await self._agent.reload()
        except ConfigError as error:
            lines = str(error).splitlines()
            mistakes = f"{len(lines)} mistake{'s' if len(lines) != 1 else ''}"
            return Refused(reason=f"the configuration has {mistakes}; nothing was changed", problems=lines)
        keys = self._agent.reads_keys()
        rest = "the keys were read again" if keys else "nothing to change"
        return Done(data=_done(changes, f"the configuration is the same; {rest}"))

    # --- servers ---------------------------------------------------------------------------------------------

    async def _server(
        self, request: protocol.Drain | protocol.Undrain | protocol.Disable | protocol.Enable, send: Send
    ) -> Reply:
        verb = VERBS[type(request)]
        async with self._agent.admin.lock:
            plan, state = self._agent.plan(), self._agent.admin.state
            servers = find_servers(plan, request.service, request.server)
            changes, events = decide_admin(verb, servers, state, protocol.asker(request))
            if changes:
                await self._agent.set_admin(apply_changes(state, changes), events)
        told = [_change_text(each) for each in changes]
        if not isinstance(request, protocol.Drain) or not request.wait:
            return Done(data=_done(told, _no_change_text(verb)))
        began = trio.current_time()
        left = await self._wait_drained(servers, request.timeout_s, send)
        if left:
            after = f"{request.timeout_s:g} s"
            return Refused(reason=f"{_connections(left)} left after {after}; the drain goes on")
        waited_s = round(trio.current_time() - began, 1)
        return Done(data=_done([*told, "no connection is left"], "", connections=left, waited_s=waited_s))

    async def _wait_drained(
        self, servers: list[tuple[ServicePlan, DestinationKey]], timeout_s: float, send: Send
    ) -> int:
        """Wait until servers have no connection; return how many are left at the time limit.

        Raises RefusedError when somebody ends the drain meanwhile, or takes the server out of the configuration.
        """
        keys = {(service.virtual.key, key) for service, key in servers}
        told, told_at = -1, 0.0
        left = 0
        with trio.move_on_after(timeout_s if timeout_s > 0 else float("inf")):
            while True:
                if why := drain_ended(servers, self._agent.plan(), self._agent.admin.state):
                    raise RefusedError(f"{why}: the wait is over")
                counts = await self._agent.connections({service for service, _ in keys})
                left = sum(count for key, count in counts.items() if key in keys)
                if left == 0:
                    return 0
                now = trio.current_time()
                changed_at_once = told != left and now - told_at >= PROGRESS_INTERVAL_S
                if changed_at_once or told < 0 or now - told_at >= HEARTBEAT_S:
                    await send(Progress(text=f"{_connections(left)} left", data=raw({"connections": left})))
                    told, told_at = left, now
                await trio.sleep(DRAIN_POLL_S)
        return left

    # --- events ----------------------------------------------------------------------------------------------

    async def _events(self, request: protocol.Events, send: Send) -> Reply:
        sender, receiver = trio.open_memory_channel[Record](FOLLOW_LIMIT)
        overrun = trio.Event()

        def listen(record: Record) -> None:
            if not wanted(record):
                return
            try:
                sender.send_nowait(record)
            except trio.WouldBlock:
                overrun.set()

        count = max(0, min(request.count, protocol.EVENTS_COUNT_MAX))
        wanted = make_filter(request)
        earlier = [record for record in self._agent.events.last(protocol.EVENTS_COUNT_MAX) if wanted(record)]
        earlier = earlier[max(0, len(earlier) - count) :]
        forget = self._agent.events.listen(listen) if request.follow else _nothing
        try:
            await self._agent.events_settled(self._agent.events.last_id)
            for record in earlier:
                await send(EventLine(data=raw(record)))
            while request.follow:
                if overrun.is_set():
                    return Refused(reason=f"you read too slowly: more than {FOLLOW_LIMIT} events were waiting")
                record = await receiver.receive()
                await self._agent.events_settled(record.id)
                await send(EventLine(data=raw(record)))
        finally:
            forget()
        return Done()


def _asked(request: protocol.Request) -> str:
    match request:
        case protocol.Switchover(group=group, to=to):
            return f"switchover of {group}" + (f" to {to}" if to else "")
        case protocol.Takeover(group=group):
            return f"takeover of {group} by force"
        case _:
            return type(request).__name__.lower()


def _group(request: protocol.Request) -> str:
    group = getattr(request, "group", "")
    return "" if group == protocol.ALL else str(group)


def _done(changes: list[str], nothing: str, **more: object) -> msgspec.Raw:
    """Return what an answer tells: the changes, the same as one sentence (`nothing` where there are none), and more."""
    return raw({"changes": changes, "text": "; ".join(changes) or nothing, **more})


def _nothing() -> None:
    """There is nothing to end."""


def _change_text(change: Change) -> str:
    said = str(change.admin) or "back in service"
    return f"{change.service} {change.server}: {said}"


def _no_change_text(verb: Verb) -> str:
    return {
        Verb.DRAIN: "drained already",
        Verb.UNDRAIN: "not drained",
        Verb.DISABLE: "disabled already",
        Verb.ENABLE: "not disabled",
    }[verb]


def _connections(count: int) -> str:
    return f"{count} connection{'s' if count != 1 else ''}"

"""What the console answers to `hawatch ctl`, over a socket of its own: questions that may be long are no work for the
core."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Protocol

import trio

from hawatch.agent.events import Record
from hawatch.agent.settings import Settings, wall_ns
from hawatch.console.delivery import Delivery
from hawatch.console.history import Message
from hawatch.console.journal import Filter, downtime, make_filter, select
from hawatch.console.rules import Policy, Rule
from hawatch.console.sharing import left_to, owner_of
from hawatch.console.shelf import Shelf
from hawatch.console.subjects import Match, subject_of
from hawatch.console.targets import NOTIFY
from hawatch.control import protocol
from hawatch.control.protocol import Done, EventLine, Refused, Reply, raw
from hawatch.control.server import ControlServer, Send
from hawatch.errors import HawatchError, RefusedError
from hawatch.model import Event

UNDECIDED = ("waiting", "sending")
"""States of a message that may yet be sent."""
TEST_WAIT_S = 45.0
"""Less than `ctl` waits for an answer."""
TEST_POLL_S = 0.1
RETRY_S = 5.0
BACKLOG = 16
CTL_MODE = 0o660


class Asked(Protocol):
    """What the answers need of the console."""

    settings: Settings
    shelf: Shelf
    policy: Policy
    delivery: Delivery
    recipients: dict[str, tuple[str, ...]]

    def tell(self, event: Event) -> None:
        """Have the core tell of something that happened here."""


class Answers:
    """Carries out the requests that the console serves."""

    def __init__(self, console: Asked) -> None:
        self._console = console

    async def handle(self, request: protocol.AnyRequest, send: Send) -> Reply:
        """Carry out one request and return the final reply."""
        try:
            match request:
                case protocol.Events():
                    return await self._events(request, send)
                case protocol.Report():
                    return await self._report(request)
                case protocol.Ack():
                    return await self._ack(request)
                case protocol.AlertTest(target=target):
                    return await self._test(target)
                case _:
                    return Refused(reason="that is the core's to answer, on ctl.sock")
        except HawatchError as error:
            return Refused(reason=str(error))

    async def _events(self, request: protocol.Events, send: Send) -> Reply:
        wanted, count = make_filter(request), max(0, min(request.count, protocol.EVENTS_COUNT_MAX))
        for record in await self._console.shelf.query(lambda database: select(database, wanted, count)):
            await send(EventLine(data=raw(record)))
        return Done()

    async def _report(self, request: protocol.Report) -> Reply:
        until_ns = request.until_ns or wall_ns()
        if request.since_ns >= until_ns:
            raise RefusedError("the period ends before it begins")
        wanted = Filter(group=request.group, service=request.service, server=request.server)
        lines = await self._console.shelf.query(lambda database: downtime(database, request.since_ns, until_ns, wanted))
        return Done(data=raw({"since_ns": request.since_ns, "until_ns": until_ns, "lines": lines}))

    async def _ack(self, request: protocol.Ack) -> Reply:
        console = self._console
        service = "" if request.service == protocol.ALL else request.service
        match = Match(service=service, server=request.server)
        records = await console.shelf.do(lambda store: store.acknowledge(match, request.text))
        if not records:
            raise RefusedError("nothing fails there: there is nothing to acknowledge")
        lines = sorted(f"{subject_of(record)}: {self._acknowledged(record)}" for record in records)
        for record in records[:20]:
            who = protocol.asker(request)
            reason = f"acknowledged{f' by {who}' if who else ''}: {request.text or record.reason}"
            console.tell(
                Event("acknowledged", reason, group=record.group, service=record.service, server=record.server)
            )
        return Done(data=raw({"changes": lines}))

    def _acknowledged(self, record: Record) -> str:
        """Return what was done with a failure: the one who tells of it is the one to be told."""
        console = self._console
        owner = owner_of(console.policy, console.shelf.store.history.entries.get, record)
        other = left_to(console.policy, Rule(""), record, owner)
        return f"acknowledged here; {other} tells of it: acknowledge it there too" if other else "acknowledged"

    async def _test(self, target: str) -> Reply:
        """Send a test message, and say what became of it."""
        console = self._console
        alerts = [name for name in console.recipients if not name.startswith(f"{NOTIFY}/")]
        names = [name for name in alerts if not target or name == target or name.endswith(f"/{target}")]
        if not names:
            known = ", ".join(alerts) or "the configuration has none"
            raise RefusedError(f"there is no alert {target}; there are: {known}" if target else "there is no alert")
        key = f"test:{wall_ns()}"
        for name in names:
            message = Message(name, key, (), test=True)
            recipients = {name: console.recipients[name]}
            await console.shelf.do(lambda store, m=message, r=recipients: store.put(m, r))  # type: ignore[misc]
        console.delivery.wake()
        lines = await self._outcome(key)
        failed = [line for line in lines if not line.endswith(": sent")]
        if failed:
            return Refused(reason="not everything was sent; what waits is tried again", problems=lines)
        return Done(data=raw({"changes": lines}))

    async def _outcome(self, key: str) -> list[str]:
        lines: list[str] = []
        with trio.move_on_after(TEST_WAIT_S):
            while True:
                rows = await self._console.shelf.query(
                    lambda database: database.execute(
                        "SELECT target, recipient, state, error FROM letter WHERE key = ? ORDER BY seq", (key,)
                    ).fetchall()
                )
                lines = [f"{name} to {to}: {error or self._state_of(name, state)}" for name, to, state, error in rows]
                if all(state not in UNDECIDED or error for _, _, state, error in rows):
                    break
                await trio.sleep(TEST_POLL_S)
        return lines

    def _state_of(self, target: str, state: str) -> str:
        """Say how it stands with a message: one that waits does so behind others that may have failed."""
        problem = self._console.delivery.problems.get(target, "")
        return f"{state} behind others: {problem}" if problem and state in UNDECIDED else state


def open_socket(path: Path, like: Path) -> socket.socket:
    """Return the listening socket, with the group of the core's."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777 & ~CTL_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        group = like.stat().st_gid
        if group != path.stat().st_gid:
            os.chown(path, -1, group)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def serve_questions(console: Asked) -> None:
    """Serve the console's socket, for ever; where it cannot be made, try again."""
    places = console.settings.places

    def group_id() -> int | None:
        try:
            return places.console_socket.stat().st_gid
        except OSError:
            return None

    while True:
        try:
            listener = open_socket(places.console_socket, places.ctl_socket)
        except OSError as error:
            print(f"hawatch console: {places.console_socket}: {error}", file=sys.stderr, flush=True)
            await trio.sleep(RETRY_S)
            continue
        server = ControlServer(Answers(console).handle, group_id)
        await server.serve(trio.SocketListener(trio.socket.from_stdlib_socket(listener)))

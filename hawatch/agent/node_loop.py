"""The loop around a node: its links' sockets, its timer, and its commands carried out.

Theory of operation. Whatever happens is given to the node at once and in order; its commands are carried out in
order before the next event is looked at. Datagrams are sent as they come up; a link that cannot send now is told by
the other node's silence, not here. A burst of datagrams is read in portions, so that timer and kernel have their turn.

What concerns the kernel is done by `Effects`, synchronously: it takes a fraction of a millisecond, and the order of
its steps is what the promise rests on. A witness has none.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from hawatch.cluster.effects import (
    AdminAction,
    AdminCommand,
    Answer,
    Command,
    DatagramReceived,
    Emit,
    NodeEvent,
    RememberGiveaway,
    RememberPins,
    RememberRun,
    Send,
    SetTimer,
    Stopped,
    Tick,
)
from hawatch.cluster.membership import FormerRun
from hawatch.cluster.node import Node
from hawatch.cluster.wire import DATAGRAM_BYTES_MAX
from hawatch.errors import LocalError
from hawatch.model import NS_PER_S, Event, Family

DATAGRAMS_PER_TURN = 32
"""Datagrams read from one link before others have their turn."""
RECEIVE_BUFFER_BYTES = 1 << 20
CONTROL_TRAFFIC = 0xC0
"""Class selector 6 (RFC 2474): network control; queues on the way let it pass first."""
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""linux/in.h, linux/in6.h: bind to an address that may come later."""
SLEEP_MAX_S = 3600.0


class Effects(Protocol):
    """What carries out a node's commands on the kernel and the clients' network."""

    def carry_out(self, command: Command) -> Sequence[NodeEvent]:
        """Do it now; return what is to be reported at once. Never raises."""

    async def run(self, give: Callable[[NodeEvent], None]) -> None:
        """Watch, announce and probe until cancelled; `give` what happens."""


class NodeLoop:
    """Runs one node."""

    def __init__(
        self,
        node: Node,
        port: int,
        now_ns: Callable[[], int],
        emit: Callable[[Iterable[Event]], None],
        effects: Effects | None = None,
        *,
        changed: Callable[[], None] = lambda: None,
        remember: Callable[[bool], None] = lambda paused: None,
        remember_pins: Callable[[tuple[str, ...]], None] = lambda groups: None,
        remember_run: Callable[[FormerRun], None] = lambda run: None,
    ) -> None:
        """`changed` is called when `node.owned()` has; what begins with `remember` keeps on disk what was said."""
        self.node = node
        self.stopped = trio.Event()
        self._now_ns = now_ns
        self._emit = emit
        self._effects = effects
        self._changed = changed
        self._remember = remember
        self._remember_pins = remember_pins
        self._remember_run = remember_run
        self._inbox: deque[NodeEvent] = deque()
        self._busy = False
        self._timer_ns = now_ns()
        self._timer_moved = trio.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._owned = node.owned()
        self._port = port
        self._sockets: list[socket.socket] = []
        try:
            for address in node.membership.me.links:
                self._sockets.append(open_link(address, port))
        except LocalError:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets."""
        for each in self._sockets:
            each.close()

    async def run(self) -> None:
        """Run the node until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                if self._effects is not None:
                    nursery.start_soon(self._effects.run, self.give)
                for link, end in enumerate(self._sockets):
                    nursery.start_soon(self._listen, link, end)
                self.carry_out(self.node.start(self._now_ns()))
                await self._keep_time()
        finally:
            self.close()

    # --- in --------------------------------------------------------------------------------------------------

    def give(self, event: NodeEvent) -> None:
        """Give the node an event and carry out what it says, and what follows from that."""
        self._inbox.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self.carry_out(self.node.handle(self._inbox.popleft(), self._now_ns()))
        finally:
            self._busy = False
        owned = self.node.owned()
        if owned != self._owned:
            self._owned = owned
            self._changed()

    async def ask(self, action: AdminAction, group: str = "", to: str = "") -> Answer:
        """Pass on an administrator's wish, and wait for what comes of it; the node answers in bounded time."""
        number = next(self._numbers)
        event, answers = trio.Event(), list[Answer]()
        self._answers[number] = event, answers
        try:
            self.give(AdminCommand(number, action, group, to))
            await event.wait()
            return answers[0]
        finally:
            del self._answers[number]

    async def _listen(self, link: int, end: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(end)
            for _ in range(DATAGRAMS_PER_TURN):
                try:
                    data = end.recv(DATAGRAM_BYTES_MAX + 1)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an ICMP error for something sent before
                self.give(DatagramReceived(link, data))
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _keep_time(self) -> None:
        while True:
            left_s = (self._timer_ns - self._now_ns()) / NS_PER_S
            if left_s <= 0:
                self._timer_ns = self._now_ns() + int(SLEEP_MAX_S * NS_PER_S)
                self.give(Tick())
                continue
            self._timer_moved = trio.Event()
            with trio.move_on_after(min(left_s, SLEEP_MAX_S)):
                await self._timer_moved.wait()

    # --- out -------------------------------------------------------------------------------------------------

    def carry_out(self, commands: Iterable[Command]) -> None:  # noqa: C901 - one case a command
        """Carry out commands in their order."""
        for command in commands:
            match command:
                case Send(link=link, address=address, data=data):
                    self._send(link, address, data)
                case SetTimer(at_ns=at_ns):
                    self._timer_ns = at_ns
                    self._timer_moved.set()
                case Emit(event=event):
                    self._emit([event])
                case Answer(request=request):
                    waiting = self._answers.get(request)
                    if waiting is not None:
                        waiting[1].append(command)
                        waiting[0].set()
                case RememberGiveaway(paused=paused):
                    self._remember(paused)
                case RememberPins(groups=groups):
                    self._remember_pins(groups)
                case RememberRun(run=run):
                    self._remember_run(run)
                case Stopped():
                    self.stopped.set()
                case _ if self._effects is not None:
                    self._inbox.extend(self._effects.carry_out(command))
        if self._inbox and not self._busy:
            self.give(self._inbox.popleft())

    def _send(self, link: int, address: str, data: bytes) -> None:
        end = self._sockets[link]
        with contextlib.suppress(OSError):
            end.sendto(data, (address, self._port))


def open_link(address: str, port: int) -> socket.socket:
    """Return a socket on a link's own address, which may come up later; raise LocalError when it is not to be had."""
    family = Family.of(address)
    end = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family is Family.IPV4:
            end.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            end.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CONTROL_TRAFFIC)
        else:
            end.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CONTROL_TRAFFIC)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        end.bind((address, port))
    except OSError as error:
        end.close()
        raise LocalError(f"cannot listen on link {address} UDP port {port}: {error.strerror}") from error
    return end

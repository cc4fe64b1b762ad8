"""The loop around a node: its links' sockets, its timer, and its commands carried out.

Theory of operation. Whatever happens is given to the node at once and in order; its commands are carried out in
order before the next event is looked at. Datagrams are sent as they come up; a link that cannot send now is told by
the other node's silence, not here. Each member's datagrams are read from a queue of their own, in portions and within
a budget (`heartbeat_noise`), and the door of a queue that is flooded is made narrow (`packet_filter`): so timer, kernel
and the other members have their turn whatever comes in.

What concerns the kernel is done by `Effects`, synchronously: it takes a fraction of a millisecond, and the order of
its steps is what the promise rests on. A witness has none. What is to be kept on disk is passed on after that, and
written by threads (`lease_memory`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from hawatch.agent.heartbeat_link import HeartbeatLink, MemberQueue
from hawatch.agent.heartbeat_noise import (
    LOOK_INTERVAL_S,
    UNVERIFIED_BURST,
    UNVERIFIED_PER_S,
    Budget,
    Noise,
    NoiseLog,
)
from hawatch.agent.packet_filter import Newer
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
from hawatch.cluster.wire import DATAGRAM_BYTES_MAX, Rejection
from hawatch.errors import LocalError
from hawatch.model import NS_PER_S, Event

DATAGRAMS_PER_TURN = 32
"""Datagrams read from one queue before others have their turn."""
FLOODED_S = 0.01
"""A queue that has used up its budget is left alone for so long."""
NARROW_S = 2.0
"""And its door is narrow for so long: a member that is started anew waits for that at most."""
OVERTAKEN_MAX = 16
"""Numbers before the last one that may still come, on a slower link."""
SLEEP_MAX_S = 3600.0
CLOSED = "this director's part in the cluster has ended, or is being started anew: see its events"


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
        remember_pins: Callable[[tuple[str, ...], tuple[str, ...]], None] = lambda groups, forced: None,
        remember_run: Callable[[FormerRun], None] = lambda run: None,
        late: Callable[[int], None] = lambda late_ns: None,
    ) -> None:
        """`changed` is called when `node.owned()` has, `late` with how late the node was woken, in nanoseconds.

        What begins with `remember` has it kept on disk: never waits.
        """
        self.node = node
        self.stopped = trio.Event()
        self._now_ns = now_ns
        self._emit = emit
        self._effects = effects
        self._changed = changed
        self._remember = remember
        self._remember_pins = remember_pins
        self._remember_run = remember_run
        self._late = late
        self._inbox: deque[NodeEvent] = deque()
        self._busy = False
        self._timer_ns = now_ns()
        self._nap = trio.CancelScope()
        """Ends when the timer is due; where it moves, so does its end."""
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._closed = False
        self._owned = node.owned()
        self.noise = NoiseLog()
        self._links: list[HeartbeatLink] = []
        self._widen_at: dict[tuple[int, int], float] = {}
        cluster = node.reception.codec.cluster
        try:
            for place, address in enumerate(node.membership.me.links):
                members = {member: links[place] for member, links in node.links.items()}
                self._links.append(HeartbeatLink(address, port, cluster, members))
        except LocalError:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets, and answer who waits for something."""
        self._closed = True
        for each in self._links:
            each.close()
        for number in self._answers:
            self._answer(Answer(number, done=False, text=CLOSED, took_ns=0))

    async def run(self) -> None:
        """Run the node until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                if self._effects is not None:
                    nursery.start_soon(self._effects.run, self.give)
                for place, link in enumerate(self._links):
                    for member, queue in link.queues.items():
                        nursery.start_soon(self._listen, place, member, queue)
                nursery.start_soon(self._watch_noise)
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
                now_ns = self._now_ns()
                if now_ns >= self._timer_ns:  # the node does what is due, whatever has come in, and sets the next one
                    self._late(now_ns - self._timer_ns)
                    self._timer_ns = now_ns + int(SLEEP_MAX_S * NS_PER_S)
                self.carry_out(self.node.handle(self._inbox.popleft(), now_ns))
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
        if self._closed:
            return Answer(number, done=False, text=CLOSED, took_ns=0)
        self._answers[number] = event, answers
        try:
            self.give(AdminCommand(number, action, group, to))
            await event.wait()
            return answers[0]
        finally:
            del self._answers[number]

    async def _listen(self, place: int, member: int, queue: MemberQueue) -> None:
        """Read what one member sends on one link, for ever."""
        reception, now_ns = self.node.reception, self._now_ns()
        budget, forgeries = Budget(now_ns), Budget(now_ns, UNVERIFIED_PER_S, UNVERIFIED_BURST)
        while True:
            if queue.narrow:
                await self._wait_narrow(place, member, queue)
            else:
                await trio.lowlevel.wait_readable(queue.end)
            allowed = min(budget.allowed(self._now_ns()), DATAGRAMS_PER_TURN)
            unverified, others = reception.unverified, reception.rejections[Rejection.VERSION]
            count = self._read(place, queue, allowed)
            budget.spend(count)
            others = reception.rejections[Rejection.VERSION] - others
            if others:
                self._note_noise(place, member, Noise.VERSION, others)
            forged = reception.unverified - unverified
            if forged:
                forgeries.spend(forged)
                self._note_noise(place, member, Noise.UNVERIFIED, forged)
                if not forgeries.allowed(self._now_ns()):
                    self._narrow(place, member, queue)
            if allowed < DATAGRAMS_PER_TURN:
                self._narrow(place, member, queue)
                await trio.sleep(FLOODED_S)
            elif count == allowed:
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _narrow(self, place: int, member: int, queue: MemberQueue) -> None:
        """Have the kernel drop all of a flood that does not carry on from what this member said last."""
        known = self.node.reception.sessions[member].verified
        if known is not None and not queue.narrow:
            queue.set_door(Newer(known.boot, known.top - OVERTAKEN_MAX))
            self._widen_at[place, member] = trio.current_time() + NARROW_S

    async def _wait_narrow(self, place: int, member: int, queue: MemberQueue) -> None:
        """Wait until something has come in; make the door wide again when its time has come."""
        with trio.move_on_at(self._widen_at[place, member]):
            await trio.lowlevel.wait_readable(queue.end)
        if trio.current_time() >= self._widen_at[place, member]:
            self._widen_at[place, member] += NARROW_S  # should it fail, it is tried again then
            queue.set_door(None)  # the member may have been started anew

    def _note_noise(self, place: int, member: int, kind: Noise, count: int) -> None:
        """Count what came from a member's address."""
        origin = f"{self.node.links[member][place]}, the address of {self.node.site.name(member)}"
        self.noise.note(self._links[place].address, origin, kind, count)

    def _read(self, place: int, queue: MemberQueue, allowed: int) -> int:
        """Give the node what has come in, and return how many datagrams that was."""
        for count in range(allowed):
            try:
                data = queue.end.recv(DATAGRAM_BYTES_MAX + 1)
            except OSError:  # nothing left, or an ICMP error for something sent before
                return count
            self.give(DatagramReceived(place, data))
        return allowed

    async def _watch_noise(self) -> None:
        """Tell people of what is no heartbeat."""
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            for place, link in enumerate(self._links):
                count, address = link.meet_strangers()
                self.noise.note(link.address, address or "strangers", Noise.STRANGER, count)
                for member, queue in link.queues.items():
                    self._note_noise(place, member, Noise.UNLIKE, queue.newly_dropped())
            event = self.noise.event(self._now_ns())
            if event is not None:
                self._emit([event])

    async def _keep_time(self) -> None:
        while True:
            if self._now_ns() >= self._timer_ns:
                self.give(Tick())
                continue
            with trio.CancelScope(deadline=self._wake_at()) as self._nap:
                await trio.sleep_forever()

    def _wake_at(self) -> float:
        """Return when the timer is due, by the event loop's clock."""
        return trio.current_time() + min((self._timer_ns - self._now_ns()) / NS_PER_S, SLEEP_MAX_S)

    # --- out -------------------------------------------------------------------------------------------------

    def carry_out(self, commands: Iterable[Command]) -> None:  # noqa: C901 - one case a command
        """Carry out commands in their order."""
        for command in commands:
            match command:
                case Send(link=link, address=address, data=data):
                    self._send(link, address, data)
                case SetTimer(at_ns=at_ns):
                    self._timer_ns = at_ns
                    self._nap.deadline = self._wake_at()
                case Emit(event=event):
                    self._emit([event])
                case Answer():
                    self._answer(command)
                case RememberGiveaway(paused=paused):
                    self._remember(paused)
                case RememberPins(groups=groups, forced=forced):
                    self._remember_pins(groups, forced)
                case RememberRun(run=run):
                    self._remember_run(run)
                case Stopped():
                    self.stopped.set()
                case _ if self._effects is not None:
                    self._inbox.extend(self._effects.carry_out(command))
        if self._inbox and not self._busy:
            self.give(self._inbox.popleft())

    def _answer(self, answer: Answer) -> None:
        """Give an answer to who waits for it, if anybody still does."""
        waiting = self._answers.get(answer.request)
        if waiting is not None:
            waiting[1].append(answer)
            waiting[0].set()

    def _send(self, link: int, address: str, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._links[link].send(address, data)

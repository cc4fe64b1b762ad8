"""The console: the process that keeps the journal and tells the administrators.

Theory of operation
-------------------
Events come over a channel from the core, in order, each with its own number. On a new channel the console says which
one it had last; where the core's memory does not reach back so far, the events file does. Whatever comes twice is
known by its number, so that nothing has to be exact: a console that was killed, stopped or slow asks for too much
rather than too little.

Nothing here is waited for by anybody: what is slow (the disk, a mail server, a chat) delays what is told, never a
verdict or a VIP.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import Counter, deque
from collections.abc import Set

import trio

from hawatch.agent.core_console import console_frame, cut_frames
from hawatch.agent.events import Record, read_after
from hawatch.agent.link import receive_leash, send_leash
from hawatch.agent.measures import CoreMeasures, ServicesMeasured, WorkerCounted
from hawatch.agent.messages import (
    Adopt,
    AreYouThere,
    ConsoleMessage,
    ConsoleState,
    Happened,
    IAmHere,
    Known,
    Link,
    StatusNow,
    Told,
    WantStatus,
)
from hawatch.agent.settings import Settings, settings_from_file, wall_ns
from hawatch.agent.status import iso_seconds
from hawatch.console.answers import serve_questions
from hawatch.console.delivery import Delivery
from hawatch.console.ends import find_ends, quiet_troubles, read_status
from hawatch.console.exposition import Text
from hawatch.console.measures import MeasureKeeper
from hawatch.console.page.feed import Feed
from hawatch.console.page.server import PageServer
from hawatch.console.policy import next_due_ns
from hawatch.console.rules import Policy
from hawatch.console.shelf import Shelf
from hawatch.console.store import Store
from hawatch.console.targets import make_policy, make_targets
from hawatch.errors import PeerError
from hawatch.model import NS_PER_S, Event, Severity

INBOX_MAX = 20_000
"""Events that wait to be written; while it is full the channel is not read, and the core remembers what it has told."""
BATCH_MAX = 500
READ_BYTES = 1 << 18
OUTBOX_MAX = 200
TICK_S = 1.0
"""The policy is asked so often at least: clocks jump."""
CARE_S = 5.0
PURGE_EVERY = 12
STATUS_WAIT_S = 5.0

logger = logging.getLogger(__name__)


class Console:
    """The state of one console."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.shelf = Shelf(store)
        self.delivery = Delivery(
            self.shelf, settings.node, settings.config.cluster.name, wall_ns, self.tell, self._status_to_tell
        )
        self.policy = Policy()
        self.recipients: dict[str, tuple[str, ...]] = {}
        self.status: bytes = b""
        """The core's status, as it was last told."""
        self.linked = False
        self.taken: Counter[str] = Counter()
        """Events that were news since the start, by name."""
        self.scrapes = 0
        self.measures = MeasureKeeper(self._send, lambda: self.linked)
        self.measures_text = Text()
        self._inbox: deque[Record] = deque()
        self._read_file = self._adopted = False
        self._owners: dict[str, str] | None = None
        """Who owns the groups, while it is to be written down."""
        self._news, self._room = trio.Event(), trio.Event()
        self._outbox: deque[ConsoleMessage] = deque(maxlen=OUTBOX_MAX)
        self._outgoing = trio.Event()
        self._status_came = trio.Event()
        self._channel: trio.CancelScope | None = None
        self._warned: list[str] = []
        self._over: Set[str] = frozenset()
        """Failures that the status had as well when it was last looked at."""
        self.feed = Feed(self)
        self.page = PageServer(self, self.feed)

    def adopt(self, settings: Settings) -> None:
        """Make these settings the ones in force."""
        self.settings = settings
        self.shelf.store.keep_ns = settings.config.console.keep
        targets = make_targets(settings.config)
        self.delivery.targets = targets
        self.delivery.cluster = settings.config.cluster.name
        self.recipients = {name: target.recipients for name, target in targets.items()}
        self.policy = make_policy(settings.config, targets, settings.node)
        self.delivery.wake()
        self._adopted = True
        self.page.adopt()
        self._news.set()

    def tell(self, event: Event) -> None:
        """Have the core tell of something that happened here."""
        self._send(Happened([event]))

    def _send(self, message: ConsoleMessage) -> None:
        self._outbox.append(message)
        self._outgoing.set()

    @property
    def waiting(self) -> int:
        """Return how many events wait to be written."""
        return len(self._inbox)

    async def fresh_status(self) -> bytes:
        """Return the core's status, new if it answers in time."""
        if self._status_came.is_set():  # else somebody has asked already
            self._status_came = trio.Event()
        self._send(WantStatus())
        with trio.move_on_after(STATUS_WAIT_S):
            await self._status_came.wait()
        return self.status

    async def _status_to_tell(self) -> bytes:
        """Return the core's status for a message, which is not to wait for a core that is not there."""
        return await self.fresh_status() if self.linked else b""

    # --- the channel to the core ----------------------------------------------------------------------------

    async def work(self, end: socket.socket) -> None:
        """Speak with the core over a new channel until it ends or is replaced."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        with trio.CancelScope() as scope:
            if self._channel is not None:
                self._channel.cancel()
            self._channel, self.linked = scope, True
            async with stream:
                try:
                    last = await self.shelf.do(lambda store: store.last_id())
                    await stream.send_all(console_frame(Known(last)))
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._speak, stream)
                        await self._listen(stream)
                        nursery.cancel_scope.cancel()
                except* (trio.BrokenResourceError, trio.ClosedResourceError, PeerError) as errors:
                    logger.warning("the channel to the core is closed: %s", errors.exceptions[0])
        if self._channel is scope:
            self._channel, self.linked = None, False

    async def _speak(self, stream: trio.SocketStream) -> None:
        while True:
            while self._outbox:
                await stream.send_all(console_frame(self._outbox[0]))
                self._outbox.popleft()
            self._outgoing = trio.Event()
            await self._outgoing.wait()

    async def _listen(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()
        while data := await stream.receive_some(READ_BYTES):
            buffer += data
            for message in cut_frames(buffer):
                match message:
                    case Told(records=records, complete=complete, owners=owners):
                        self._owners = self._owners if owners is None else owners
                        await self._receive(records, complete=complete)
                    case StatusNow(data=status):
                        self.status = status
                        self._status_came.set()
                    case CoreMeasures() | ServicesMeasured() | WorkerCounted():
                        self.measures.take(message)
                    case _:
                        raise PeerError(f"the core sent {type(message).__name__}")

    async def _receive(self, records: list[Record], *, complete: bool) -> None:
        while len(self._inbox) >= INBOX_MAX:
            await self._room.wait()
        self._read_file = self._read_file or not complete
        self._inbox.extend(records)
        self._news.set()

    # --- the journal and the policy --------------------------------------------------------------------------

    async def keep(self) -> None:
        """Write events down and decide who is told, for ever."""
        while True:
            if (owners := self._owners) is not None:
                self._owners, policy = None, self.policy
                await self.shelf.do(lambda store, p=policy, o=owners: store.note_owners(p, o))  # type: ignore[misc]
            if self._adopted:
                self._adopted, known = False, set(self.recipients)
                await self.shelf.work(lambda spool, k=known: spool.forget_targets(k, wall_ns()))  # type: ignore[misc]
            if self._read_file:
                self._read_file = False
                await self._catch_up()
            while self._inbox and not self._read_file:
                await self._take([self._inbox.popleft() for _ in range(min(BATCH_MAX, len(self._inbox)))])
                self._room.set()
                self._room = trio.Event()
            if self._read_file:
                continue
            policy, recipients = self.policy, self.recipients
            due_ns = next_due_ns(policy, self.shelf.store.history)
            if due_ns is not None and due_ns <= wall_ns():
                await self.shelf.do(lambda store, p=policy, r=recipients: store.pass_time(p, r))  # type: ignore[misc]
                self.delivery.wake()
                continue
            wait_s = TICK_S if due_ns is None else min(TICK_S, max(0.01, (due_ns - wall_ns()) / NS_PER_S))
            self._news = trio.Event()
            if self._inbox or self._read_file:
                continue
            with trio.move_on_after(wait_s):
                await self._news.wait()

    async def _take(self, batch: list[Record]) -> None:
        policy, recipients = self.policy, self.recipients
        fresh = await self.shelf.do(lambda store: store.take(batch, policy, recipients))
        self.taken.update(record.name for record in fresh)
        if fresh:
            self.delivery.wake()
            self.feed.note(fresh)

    async def _catch_up(self) -> None:
        """Take in what the events file has after the last event known; what is known already is passed over."""
        last = await self.shelf.do(lambda store: store.last_id())
        parts = read_after(self.settings.places.events_file, last, BATCH_MAX)
        with contextlib.closing(parts):
            while (part := await trio.to_thread.run_sync(next, parts, None)) is not None:
                await self._take(part)

    async def care(self) -> None:
        """Look after the file: come back to it, delete what is old, tell what is wrong."""
        rounds = 0
        while True:
            await self.shelf.do(lambda store: store.try_file())
            if rounds % PURGE_EVERY == 0:
                await self.shelf.do(lambda store: store.purge())
            rounds += 1
            self._tell_state()
            await self._end_troubles()
            await trio.sleep(CARE_S)

    async def _end_troubles(self) -> None:
        """Tell the end of what is well again without an event that says so, when it was so the last time too."""
        began_ns = wall_ns()
        troubles = quiet_troubles(self.shelf.store.history, began_ns)
        ends: dict[str, Event] = {}
        if troubles and self.linked and not self._inbox and not self._read_file:
            status = read_status(await self.fresh_status())
            if status is not None and status.time >= iso_seconds(began_ns):
                ends = find_ends(troubles, status, journal_well=not self.shelf.store.problem)
        for subject in ends.keys() & self._over:
            self.tell(ends[subject])
        self._over = ends.keys() - self._over

    def _tell_state(self) -> None:
        store = self.shelf.store
        notes, store.notes = store.notes, []
        for note in notes:
            severity = Severity.INFO if note.endswith("is written again") else Severity.WARNING
            self.tell(Event("journal_broken" if severity is Severity.WARNING else "journal_mended", note, severity))
        warnings = [store.problem] if store.problem else []
        warnings += [f"alert {name} fails: {problem}" for name, problem in sorted(self.delivery.problems.items())]
        warnings += self.page.problems()
        if warnings != self._warned:
            self._warned = warnings
            self._send(ConsoleState(warnings))

    # --- the keeper ------------------------------------------------------------------------------------------

    async def obey(self, leash: socket.socket, nursery: trio.Nursery) -> None:
        """Answer the keeper; return when it is gone."""
        while True:
            await trio.lowlevel.wait_readable(leash)
            try:
                received = receive_leash(leash)
            except BlockingIOError:
                continue
            if received is None:
                return
            message, descriptor = received
            match message:
                case AreYouThere(number=number):
                    send_leash(leash, IAmHere(number))
                case Link() if descriptor is not None:
                    end = socket.socket(fileno=descriptor)
                    end.setblocking(False)
                    self._warned = []
                    nursery.start_soon(self.work, end)
                case Adopt() if descriptor is not None:
                    self.adopt(settings_from_file(descriptor))
                case _:
                    logger.warning("the keeper sent %s", type(message).__name__)


def console_main(settings: Settings, leash: socket.socket) -> None:
    """Be the console: returns when the keeper is gone."""
    leash.setblocking(False)
    logging.basicConfig(format="hawatch console: %(message)s", level=logging.WARNING)
    store = Store(settings.places.journal_file, settings.config.console.keep, wall_ns)

    async def main() -> None:
        console = Console(settings, store)
        console.adopt(settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(console.keep)
            nursery.start_soon(console.care)
            nursery.start_soon(console.delivery.run)
            nursery.start_soon(serve_questions, console)
            nursery.start_soon(console.page.run)
            await console.obey(leash, nursery)
            nursery.cancel_scope.cancel()

    with contextlib.closing(store):
        trio.run(main)

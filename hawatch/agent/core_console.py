"""The core's side of the console's channel: events go out, and nothing waits for the console.

Events are sent from the core's own memory of them, from where the console says that it is. A console that does not
read costs a task that waits; when it has missed more than the memory holds it is told so, and reads the events file.

Events go by one task, what the console asks for by another: an event does not wait for a long answer.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import TypeAlias

import msgspec
import trio

from hawatch.agent.events import EventLog, Record
from hawatch.agent.link import LENGTH_BYTES
from hawatch.agent.measures import CoreMeasures, Counted, ServicesMeasured, WantMeasures, WorkerCounted
from hawatch.agent.messages import (
    FRAME_LIMIT,
    ConsoleMessage,
    ConsoleState,
    Happened,
    Known,
    StatusNow,
    Told,
    WantStatus,
)
from hawatch.agent.pace import next_turn
from hawatch.decoding import UNDECODABLE
from hawatch.errors import PeerError

BATCH_MAX = 200
"""Events of one message: the core is busy with it for about a millisecond."""
GATHER_S = 0.02
"""Events of so long go together."""
READ_BYTES = 1 << 16
RELINK_S = 1.0
EVENTS_MAX = 20
"""Events that the console may tell of in one message."""
WARNINGS_MAX = 20
OWNERS_S = 1.0
"""What is new of the groups' owners is told after so long at most, without an event."""
PASSED_ON_MAX = 64
"""Parts of the workers' counts that wait to be passed on."""

AnyConsole: TypeAlias = (
    Known
    | Told
    | Happened
    | ConsoleState
    | WantStatus
    | StatusNow
    | WantMeasures
    | CoreMeasures
    | ServicesMeasured
    | WorkerCounted
)
Measure: TypeAlias = Callable[[int], AsyncGenerator[ConsoleMessage, None]]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyConsole] = msgspec.msgpack.Decoder(AnyConsole)


def console_frame(message: ConsoleMessage) -> bytes:
    """Return the frame of a message."""
    body = _encoder.encode(message)
    assert len(body) <= FRAME_LIMIT, len(body)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def cut_frames(buffer: bytearray) -> Iterator[AnyConsole]:
    """Take every whole message off the beginning of a buffer; raise PeerError for what is none."""
    while len(buffer) >= LENGTH_BYTES:
        length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
        if length > FRAME_LIMIT:
            raise PeerError(f"a frame of {length} bytes is longer than {FRAME_LIMIT}")
        if len(buffer) < LENGTH_BYTES + length:
            return
        body = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length])
        del buffer[: LENGTH_BYTES + length]
        try:
            yield _decoder.decode(body)
        except UNDECODABLE as error:
            raise PeerError(f"not a message of the console's channel: {error}") from error


class ConsoleLink:
    """What the core tells the console, and hears from it."""

    def __init__(
        self,
        events: EventLog,
        status: Callable[[], Awaitable[bytes]],
        want_link: Callable[[], None],
        measure: Measure | None = None,
        owners: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.warnings: list[str] = []
        """What the console has status warn of."""
        self._events = events
        self._status = status
        self._want_link = want_link
        self._channel: trio.CancelScope | None = None
        self._news = trio.Event()
        self._asked = trio.Event()
        self._status_wanted = False
        self._measure = measure
        self._owners = owners
        self._measures_wanted = 0
        self._passed_on: deque[WorkerCounted] = deque(maxlen=PASSED_ON_MAX)
        events.listen(self._listen)

    def _listen(self, _record: Record) -> None:
        self._news.set()

    def pass_on(self, worker: str, counted: Counted) -> None:
        """Have the console get what a worker has counted."""
        self._passed_on.append(WorkerCounted(worker, counted.number, counted.data, counted.last))
        self._asked.set()

    async def work(self, descriptor: int) -> None:
        """Serve the console over a new channel until it ends or is replaced."""
        end = socket.socket(fileno=descriptor)
        end.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        with trio.CancelScope() as scope:
            if self._channel is not None:
                self._channel.cancel()
            self._channel = scope
            async with stream:
                try:
                    await self._serve(stream)
                except* (trio.BrokenResourceError, trio.ClosedResourceError, PeerError):
                    pass
        if self._channel is scope:
            self._channel = None
            # Where the console died the keeper makes a new channel with its successor; where it lives, we ask.
            await trio.sleep(RELINK_S)
            if self._channel is None:
                self._want_link()

    async def _serve(self, stream: trio.SocketStream) -> None:
        buffer, turn = bytearray(), trio.StrictFIFOLock()
        async with trio.open_nursery() as nursery:
            while data := await stream.receive_some(READ_BYTES):
                buffer += data
                for message in cut_frames(buffer):
                    match message:
                        case Known(last=last):
                            nursery.start_soon(self._tell, stream, turn, last)
                            nursery.start_soon(self._answer, stream, turn)
                        case Happened(events=events):
                            self._events.emit(events[:EVENTS_MAX])
                        case ConsoleState(warnings=warnings):
                            self.warnings = warnings[:WARNINGS_MAX]
                        case WantStatus():
                            self._status_wanted = True
                            self._asked.set()
                        case WantMeasures(number=number):
                            self._measures_wanted = number
                            self._asked.set()
                        case _:
                            raise PeerError(f"the console sent {type(message).__name__}")
            nursery.cancel_scope.cancel()

    async def _tell(self, stream: trio.SocketStream, turn: trio.StrictFIFOLock, last: int) -> None:
        """Send every event after the one with this number, and those that come."""
        records, complete = self._after(last)
        told = self._events.emitted
        told_owners: dict[str, str] | None = None
        while True:
            owners = dict(self._owners())
            news = None if owners == told_owners else owners
            told_owners = owners
            for begin in range(0, max(1, len(records)), BATCH_MAX):
                batch = records[begin : begin + BATCH_MAX]
                if batch or not complete or news is not None:
                    await _send(stream, turn, Told(batch, complete, news))
                complete, news = True, None
            if records:
                await trio.sleep(GATHER_S)
            if self._events.emitted == told:
                with trio.move_on_at(next_turn(OWNERS_S)):
                    await self._news.wait()
            self._news = trio.Event()
            new = self._events.emitted - told
            records, complete = self._events.last(new), new <= len(self._events)
            told = self._events.emitted

    async def _answer(self, stream: trio.SocketStream, turn: trio.StrictFIFOLock) -> None:
        """Send what the console asks for."""
        while True:
            self._asked = trio.Event()
            if self._status_wanted:
                self._status_wanted = False
                await _send(stream, turn, StatusNow(await self._status()))
            await self._tell_measures(stream, turn)
            await self._asked.wait()

    async def _tell_measures(self, stream: trio.SocketStream, turn: trio.StrictFIFOLock) -> None:
        """Send the numbers that were asked for, and those of the workers that have come."""
        number, self._measures_wanted = self._measures_wanted, 0
        if number and self._measure is not None:
            async with aclosing(self._measure(number)) as parts:
                async for part in parts:
                    await _send(stream, turn, part)
        while self._passed_on:
            await _send(stream, turn, self._passed_on.popleft())

    def _after(self, last: int) -> tuple[list[Record], bool]:
        """Return the events in memory after the one with this number; False with them when it is not there."""
        records = self._events.last(len(self._events))
        for place in range(len(records) - 1, -1, -1):
            if records[place].id == last and last:
                return records[place + 1 :], True
        return records, False


async def _send(stream: trio.SocketStream, turn: trio.StrictFIFOLock, message: ConsoleMessage) -> None:
    async with turn:
        await stream.send_all(console_frame(message))

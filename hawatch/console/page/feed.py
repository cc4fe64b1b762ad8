"""What the page shows, kept fresh: asks the core as often as somebody looks, and seldom when nobody does.

An event is shown as soon as the journal has it; what came of it needs a look at the core, which is taken at once, too.
Only in a storm do looks wait for each other: a look at a large site is work for the core.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Protocol

import trio

from hawatch.agent.events import Record
from hawatch.agent.settings import Settings, wall_ns
from hawatch.agent.status import iso_seconds
from hawatch.console import metrics
from hawatch.console.delivery import Delivery
from hawatch.console.journal import Filter, select
from hawatch.console.page.board import Board
from hawatch.console.page.graph_store import GraphStore
from hawatch.console.page.graphs import HOUR, Curve, History, Span, curve
from hawatch.console.page.pieces import Piece, PieceMaker, event_pieces
from hawatch.console.rules import Policy
from hawatch.console.shelf import Shelf
from hawatch.control.view import View, read_view
from hawatch.model import NS_PER_S, Event

EVENTS_KEPT = 500
LOOKED_S = 20.0
"""Somebody looks, if he asked within so long."""
FRESH_S = 1.0
"""The core is asked so often while somebody looks; at once when something happens."""
GAP_S = 0.2
"""In the long run no oftener than that, whatever happens; after a quiet time so many looks may follow each other."""
LOOKS_MAX = 4
EVENTS_GAP_S = 0.05
"""Events of so long are shown together."""
SAMPLE_S = 15.0
"""Otherwise so often, for the graphs."""
CURVES_MAX = 5000
"""Lines kept until the next sample."""


class Shown(metrics.Measured, Protocol):
    """What the page needs of the console."""

    settings: Settings
    shelf: Shelf
    policy: Policy
    delivery: Delivery
    recipients: dict[str, tuple[str, ...]]

    async def fresh_status(self) -> bytes:
        """Return the core's status, new if it answers in time."""

    def tell(self, event: Event) -> None:
        """Have the core tell of something that happened here."""


class Pace:
    """Lets something happen so often in the long run, and a few times at once after a rest. Pure."""

    def __init__(self, every_s: float, most: int) -> None:
        self._every_s, self._most = every_s, most
        self._spent_until = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Return how long the next one has to wait; it is taken as having happened then."""
        wait_s = max(0.0, self._spent_until - self._every_s * (self._most - 1) - now_s)
        self._spent_until = max(self._spent_until, now_s) + self._every_s
        return wait_s


class Feed:
    """The pieces of the page, their versions, and the history of numbers."""

    def __init__(self, console: Shown) -> None:
        self.board: Board[Piece] = Board(secrets.token_hex(4))
        self.history = History()
        self._maker = PieceMaker()
        self.view: View | None = None
        self.events: deque[Record] = deque(maxlen=EVENTS_KEPT)
        self._console = console
        self._status = b""
        self._stale = ""
        self._sample = 0
        self._sampled_at = -math.inf
        self._looked_at = -math.inf
        self._pace = Pace(GAP_S, LOOKS_MAX)
        self._news = trio.Event()
        self._events_news = trio.Event()
        self._changed = trio.Event()
        self._curves: dict[tuple[str, Span, int, int], Curve] = {}
        self._loaded = False
        self._store = GraphStore(console.settings.places.state_dir / "graphs.db")

    def note(self, records: Iterable[Record]) -> None:
        """Take in events that the journal has."""
        self.events.extend(records)
        self._news.set()
        self._events_news.set()

    def look(self) -> None:
        """Somebody looks: be fresh for a while."""
        if trio.current_time() - self._looked_at > LOOKED_S:
            self._news.set()
        self._looked_at = trio.current_time()

    async def wait_change(self) -> None:
        """Wait until the board has another version."""
        await self._changed.wait()

    async def run(self) -> None:
        """Keep the board until cancelled; it may run again after that."""
        if not self._loaded:
            await self._load()
            self._loaded = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_events)
            while True:
                await self._refresh()
                with trio.move_on_after(self._pause_s()):
                    await self._news.wait()
                await trio.sleep(self._pace.wait_s(trio.current_time()))

    def _pause_s(self) -> float:
        return FRESH_S if trio.current_time() - self._looked_at < LOOKED_S else SAMPLE_S

    async def _tell_events(self) -> None:
        """Show events without a look at the core."""
        while True:
            await self._events_news.wait()
            self._events_news = trio.Event()
            if self.board.patch(event_pieces(list(self.events))):
                self._tell_change()
            await trio.sleep(EVENTS_GAP_S)

    async def _load(self) -> None:
        """Remember what an earlier console knew."""
        await trio.to_thread.run_sync(self._store.load, self.history)
        known = await self._console.shelf.query(lambda database: select(database, Filter(), EVENTS_KEPT))
        since = list(self.events)
        self.events.clear()
        numbers = {record.id for record in since}
        self.events.extend([*(record for record in known if record.id not in numbers), *since])

    async def _refresh(self) -> None:
        self._news = trio.Event()
        status = await self._console.fresh_status()
        view = read_view(status)
        if view is None:
            return
        if status is self._status:
            self._stale = self._stale or view.time
        else:
            self._status, self._stale, self.view = status, "", view
            await self._measure(view)
        self._publish(view)

    def _publish(self, view: View) -> None:
        if self.board.put(self._maker.make(view, list(self.events), self._sample, self._stale)):
            self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _measure(self, view: View) -> None:
        if trio.current_time() - self._sampled_at < SAMPLE_S - FRESH_S / 2:
            return
        self._sampled_at = trio.current_time()
        done = self.history.note(measured(view), wall_ns())
        if done or not self._sample:
            self._sample += 1
            self._curves.clear()
        if done:
            await trio.to_thread.run_sync(partial(self._store.save, dict(self.history.numbers), done))

    def curve(self, name: str, span: Span, size: tuple[int, int]) -> Curve:
        """Return the line of a series."""
        key = (name, span, *size)
        found = self._curves.get(key)
        if found is None:
            if len(self._curves) >= CURVES_MAX:
                self._curves.clear()
            found = self._curves[key] = curve(self.history.series(name, span, wall_ns()), *size)
        return found

    def spark(self, name: str, size: tuple[int, int]) -> tuple[Curve, str]:
        """Return the last hour of a server or a service: its connections where they are told, else its latency."""
        for key, what in (("active", "connections"), ("latency", "latency in ms")):
            found = self.curve(f"{name} {key}", HOUR, size)
            if found.path:
                return found, what
        return found, what


def measured(view: View) -> dict[str, float | None]:
    """Return the numbers that have a history, by series."""
    found: dict[str, float | None] = {}
    for service in view.services:
        latencies = [server.latency_ms for server in service.servers if server.latency_ms is not None]
        found[f"{service.name} active"] = service.total("active")
        found[f"{service.name} connections"] = service.total("connections_per_s")
        found[f"{service.name} in"] = service.total("bytes_in_per_s")
        found[f"{service.name} out"] = service.total("bytes_out_per_s")
        found[f"{service.name} latency"] = sum(latencies) / len(latencies) if latencies else None
        found[f"{service.name} up"] = float(service.up_count)
        for server in service.servers:
            name = f"{service.name} {server.name}"
            found[f"{name} active"] = server.active
            found[f"{name} latency"] = server.latency_ms
    return {key: value for key, value in found.items() if value is not None}


def now_text() -> str:
    """Return the time as pages show it."""
    return iso_seconds(wall_ns() // NS_PER_S * NS_PER_S)

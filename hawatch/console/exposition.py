"""One answer to /metrics: ask, gather what the console knows, and make the text in portions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import trio

from hawatch.agent.child import CONSOLE
from hawatch.agent.settings import Settings
from hawatch.console.collector import ConsoleNumbers, Families, Snapshot
from hawatch.console.delivery import Delivery
from hawatch.console.measures import MeasureKeeper, Measures
from hawatch.console.processes import Usage, usage
from hawatch.console.shelf import Shelf
from hawatch.console.text_format import text

KEEPER = "keeper"
WORK_S, REST_S = 0.001, 0.001
"""The text is made for so long at a time, and then everything that waits has its turn: a page matters more."""


class Text:
    """The last text. Who asks while its numbers are new gets the same: a flood costs no more than one a second."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.measures: Measures | None = None
        self.data = b""


class Measured(Protocol):
    """What the metrics need of the console."""

    settings: Settings
    delivery: Delivery
    shelf: Shelf
    measures: MeasureKeeper
    measures_text: Text
    taken: Counter[str]
    scrapes: int

    @property
    def waiting(self) -> int:
        """Return how many events wait to be written."""


async def exposition(console: Measured) -> bytes:
    """Return the metrics as Prometheus reads them."""
    text_ = console.measures_text
    async with text_.lock:
        began_s = trio.current_time()
        measures = await console.measures.fresh()
        if measures is None or measures is not text_.measures:
            console.scrapes += 1
            numbers = await _numbers(console, measures, trio.current_time() - began_s)
            text_.measures, text_.data = measures, await _make(console, measures, numbers)
        return text_.data


async def _make(console: Measured, measures: Measures | None, numbers: ConsoleNumbers) -> bytes:
    settings = console.settings
    detail = settings.config.console.metrics_detail
    snapshot = Snapshot(measures, settings.plan, console.measures.latencies, numbers, detail)
    made = []
    turn_s = trio.current_time()
    for portion in portions(snapshot):
        made.append(portion)
        if trio.current_time() - turn_s >= WORK_S:
            await trio.sleep(REST_S)
            turn_s = trio.current_time()
    return b"".join(made)


def portions(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the text in parts, none of which takes long to make; some are empty."""
    families = Families()
    for _ in snapshot.fill(families):
        yield b""
    for portion in text(families):
        yield portion.encode()


async def _numbers(console: Measured, measures: Measures | None, gather_s: float) -> ConsoleNumbers:
    store, delivery, settings = console.shelf.store, console.delivery, console.settings
    waiting: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(sqlite3.Error):
        waiting = await console.shelf.do(lambda store: store.spool.waiting())
    return ConsoleNumbers(
        cluster=settings.config.cluster.name,
        node=settings.node,
        taken=dict(console.taken),
        events_waiting=console.waiting,
        journal_bytes=_size(store.path),
        journal_on_disk=not store.in_memory,
        journal_committed_ns=store.committed_ns,
        alerts=tuple(delivery.targets),
        sent=dict(delivery.sent),
        failures=dict(delivery.failures),
        waiting=waiting,
        usages=_usages(measures),
        scrapes=console.scrapes,
        gather_s=gather_s,
    )


def _size(path: Path) -> int:
    total = 0
    for ending in ("", "-wal"):
        with contextlib.suppress(OSError):
            total += path.with_name(path.name + ending).stat().st_size
    return total


def _usages(measures: Measures | None) -> dict[str, Usage]:
    """Return what each process uses, as far as it is known which they are."""
    pids = {KEEPER: os.getppid(), CONSOLE: os.getpid()}
    if measures is not None and measures.core is not None:
        pids |= {worker.name: worker.pid for worker in measures.core.workers if worker.pid}
    found = {name: usage(pid) for name, pid in pids.items()}
    return {name: each for name, each in found.items() if each is not None}

"""The store behind the event loop: one thread at a time works on it, and the loop goes on meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import trio

from hawatch.console.spool import Spool
from hawatch.console.store import Store

T = TypeVar("T")


class Shelf:
    """A store, and the order in which tasks have their turns with it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        """A thread of its own: it waits for nobody who does something else in a thread."""

    async def do(self, function: Callable[[Store], T]) -> T:
        """Do something with the store in a thread, after those who asked before."""
        async with self._lock:
            return await trio.to_thread.run_sync(function, self.store, limiter=self._thread)

    async def work(self, function: Callable[[Spool], T]) -> T:
        """Do something with the spool, in one transaction."""
        return await self.do(lambda store: store.work(function))

    async def query(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Read something."""
        return await self.do(lambda store: store.query(function))

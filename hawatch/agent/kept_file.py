"""A file whose newest content counts: a thread writes it, so that a disk that hangs holds up nobody.

What cannot be written is told, and tried again every so often until it can, or until something newer is to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class KeptFile(Generic[T]):
    """One file. `write` returns a sentence where it fails, else "", and `tell` tells it to people."""

    def __init__(self, write: Callable[[T], str], tell: Callable[[str], None], again_s: float) -> None:
        self._write = write
        self._tell = tell
        self._again_s = again_s
        self._content: list[T] = []
        self._changed, self._tried = trio.Event(), trio.Event()

    def keep(self, content: T) -> None:
        """Have it written soon; what was kept before and is not written yet is forgotten."""
        if self._content != [content]:
            self._content = [content]
            self._tried = trio.Event()
            self._changed.set()

    async def wait(self, limit_s: float) -> None:
        """Return when what was kept last has been written, or could not be; after the limit in any case."""
        if self._content:
            with trio.move_on_after(limit_s):
                await self._tried.wait()

    async def run(self) -> None:
        """Write what is kept, until cancelled: a thread under way is not waited for."""
        told = ""
        await self._changed.wait()
        while True:
            self._changed, tried, content = trio.Event(), self._tried, self._content[0]
            problem = await trio.to_thread.run_sync(self._write, content, abandon_on_cancel=True)
            tried.set()
            if problem and problem != told:
                self._tell(problem)
            told = problem
            with trio.move_on_after(self._again_s if problem else math.inf):
                await self._changed.wait()

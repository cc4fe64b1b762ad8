"""What the loops of an agent do at a stretch: the CPU time of each pass, which no other process of the machine adds to.

A loop that comes late was either kept from running, by the machine, or kept busy, by itself. How late it came is on a
shared machine mostly the former; the longest pass between two waits is the latter alone.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100)
"""Passes are counted up to each of these, and beyond."""
TELL_NS = 1_000_000_000
"""The figures are written down so often: a prober ends without a word."""


class Passes(trio.abc.Instrument):
    """Measures each pass of one trio loop, from the end of a wait to the next one, in CPU time of its thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._longest: list[tuple[float, float]] = []
        """The ten longest, and when each was, in seconds since the loop's begin."""
        self._woken_ns = time.thread_time_ns()
        self._begun_ns = self._told_ns = time.monotonic_ns()

    def after_io_wait(self, timeout: float) -> None:
        """Begin a pass."""
        self._woken_ns = time.thread_time_ns()

    def before_io_wait(self, timeout: float) -> None:
        """End a pass."""
        took_ms = (time.thread_time_ns() - self._woken_ns) / 1e6
        self._counts[sum(took_ms > bound for bound in BOUNDS_MS)] += 1
        now_ns = time.monotonic_ns()
        if len(self._longest) < 10 or took_ms > self._longest[-1][0]:
            self._longest = sorted([*self._longest, (took_ms, (now_ns - self._begun_ns) / 1e9)], reverse=True)[:10]
        if now_ns - self._told_ns >= TELL_NS:
            self._told_ns = now_ns
            self._write()

    def _write(self) -> None:
        name = Path("/proc/self/comm").read_text(encoding="ascii").strip().removeprefix("hawatch:")
        path = self._folder / f"passes.{name}.json"
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"counts": self._counts, "longest": self._longest}), encoding="ascii")
        scratch.replace(path)


def watch_passes(folder: Path) -> None:
    """Have every trio loop that this process and its children start measured."""
    plain: Any = trio.run

    def run(*words: Any, **options: Any) -> Any:
        return plain(*words, instruments=[Passes(folder)], **options)

    trio.run = partial(run)


def told(folder: Path, name: str) -> str:
    """Return the figures of one process in words."""
    found = json.loads((folder / f"passes.{name}.json").read_text(encoding="ascii"))
    long = sum(found["counts"][BOUNDS_MS.index(5) + 1 :])
    longest = ", ".join(f"{took_ms:.1f} (at {at_s:.0f} s)" for took_ms, at_s in found["longest"][:3])
    return f"{sum(found['counts'])} passes, {long} over 5 ms of its own CPU; the longest {longest} ms"

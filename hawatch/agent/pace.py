"""Turns that tasks of one loop take together, so that a process without anything to do wakes up seldom."""

from __future__ import annotations

import math

import trio


def next_turn(interval_s: float) -> float:
    """Return when the next turn of this interval begins, by the event loop's clock: the same for all who ask."""
    assert interval_s > 0
    return (math.floor(trio.current_time() / interval_s) + 1) * interval_s

"""When each check runs: one schedule for all.

Theory of operation. A check's runs lie on a grid of its own: every `interval`, at a phase that is a hash of its name
and a salt, so that checks spread evenly, stay where they were after a restart, and differ between two directors. Each
run is shifted by a little jitter around its grid point, never added up, so that there is no drift and `fall` runs take
`fall` intervals. The first runs of all lie within one second, or one interval if that is shorter.

A run that starts late does not make the next ones late, and runs that were missed are not made up for. A check whose
run is not finished when the next is due skips that one. Starts are gathered into ticks, so that a thousand checks a
second cost fifty wake-ups; a heap holds the ticks at which something is due, and each tick its checks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from hashlib import blake2b
from random import Random

from hawatch.model import NS_PER_MS, NS_PER_S, Check

TICK_NS = 20 * NS_PER_MS
"""Starts due within one tick are made together."""
FIRST_RUN_NS_MAX = NS_PER_S
JITTER_SHARE_MAX = 0.05
JITTER_NS_MAX = 20 * NS_PER_MS


class Slot:
    """One check's place in the schedule."""

    __slots__ = ("check", "due_ns", "grid_ns", "interval_ns", "jitter_ns", "late_ns", "running", "valid")

    def __init__(self, check: Check, grid_ns: int, due_ns: int) -> None:
        self.check = check
        self.interval_ns = check.interval_ns
        self.jitter_ns = int(min(JITTER_NS_MAX, check.interval_ns * JITTER_SHARE_MAX))
        self.grid_ns = grid_ns
        """A point of its grid, not after the next run's."""
        self.due_ns = due_ns
        self.late_ns = 0
        """By how much its last start was late."""
        self.running = False
        self.valid = True


class Schedule:
    """All checks of one prober and when each is due next."""

    def __init__(self, salt: str, random: Random) -> None:
        self._salt = salt.encode()
        self._random = random
        self._slots: dict[str, Slot] = {}
        self._ticks: list[int] = []
        """The numbers of the ticks that have slots, a heap."""
        self._by_tick: dict[int, list[Slot]] = {}
        self.skipped = 0
        """Runs left out because the one before had not finished, or because this process was late."""

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, check_id: str) -> Slot | None:
        """Return a check's place, None when it is not in the schedule."""
        return self._slots.get(check_id)

    def assign(self, checks: Iterable[Check], now_ns: int) -> None:
        """Keep exactly these checks; those that do not change keep their grid."""
        wanted = {check.id: check for check in checks}
        for check_id in [one for one in self._slots if one not in wanted]:
            self._slots.pop(check_id).valid = False
        for check_id, check in wanted.items():
            old = self._slots.get(check_id)
            if old is not None and old.interval_ns == check.interval_ns:
                old.check = check
                continue
            if old is not None:
                old.valid = False
            self._slots[check_id] = self._add(check, now_ns)
            self._slots[check_id].running = old is not None and old.running

    def next_due_ns(self) -> int | None:
        """Return the tick at which something is due next, None when nothing ever is."""
        while self._ticks:
            if any(slot.valid for slot in self._by_tick[self._ticks[0]]):
                return self._ticks[0] * TICK_NS
            del self._by_tick[heapq.heappop(self._ticks)]
        return None

    def take_due(self, now_ns: int) -> list[Slot]:
        """Return the checks to start now, and mark them as running: those that were due at the last tick."""
        due = []
        tick = now_ns // TICK_NS
        while self._ticks and self._ticks[0] <= tick:
            for slot in self._by_tick.pop(heapq.heappop(self._ticks)):
                if not slot.valid:
                    continue
                if slot.running:
                    self.skipped += 1
                else:
                    slot.running = True
                    slot.late_ns = now_ns - slot.due_ns
                    due.append(slot)
                self._push_next(slot, now_ns)
        return due

    def _add(self, check: Check, now_ns: int) -> Slot:
        share = int.from_bytes(blake2b(check.id.encode(), digest_size=8, key=self._salt[:64]).digest(), "big") / 2**64
        first_ns = now_ns + int(share * min(check.interval_ns, FIRST_RUN_NS_MAX))
        phase_ns = int(share * check.interval_ns)
        grid_ns = first_ns - (first_ns - phase_ns) % check.interval_ns
        slot = Slot(check, grid_ns, first_ns)
        self._push(slot)
        return slot

    def _push_next(self, slot: Slot, now_ns: int) -> None:
        """Put a check to its next grid point that is not in the past, nor nearer than a tenth of its interval."""
        earliest_ns = now_ns + slot.interval_ns // 10
        steps = max(1, -(-(earliest_ns - slot.grid_ns) // slot.interval_ns))
        missed = (now_ns - slot.due_ns) // slot.interval_ns
        self.skipped += max(0, missed)
        slot.grid_ns += steps * slot.interval_ns
        slot.due_ns = slot.grid_ns + int(self._random.random() * slot.jitter_ns)
        self._push(slot)

    def _push(self, slot: Slot) -> None:
        """Put a slot to the first tick that is not before it is due."""
        tick = -(-slot.due_ns // TICK_NS)
        slots = self._by_tick.get(tick)
        if slots is None:
            self._by_tick[tick] = [slot]
            heapq.heappush(self._ticks, tick)
        else:
            slots.append(slot)

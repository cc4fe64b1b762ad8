"""When each check runs: one schedule for all.

Theory of operation. A check's runs lie on a grid of its own: every `interval`, at a phase that is a hash of its name
and a salt, so that checks spread evenly, stay where they were after a restart, and differ between two directors. Each
run is shifted by a little jitter around its grid point, never added up, so that there is no drift and `fall` runs take
`fall` intervals. The first runs of all lie within one second, or one interval if that is shorter.

A run that starts late does not make the next ones late, and runs that were missed are not made up for. A check whose
run is not finished when the next is due skips that one, whatever has become of its place in the schedule since. Starts
are gathered into ticks, so that a thousand checks a second cost fifty wake-ups; a heap holds the ticks at which
something is due, and each tick its checks.

After a pause of this process everything is due at once. What is later than `LATE_NS` is then put off, at random over as
long as it is late already, an interval, or a second, whichever is shortest: the servers see no burst, and nothing is
more than twice as late as it would be. A check is put off once, and runs the next time however late that is, so that a
process that is late all the time starves none.
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
LATE_NS = 100 * NS_PER_MS
"""A start later than this is put off, once."""
JITTER_SHARE_MAX = 0.05
JITTER_NS_MAX = 20 * NS_PER_MS


class Slot:
    """One check's place in the schedule."""

    __slots__ = ("check", "due_ns", "grid_ns", "interval_ns", "jitter_ns", "put_off", "valid")

    def __init__(self, check: Check, grid_ns: int, due_ns: int) -> None:
        self.check = check
        self.interval_ns = check.interval_ns
        self.jitter_ns = int(min(JITTER_NS_MAX, check.interval_ns * JITTER_SHARE_MAX))
        self.grid_ns = grid_ns
        """A point of its grid, not after the next run's."""
        self.due_ns = due_ns
        self.put_off = False
        """Its last run was put off: the next one is not."""
        self.valid = True


class Schedule:
    """All checks of one prober and when each is due next."""

    def __init__(self, salt: str, random: Random) -> None:
        self._salt = salt.encode()
        self._random = random
        self._slots: dict[str, Slot] = {}
        self._under_way: set[str] = set()
        """Checks that run now, some perhaps not of the schedule any more. A run is the check's and not its slot's: it
        may outlive that, and nothing runs twice at once."""
        self._ticks: list[int] = []
        """The numbers of the ticks that have slots, a heap."""
        self._by_tick: dict[int, list[Slot]] = {}
        self.late_ns_max = 0
        """The latest of all starts, those put off included; whoever shows it may set it back."""
        self.late = 0
        """Starts that were later than `LATE_NS`, or put off for that."""
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

    def next_due_ns(self) -> int | None:
        """Return the tick at which something is due next, None when nothing ever is."""
        while self._ticks:
            if any(slot.valid for slot in self._by_tick[self._ticks[0]]):
                return self._ticks[0] * TICK_NS
            del self._by_tick[heapq.heappop(self._ticks)]
        return None

    def take_due(self, now_ns: int) -> list[Slot]:
        """Return the checks to start now, those that were due at the last tick; tell `finish` of the end of each."""
        due: list[Slot] = []
        tick = now_ns // TICK_NS
        while self._ticks and self._ticks[0] <= tick:
            for slot in self._by_tick.pop(heapq.heappop(self._ticks)):
                if slot.valid:
                    self._take(slot, now_ns, due)
        return due

    def finish(self, slot: Slot) -> None:
        """Take in that the run of a slot that was due is over, or was not made after all."""
        self._under_way.discard(slot.check.id)

    def _take(self, slot: Slot, now_ns: int, due: list[Slot]) -> None:
        check_id = slot.check.id
        if check_id in self._under_way:
            self.skipped += 1
            self._push_next(slot, now_ns)
            return
        late_ns = now_ns - slot.due_ns
        if late_ns > self.late_ns_max:
            self.late_ns_max = late_ns
        self.late += late_ns > LATE_NS
        if late_ns > LATE_NS and not slot.put_off:
            self._put_off(slot, now_ns)
            return
        slot.put_off = False
        self._under_way.add(check_id)
        due.append(slot)
        self._push_next(slot, now_ns)

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

    def _put_off(self, slot: Slot, now_ns: int) -> None:
        """Put a check that is late to some time soon: within as long as it is late, an interval, or a second."""
        late_ns = now_ns - slot.due_ns
        slot.put_off = True
        self.skipped += late_ns // slot.interval_ns
        slot.grid_ns += (now_ns - slot.grid_ns) // slot.interval_ns * slot.interval_ns
        slot.due_ns = now_ns + int(self._random.random() * min(late_ns, slot.interval_ns, FIRST_RUN_NS_MAX))
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

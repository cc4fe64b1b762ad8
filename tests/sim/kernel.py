"""What a machine's kernel has that outlives the agent: its clock and the dead-man gates."""

from __future__ import annotations

from dataclasses import dataclass, field

MILLION = 1_000_000


class Clock:
    """A clock that runs fast or slow by some parts per million, and may change its rate."""

    def __init__(self, true_ns: int, local_ns: int, ppm: int) -> None:
        self.true_ns, self.local_ns, self.ppm = true_ns, local_ns, ppm

    def local(self, true_ns: int) -> int:
        """Return what this clock shows at an instant of true time."""
        assert true_ns >= self.true_ns
        return self.local_ns + (true_ns - self.true_ns) * (MILLION + self.ppm) // MILLION

    def true(self, local_ns: int) -> int:
        """Return the first instant of true time at which this clock, going on as it does, shows so much."""
        ahead_ns = max(0, local_ns - self.local_ns)
        return self.true_ns - (-ahead_ns * MILLION // (MILLION + self.ppm))

    def retune(self, true_ns: int, ppm: int) -> None:
        """Run at another rate from now on; what it shows does not jump."""
        self.local_ns, self.true_ns = self.local(true_ns), true_ns
        self.ppm = ppm


@dataclass
class Gate:
    """One group's gate: two slots, each a timer and an active bit; packets pass while one slot has both."""

    ends_ns: list[int] = field(default_factory=lambda: [-1, -1])
    """On the machine's clock."""
    active: list[bool] = field(default_factory=lambda: [False, False])

    def arm(self, slot: int, now_ns: int, duration_ns: int) -> None:
        """Clear the slot's bit, and start its timer anew."""
        self.active[slot] = False
        self.ends_ns[slot] = now_ns + duration_ns

    def activate(self, slot: int, _now_ns: int) -> None:
        """Set the slot's bit; its timer goes on as it was."""
        self.active[slot] = True

    def close(self) -> None:
        """Clear everything."""
        self.ends_ns, self.active = [-1, -1], [False, False]

    def end_ns(self) -> int:
        """Return when the gate closes by itself, -1 if it is not open."""
        return max(end if active else -1 for end, active in zip(self.ends_ns, self.active, strict=True))

    def open(self, now_ns: int) -> bool:
        """Return whether packets pass."""
        return now_ns < self.end_ns()

    def slot_in_use(self, now_ns: int) -> int | None:
        """Return the slot that is open longest, None when the gate is closed."""
        if not self.open(now_ns):
            return None
        return max((0, 1), key=lambda slot: self.ends_ns[slot] if self.active[slot] else -1)

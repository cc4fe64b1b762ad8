"""What comes in on the heartbeat port and is no heartbeat: how much of it is looked at, and what people are told.

Theory of operation. What gets past the kernel's filter costs the core some microseconds each, for the HMAC. A `Budget`
bounds that: a queue that brings more than members ever send is left alone for some milliseconds, and what it
brings meanwhile, the kernel drops. Another, smaller one is for what turns out to be forged; when either is used up, the
queue's door is made narrow. People are told by one event at the first noise and then one a minute while it
lasts, with what came from where.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from hawatch.cluster.wire import VERSION
from hawatch.model import NS_PER_S, Event, Severity

DATAGRAMS_PER_S = 2000
"""Read from one queue. A pair with 250 groups sends some 200."""
BURST = 200
"""Read at once after quiet: a second of such a pair's."""
UNVERIFIED_PER_S, UNVERIFIED_BURST = 20, 60
"""Datagrams with a member's address and header that it did not make: with more, somebody takes aim. A member with other
keys than this node's sends fewer."""
TELL_INTERVAL_NS = 60 * NS_PER_S
LOOK_INTERVAL_S = 5.0
"""How soon noise is noticed."""
ORIGINS_SHOWN_MAX = 8


class Budget:
    """How many datagrams of one queue may be read, or may be none of ours."""

    def __init__(self, now_ns: int, per_s: int = DATAGRAMS_PER_S, burst: int = BURST) -> None:
        self._per_s = per_s
        self._full_ns = self._left_ns = burst * NS_PER_S // per_s
        self._at_ns = now_ns

    def allowed(self, now_ns: int) -> int:
        """Return how many are left now."""
        self._left_ns = min(self._full_ns, self._left_ns + max(0, now_ns - self._at_ns))
        self._at_ns = now_ns
        return max(0, self._left_ns) * self._per_s // NS_PER_S

    def spend(self, count: int) -> None:
        """Note how many there were; a debt is bounded, so that it is paid soon."""
        self._left_ns = max(-self._full_ns, self._left_ns - count * NS_PER_S // self._per_s)


class Noise(StrEnum):
    """Why something was no heartbeat."""

    STRANGER = "no member has this address"
    UNLIKE = "no heartbeat of this cluster and member, or too many for the queue"
    VERSION = f"its hawatch speaks another version than {VERSION}, so neither hears the other: install the same release"
    UNVERIFIED = "made with no key of this node: are the key files the same?"


@dataclass(slots=True)
class NoiseLog:
    """Counts noise and makes the events."""

    counts: Counter[tuple[str, str, Noise]] = field(default_factory=Counter)
    """By link, origin and kind, since people were last told."""
    total: int = 0
    told_ns: int | None = None

    def note(self, link: str, origin: str, kind: Noise, count: int) -> None:
        """Count datagrams."""
        if count:
            self.counts[link, origin, kind] += count
            self.total += count

    def event(self, now_ns: int) -> Event | None:
        """Return what is to be told now, if anything is, and count from 0 again."""
        if not self.counts or (self.told_ns is not None and now_ns - self.told_ns < TELL_INTERVAL_NS):
            return None
        self.told_ns = now_ns
        parts = [
            f"{count} on {link} from {origin} ({kind})"
            for (link, origin, kind), count in self.counts.most_common(ORIGINS_SHOWN_MAX)
        ]
        count = sum(self.counts.values())
        self.counts.clear()
        reason = f"datagrams that are no heartbeats, and change nothing: {'; '.join(parts)}"
        return Event("heartbeat_noise", reason, Severity.WARNING, numbers={"datagrams": count})

"""Freshness: which authentic datagrams are new, and which are copies of old ones.

Theory of operation. A datagram names its sender's boot and a sequence number of that boot. Somebody who has no key
can still record datagrams and send them again, to a node that was restarted since and has forgotten what it saw.
So a boot is believed only when it has answered a fresh question of ours (a pong with our nonce): from then on every
sequence number above that answer's was made after it. Until then a boot is *pending*: its pings are answered and
it is asked, nothing more. Once a boot is believed, older boots are refused for good. A pending one refuses nobody: it
may be the copy of a datagram from before its sender's clock went back, and will never answer.

Within a boot each number is used once: a sliding window remembers the last `WINDOW`, so that datagrams may overtake
each other; what is older than the window is stale.

Not handled: somebody between the nodes who holds datagrams back and delivers each of them once, later.
"""

from __future__ import annotations

from enum import Enum, auto

WINDOW = 256
"""Datagrams that may be overtaken: several seconds of a busy pair."""
WINDOW_MASK = (1 << WINDOW) - 1


class Standing(Enum):
    """What a datagram's boot and sequence number amount to."""

    FRESH = auto()
    DUPLICATE = auto()
    STALE = auto()
    OLD_BOOT = auto()
    UNVERIFIED = auto()


class Window:
    """The sequence numbers of one boot that were seen."""

    __slots__ = ("boot", "seen", "top")

    def __init__(self, boot: int, top: int, *, all_seen: bool) -> None:
        assert boot >= 0
        assert top >= 0
        self.boot = boot
        self.top = top
        self.seen = WINDOW_MASK if all_seen else 0

    def admit(self, sequence: int) -> Standing:
        """Note a number; return FRESH the first time, else why it is not."""
        assert sequence > 0
        if sequence > self.top:
            shift = sequence - self.top
            self.seen = ((self.seen << shift) | 1) & WINDOW_MASK if shift < WINDOW else 1
            self.top = sequence
            return Standing.FRESH
        behind = self.top - sequence
        if behind >= WINDOW:
            return Standing.STALE
        if self.seen >> behind & 1:
            return Standing.DUPLICATE
        self.seen |= 1 << behind
        return Standing.FRESH


class Session:
    """What is believed of one sender."""

    __slots__ = ("pending", "verified")

    def __init__(self) -> None:
        self.verified: Window | None = None
        self.pending: Window | None = None

    @property
    def boot(self) -> int:
        """The boot that is believed, 0 for none."""
        return self.verified.boot if self.verified else 0

    def admit(self, boot: int, sequence: int) -> Standing:
        """Return the standing of a datagram with this boot and number."""
        assert sequence > 0
        if self.verified is not None:
            if boot == self.verified.boot:
                return self.verified.admit(sequence)
            if boot < self.verified.boot:
                return Standing.OLD_BOOT
        if self.pending is None or boot != self.pending.boot:
            self.pending = Window(boot, 0, all_seen=False)
        standing = self.pending.admit(sequence)
        return Standing.UNVERIFIED if standing is Standing.FRESH else standing

    def verify(self, boot: int, sequence: int) -> bool:
        """Believe a pending boot from this number on: it has just answered a fresh nonce of ours."""
        assert sequence > 0
        if self.pending is None or self.pending.boot != boot:
            return False
        assert self.verified is None or boot > self.verified.boot
        self.verified = Window(boot, max(sequence, self.pending.top), all_seen=True)
        self.pending = None
        return True

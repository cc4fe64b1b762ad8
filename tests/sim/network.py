"""The network: several links, and everything that a network does to datagrams."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from hawatch.model import NS_PER_MS, NS_PER_S

STORM_PER_WAY = 100
"""A node sends another one so many datagrams a heartbeat on a link at most: five are usual, fifty after a freeze."""
BACKLOG = 300
"""Datagrams that may have waited while a node was frozen: each may be answered, on every link."""
HISTORY = 600
"""Datagrams that somebody recorded and may send again."""


@dataclass(frozen=True)
class Quality:
    """How well datagrams travel."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay_ns: tuple[int, int] = (NS_PER_MS // 10, NS_PER_MS // 2)
    late: float = 0.0
    """Share of datagrams that take up to `late_ns`: they are overtaken by many others."""
    late_ns: int = 0


CLEAN = Quality()


@dataclass(frozen=True)
class Parcel:
    """A datagram on its way."""

    sender: str
    to: str
    link: int
    data: bytes


class Network:
    """Carries datagrams between machines, or does not."""

    def __init__(
        self, chance: random.Random, addresses: dict[tuple[int, str], str], later: Callable[[int, Callable[[], None]], None],
        deliver: Callable[[Parcel], None], clock: Callable[[], int], window_ns: int,
    ) -> None:  # fmt: skip
        """`clock` is true time; no node may send more than its share in any window of `window_ns`."""
        self.chance, self.addresses, self.later, self.deliver = chance, addresses, later, deliver
        self.quality = CLEAN
        self.cuts: dict[tuple[str, str, int], int] = {}
        """Sender, receiver and link, with how many faults cut it at the moment."""
        self.history: deque[Parcel] = deque(maxlen=HISTORY)
        self.sent = self.lost = 0
        self.window_ns, self.ways = window_ns, max(1, len(addresses) - max(link for link, _ in addresses) - 1)
        self.limit = STORM_PER_WAY * self.ways + BACKLOG * (1 + max(link for link, _ in addresses))
        self.clock, self.windows = clock, Counter[str]()
        self.window = self.most = 0
        self.storms: list[str] = []

    def send(self, sender: str, link: int, address: str, data: bytes) -> None:
        """Take a datagram in."""
        parcel = Parcel(sender, self.addresses[link, address], link, data)
        self.sent += 1
        self.count(sender)
        self.history.append(parcel)
        if self.chance.random() < self.quality.duplicates:
            self.carry(parcel)
        self.carry(parcel)

    def count(self, sender: str) -> None:
        """Note a datagram; too many in one window are a storm."""
        window = self.clock() // self.window_ns
        if window != self.window:
            self.window = window
            self.windows.clear()
        self.windows[sender] += 1
        self.most = max(self.most, self.windows[sender] // self.ways)
        if self.windows[sender] == self.limit + 1:
            at_s = window * self.window_ns / NS_PER_S
            self.storms.append(
                f"storm: {sender} sent more than {self.limit} datagrams in the heartbeat at {at_s:.3f} s"
            )

    def carry(self, parcel: Parcel) -> None:
        """Lose a datagram, or deliver it some time later."""
        quality = self.quality
        if self.cuts.get((parcel.sender, parcel.to, parcel.link)) or self.chance.random() < quality.loss:
            self.lost += 1
            return
        delay_ns = self.chance.randint(*quality.delay_ns)
        if quality.late and self.chance.random() < quality.late:
            delay_ns += self.chance.randint(0, quality.late_ns)
        self.later(delay_ns, lambda: self.deliver(parcel))

    def cut(self, ways: list[tuple[str, str, int]]) -> Callable[[], None]:
        """Cut some ways; return what mends them."""
        for way in ways:
            self.cuts[way] = self.cuts.get(way, 0) + 1

        def mend() -> None:
            for way in ways:
                self.cuts[way] = max(0, self.cuts.get(way, 0) - 1)

        return mend

    def replay(self, count: int) -> None:
        """Send copies of old datagrams, as somebody without a key could."""
        for parcel in self.chance.sample(list(self.history), min(count, len(self.history))):
            self.carry(parcel)

    def heal(self) -> None:
        """Be clean and whole."""
        self.quality = CLEAN
        self.cuts.clear()

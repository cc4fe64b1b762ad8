"""What every way of telling people has in common: the message, and how an attempt can fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that a message tells of."""

    kind: str
    """down, again, up or notice."""
    name: str
    """Of the event."""
    time: str
    severity: str
    node: str
    reason: str
    group: str = ""
    service: str = ""
    server: str = ""
    began_s: float = 0.0
    """Unix time at which the failure began; 0 where none did."""
    lasted_s: float | None = None
    """For an end: how long it lasted."""
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    failure: str = ""
    """Name of the event that tells of a failure, for its end too; "" for what is no failure."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it is sent."""

    key: str
    """The same at every attempt."""
    subject: str
    body: str
    date_s: float
    """Unix time of its making."""
    severity: str
    """The loudest of what it tells."""
    happenings: tuple[Happening, ...]
    more: int = 0
    """Happenings beyond those that are spelled out."""
    threads: tuple[str, ...] = ()
    """What it belongs to: the same word for a failure and its end."""
    above: tuple[str, ...] = ()
    """What those threads belong to: the same word on every director that sees the failure."""
    begins: bool = True
    """It is the first of its thread."""
    cluster: str = ""
    node: str = ""
    twice: bool = False
    """An earlier attempt may have arrived."""
    test: bool = False


class SendError(Exception):
    """The message was not sent, as far as is known; the text says why, in words for people."""

    def __init__(self, reason: str, *, for_good: bool = False, perhaps_taken: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good
        """Another attempt would fail as well."""
        self.perhaps_taken = perhaps_taken
        """The other side may have it: its answer was lost."""

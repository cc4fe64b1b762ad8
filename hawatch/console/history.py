"""What the policy remembers, and what it says: entries of the history, and messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from hawatch.agent.events import Record


class Trouble(msgspec.Struct, frozen=True):
    """A subject that fails, or has failed."""

    record: Record
    """The last event that said that it fails."""
    since_ns: int
    failures: tuple[int, ...]
    over_ns: int = 0
    acknowledged: str = ""
    """What the administrator said; "" when nobody has seen to it."""


class Told(msgspec.Struct, frozen=True):
    """What a rule has told of a trouble."""

    due_ns: int = 0
    """When to look again; 0: only when something happens."""
    count: int = 0
    """How often it was told here."""
    explained: str = ""
    """Subject whose failure explains this one."""
    left_ns: int = 0
    """When telling it was last left to the director that owns the group; 0: never, or it was told here."""


class Owner(msgspec.Struct, frozen=True):
    """Who owns a group."""

    node: str
    """"" when nobody is known to."""


class ItemKind(StrEnum):
    """What an item of a message says."""

    DOWN = "down"
    AGAIN = "again"
    UP = "up"
    NOTICE = "notice"


class Item(msgspec.Struct, frozen=True):
    """One thing to tell."""

    kind: ItemKind
    subject: str
    record: Record
    since_ns: int = 0
    count: int = 0
    """How often this failure has been told before."""


class Flow(msgspec.Struct, frozen=True):
    """What a rule sends: how much in this window, and what waits for its end."""

    began_ns: int = 0
    sent: int = 0
    storm: bool = False
    held: int = 0
    """Items that wait: entries of their own, so that each is written down once."""
    more: int = 0
    """Items beyond those, which are only counted."""


class Message(msgspec.Struct, frozen=True):
    """What is to be sent by one rule to each of its recipients."""

    rule: str
    key: str
    """The same for the same message, whenever it is decided."""
    items: tuple[Item, ...]
    more: int = 0
    """Items beyond those that are spelled out."""
    test: bool = False

    @property
    def digest(self) -> bool:
        """Whether it tells of several things."""
        return len(self.items) > 1 or self.more > 0


Entry = Trouble | Told | Flow | Item | Owner
Key = tuple[str, ...]
"""("trouble", subject), ("told", rule, subject), ("flow", rule), ("held", rule, number) or
("owner", group)."""


@dataclass(slots=True)
class History:
    """Everything that decisions rest on besides the policy."""

    entries: dict[Key, Entry] = field(default_factory=dict)

    def apply(self, changes: Mapping[Key, Entry | None]) -> None:
        """Take in what was decided."""
        for key, entry in changes.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry

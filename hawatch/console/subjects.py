"""What an event is about, and whether it says that something fails, is well again, or merely happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hawatch.agent.events import Record


class Phase(StrEnum):
    """What an event says of its subject."""

    DOWN = "down"
    UP = "up"
    NOTICE = "notice"
    """It happened, and nothing will say that it is over."""


PAIRS = {
    "server_down": ("server", Phase.DOWN),
    "server_up": ("server", Phase.UP),
    "service_down": ("service", Phase.DOWN),
    "service_up": ("service", Phase.UP),
    "director_dead": ("director", Phase.DOWN),
    "director_alive": ("director", Phase.UP),
    "witness_dead": ("witness", Phase.DOWN),
    "witness_alive": ("witness", Phase.UP),
    "link_down": ("link", Phase.DOWN),
    "link_up": ("link", Phase.UP),
    "quorum_lost": ("quorum", Phase.DOWN),
    "quorum_regained": ("quorum", Phase.UP),
    "worker_lost": ("worker", Phase.DOWN),
    "worker_restarted": ("worker", Phase.UP),
    "journal_broken": ("journal", Phase.DOWN),
    "journal_mended": ("journal", Phase.UP),
    "server_removed": ("server", Phase.UP),
    "service_removed": ("service", Phase.UP),
    "director_removed": ("director", Phase.UP),
    "witness_removed": ("witness", Phase.UP),
    "link_removed": ("link", Phase.UP),
    "worker_removed": ("worker", Phase.UP),
    "server_standby": ("server", Phase.UP),
    "service_standby": ("service", Phase.UP),
}
"""Events that come in pairs: the second ends what the first began."""
ENDS_HERE = frozenset({"server_standby", "service_standby"})
"""Ends of what this director knows: the failure itself may last, and whoever owns the group tells of it."""
WHICH = ("peer", "address", "worker")
"""Numbers of an event that tell which one of its kind it is about."""


@dataclass(frozen=True, slots=True)
class Match:
    """A choice of subjects; what is empty is any."""

    group: str = ""
    service: str = ""
    server: str = ""
    name: str = ""
    """Of an event."""

    def __call__(self, record: Record) -> bool:
        """Tell whether an event is of this choice."""
        return (
            (not self.group or self.group == record.group)
            and (not self.service or self.service == record.service)
            and (not self.server or same_server(self.server, record.server))
            and (not self.name or self.name == record.name)
        )


def same_server(wanted: str, server: str) -> bool:
    """Tell whether an address, or an address with a port, names a server."""
    if wanted == server:
        return True
    address, colon, _ = server.rpartition(":")
    return bool(colon) and wanted.strip("[]") == address.strip("[]")


def phase_of(record: Record) -> Phase:
    """Return what an event says of its subject."""
    return PAIRS.get(record.name, ("", Phase.NOTICE))[1]


def noun_of(record: Record) -> str:
    """Return what kind of thing an event is about."""
    return PAIRS.get(record.name, (record.name, Phase.NOTICE))[0]


def failure_of(record: Record) -> str:
    """Return the name of the event that tells of this failure, for its end too; "" for what is no failure."""
    noun = noun_of(record)
    return next((name for name, pair in PAIRS.items() if pair == (noun, Phase.DOWN)), "")


def subject_of(record: Record) -> str:
    """Return what an event is about: the same text for the two events of a pair."""
    noun = noun_of(record)
    which = [str(record.numbers[key]) for key in WHICH if key in record.numbers]
    node = [] if noun in ("server", "service") else [record.node]
    return " ".join(word for word in (noun, record.group, record.service, record.server, *which, *node) if word)

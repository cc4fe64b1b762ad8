"""Ends that no event told of: what is well in the status while the history has it as failing, or is looked at no more.

A failure can end while nobody looks: the agent was stopped meanwhile, or the server was disabled or taken out of the
configuration, or the other director of two, or this director is standby and has no eye on the service now. Without its
end a failure would be repeated for ever, explain others for ever, and be down for ever in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from hawatch.console.history import History, Trouble
from hawatch.console.subjects import WHICH, noun_of
from hawatch.model import NS_PER_S, DestinationKey, Event, Severity

QUIET_NS = 10 * NS_PER_S
"""A failure is looked up in the status when the last news of it is so old: until then its end may be on its way."""
ENDS_MAX = 100
"""Ends that are told at once; the others follow."""
WELL = "it is well: that was not seen when it happened"
REMOVED = "the configuration has it no more"
DISABLED = "it is disabled: nobody asks whether it works"
STANDBY = "this director is standby: the owner of the group tells how it is"


class Server(msgspec.Struct):
    """A server in the status."""

    address: str
    port: int = 0
    state: str = ""


class Service(msgspec.Struct):
    """A service in the status."""

    name: str
    state: str = ""
    servers: list[Server] = []


class Link(msgspec.Struct):
    """A heartbeat path in the status."""

    address: str
    state: str = ""


class Peer(msgspec.Struct):
    """A director or witness in the status."""

    name: str
    state: str = ""
    links: list[Link] = []


class Quorum(msgspec.Struct):
    """The majority in the status."""

    held: bool = False


class Worker(msgspec.Struct):
    """A process in the status."""

    name: str
    state: str = ""


class Status(msgspec.Struct):
    """What of the status is looked at here."""

    time: str
    services: list[Service] = []
    directors: list[Peer] = []
    witnesses: list[Peer] = []
    quorum: Quorum = msgspec.field(default_factory=Quorum)
    workers: list[Worker] = []


def read_status(data: bytes) -> Status | None:
    """Return a status, None for what is none."""
    try:
        return msgspec.json.decode(data, type=Status)
    except msgspec.MsgspecError:
        return None


def quiet_troubles(history: History, now_ns: int) -> dict[str, Trouble]:
    """Return what fails, as far as the history knows, and was not heard of lately."""
    return {
        key[1]: entry
        for key, entry in history.entries.items()
        if isinstance(entry, Trouble) and not entry.over_ns and now_ns - entry.failures[-1] >= QUIET_NS
    }


def find_ends(troubles: Mapping[str, Trouble], status: Status, *, journal_well: bool) -> dict[str, Event]:
    """Return an event for each failure, by its subject, that is over by the status."""
    states = {**dict(_states(status)), ("journal",): "up" if journal_well else "down"}
    members_known = bool(status.directors or status.witnesses) or status.quorum.held
    found: dict[str, Event] = {}
    for subject, trouble in troubles.items():
        record = trouble.record
        noun = noun_of(record)
        numbers = {key: record.numbers[key] for key in WHICH if key in record.numbers}
        which = (noun, *(word for word in (record.service, record.server) if word), *map(str, numbers.values()))
        match states.get(which):
            case None if members_known or noun not in ("director", "witness", "link"):
                name, reason = f"{noun}_removed", REMOVED
            case "disabled":
                name, reason = f"{noun}_removed", DISABLED
            case "standby":
                name, reason = f"{noun}_standby", STANDBY
            case state if state in WELL_STATES:
                name, reason = END_OF[noun], WELL
            case _:
                continue
        found[subject] = Event(name, reason, Severity.INFO, record.group, record.service, record.server, numbers)
        if len(found) == ENDS_MAX:
            break
    return found


END_OF = {
    "server": "server_up", "service": "service_up", "director": "director_alive", "witness": "witness_alive",
    "link": "link_up", "quorum": "quorum_regained", "worker": "worker_restarted", "journal": "journal_mended",
}  # fmt: skip
"""The event that tells the end of a failure of each kind."""


WELL_STATES = frozenset({"up", "draining", "alive", "running"})


def _states(status: Status) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the state of everything in the status, by what identifies it."""
    for service in status.services:
        yield ("service", service.name), service.state
        for server in service.servers:
            state = "standby" if service.state == "standby" else server.state
            yield ("server", service.name, str(DestinationKey(server.address, server.port))), state
    for kind, peers in (("director", status.directors), ("witness", status.witnesses)):
        for peer in peers:
            yield (kind, peer.name), peer.state
            for link in peer.links:
                yield ("link", peer.name, link.address), link.state
    yield ("quorum",), "up" if status.quorum.held else "down"
    for worker in status.workers:
        yield ("worker", worker.name), worker.state

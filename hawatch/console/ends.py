"""Ends that no event told of: what is well in the status while the history has it as failing.

A failure can end while nobody looks: the agent was stopped meanwhile, or the server was taken out of the
configuration. Without its end a failure would be repeated for ever, and be down for ever in the report.
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
    well = {**_well(status), ("journal",): journal_well}
    services = {
        service.name: {str(DestinationKey(one.address, one.port)) for one in service.servers}
        for service in status.services
    }
    found: dict[str, Event] = {}
    for subject, trouble in troubles.items():
        record = trouble.record
        noun = noun_of(record)
        gone = noun in ("server", "service") and (
            record.service not in services or (noun == "server" and record.server not in services[record.service])
        )
        which = [str(record.numbers[key]) for key in WHICH if key in record.numbers]
        if not gone and not well.get((noun, *(word for word in (record.service, record.server) if word), *which)):
            continue
        numbers = {key: record.numbers[key] for key in WHICH if key in record.numbers}
        name, reason = (f"{noun}_removed", REMOVED) if gone else (END_OF[noun], WELL)
        found[subject] = Event(name, reason, Severity.INFO, record.group, record.service, record.server, numbers)
        if len(found) == ENDS_MAX:
            break
    return found


END_OF = {
    "server": "server_up", "service": "service_up", "director": "director_alive", "witness": "witness_alive",
    "link": "link_up", "quorum": "quorum_regained", "worker": "worker_restarted", "journal": "journal_mended",
}  # fmt: skip
"""The event that tells the end of a failure of each kind."""


def _well(status: Status) -> dict[tuple[str, ...], bool]:
    """Return what is well, by what identifies it."""
    return dict(_all(status))


def _all(status: Status) -> Iterator[tuple[tuple[str, ...], bool]]:
    for service in status.services:
        yield ("service", service.name), service.state == "up"
        for server in service.servers:
            yield (
                ("server", service.name, str(DestinationKey(server.address, server.port))),
                server.state in ("up", "draining"),
            )
    for kind, peers in (("director", status.directors), ("witness", status.witnesses)):
        for peer in peers:
            yield (kind, peer.name), peer.state == "alive"
            for link in peer.links:
                yield ("link", peer.name, link.address), link.state == "up"
    yield ("quorum",), status.quorum.held
    for worker in status.workers:
        yield ("worker", worker.name), worker.state == "running"

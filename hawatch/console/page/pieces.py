"""A view taken apart into the pieces of the page, each of which changes by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from hawatch.agent.events import Record
from hawatch.console.page.troubles import troubles
from hawatch.control.view import ServerView, ServiceView, Tone, View, quorum_sentence, summary

EVENTS_SHOWN = 30
ALL_SHOWN_MAX = 60
"""A site with no more servers than that shows them all on its first page."""
SERVERS_MAX = 20_000
"""Servers that the page has at most, each of which is two pieces; it says how many are left out."""
TROUBLED_SHOWN_MAX = 10
"""Else a service shows so many of those that are not up."""


@dataclass(frozen=True, slots=True)
class Head:
    """The whole in one line."""

    tone: Tone
    sentence: str
    quorum: str
    quorum_held: bool
    stale: str
    """Since when the core has not answered; "" when it does."""
    left_out: int = 0
    """Servers that the page does not list."""


@dataclass(frozen=True, slots=True)
class Row:
    """A service without its servers."""

    service: ServiceView
    """With no servers in it: those are pieces of their own."""
    tone: Tone
    up_count: int
    count: int
    active: float | None
    connections_per_s: float | None
    bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server of a service."""

    service: str
    server: ServerView


@dataclass(frozen=True, slots=True)
class Ownership:
    """Groups and directors: who owns what, and why."""

    view: View
    """With nothing in it but node, groups, directors and witnesses."""


Piece = Head | Row | ServerRow | Ownership | tuple[object, ...] | int

HEAD, NOW, OWNERSHIP, SERVICES, EVENTS, WORKERS = "head", "now", "ownership", "services", "events", "workers"
NODES = "nodes"
"""An element that is made of the same piece as `OWNERSHIP`."""


def row_id(service: str) -> str:
    """Return the id of a service's row."""
    return f"svc:{service}"


def shown_id(service: str) -> str:
    """Return the id of a service with the servers that the first page shows."""
    return f"shown:{service}"


def every_id(service: str) -> str:
    """Return the id of a service with all its servers."""
    return f"every:{service}"


def server_id(service: str, server: str) -> str:
    """Return the id of a server's row."""
    return f"srv:{service}:{server}"


def graph_id(row: str) -> str:
    """Return the id of the graph in a row."""
    return f"graph:{row}"


def events_id(service: str) -> str:
    """Return the id of the events of a service."""
    return f"events:{service}"


class PieceMaker:
    """Takes views apart; what it made of a service serves again for as long as the service looks the same."""

    def __init__(self) -> None:
        self._known: dict[str, _ServicePieces] = {}

    def make(self, view: View, events: Sequence[Record], sample: int, stale: str) -> dict[str, Piece]:
        """Return every piece of the site; `sample` is the number of the last row of the graphs."""
        found: dict[str, Piece] = {HEAD: make_head(view, stale), EVENTS: tuple(events[-EVENTS_SHOWN:])}
        room = SERVERS_MAX
        found[NOW] = troubles(view)
        found[OWNERSHIP] = Ownership(
            View(view.cluster, view.node, groups=view.groups, directors=view.directors, witnesses=view.witnesses)
        )
        found[SERVICES] = tuple(service.name for service in view.services)
        found[WORKERS] = view.workers
        full, by_service, known = shows_all(view), sort_events(events), self._known
        self._known = {}
        for service in view.services:
            mine = known.get(service.name)
            listed = min(room, len(service.servers))
            if mine is None or mine.full is not full or mine.listed != listed or mine.service != service:
                mine = _service_pieces(service, listed, full=full)
            room -= listed
            self._known[service.name] = mine
            found.update(mine.pieces)
            found.update(dict.fromkeys(mine.graphs, sample))
            found[events_id(service.name)] = by_service.get(service.name, ())
        return found


@dataclass(frozen=True, slots=True)
class _ServicePieces:
    service: ServiceView
    listed: int
    full: bool
    pieces: dict[str, Piece]
    graphs: tuple[str, ...]


def _service_pieces(service: ServiceView, listed: int, *, full: bool) -> _ServicePieces:
    """Return the pieces of a service and of so many of its servers."""
    row = row_id(service.name)
    found: dict[str, Piece] = {row: make_row(service)}
    ids = []
    for server in service.servers[:listed]:
        key = server_id(service.name, server.name)
        ids.append(key)
        found[key] = ServerRow(service.name, server)
    found[every_id(service.name)] = tuple(ids)
    found[shown_id(service.name)] = tuple(ids) if full else tuple(key for key in not_up(service) if key in found)
    return _ServicePieces(service, listed, full, found, tuple(graph_id(key) for key in (row, *ids)))


def sort_events(events: Sequence[Record]) -> dict[str, tuple[Record, ...]]:
    """Return the last events of each service that has some."""
    found: dict[str, list[Record]] = {}
    for record in events:
        if record.service:
            found.setdefault(record.service, []).append(record)
    return {service: tuple(mine[-EVENTS_SHOWN:]) for service, mine in found.items()}


def event_pieces(events: Sequence[Record]) -> dict[str, Piece]:
    """Return the pieces that are made of events alone."""
    found: dict[str, Piece] = {events_id(service): mine for service, mine in sort_events(events).items()}
    return {EVENTS: tuple(events[-EVENTS_SHOWN:]), **found}


def make_head(view: View, stale: str) -> Head:
    """Return the whole in one line."""
    tone, sentence = summary(view)
    if stale:
        tone, sentence = Tone.BAD, f"The core does not answer; before that: {sentence}"
    left_out = max(0, sum(len(service.servers) for service in view.services) - SERVERS_MAX)
    return Head(tone, sentence, quorum_sentence(view.quorum), view.quorum.held, stale, left_out)


def make_row(service: ServiceView) -> Row:
    """Return a service without its servers."""
    per_s = [value for key in ("bytes_in_per_s", "bytes_out_per_s") if (value := service.total(key)) is not None]
    return Row(
        msgspec.structs.replace(service, servers=()),
        service.tone,
        service.up_count,
        len(service.real),
        service.total("active"),
        service.total("connections_per_s"),
        sum(per_s) if per_s else None,
    )


def shows_all(view: View) -> bool:
    """Tell whether the first page shows every server."""
    return sum(len(service.servers) for service in view.services) <= ALL_SHOWN_MAX


def not_up(service: ServiceView) -> Iterable[str]:
    """Return the ids of the servers that are worth a line on a long page."""
    found = [server_id(service.name, server.name) for server in service.real if server.state != "up"]
    return found[:TROUBLED_SHOWN_MAX]

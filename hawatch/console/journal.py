"""Questions to the journal: events by filter, and how long what was down."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from hawatch.agent.events import Record, iso_time
from hawatch.console.rules import SEVERITIES
from hawatch.console.spool import UNREADABLE
from hawatch.console.store import event_id, event_ns
from hawatch.console.subjects import same_server
from hawatch.control import protocol
from hawatch.model import NS_PER_S, Severity

_decoder = msgspec.json.Decoder(Record)


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which events are wanted; what is empty is any."""

    since_ns: int = 0
    until_ns: int = 0
    group: str = ""
    service: str = ""
    server: str = ""
    """An address, or an address with a port."""
    names: tuple[str, ...] = ()
    least: str = ""
    """Least severity."""

    def severities(self) -> tuple[str, ...]:
        """Return the severities that are wanted."""
        return tuple(str(each) for each in SEVERITIES[SEVERITIES.index(Severity(self.least or "info")) :])

    def __call__(self, record: Record) -> bool:
        """Tell whether an event in memory is wanted."""
        return (
            (not self.since_ns or record.time >= iso_time(self.since_ns))
            and (not self.until_ns or record.time < iso_time(self.until_ns))
            and (not self.group or record.group == self.group)
            and (not self.service or record.service == self.service)
            and (not self.server or same_server(self.server, record.server))
            and (not self.names or record.name in self.names)
            and (not self.least or record.severity in self.severities())
        )


def make_filter(request: protocol.Events) -> Filter:
    """Return the filter of a request."""
    return Filter(
        request.since_ns, request.until_ns, request.group, request.service, request.server, request.names,
        request.severity,
    )  # fmt: skip


class Position(NamedTuple):
    """Where an event stands among all: they are in the order of time, and at one time in that of their arrival."""

    at_ns: int
    id: int
    node: str


def position_of(record: Record) -> Position:
    """Return where an event stands."""
    return Position(event_ns(record), event_id(record), record.node)


def select(database: sqlite3.Connection, wanted: Filter, count: int, before: Position | None = None) -> list[Record]:
    """Return the newest `count` events that are wanted, newest last; those `before` an event, where it is given."""
    clauses, values = _where(wanted)
    if before is not None:
        clauses.append("(at_ns, seq) < (?, (SELECT seq FROM event WHERE id = ? AND node = ?))")
        values += before
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = database.execute(f"SELECT body FROM event {where} ORDER BY at_ns DESC, seq DESC LIMIT ?", (*values, count))
    return [record for (body,) in rows if (record := _readable(body)) is not None][::-1]


def _readable(body: bytes) -> Record | None:
    """Return an event, None for one that the disk has damaged."""
    try:
        return _decoder.decode(body)
    except UNREADABLE:
        return None


def _where(wanted: Filter) -> tuple[list[str], list[object]]:
    clauses: list[str] = []
    values: list[object] = []

    def add(clause: str, *more: object) -> None:
        clauses.append(clause)
        values.extend(more)

    if wanted.since_ns:
        add("at_ns >= ?", wanted.since_ns)
    if wanted.until_ns:
        add("at_ns < ?", wanted.until_ns)
    if wanted.group:
        add("grp = ?", wanted.group)
    if wanted.service:
        add("service = ?", wanted.service)
    if wanted.server:
        bare = wanted.server.strip("[]")
        escaped = bare.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        add("(server = ? OR server LIKE ? ESCAPE '\\' OR server LIKE ? ESCAPE '\\')",
            wanted.server, f"{escaped}:%", f"[{escaped}]:%")  # fmt: skip
    if wanted.names:
        add(f"name IN ({','.join('?' * len(wanted.names))})", *wanted.names)
    if wanted.least:
        severities = wanted.severities()
        add(f"severity IN ({','.join('?' * len(severities))})", *severities)
    return clauses, values


# --- downtime ------------------------------------------------------------------------------------------------------

DOWN = frozenset({"server_down", "service_down"})
UP = frozenset({"server_up", "service_up", "server_removed", "service_removed", "server_standby", "service_standby"})


class Downtime(msgspec.Struct, frozen=True):
    """How one thing did over a period."""

    kind: str
    """server, service or group; a group is down while one of its services is."""
    group: str
    service: str
    server: str
    outages: int
    down_s: float
    longest_s: float
    availability: float
    """Share of the period that it was not down, 0 to 1."""
    down_now: bool
    last_reason: str


@dataclass(slots=True)
class _Line:
    """The outages of one thing while they are being counted."""

    group: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    began_ns: int | None = None
    reason: str = ""


def downtime(database: sqlite3.Connection, since_ns: int, until_ns: int, wanted: Filter) -> list[Downtime]:
    """Return the downtime of every server, service and group that was told of, over a period."""
    assert since_ns < until_ns, (since_ns, until_ns)
    lines: dict[tuple[str, str, str], _Line] = {}
    names = ",".join(f"'{name}'" for name in sorted(DOWN | UP))
    before = database.execute(
        "SELECT name, grp, service, server, at_ns, body FROM event WHERE seq IN (SELECT seq FROM ("
        " SELECT seq, row_number() OVER (PARTITION BY service, server ORDER BY at_ns DESC, seq DESC) AS place"
        f" FROM event WHERE at_ns < ? AND name IN ({names})) WHERE place = 1)",
        (since_ns,),
    ).fetchall()
    during = database.execute(
        "SELECT name, grp, service, server, at_ns, body FROM event"
        f" WHERE at_ns >= ? AND at_ns < ? AND name IN ({names}) ORDER BY at_ns, seq",
        (since_ns, until_ns),
    )
    for name, group, service, server, at_ns, body in [*before, *during]:
        if (wanted.service and wanted.service != service) or (wanted.group and wanted.group != group):
            continue
        if wanted.server and not same_server(wanted.server, server):
            continue
        line = lines.setdefault(("server" if server else "service", service, server), _Line(group))
        _note(line, name in DOWN, max(at_ns, since_ns), body)
    return _summarise(lines, since_ns, until_ns)


def _note(line: _Line, down: bool, at_ns: int, body: bytes) -> None:  # noqa: FBT001 - one of the two events of a pair
    if down and line.began_ns is None:
        line.began_ns = at_ns
    elif not down and line.began_ns is not None:
        line.spans.append((line.began_ns, at_ns))
        line.began_ns = None
    if down:
        line.reason = record.reason if (record := _readable(body)) is not None else ""


def _summarise(lines: Mapping[tuple[str, str, str], _Line], since_ns: int, until_ns: int) -> list[Downtime]:
    groups: dict[str, list[tuple[int, int]]] = {}
    found: list[Downtime] = []
    now_down: dict[str, bool] = {}
    for (kind, service, server), line in lines.items():
        down_now = line.began_ns is not None
        spans = [*line.spans, (line.began_ns, until_ns)] if line.began_ns is not None else line.spans
        found.append(_downtime(kind, (line.group, service, server), spans, (since_ns, until_ns), down_now, line.reason))
        if kind == "service" and line.group:
            groups.setdefault(line.group, []).extend(spans)
            now_down[line.group] = now_down.get(line.group, False) or down_now
    for group, spans in groups.items():
        found.append(_downtime("group", (group, "", ""), _union(spans), (since_ns, until_ns), now_down[group], ""))
    order = {"group": 0, "service": 1, "server": 2}
    return sorted(found, key=lambda one: (order[one.kind], one.group, one.service, one.server))


def _downtime(
    kind: str,
    which: tuple[str, str, str],
    spans: Iterable[tuple[int, int]],
    period: tuple[int, int],
    down_now: bool,  # noqa: FBT001 - a field of the result
    reason: str,
) -> Downtime:
    lengths = [end_ns - began_ns for began_ns, end_ns in spans]
    total_ns, whole_ns = sum(lengths), period[1] - period[0]
    assert 0 <= total_ns <= whole_ns, (total_ns, whole_ns)
    return Downtime(
        kind, *which, len(lengths), total_ns / NS_PER_S, max(lengths, default=0) / NS_PER_S,
        1 - total_ns / whole_ns, down_now, reason,
    )  # fmt: skip


def _union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for began_ns, end_ns in sorted(spans):
        if joined and began_ns <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ns))
        else:
            joined.append((began_ns, end_ns))
    return joined

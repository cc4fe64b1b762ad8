"""A view as lines for `hawatch top`: chosen, sorted, cut to the width of a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from hawatch.control.render import age, printable
from hawatch.control.view import ServerView, ServiceView, Tone, View, number_text, quorum_sentence, summary, tone_of


class Order(StrEnum):
    """How servers are sorted."""

    SERVICE = "service"
    STATE = "state"
    CONNECTIONS = "connections"
    LATENCY = "latency"


WORST_FIRST = {"down": 0, "unknown": 1, "draining": 2, "disabled": 3, "up": 4}
IDLE_STATES = ("down", "disabled", "unknown")
"""Of these the reason matters, not the load."""
FIXED = 5
"""Columns that every server has, before load or reason."""
WORDS_MAX = 60


@dataclass(frozen=True, slots=True)
class Choice:
    """What the one who looks has chosen."""

    order: Order = Order.SERVICE
    troubled: bool = False
    """Only what is not up."""
    offset: int = 0
    words: str = ""
    """Only servers with this in the name of the service, their own, their state or reason."""

    def turned(self) -> Choice:
        """Return the choice with the next order."""
        orders = list(Order)
        return replace(self, order=orders[(orders.index(self.order) + 1) % len(orders)], offset=0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen."""

    text: str
    tone: Tone = Tone.IDLE
    strong: bool = False


def head_lines(view: View, lost: str) -> list[Line]:
    """Return what stays on the screen: the whole in one line, quorum, groups, directors."""
    tone, sentence = summary(view)
    lines = [Line(f"{view.node}  cluster {view.cluster}  {view.time.replace('T', ' ')}", strong=True)]
    if lost:
        lines.append(Line(f"NO ANSWER: {lost}; this is old", Tone.BAD, strong=True))
    lines.append(Line(sentence, tone, strong=True))
    lines.append(Line(quorum_sentence(view.quorum), Tone.IDLE if view.quorum.held else Tone.BAD))
    lines += [Line(f"! {warning}", Tone.WARN) for warning in view.warnings[:2]]
    lines += [
        Line(f"group {group.name}  {group.state}  owner {group.owner or 'nobody'}  {group.reason}".rstrip(),
             tone_of(group.state))
        for group in view.groups
    ]  # fmt: skip
    for node in (*view.directors, *view.witnesses):
        links = ", ".join(f"{link.address} {link.state}" for link in node.links)
        up = all(link.state == "up" for link in node.links)
        lines.append(Line(f"node {node.name}  {node.state}  {links}", tone_of(node.state) if up else Tone.WARN))
    return lines


def chosen(view: View, choice: Choice) -> list[tuple[ServiceView, ServerView]]:
    """Return the servers that are shown, in their order."""
    found = [
        (service, server)
        for service in view.services
        for server in service.servers
        if (not choice.troubled or (server.state != "up" and not server.sorry))
        and _fits(service, server, choice.words.casefold())
    ]
    match choice.order:
        case Order.STATE:
            found.sort(key=lambda pair: WORST_FIRST.get(pair[1].state, 1))
        case Order.CONNECTIONS:
            found.sort(key=lambda pair: -(pair[1].active or 0))
        case Order.LATENCY:
            found.sort(key=lambda pair: -(pair[1].latency_ms or 0.0))
        case _:
            pass
    return found


def _fits(service: ServiceView, server: ServerView, words: str) -> bool:
    return not words or any(
        words in text.casefold() for text in (service.name, server.name, server.state, server.reason)
    )


def server_lines(view: View, choice: Choice, now: datetime) -> list[Line]:
    """Return the servers as a table, with a line for each service where they are sorted by service."""
    pairs = chosen(view, choice)
    rows = [_row(service, server, now, grouped=choice.order is Order.SERVICE) for service, server in pairs]
    length = max(map(len, rows), default=0)
    widths = [
        max((len(row[column]) for row in rows if len(row) > max(column, FIXED + 1) or column < FIXED), default=0)
        for column in range(length)
    ]
    lines: list[Line] = []
    last = None
    for (service, server), row in zip(pairs, rows, strict=True):
        if choice.order is Order.SERVICE and service is not last:
            lines.append(_service(service))
        last = service
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width or cell)
        lines.append(Line(f"  {cells}".rstrip(), tone_of(server.state)))
    return lines


def _service(service: ServiceView) -> Line:
    count = "standby" if service.state == "standby" else f"{service.up_count} of {len(service.real)} up"
    words = [service.name, service.place, count]
    active = service.total("active")
    words += [f"{number_text(active)} conn."] if active is not None else []
    words += [service.reason] if service.state not in ("up", "standby") and service.reason else []
    return Line("  ".join(words), service.tone, strong=True)


def _row(service: ServiceView, server: ServerView, now: datetime, *, grouped: bool) -> Sequence[str]:
    fixed = (
        "" if grouped else service.name,
        server.name,
        server.state + (" (sorry)" if server.sorry else ""),
        age(server.since, now) if server.since else "",
        f"w {server.weight_text}",
    )
    assert len(fixed) == FIXED
    if server.state in IDLE_STATES and server.reason:
        return (*fixed, server.reason)
    moved = [value for value in (server.bytes_in_per_s, server.bytes_out_per_s) if value is not None]
    return (
        *fixed,
        "" if server.active is None else f"{number_text(server.active)} conn.",
        "" if server.connections_per_s is None else f"{number_text(server.connections_per_s)}/s",
        f"{number_text(sum(moved))}B/s" if moved else "",
        "" if server.latency_ms is None else f"{server.latency_ms:.1f} ms",
        server.reason,
    )


def screen(
    view: View, choice: Choice, size: tuple[int, int], now: datetime, lost: str = "", *, typing: bool = False
) -> list[Line]:
    """Return exactly as many lines as the screen has, none longer than it is wide."""
    columns, rows = size
    head = head_lines(view, lost)[: max(1, rows // 2)]
    body = server_lines(view, choice, now)
    room = max(0, rows - len(head) - 2)
    offset = min(choice.offset, max(0, len(body) - room))
    shown = body[offset : offset + room]
    below = len(body) - offset - len(shown)
    what = "only what is not up" if choice.troubled else "all servers"
    what += f' with "{choice.words}"' if choice.words else ""
    title = f"{what}, by {choice.order}" + (f", line {offset + 1} of {len(body)}" if below or offset else "")
    keys = "q quit  arrows scroll  s sort  d only what is not up  / find"
    if typing:
        keys = f"find: {choice.words}_   Enter: done, Escape: all"
    elif not body:
        shown = [Line("  no server is like that" if choice.words or choice.troubled else "  no server")][:room]
    lines = [*head, Line(f"-- {title} ".ljust(columns, "-")), *shown]
    lines = lines[: rows - 1]
    lines += [Line("")] * (rows - 1 - len(lines)) + [Line(keys)]
    return [cut(line, columns) for line in lines]


def cut(line: Line, columns: int) -> Line:
    """Return a line that fits, and that cannot steer the terminal."""
    text = printable(line.text)
    return replace(line, text=text if len(text) <= columns else text[: max(0, columns - 1)] + "…")


def scrolled(choice: Choice, by: int, view: View, now: datetime) -> Choice:
    """Return the choice moved up or down, not beyond the ends."""
    most = max(0, len(server_lines(view, choice, now)) - 1)
    return replace(choice, offset=min(most, max(0, choice.offset + by)))


def whole(view: View, choice: Choice, now: datetime) -> list[str]:
    """Return everything as text, for scripts: nothing is cut off."""
    lines: Iterable[Line] = (*head_lines(view, ""), Line(""), *server_lines(view, choice, now))
    return [printable(line.text) for line in lines]

"""Whole pages, and the parts of a page that a browser lacks. Pure but for the feed that they are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import trio

from hawatch.agent.events import Record
from hawatch.console.page import render
from hawatch.console.page.feed import Feed, now_text
from hawatch.console.page.graphs import DAY, HOUR
from hawatch.console.page.guard import User
from hawatch.console.page.html import Html, Part, join, tag
from hawatch.console.page.pieces import (
    EVENTS,
    HEAD,
    NODES,
    NOW,
    OWNERSHIP,
    SERVICES,
    WORKERS,
    Head,
    Ownership,
    Row,
    ServerRow,
    events_id,
    every_id,
    graph_id,
    row_id,
    shown_id,
    shows_all,
)
from hawatch.console.page.troubles import Trouble
from hawatch.control.view import WorkerView

COLUMNS = ("service, server", "state", "why", "weight", "connections", "rate", "latency", "last hour")
NUMBERS = ("weight", "connections", "rate", "latency")
CHARTS = (
    ("active", "connections"), ("connections", "new connections/s"), ("in", "bytes/s in"), ("out", "bytes/s out"),
    ("latency", "latency in ms"), ("up", "servers up"),
)  # fmt: skip
PARTS_PER_TURN = 10
"""Elements that are made before others have their turn."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An element of a page."""

    id: str
    key: str
    """The piece that it shows."""
    render: Callable[[], Html]
    block: str = ""
    """The element that it is in."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a browser shows: the first page, that with all servers, or one service's."""

    service: str = ""
    every: bool = False

    @property
    def path(self) -> str:
        """Its address."""
        if self.service:
            return f"/service/{self.service}"
        return "/?servers=all" if self.every else "/"


class Painter:
    """Makes HTML of the feed, as it is when this is made, for one who may act, or not.

    Others have their turn between the parts of a long page.
    """

    def __init__(self, feed: Feed, *, act: bool) -> None:
        self._feed = feed
        self._board = feed.board.copy()
        self._view = feed.view
        self._act = act

    @property
    def stamp(self) -> str:
        """Which version it shows."""
        return self._board.stamp

    # --- elements --------------------------------------------------------------------------------------------

    def entries(self, place: Place) -> Iterator[Entry]:
        """Yield every element of a page that changes by itself; a block before what is in it."""
        node = self._view.node if self._view else ""
        yield Entry(HEAD, HEAD, lambda: render.head(cast("Head", self._piece(HEAD)), node))
        if place.service:
            yield from self._block(place.service, every_id(place.service), graphs=True)
            key = graph_id(row_id(place.service))
            yield Entry("charts", key, lambda: self._charts(place.service))
            key = events_id(place.service)
            yield Entry(key, key, lambda: self._events(key))
            return
        yield Entry(OWNERSHIP, OWNERSHIP, self._ownership)
        yield Entry(NOW, NOW, lambda: render.now(cast("tuple[Trouble, ...]", self._piece(NOW) or ()), act=self._act))
        yield Entry(NODES, OWNERSHIP, self._nodes)
        for name in cast("tuple[str, ...]", self._piece(SERVICES) or ()):
            yield from self._block(name, every_id(name) if place.every else shown_id(name), graphs=False)
        yield Entry(EVENTS, EVENTS, lambda: self._events(EVENTS))
        yield Entry(
            WORKERS, WORKERS, lambda: render.workers(cast("tuple[WorkerView, ...]", self._piece(WORKERS) or ()))
        )

    def _block(self, service: str, block: str, *, graphs: bool) -> Iterator[Entry]:
        row = row_id(service)
        yield Entry(block, block, lambda: self._whole(service, block, graphs=graphs))
        yield Entry(row, row, lambda: self._row(service), block)
        yield Entry(graph_id(row), graph_id(row), lambda: self._spark(row, service), block)
        for key in cast("tuple[str, ...]", self._piece(block) or ()):
            yield Entry(key, key, lambda key=key: self._server(key, graphs=graphs), block)  # type: ignore[misc]
            if graphs:
                yield Entry(graph_id(key), graph_id(key), lambda key=key: self._server_spark(key), block)  # type: ignore[misc]

    def _piece(self, key: str) -> object:
        return self._board.get(key)

    def _ownership(self) -> Html:
        return render.ownership(cast("Ownership", self._piece(OWNERSHIP)), act=self._act)

    def _nodes(self) -> Html:
        return render.nodes(cast("Ownership", self._piece(OWNERSHIP)), act=self._act)

    def _events(self, key: str) -> Html:
        return render.event_list(cast("tuple[Record, ...]", self._piece(key) or ()), key)

    def _row(self, service: str) -> Html:
        row = row_id(service)
        return render.service_row(cast("Row", self._piece(row)), self._spark(row, service), act=self._act)

    def _spark(self, key: str, name: str) -> Html:
        curve, what = self._feed.spark(name, render.SPARK)
        return render.spark(curve, what, key)

    def _server(self, key: str, *, graphs: bool) -> Html:
        graph = self._server_spark(key) if graphs else None
        return render.server_row(cast("ServerRow", self._piece(key)), graph, act=self._act)

    def _server_spark(self, key: str) -> Html:
        piece = cast("ServerRow", self._piece(key))
        return self._spark(key, f"{piece.service} {piece.server.name}")

    def _whole(self, service: str, block: str, *, graphs: bool) -> Html:
        shown = cast("tuple[str, ...]", self._piece(block) or ())
        count = len(cast("tuple[str, ...]", self._piece(every_id(service)) or ()))
        rows = [self._row(service), *(self._server(key, graphs=graphs) for key in shown)]
        more = count - len(shown)
        words = f"{more} more server{'s' if more != 1 else ''}" if more and shown else ""
        return render.block(block, rows, words, service)

    def _charts(self, service: str) -> Html:
        figures = []
        for key, what in CHARTS:
            for span, when in ((HOUR, "last hour"), (DAY, "last day")):
                curve = self._feed.curve(f"{service} {key}", span, render.LARGE)
                if curve.path:
                    figures.append(render.large(curve, what, when))
        return tag("div", *figures, id="charts", class_="charts")

    # --- what changed ----------------------------------------------------------------------------------------

    async def changes(self, place: Place, stamp: str) -> dict[str, str] | None:
        """Return the elements that changed since the version of a stamp; None when the page is another one now."""
        board = self._board
        since = board.since(stamp)
        if since is None or board.newer((SERVICES,), since):
            return None
        if place.service and board.get(every_id(place.service)) is None:
            return None
        entries = list(self.entries(place))
        newer = set(board.newer({entry.key for entry in entries}, since))
        found: dict[str, str] = {}
        for entry in entries:
            if entry.key in newer and entry.block not in found:
                found[entry.id] = entry.render()
                await _give_way(len(found))
        return found

    # --- main parts ------------------------------------------------------------------------------------------

    async def first(self, place: Place) -> Html:
        """Return the main part of the first page."""
        made = {entry.id: entry for entry in self.entries(place) if not entry.block}
        blocks = []
        for entry in made.values():
            if entry.id.startswith(("shown:", "every:")):
                blocks.append(entry.render())
                await _give_way(len(blocks))
        other = tag("a", "Show every server", href="/?servers=all") if not place.every else tag(
            "a", "Show only what is not up", href="/")  # fmt: skip
        cut = self._view is not None and not shows_all(self._view)
        parts: list[Part] = [made[key].render() for key in (HEAD, OWNERSHIP, NOW, NODES)]
        if blocks:
            parts.append(self._services(blocks, "Services"))
            parts.append(tag("p", other) if cut else None)
        else:
            parts.append(tag("p", "There is no service: this director looks after addresses alone.", class_="note"))
        parts += [
            tag("h2", "Events"), made[EVENTS].render(), tag("p", tag("a", "All events", href="/events")),
            tag("h2", "Processes"), made[WORKERS].render(),
        ]  # fmt: skip
        return join(*parts)

    async def service(self, place: Place) -> Html:
        """Return the main part of a service's page."""
        made = {entry.id: entry for entry in self.entries(place) if not entry.block}
        block = made[every_id(place.service)].render()
        await trio.lowlevel.checkpoint()
        return join(
            made[HEAD].render(),
            self._services([block], f"Service {place.service}"),
            made["charts"].render(),
            tag("h2", "Events"),
            made[events_id(place.service)].render(),
        )

    def _services(self, blocks: Sequence[Html], title: str) -> Html:
        names = (*COLUMNS, "") if self._act else COLUMNS
        cells = [
            tag("th", name, scope="col", class_="number" if name in NUMBERS else None) if name else tag("td")
            for name in names
        ]
        return tag("table", tag("caption", title), tag("thead", tag("tr", *cells)), *blocks, class_="services")


async def _give_way(count: int) -> None:
    if count % PARTS_PER_TURN == 0:
        await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around the main part of every page."""

    node: str
    cluster: str
    user: User | None
    can_log_in: bool
    stamp: str
    """What forms bring along to be ours."""
    version: str
    style: str
    script: str
    live: str = ""
    """The page that the script keeps fresh; "": none."""
    again_s: int = 0
    """A browser loads it anew after so long; 0: when it is told to."""

    def page(self, title: str, main: Html) -> bytes:
        """Return a whole page."""
        head = render.page_head(f"{title} - {self.node}", self.style, self.script, self.again_s)
        links: list[Part] = [tag("a", "Overview", href="/"), tag("a", "Events", href="/events"), self._who()]
        body = tag(
            "body",
            tag("a", "Skip to the content", href="#main", class_="skip"),
            tag(
                "header",
                tag("h1", self.node, tag("small", f"cluster {self.cluster}")),
                tag("p", f"as of {now_text()}", id="live"),
                tag("nav", *links, aria_label="Pages"),
            ),
            tag("main", main, id="main", tabindex="-1", data_live=self.live or None, data_version=self.version or None),
            tag("p", id="said", role="status"),
            tag("form", id="act", method="get", action="/act"),
            tag("dialog", id="dialog", aria_labelledby="dialog-title"),
        )
        return f"<!doctype html>{tag('html', head, body, lang='en')}".encode()

    def _who(self) -> Html | None:
        if self.user is not None:
            label = f"Log out {self.user.name}"
            return tag("form", tag("input", type="hidden", name="stamp", value=self.stamp), tag("button", label),
                       method="post", action="/logout")  # fmt: skip
        return tag("a", "Log in", href="/login") if self.can_log_in else None


def login_form(wrong: str) -> Html:
    """Return the form to log in with."""
    return tag(
        "form",
        tag("h2", "Log in"),
        tag("p", wrong, class_="note bad", role="alert") if wrong else None,
        tag("label", "Your token ", tag("input", type="password", name="token", required=True, autofocus=True)),
        tag("button", "Log in"),
        method="post", action="/login", class_="box",
    )  # fmt: skip


def confirmation(title: str, words: str, sentences: Sequence[str], command: str, stamp: str, *, note: bool) -> Html:
    """Return the form that says what will be done, and does it."""
    box = tag("label", "Tell the others ", tag("input", name="text", maxlength=300)) if note else None
    return tag(
        "form",
        tag("h2", title, id="dialog-title"),
        *(tag("p", sentence) for sentence in sentences),
        tag("p", "The same by ", tag("code", command)),
        box,
        tag("input", type="hidden", name="what", value=words),
        tag("input", type="hidden", name="stamp", value=stamp),
        tag("p", tag("button", "Do it", class_="sure"), tag("a", "Cancel", href="/", class_="cancel", autofocus=True),
            class_="acts"),
        method="post", action="/act", class_="box",
    )  # fmt: skip


def outcome(title: str, lines: Sequence[str], *, done: bool) -> Html:
    """Return what came of an action."""
    return tag(
        "div",
        tag("h2", title, id="dialog-title"),
        *(tag("p", line, class_="note" if done else "note bad") for line in lines),
        tag("p", tag("a", "Close", href="/", class_="cancel", autofocus=True), class_="acts"),
        class_="box",
    )


def events_page(records: Sequence[Record], wanted: dict[str, str], older: str) -> Html:
    """Return events by filter, with the form that filters."""
    fields = [
        tag("label", f"{name} ", tag("input", name=name, value=wanted.get(name, "")))
        for name in ("service", "server", "group", "name")
    ]
    choices = [
        tag("option", word or "any", value=word, selected=wanted.get("severity", "") == word)
        for word in ("", "warning", "critical")
    ]
    return join(
        tag("h2", "Events"),
        tag("form", *fields, tag("label", "at least ", tag("select", *choices, name="severity")),
            tag("button", "Filter"), method="get", action="/events", class_="filter"),
        render.event_list(records, "found"),
        tag("p", tag("a", "Older", href=older)) if older else None,
        tag("p", "No event is like that.") if not records else None,
    )  # fmt: skip

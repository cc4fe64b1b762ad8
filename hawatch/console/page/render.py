"""Each piece of the page as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hawatch.agent.events import Record
from hawatch.console.page.deeds import Deed, label, offered
from hawatch.console.page.graphs import Curve
from hawatch.console.page.html import Html, Part, tag
from hawatch.console.page.pieces import (
    EVENTS,
    HEAD,
    NODES,
    NOW,
    OWNERSHIP,
    WORKERS,
    Head,
    Ownership,
    Row,
    ServerRow,
    graph_id,
    row_id,
    server_id,
)
from hawatch.console.page.troubles import Trouble
from hawatch.control.view import (
    EVENT_TONES,
    GroupView,
    NodeView,
    Tone,
    View,
    WorkerView,
    number_text,
    shortened,
    tone_of,
)

SPARK = (120, 24)
LARGE = (600, 90)


def badge(state: str, tone: Tone | None = None) -> Html:
    """Return a state as a word in its colour."""
    return tag("span", state, class_=f"state {tone or tone_of(state)}")


def instant(when: str) -> Html:
    """Return an instant; a script may say how long ago it was."""
    return tag("time", when.replace("T", " "), datetime=when, class_="ago") if when else Html("")


def button(deed: Deed) -> Html:
    """Return what asks for an action; the page's one form carries it."""
    about = " ".join(word for word in (deed.server, deed.service, deed.group) if word)
    return tag(
        "button", label(deed), form="act", name="what", value=deed.words, aria_label=f"{label(deed)} {about}".rstrip()
    )


def head(piece: Head, node: str) -> Html:
    """Return the whole in one line, and the quorum."""
    sentence = piece.sentence[:1].upper() + piece.sentence[1:]
    lines: list[Part] = [tag("p", sentence, class_=f"summary {piece.tone}")]
    if piece.stale:
        since = tag("time", piece.stale, datetime=piece.stale)
        then = "; what you see is from then. On this director: systemctl status hawatch"
        lines.append(tag("p", "The core has not answered since ", since, then, class_="note bad"))
    if piece.left_out:
        words = f"{piece.left_out} servers more than a page can hold are not listed here: hawatch ctl status has all"
        lines.append(tag("p", words, class_="note"))
    lines.append(tag("p", piece.quorum, class_="note" if piece.quorum_held else "note bad"))
    return tag("div", *lines, id=HEAD, data_title=f"{node}: {sentence}", data_tone=piece.tone)


def now(found: Sequence[Trouble], *, act: bool) -> Html:
    """Return what is wrong now, and what to do about it; nothing on a good day."""
    items = [_trouble(trouble, act=act) for trouble in found]
    parts = [tag("h2", "To see to"), tag("ul", *items, class_="troubles")] if items else []
    return tag("section", *parts, id=NOW)


def _trouble(trouble: Trouble, *, act: bool) -> Html:
    what = tag("a", trouble.what, href=f"/service/{trouble.link}") if trouble.link else trouble.what
    return tag(
        "li",
        tag("div",
            tag("b", what), " ", tag("span", trouble.why, class_="reason") if trouble.why else None,
            " ", instant(trouble.since) if trouble.since else None,
            tag("small", trouble.advice) if trouble.advice else None, class_="words"),
        tag("div", button(trouble.deed), class_="acts") if act and trouble.deed else None,
        class_=f"trouble {trouble.tone}",
    )  # fmt: skip


def ownership(piece: Ownership, *, act: bool) -> Html:
    """Return groups with their owners and the reasons."""
    view = piece.view
    rows = [_group(group, view, act=act) for group in view.groups]
    table = _table("Groups", ("group", "owner", "here", "why", ""), rows, "groups") if rows else None
    return tag("div", table, id=OWNERSHIP)


def nodes(piece: Ownership, *, act: bool) -> Html:
    """Return directors and witnesses with their links."""
    view = piece.view
    table = None
    others = [*((node, "director") for node in view.directors), *((node, "witness") for node in view.witnesses)]
    if others:
        rows = [_this_node(view, act=act), *(_node(*each) for each in others)]
        table = _table("Nodes", ("node", "state", "links", "why", ""), rows, "nodes")
    return tag("div", table, id=NODES)


def _group(group: GroupView, view: View, *, act: bool) -> Html:
    others = [node.name for node in view.directors if node.name != group.owner]
    if view.directors and group.owner != view.node:
        others.insert(0, view.node)
    acts = [button(Deed("switchover", group=group.name, to=name)) for name in others] if act else []
    owner = tag("b", group.owner) if group.owner else badge("nobody", Tone.BAD)
    return tag(
        "tr",
        tag("th", group.name, tag("small", ", ".join(group.addresses)), scope="row"),
        tag("td", owner, tag("small", f"epoch {group.epoch}") if group.epoch else None),
        tag("td", badge(group.state)),
        tag("td", tag("span", group.reason, class_="reason"), class_="why"),
        tag("td", *acts, class_="acts"),
    )


def _this_node(view: View, *, act: bool) -> Html:
    owned = [group.name for group in view.groups if group.owner == view.node]
    given = any(group.state == "released" for group in view.groups)
    deeds = (Deed("giveaway"), *((Deed("resume"),) if given else ()))
    return tag(
        "tr",
        tag("th", view.node, tag("small", "this director"), scope="row"),
        tag("td", badge("alive")),
        tag("td", class_="paths"),
        tag("td", f"owns {shortened(owned)}" if owned else "owns nothing", class_="why"),
        tag("td", *((button(deed) for deed in deeds) if act and view.directors else ()), class_="acts"),
    )


def _node(node: NodeView, role: str) -> Html:
    links = [tag("li", link.address, " ", badge(link.state)) for link in node.links]
    return tag(
        "tr",
        tag("th", node.name, tag("small", role), scope="row"),
        tag("td", badge(node.state)),
        tag("td", tag("ul", *links, class_="links") if links else None, class_="paths"),
        tag("td", tag("span", node.reason, class_="reason") if node.reason else None, class_="why"),
        tag("td", class_="acts"),
    )


def _table(title: str, names: Sequence[str], rows: Iterable[Html], kind: str) -> Html:
    cells = [tag("th", name, scope="col") if name else tag("td") for name in names]
    return tag("table", tag("caption", title), tag("thead", tag("tr", *cells)), tag("tbody", *rows), class_=kind)


def spark(curve: Curve, what: str, key: str) -> Html:
    """Return a small graph in a cell."""
    width, height = SPARK
    picture = _svg(curve, width, height, f"{what}, last hour, at most {number_text(curve.most)}", "spark")
    return tag("td", picture if curve.path else None, id=graph_id(key), class_="graph")


def large(curve: Curve, what: str, when: str) -> Html:
    """Return a large graph with its words."""
    width, height = LARGE
    now = f", now {number_text(curve.last)}" if curve.last is not None else ""
    words = f"{what}, {when}: at most {number_text(curve.most)}{now}" if curve.path else f"{what}, {when}: nothing yet"
    return tag("figure", tag("figcaption", words), _svg(curve, width, height, words, "large"))


def _svg(curve: Curve, width: int, height: int, words: str, kind: str) -> Html:
    return tag(
        "svg", tag("path", d=curve.path), class_=kind, viewBox=f"0 0 {width} {height}", preserveAspectRatio="none",
        role="img", aria_label=words,
    )  # fmt: skip


def service_row(piece: Row, graph: Html, *, act: bool) -> Html:
    """Return a service's own row."""
    service = piece.service
    standby = service.state == "standby"
    count = "standby" if standby else f"{piece.up_count} of {piece.count} up"
    reason = service.reason if service.state != "up" else ""
    return tag(
        "tr",
        tag("th", tag("a", service.name, href=f"/service/{service.name}"),
            tag("small", f"{service.place} {service.scheduler}".rstrip()), scope="rowgroup"),
        tag("td", badge(count, piece.tone)),
        tag("td", tag("span", reason, class_="reason"), class_="why"),
        tag("td"),
        tag("td", *_amount(piece.active, "conn."), class_="number"),
        tag("td", *_rates(piece.connections_per_s, piece.bytes_per_s), class_="number"),
        tag("td"),
        graph,
        tag("td") if act else None,
        id=row_id(service.name), class_="service",
    )  # fmt: skip


def server_row(piece: ServerRow, graph: Html | None, *, act: bool) -> Html:
    """Return a server's row."""
    server = piece.server
    moved = [value for value in (server.bytes_in_per_s, server.bytes_out_per_s) if value is not None]
    words = "sorry server" if server.sorry else ""
    return tag(
        "tr",
        tag("th", server.name, tag("small", words) if words else None, scope="row"),
        tag("td", badge(server.state), " ", instant(server.since)),
        tag("td", tag("span", server.reason, class_="reason"), class_="why"),
        tag("td", f"weight {server.weight}" if server.in_table else "not in IPVS", class_="number"),
        tag("td", *_amount(server.active, "conn."), class_="number"),
        tag("td", *_rates(server.connections_per_s, sum(moved) if moved else None), class_="number"),
        tag("td", "" if server.latency_ms is None else f"{server.latency_ms:.1f} ms", class_="number"),
        graph if graph is not None else Html("<td></td>"),
        tag("td", *(button(deed) for deed in offered(piece.service, server)), class_="acts") if act else None,
        id=server_id(piece.service, server.name), class_="server",
    )  # fmt: skip


def _amount(value: float | None, unit: str) -> tuple[Part, ...]:
    return () if value is None else (number_text(value), f" {unit}")


def _rates(connections: float | None, moved: float | None) -> tuple[Part, ...]:
    if connections is None and moved is None:
        return ()
    words = [f"{number_text(connections)}/s"] if connections is not None else []
    if moved is not None:
        words.append(f"{number_text(moved)}B/s")
    return (" ".join(words),)


def event_list(records: Sequence[Record], key: str = EVENTS) -> Html:
    """Return events, newest first."""
    if not records:
        return tag("p", "Nothing has happened yet.", id=key, class_="note")
    return tag("ol", *(event_line(record) for record in reversed(records)), id=key, class_="events")


def event_line(record: Record) -> Html:
    """Return one event."""
    tone = EVENT_TONES.get(record.severity, Tone.IDLE)
    about = " ".join(word for word in (record.group, record.service, record.server) if word)
    return tag(
        "li",
        tag("time", record.time[:19].replace("T", " "), datetime=record.time, class_="at"),
        " ",
        tag("span", record.name, class_=f"state {tone}"),
        " ",
        tag("b", about),
        ": " if about else "",
        tag("span", record.reason, class_="reason"),
        class_=record.severity,
    )


def workers(found: Iterable[WorkerView]) -> Html:
    """Return the agent's processes in a line."""
    items = [
        tag("li", worker.name, " ", badge(worker.state), f" {worker.restarts} restarts" if worker.restarts else None,
            f" {worker.reason}" if worker.reason and worker.state != "running" else None)
        for worker in found
    ]  # fmt: skip
    return tag("ul", *items, id=WORKERS, class_="links")


def block(key: str, rows: Sequence[Html], more: str, service: str) -> Html:
    """Return a service with some of its servers."""
    link = tag("a", more, href=f"/service/{service}") if more else None
    rest = tag("tr", tag("td", link, colspan=9), class_="more") if link else None
    return tag("tbody", *rows, rest, id=key)


def page_head(title: str, style: str, script: str, again_s: int) -> Html:
    """Return the head of every page."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=again_s) if again_s else None,
        tag("link", rel="icon", href="/icon.svg"),
        tag("link", rel="stylesheet", href=style),
        tag("script", src=script, defer=True),
    )

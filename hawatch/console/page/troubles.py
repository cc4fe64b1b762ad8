"""What is wrong now, the worst first, each with its reason and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hawatch.console.page.deeds import Deed
from hawatch.control.view import GroupView, NodeView, ServerView, ServiceView, Tone, View, shortened, tone_of

SERVERS_MAX = 5
"""Servers of which the trouble is spelled out; the others are counted."""
TROUBLES_MAX = 30
NAMES_SHOWN = 3
WORST_FIRST = {Tone.BAD: 0, Tone.WARN: 1, Tone.GOOD: 2, Tone.IDLE: 3}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One line of what is wrong."""

    tone: Tone
    what: str
    why: str = ""
    advice: str = ""
    since: str = ""
    link: str = ""
    """Name of the service to look at."""
    deed: Deed | None = None


def troubles(view: View) -> tuple[Trouble, ...]:
    """Return what is wrong, the worst first."""
    found = [*_quorum(view), *_groups(view), *_services(view), *_nodes(view), *_servers(view), *_workers(view)]
    found += [Trouble(Tone.WARN, warning) for warning in view.warnings]
    found += _set_aside(view)
    found.sort(key=lambda trouble: WORST_FIRST[trouble.tone])
    if len(found) > TROUBLES_MAX:
        more = len(found) - TROUBLES_MAX
        found[TROUBLES_MAX:] = [Trouble(found[TROUBLES_MAX].tone, f"and {more} more", advice="hawatch ctl status")]
    return tuple(found)


def _quorum(view: View) -> Iterator[Trouble]:
    if not view.quorum.held:
        yield Trouble(
            Tone.BAD, "No quorum", view.quorum.reason,
            "Until most of the nodes answer nobody can take over a group. See to those below that do not.",
        )  # fmt: skip


def _groups(view: View) -> Iterator[Trouble]:
    for group in view.groups:
        if group.state == "released":
            advice = f"{view.node} takes part again when somebody says so."
            tone = Tone.WARN if group.owner else Tone.BAD
            yield Trouble(tone, f"Group {group.name}: given away", group.reason, advice, deed=Deed("resume"))
        elif tone_of(group.state) is Tone.BAD:
            yield Trouble(Tone.BAD, f"Group {group.name}: {group.state}", group.reason, _conflict_advice(group))
        elif not group.owner:
            yield Trouble(Tone.BAD, f"Group {group.name}: nobody owns it", group.reason, _nobody_advice(group, view))


def _conflict_advice(group: GroupView) -> str:
    return (
        f"Another host answers for {shortened(group.addresses, NAMES_SHOWN)}. Usually a real server without"
        " arp_ignore = 1; its event names the MAC address."
    )


def _nobody_advice(group: GroupView, view: View) -> str:
    addresses = f"Nobody answers for {shortened(group.addresses, NAMES_SHOWN)}."
    if view.quorum.held:
        return f"{addresses} It is taken within seconds where a director is fit; the reason says what it lacks."
    return f"{addresses} If you know that the other director is off: hawatch ctl takeover --force --group {group.name}"


def _services(view: View) -> Iterator[Trouble]:
    for service in view.services:
        if service.tone is Tone.BAD and service.real:
            yield Trouble(
                Tone.BAD, f"Service {service.name}: no server up", service.reason,
                "The reasons of its servers say what was wanted and what came.",
                since=max((server.since for server in service.real), default=""), link=service.name,
                deed=Deed("ack", service.name),
            )  # fmt: skip


def _nodes(view: View) -> Iterator[Trouble]:
    for role, nodes in (("Director", view.directors), ("Witness", view.witnesses)):
        for node in nodes:
            if node.state in ("dead", "late"):
                yield Trouble(Tone.WARN, f"{role} {node.name}: {node.state}", node.reason, _node_advice(role, node))
                continue
            for link in node.links:
                if link.state == "down":
                    yield Trouble(
                        Tone.WARN, f"Link {link.address} to {node.name}: down", "",
                        "Heartbeats go over the others. See to cable, switch and firewall of this one.",
                    )  # fmt: skip


def _node_advice(role: str, node: NodeView) -> str:
    if role == "Witness":
        return f"One more node may not fail now. On {node.name}: systemctl status hawatch-witness"
    return f"Nobody can take over from here. On {node.name}: systemctl status hawatch"


def _servers(view: View) -> Iterator[Trouble]:
    """Yield servers that are down, one that serves several services once, where some other server is up."""
    found: dict[tuple[str, str], list[tuple[ServiceView, ServerView]]] = {}
    for service in view.services:
        for server in service.servers:
            if server.state == "down" and (service.tone is not Tone.BAD or server.sorry):
                found.setdefault((server.address, server.reason), []).append((service, server))
    for number, ((address, reason), places) in enumerate(found.items()):
        if number == SERVERS_MAX:
            rest = len(found) - SERVERS_MAX
            yield Trouble(Tone.WARN, f"{rest} more server{'s' if rest != 1 else ''} down", "", "They are listed below.")
            return
        service, server = places[0]
        names = shortened((service.name for service, _ in places), NAMES_SHOWN)
        kind = "Sorry server" if server.sorry else "Server"
        what = f"{kind} {server.name if len(places) == 1 else address} of {names}: down"
        advice = "" if number else "It gets no new connections, and comes back by itself when its probe is well again."
        deed = Deed("ack", service.name, server.name) if len(places) == 1 and not server.sorry else None
        yield Trouble(Tone.WARN, what, reason, advice, min(each.since for _, each in places), service.name, deed)


def _workers(view: View) -> Iterator[Trouble]:
    for worker in view.workers:
        if worker.state != "running":
            yield Trouble(
                Tone.WARN, f"Process {worker.name}: {worker.state}", worker.reason,
                "It is started again by itself. If it is not: journalctl -u hawatch",
            )  # fmt: skip


def _set_aside(view: View) -> Iterator[Trouble]:
    """Yield what administrators took out: nothing is wrong, but it is easily forgotten."""
    pairs = [(service, server) for service in view.services for server in service.real]
    for state, verb, what in (("draining", "undrain", "drained"), ("disabled", "enable", "disabled")):
        found = [(service, server) for service, server in pairs if server.state == state]
        for service, server in found[:SERVERS_MAX]:
            yield Trouble(
                Tone.IDLE, f"Server {server.name} of {service.name}: {what}", server.reason, since=server.since,
                link=service.name, deed=Deed(verb, service.name, server.name),
            )  # fmt: skip
        if len(found) > SERVERS_MAX:
            last = Trouble(Tone.IDLE, f"{len(found) - SERVERS_MAX} more servers {what}")
            yield replace(last, advice=f"hawatch ctl {verb} all all ends it for every one.")

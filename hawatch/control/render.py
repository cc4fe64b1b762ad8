"""The agent's answers as text for a terminal at night: aligned, reasons in full, colour only where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"

STATE_COLOURS = {
    "up": GREEN,
    "owner": GREEN,
    "alive": GREEN,
    "running": GREEN,
    "down": RED,
    "dead": RED,
    "conflict": RED,
    "lost": RED,
    "unknown": YELLOW,
    "draining": YELLOW,
    "disabled": YELLOW,
    "late": YELLOW,
    "candidate": YELLOW,
    "released": YELLOW,
    "starting": YELLOW,
}
SEVERITY_COLOURS = {"warning": YELLOW, "critical": RED}

Row = Sequence[str]
Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """How to print."""

    colour: bool = False
    width: int = 0
    """Columns of the terminal; 0: not a terminal. Nothing is cut off: it only chooses where to put long reasons."""

    def paint(self, text: str, code: str) -> str:
        """Return the text in a colour, if colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text


def table(rows: Iterable[Row], style: Style, indent: str = "  ") -> list[str]:
    """Return aligned lines; the last column is as long as it likes. Words that are states are coloured."""
    kept = [[printable(cell) for cell in row] for row in rows]
    if not kept:
        return []
    widths = [max(len(row[column]) for row in kept) for column in range(len(kept[0]))]
    lines = []
    for row in kept:
        cells = [
            style.paint(cell, STATE_COLOURS.get(cell, "")) + " " * (width - len(cell))
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines


def printable(text: str) -> str:
    """Return text that a server may have chosen without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def render_status(status: Data, style: Style, now: datetime | None = None) -> str:
    """Return the whole status as text."""
    moment = datetime.now(UTC) if now is None else now
    lines = [
        style.paint(f"{status['node']}", BOLD)
        + f"  cluster {status['cluster']}, hawatch {status['version']}, up {duration(status.get('uptime_s', 0))}"
    ]
    lines.append(_quorum(status["quorum"]))
    lines += [style.paint("! " + printable(warning), YELLOW) for warning in status.get("warnings", [])]
    lines += _section("Directors", [_director(each) for each in status["directors"]], style)
    lines += _section("Groups", [_group(each) for each in status["groups"]], style)
    for service in status["services"]:
        lines += _service(service, style, moment)
    lines += _section("Workers", [_worker(each) for each in status["workers"]], style)
    return "\n".join(lines)


def _section(title: str, rows: list[Row], style: Style) -> list[str]:
    return ["", style.paint(title, BOLD), *table(rows, style)] if rows else []


def _quorum(quorum: Data) -> str:
    reason = quorum.get("reason", "")
    if quorum["mode"] == "none" and not quorum.get("acceptors"):
        return f"quorum none: {reason}" if reason else "quorum none"
    held = "held" if quorum.get("held") else "NOT held"
    text = f"quorum {quorum['mode']} {held}: {quorum.get('reachable')} of {quorum.get('acceptors')} reachable"
    return f"{text}; {reason}" if reason else text


def _director(director: Data) -> Row:
    links = ", ".join(f"{link['address']} {link['state']}" for link in director.get("links", []))
    return (director["name"], director["state"], links, director.get("reason", ""))


def _group(group: Data) -> Row:
    return (
        group["name"],
        group["state"],
        f"owner {group['owner'] or '-'}",
        f"epoch {group['epoch']}" if group.get("epoch") else "",
        ", ".join(group["addresses"]),
        group.get("reason", ""),
    )


def _service(service: Data, style: Style, now: datetime) -> list[str]:
    rows = service["servers"]
    servers = [server for server in rows if not server.get("sorry")]
    up_count = sum(server["state"] == "up" for server in servers)
    where = f"fwmark {service['fwmark']}" if service.get("fwmark") else _where(service)
    standby = service.get("state") == "standby"
    head = f"{service['name']}  {where}  {service.get('scheduler', '')}"
    count = "standby" if standby else f"{up_count} of {len(servers)} up"
    colour = GREEN if up_count == len(servers) else YELLOW if up_count or standby else RED
    title = ["", style.paint(head.rstrip(), BOLD) + "  " + style.paint(count, colour)]
    if service.get("reason") and service.get("state") != "up":
        title.append(style.paint("  ! " + printable(service["reason"]), YELLOW))
    return title + table([_server(server, now) for server in rows], style)


def _where(each: Data) -> str:
    host = f"[{each['address']}]" if ":" in each["address"] else each["address"]
    return f"{each.get('protocol', '')} {host}:{each['port']}".strip()


def _server(server: Data, now: datetime) -> Row:
    latency = server.get("latency_ms")
    role = "sorry" if server.get("sorry") else ""
    return (
        _where({"address": server["address"], "port": server["port"]}),
        server["state"],
        f"weight {server['weight']}" if server.get("in_table", True) else "not in IPVS",
        "" if latency is None else f"{latency:.1f} ms",
        f"for {age(server['since'], now)}" if server.get("since") else "",
        role,
        server.get("reason", ""),
    )


def _worker(worker: Data) -> Row:
    restarts = worker["restarts"]
    return (
        worker["name"],
        worker["state"],
        f"process {worker['pid']}" if worker.get("pid") else "",
        f"{restarts} restart{'s' if restarts != 1 else ''}" if restarts else "",
        worker.get("reason", ""),
    )


def render_event(event: Data, style: Style) -> str:
    """Return one event as one line."""
    subject = " ".join(event[key] for key in ("group", "service", "server") if event.get(key))
    name = style.paint(event["name"], SEVERITY_COLOURS.get(event.get("severity", ""), ""))
    numbers = " ".join(f"{key}={value}" for key, value in event.get("numbers", {}).items())
    text = f"{event['time']} {event.get('node', '')} {name}"
    if subject:
        text += f" {printable(subject)}"
    if event.get("reason"):
        text += f": {printable(event['reason'])}"
    return f"{text} ({printable(numbers)})" if numbers else text


def render_changes(data: Data) -> str:
    """Return what a command has done, a line for each change."""
    changes = [printable(change) for change in data.get("changes", [])]
    return "\n".join(changes) if changes else printable(data.get("text", "nothing to change"))


def duration(seconds: float) -> str:
    """Return a length of time in its two greatest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def age(since: str, now: datetime) -> str:
    """Return how long ago an instant was."""
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return since
    return duration((now - moment).total_seconds())

"""The status as what people look at: typed, with a tone for every state and a sentence for every whole.

Pure: the page and `hawatch top` draw the same view. Keys that are not known here are passed over, so that the status
may grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from hawatch.decoding import UNDECODABLE


class Tone(StrEnum):
    """How a state is to be taken."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    IDLE = "idle"
    """Neither good nor bad: as it was asked for."""


TONES = {
    "up": Tone.GOOD, "owner": Tone.GOOD, "alive": Tone.GOOD, "running": Tone.GOOD,
    "down": Tone.BAD, "dead": Tone.BAD, "conflict": Tone.BAD, "lost": Tone.BAD, "sorry": Tone.BAD,
    "unknown": Tone.WARN, "late": Tone.WARN, "candidate": Tone.WARN, "released": Tone.WARN, "starting": Tone.WARN,
    "draining": Tone.IDLE, "disabled": Tone.IDLE, "standby": Tone.IDLE,
}  # fmt: skip
EVENT_TONES = {"critical": Tone.BAD, "warning": Tone.WARN}


class Seen(msgspec.Struct, frozen=True):
    """Base of the parts of a status."""


class LinkView(Seen, frozen=True):
    """A heartbeat path to another node."""

    address: str
    state: str


class NodeView(Seen, frozen=True):
    """Another director, or a witness."""

    name: str
    state: str
    links: tuple[LinkView, ...] = ()
    reason: str = ""


class GroupView(Seen, frozen=True):
    """Addresses that move together, and who owns them."""

    name: str
    state: str
    owner: str = ""
    epoch: int = 0
    reason: str = ""
    addresses: tuple[str, ...] = ()
    gate: str = ""


class ServerView(Seen, frozen=True):
    """A real server in a service."""

    address: str
    port: int
    state: str
    weight: int = 0
    in_table: bool = True
    reason: str = ""
    since: str = ""
    latency_ms: float | None = None
    sorry: bool = False
    active: int | None = None
    """Connections that are established; None: not told."""
    inactive: int | None = None
    connections_per_s: float | None = None
    bytes_in_per_s: float | None = None
    bytes_out_per_s: float | None = None

    @property
    def name(self) -> str:
        """What it is called in commands."""
        return where(self.address, self.port)

    @property
    def weight_text(self) -> str:
        """Its weight, or that it has none."""
        return str(self.weight) if self.in_table else "out"


class ServiceView(Seen, frozen=True):
    """A virtual service."""

    name: str
    address: str = ""
    port: int = 0
    protocol: str = ""
    fwmark: int = 0
    group: str = ""
    scheduler: str = ""
    state: str = "unknown"
    reason: str = ""
    servers: tuple[ServerView, ...] = ()

    @property
    def place(self) -> str:
        """Where clients find it."""
        return f"fwmark {self.fwmark}" if self.fwmark else f"{self.protocol} {where(self.address, self.port)}".strip()

    @property
    def real(self) -> tuple[ServerView, ...]:
        """Its servers without the sorry server."""
        return tuple(server for server in self.servers if not server.sorry)

    @property
    def up_count(self) -> int:
        """How many of its servers are up."""
        return sum(server.state == "up" for server in self.servers if not server.sorry)

    @property
    def tone(self) -> Tone:
        """How it is, all in all."""
        if self.state == "standby":
            return Tone.IDLE
        states = [server.state for server in self.real]
        if not any(state in ("up", "draining") for state in states):
            return Tone.WARN if "unknown" in states else Tone.BAD
        return Tone.GOOD if all(state in ("up", "draining", "disabled") for state in states) else Tone.WARN

    def total(self, key: str) -> float | None:
        """Return the sum of a number over its servers; None when none tells it."""
        found = [value for server in self.servers if (value := getattr(server, key)) is not None]
        return sum(found) if found else None


class QuorumView(Seen, frozen=True):
    """Whether a majority answers."""

    mode: str = "none"
    held: bool = False
    acceptors: int = 0
    reachable: int = 0
    reason: str = ""


class WorkerView(Seen, frozen=True):
    """A process of the agent."""

    name: str
    state: str
    pid: int | None = 0
    restarts: int = 0
    reason: str = ""


class View(Seen, frozen=True):
    """Everything, at one moment, as one director sees it."""

    cluster: str
    node: str
    version: str = ""
    time: str = ""
    uptime_s: int = 0
    quorum: QuorumView = QuorumView()
    directors: tuple[NodeView, ...] = ()
    witnesses: tuple[NodeView, ...] = ()
    groups: tuple[GroupView, ...] = ()
    services: tuple[ServiceView, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    warnings: tuple[str, ...] = ()

    def service(self, name: str) -> ServiceView | None:
        """Return the service of this name."""
        return next((service for service in self.services if service.name == name), None)


_decoder = msgspec.json.Decoder(View)


def read_view(status: bytes) -> View | None:
    """Return the view of a status; None for what is none."""
    try:
        return _decoder.decode(status)
    except UNDECODABLE:
        return None


def where(address: str, port: int) -> str:
    """Return an address with its port."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def tone_of(state: str) -> Tone:
    """Return how a state is to be taken."""
    return TONES.get(state, Tone.WARN)


def quorum_sentence(quorum: QuorumView) -> str:
    """Return the quorum in one sentence."""
    if quorum.mode == "none" and not quorum.acceptors:
        return quorum.reason or "no quorum is kept"
    held = "held" if quorum.held else "NOT held"
    counted = f"{quorum.mode} quorum {held}: {quorum.reachable} of {quorum.acceptors} reachable"
    return f"{counted}; {quorum.reason}" if quorum.reason else counted


def troubles(view: View) -> list[str]:
    """Return what is wrong, a few words each, the worst first."""
    found: list[str] = []
    if not view.quorum.held:
        found.append("no quorum")
    found += [f"group {group.name}: {group.state}" for group in view.groups if tone_of(group.state) is Tone.BAD]
    nobody = [group.name for group in view.groups if not group.owner]
    found += [f"group {name}: nobody owns it" for name in nobody]
    for node in (*view.directors, *view.witnesses):
        if node.state in ("dead", "late"):
            found.append(f"{node.name} {node.state}")
        found += [f"link {link.address} down" for link in node.links if link.state == "down" and node.state != "dead"]
    found += [f"service {each.name}: no server up" for each in view.services if each.tone is Tone.BAD]
    down = sum(server.state == "down" for service in view.services for server in service.real)
    if down:
        found.append(f"{down} server{'s' if down != 1 else ''} down")
    found += [f"process {worker.name} {worker.state}" for worker in view.workers if worker.state != "running"]
    return found


def summary(view: View) -> tuple[Tone, str]:
    """Return the whole in one line, and how it is to be taken."""
    found = troubles(view)
    servers = [server for service in view.services for server in service.real]
    up_count = sum(server.state == "up" for server in servers)
    count = f"{up_count} of {len(servers)} servers up" if servers else "no server"
    if not found:
        return (Tone.WARN, f"{count}, with warnings") if view.warnings else (Tone.GOOD, f"All is well: {count}")
    bad = any(service.tone is Tone.BAD for service in view.services) or not view.quorum.held
    bad = bad or any(not group.owner or tone_of(group.state) is Tone.BAD for group in view.groups)
    return Tone.BAD if bad else Tone.WARN, f"{shortened(found)} ({count})"


def shortened(words: Iterable[str], most: int = 4) -> str:
    """Return a list as text, with a count in place of what is too much."""
    every = list(words)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def number_text(value: float | None) -> str:
    """Return a number as it is read at a glance: 950, 1.2k, 34M."""
    if value is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}" if value < 100 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"

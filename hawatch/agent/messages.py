"""What the agent's processes say to each other: msgpack frames over socketpairs.

Two kinds of channel, both made by the keeper:

* **leash**: keeper <-> each child, SOCK_SEQPACKET, one message a packet. The keeper asks, the child answers; a
  `Link` packet carries one end of a work channel as SCM_RIGHTS.
* **work**: core <-> each prober, SOCK_STREAM, frames of a 4-byte big-endian length and a body of at most
  `FRAME_LIMIT` bytes. Whenever either end is born anew the keeper makes a new work channel, an end for each.

On a new work channel the core sends `Assign` first, with the verdicts that it knows; the prober answers with
`Verdicts` (`complete` set), in which its own knowledge wins over what it was told. So whichever of the two was
born anew learns what the other knows, and no verdict is lost.
"""

from __future__ import annotations

import msgspec

from hawatch.agent.events import Record
from hawatch.model import Check, Event, Verdict

FRAME_LIMIT = 64 << 20
"""Bytes of one frame: an assignment of 100,000 checks fits."""
LEASH_PACKET_LIMIT = 8192


class LeashMessage(msgspec.Struct, frozen=True, tag=True):
    """Base of what passes between keeper and child."""


class AreYouThere(LeashMessage, frozen=True, tag=True):
    """Keeper to child; answered with `IAmHere` of the same number."""

    number: int


class IAmHere(LeashMessage, frozen=True, tag=True):
    """Child to keeper."""

    number: int


class Link(LeashMessage, frozen=True, tag=True):
    """Keeper to core or prober: the attached descriptor is a new work channel with `worker`."""

    worker: str


class WorkerLost(LeashMessage, frozen=True, tag=True):
    """Keeper to core: a worker died or was killed; it is started again in `restart_in_ms`."""

    worker: str
    reason: str
    restarts: int
    restart_in_ms: int


class WorkerStarted(LeashMessage, frozen=True, tag=True):
    """Keeper to core: a worker runs (told again to each new core)."""

    worker: str
    pid: int
    restarts: int


class Reload(LeashMessage, frozen=True, tag=True):
    """Keeper to core: SIGHUP came; read the configuration file again."""


class Stop(LeashMessage, frozen=True, tag=True):
    """Keeper to core: end in good order; a core that takes too long is killed."""

    reason: str


class WantLink(LeashMessage, frozen=True, tag=True):
    """Core to keeper: the work channel with a worker broke though both ends live; make a new one."""

    worker: str


class Adopt(LeashMessage, frozen=True, tag=True):
    """Core to keeper: a reload was accepted; the attached descriptor is a file with the pickled settings.

    The keeper starts or ends workers by it, and the next core is born with it. Sent before the core applies
    anything, so that a core which dies in the middle is born anew with what it had accepted.
    """


class WantListener(LeashMessage, frozen=True, tag=True):
    """Core to keeper: the file of the ctl socket is gone, make another one."""


class Listener(LeashMessage, frozen=True, tag=True):
    """Keeper to core, with a listening ctl socket: serve this one from now on."""


class WorkMessage(msgspec.Struct, frozen=True, tag=True):
    """Base of what passes between core and prober."""


class Assign(WorkMessage, frozen=True, tag=True):
    """Core to prober: run exactly these checks. `known` are the verdicts to go on from."""

    checks: list[Check]
    known: list[Verdict]


class Verdicts(WorkMessage, frozen=True, tag=True):
    """Prober to core: verdicts that changed, or all of them when `complete`."""

    verdicts: list[Verdict]
    complete: bool = False
    weights: dict[str, int] = {}
    """Weights that checks ask for since their last good run, by check, where they have changed; -1: none."""


class CheckSummary(msgspec.Struct, frozen=True, array_like=True):
    """How one check has done since the last summary."""

    check: str
    runs: int
    failures: int
    latency_us: int
    """Of the last successful run; -1 if there was none."""
    last_reason: str
    """Reason of the last run if it failed, though the verdict may still be up."""
    inconclusive: int = 0
    """Runs in a row, up to the last, that failed because of this machine and so say nothing of the server."""


class Summary(WorkMessage, frozen=True, tag=True):
    """Prober to core, every few seconds: what is worth showing, never needed for a decision."""

    checks: list[CheckSummary]
    late_ms_max: float
    """Worst delay of a start against its schedule since the last summary."""
    discarded: int
    """Failures discarded since the last summary: in a local pause, or for want of something on this machine."""
    in_flight: int


class ConsoleMessage(msgspec.Struct, frozen=True, tag=True):
    """Base of what passes between core and console, framed as work messages are."""


class Known(ConsoleMessage, frozen=True, tag=True):
    """Console to core, first: the number of the last event that it has; 0 for none."""

    last: int


class Told(ConsoleMessage, frozen=True, tag=True):
    """Core to console: events, oldest first."""

    records: list[Record]
    complete: bool = True
    """False: there may be others between the last known one and these; the events file has them."""
    owners: dict[str, str] | None = None
    """Who owns the groups, "" where nobody is known to; None: the same as told before."""


class Happened(ConsoleMessage, frozen=True, tag=True):
    """Console to core: what happened in the console, to be told as events."""

    events: list[Event]


class ConsoleState(ConsoleMessage, frozen=True, tag=True):
    """Console to core: what status is to warn of."""

    warnings: list[str]


class WantStatus(ConsoleMessage, frozen=True, tag=True):
    """Console to core: answered with `StatusNow`."""


class StatusNow(ConsoleMessage, frozen=True, tag=True):
    """Core to console: the status as JSON."""

    data: bytes

"""What enters a node and what leaves it: events and commands.

The shell carries out a node's commands in the order in which they were given, those on the kernel strictly one
after the other, and reports on `Arm`, `Activate` and `CloseGate` with the events below. It never repeats, drops or
reorders a command on the kernel; a command may be late by any time without harm. What is to be kept on disk comes last,
and is kept behind the node's back: no disk holds up a lease.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hawatch.cluster.membership import FormerRun, GroupSettings
from hawatch.model import Event


class AdminAction(StrEnum):
    """What an administrator asks of a node."""

    SWITCHOVER = "switchover"
    GIVEAWAY = "giveaway"
    RESUME = "resume"
    TAKEOVER = "takeover"
    STOP = "stop"


# --- Events: what happened --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """The instant of the last `SetTimer` has come (or the shell has reason to look again)."""


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """Bytes came in on a link (index into the node's links)."""

    link: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GateArmed:
    """The kernel has confirmed `Arm` of this number."""

    group: str
    number: int


@dataclass(frozen=True, slots=True)
class GateOpened:
    """The kernel has confirmed `Activate` of this number and the addresses are there."""

    group: str
    number: int


@dataclass(frozen=True, slots=True)
class GateClosed:
    """The kernel has confirmed `CloseGate`."""

    group: str


@dataclass(frozen=True, slots=True)
class GateFailed:
    """The kernel refused an `Arm`, `Activate` or `CloseGate`; nothing of that command has taken effect."""

    group: str
    reason: str


@dataclass(frozen=True, slots=True)
class GateLost:
    """Somebody removed the gate; it is back, closed, with nothing armed or active."""

    group: str


@dataclass(frozen=True, slots=True)
class AdminCommand:
    """An administrator's wish; answered by `Answer` with the same request number."""

    request: int
    action: AdminAction
    group: str = ""
    """Empty: every group."""
    to: str = ""


@dataclass(frozen=True, slots=True)
class FitnessChanged:
    """How fit this director is, 0 to 65535, more is better, and what is missing."""

    score: int
    reason: str = ""
    sure: bool = True
    """The servers have been looked at; before that it is handed nothing."""
    apart_ns: int = 0
    """So far apart two directors may notice that a server is gone, or back."""


@dataclass(frozen=True, slots=True)
class GroupsChanged:
    """The configuration names these groups now; those that it does not name any more are let go of first."""

    groups: tuple[GroupSettings, ...]


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """Answer to `AskGateway` of this number: whether any gateway answered."""

    group: str
    number: int
    answered: bool


@dataclass(frozen=True, slots=True)
class ArpProbeAnswer:
    """Answer to `ProbeAddresses` of this number: the MAC that answered (or probed at once with us), or ""."""

    group: str
    number: int
    mac: str


GroupEvent = GateArmed | GateOpened | GateClosed | GateFailed | GateLost | GatewayAnswer | ArpProbeAnswer
NodeEvent = Tick | DatagramReceived | AdminCommand | FitnessChanged | GroupsChanged | GroupEvent


# --- Commands: what to do ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send the bytes from this link's own address to `address`; a failure is not reported."""

    link: int
    address: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Arm:
    """In one transaction: clear the slot's active bit, delete and add its timer of `duration_ns`. Then `GateArmed`."""

    group: str
    slot: int
    duration_ns: int
    number: int


@dataclass(frozen=True, slots=True)
class Activate:
    """Set the slot's active bit, without touching its timer. Then, after `AddAddresses`, `GateOpened`."""

    group: str
    slot: int
    number: int


@dataclass(frozen=True, slots=True)
class CloseGate:
    """Clear both active bits and both timers. Then `GateClosed`."""

    group: str


@dataclass(frozen=True, slots=True)
class AddAddresses:
    """Put the group's addresses up, or refresh their life; 0 is for ever."""

    group: str
    lifetime_ns: int


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Take the group's addresses down if they are up."""

    group: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the group's addresses now and as the schedule says, until `RemoveAddresses`."""

    group: str
    after_ns: tuple[int, ...]
    every_ns: int


@dataclass(frozen=True, slots=True)
class AskGateway:
    """Ping the gateways once each. Then `GatewayAnswer` within `timeout_ns`."""

    group: str
    number: int
    timeout_ns: int


@dataclass(frozen=True, slots=True)
class ProbeAddresses:
    """Probe the group's addresses on the clients' network (RFC 5227). Then `ArpProbeAnswer` within `timeout_ns`."""

    group: str
    number: int
    timeout_ns: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give a `Tick` at this instant; replaces the timer set before."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Emit:
    """Publish an event."""

    event: Event


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer an administrator: done or not, the sentence, and how long it took."""

    request: int
    done: bool
    text: str
    took_ns: int


@dataclass(frozen=True, slots=True)
class RememberGiveaway:
    """Keep on disk that this director was given away (or that it was resumed)."""

    paused: bool


@dataclass(frozen=True, slots=True)
class RememberPins:
    """Keep on disk which groups an administrator gave to this director; `forced`: those without a majority."""

    groups: tuple[str, ...]
    forced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RememberRun:
    """Keep on disk what the next process of this node has to know of this one."""

    run: FormerRun


@dataclass(frozen=True, slots=True)
class InstallGroups:
    """Let the gate cover the addresses of the newest configuration and no others.

    An address that it is to cover no more is taken down before. Groups that went have been closed already.
    """


@dataclass(frozen=True, slots=True)
class Stopped:
    """Everything is given away; the process may end."""


Command = (
    Send
    | Arm
    | Activate
    | CloseGate
    | AddAddresses
    | RemoveAddresses
    | Announce
    | AskGateway
    | ProbeAddresses
    | SetTimer
    | Emit
    | Answer
    | RememberGiveaway
    | RememberPins
    | RememberRun
    | InstallGroups
    | Stopped
)

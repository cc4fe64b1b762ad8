"""A round of requests, and when its answers make an owner.

Theory of operation. A round has a number, a gate slot, a nonce and the instant before which its slot's timer
cannot have been started. A majority of yeses for its nonce makes an owner where there are witnesses. Where there
are none, two directors have no majority, and a round rests on weaker evidence: the other director's yes, or, for
an owner, an answer of its gateway (mode gateway) or nothing at all (mode none), or, for a candidate, evidence
gathered beforehand that the other one is gone. That can be wrong, which is why it is called best effort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from hawatch.cluster.membership import QuorumMode
from hawatch.cluster.wire import Deny, DenyReason


class Phase(Enum):
    """How far a round is."""

    ARMING = auto()
    """The kernel has been told to start the slot's timer; nothing has been asked."""
    ASKING = auto()
    """Requests are out."""
    DONE = auto()
    """Won, or given up: late answers mean nothing any more."""


@dataclass(slots=True)
class Round:
    """One attempt to get or to keep a lease."""

    number: int
    slot: int
    nonce: int
    started_ns: int
    """When the slot's timer was ordered: the kernel has started it then or later."""
    phase: Phase = Phase.ARMING
    asked_ns: int = 0
    """When the request was sent last."""
    grants: set[int] = field(default_factory=set)
    denials: dict[int, Deny] = field(default_factory=dict)
    epoch: int = 0
    evidence: bool = False
    """The gateway answered or, for a candidate without a witness, the other director is gone."""
    forced: bool = False
    hurried: bool = False
    """It was asked again early, because of a refusal that was out of date."""

    def __post_init__(self) -> None:
        assert self.slot in (0, 1)
        assert self.number > 0

    def refusals(self) -> int:
        """Count the acceptors that promised the lease to somebody else."""
        return sum(denial.reason == DenyReason.HELD for denial in self.denials.values())

    def hint_ns(self, spare: int, rivals: set[int]) -> int:
        """Return the wait that refusals spoke of, 0 if none did; `spare` acceptors may refuse without harm.

        What `rivals` hold, who ask themselves and own nothing, is let go of in a moment: their time says nothing.
        """
        told = [denial for denial in self.denials.values() if denial.holder not in rivals]
        held = [denial.remaining_ns for denial in told if denial.reason == DenyReason.HELD]
        if held:
            return min(held)
        waits = sorted(denial.remaining_ns for denial in told)
        return waits[-1 - spare] if len(waits) > spare else 0

    def holders(self, rivals: set[int]) -> frozenset[int] | None:
        """Return who has what was refused: owners if any refusal names one, else rivals; None when it was not that."""
        held = {denial.holder for denial in self.denials.values() if denial.reason == DenyReason.HELD}
        if held:
            return frozenset(held - rivals or held)
        return frozenset() if self.denials else None

    def refusal_words(self, name: Callable[[int], str]) -> str:
        """Say who refused, and why; `name` gives a node's name."""
        words = {
            DenyReason.HELD: "promised it to another",
            DenyReason.SILENT: "started lately, or learnt of the group lately, and must not promise it yet",
            DenyReason.TOO_LONG: "accept only a shorter lease",
            DenyReason.MEMBERS: "have another list of members, or have not seen all members with the new one",
            DenyReason.UNKNOWN: "do not know this group: reload their configuration",
        }
        found = {
            reason: sorted(name(node) for node, denial in self.denials.items() if denial.reason == reason)
            for reason in words
        }
        return ", ".join(
            f"{len(names)} acceptors ({', '.join(names)}) {words[reason]}" for reason, names in found.items() if names
        )


def won(round_: Round, mode: QuorumMode, majority: int, me: int, *, holding: bool) -> bool:
    """Return whether the answers so far make (or keep) an owner. A forced round also wins by the end of its time."""
    if mode is QuorumMode.WITNESS:
        return len(round_.grants) >= majority
    if me not in round_.grants and not holding:
        return False
    others = len(round_.grants - {me})
    return others > 0 or round_.evidence or (holding and mode is QuorumMode.NONE)


def lost(round_: Round, mode: QuorumMode, members: int, majority: int) -> bool:
    """Return whether a majority has become impossible because others have the lease."""
    if mode is not QuorumMode.WITNESS:
        return False
    return round_.refusals() > members - majority


def unwinnable(round_: Round, mode: QuorumMode, answering: set[int], majority: int, me: int) -> bool:
    """Return whether a candidate's round cannot be won any more, for whatever reasons.

    Only who has answered lately is hoped for: waiting for the answer of a dead node would cost the whole round.
    """
    if round_.forced:
        return round_.refusals() > 0
    if mode is not QuorumMode.WITNESS:
        return me in round_.denials
    return len(round_.grants | (answering - round_.denials.keys())) < majority

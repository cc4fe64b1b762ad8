"""The states of a group on one director, and what moves it from one to the next.

STANDBY waits, CANDIDATE asks, OWNER holds and renews, CLOSING waits for the kernel to confirm the closed gate,
RELEASED was given away by an administrator, CONFLICT found its own name used by another machine. Every way out of
OWNER leads through CLOSING.
"""

from __future__ import annotations

from enum import StrEnum

from hawatch.cluster.wire import GroupState


class Trigger(StrEnum):
    """What moves a group from state to state."""

    ASK = "ask"
    WON = "won"
    FAILED = "failed"
    RENEWED = "renewed"
    CLOSE = "close"
    CLOSED = "closed"
    TIDY = "tidy"
    PAUSE = "pause"
    RESUME = "resume"
    CLASH = "clash"
    CLEAR = "clear"


TRANSITIONS: dict[GroupState, dict[Trigger, GroupState]] = {
    GroupState.STANDBY: {
        Trigger.ASK: GroupState.CANDIDATE,
        Trigger.TIDY: GroupState.CLOSING,
        Trigger.PAUSE: GroupState.RELEASED,
        Trigger.CLASH: GroupState.CONFLICT,
    },
    GroupState.CANDIDATE: {Trigger.WON: GroupState.OWNER, Trigger.FAILED: GroupState.STANDBY},
    GroupState.OWNER: {Trigger.RENEWED: GroupState.OWNER, Trigger.CLOSE: GroupState.CLOSING},
    GroupState.CLOSING: {Trigger.CLOSED: GroupState.STANDBY},
    GroupState.RELEASED: {Trigger.RESUME: GroupState.STANDBY},
    GroupState.CONFLICT: {Trigger.CLEAR: GroupState.STANDBY},
}
"""A pair that is not here is a mistake in the program."""


class TransitionError(Exception):
    """A state and a trigger that do not go together: a mistake in the program, and nothing has changed."""

    def __init__(self, state: GroupState, trigger: Trigger) -> None:
        super().__init__(f"a group that is {state.name} cannot {trigger}")
        self.state, self.trigger = state, trigger


def following(state: GroupState, trigger: Trigger) -> GroupState:
    """Return the state that a trigger leads to; raise TransitionError where the table has none."""
    found = TRANSITIONS[state].get(trigger)
    if found is None:
        raise TransitionError(state, trigger)
    return found

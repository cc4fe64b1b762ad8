"""Programs that are told of a group's state, called as keepalived calls its notify scripts.

The program for every change gets, after its own arguments, ``GROUP``, the group's name, the state (``MASTER``,
``BACKUP`` or ``FAULT``) and a priority, which is always 0; the programs for one state get their own arguments only. The
environment says more, in the words of hawatch. A program that runs too long is killed with all of its process group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hawatch.actions.outgoing import Outgoing, SendError
from hawatch.actions.program import PATH, run_program
from hawatch.text import clean

STATES = {"takeover": "owner", "release": "standby", "lease_lost": "standby", "vip_conflict": "conflict"}
"""The events that programs are called for, and the state that each tells of."""
KEEPALIVED = {"owner": "MASTER", "standby": "BACKUP", "conflict": "FAULT"}


def make_calls(message: Outgoing, programs: Mapping[str, Sequence[str]], every: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the argument vectors to run, in order: the program for the state, then the one for every change."""
    event = message.happenings[-1]
    state = STATES[event.name]
    calls = [tuple(programs[state])] if programs.get(state) else []
    if every:
        calls.append((*every, "GROUP", event.group, KEEPALIVED[state], "0"))
    return calls


def make_environment(message: Outgoing) -> dict[str, str]:
    """Return the programs' environment."""
    event = message.happenings[-1]
    return {
        "PATH": PATH,
        "HAWATCH_GROUP": event.group,
        "HAWATCH_STATE": STATES[event.name],
        "HAWATCH_EVENT": event.name,
        "HAWATCH_NODE": event.node,
        "HAWATCH_CLUSTER": message.cluster,
        "HAWATCH_REASON": clean(event.reason),
        "HAWATCH_TIME": event.time,
        "HAWATCH_EPOCH": str(event.numbers.get("epoch", "")),
        "HAWATCH_KEY": message.key,
        "HAWATCH_POSSIBLY_TWICE": "1" if message.twice else "",
    }


async def notify_group(
    message: Outgoing, programs: Mapping[str, Sequence[str]], every: Sequence[str], timeout_s: float
) -> str:
    """Run the programs of a change, one after the other; raise SendError, for good, when one fails.

    A failure is not tried again: what the next change has to say would have to wait for it.
    """
    failures: list[str] = []
    environment = make_environment(message)
    for call in make_calls(message, programs, every):
        try:
            await run_program(call, environment, b"", timeout_s)
        except SendError as error:
            failures.append(str(error))
    if failures:
        raise SendError("; ".join(failures), for_good=True)
    return ""

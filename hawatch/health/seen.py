"""What is known of one server of a service: its verdicts, an administrator's word, and what the kernel has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hawatch.model import Admin, CheckState, Destination, DestinationKey, ServerPlan, ServerState, Verdict


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one server of a service."""

    plan: ServerPlan
    health: CheckState
    admin: Admin
    reason: str
    since_wall_ns: int
    held_until_wall_ns: int
    weight: int
    present: Destination | None
    """The destination as the kernel has it."""

    @property
    def key(self) -> DestinationKey:
        """What identifies it in its service."""
        return self.plan.destination.key

    @property
    def serves(self) -> bool:
        """It gets new connections: it is up, or not looked at yet and in the table already; with weight 0, never."""
        if self.admin is not Admin.NONE:
            return False
        if self.health is CheckState.UNKNOWN:
            return self.present is not None and self.present.weight > 0
        return self.health is CheckState.UP and self.weight > 0

    @property
    def state(self) -> ServerState:
        """Its state, as status shows it."""
        return _STATES[self.admin, self.health]


_STATES = {
    (Admin.NONE, CheckState.UNKNOWN): ServerState.UNKNOWN,
    (Admin.NONE, CheckState.UP): ServerState.UP,
    (Admin.NONE, CheckState.DOWN): ServerState.DOWN,
    (Admin.DRAINED, CheckState.UNKNOWN): ServerState.DRAINING,
    (Admin.DRAINED, CheckState.UP): ServerState.DRAINING,
    (Admin.DRAINED, CheckState.DOWN): ServerState.DOWN,
    (Admin.DISABLED, CheckState.UNKNOWN): ServerState.DISABLED,
    (Admin.DISABLED, CheckState.UP): ServerState.DISABLED,
    (Admin.DISABLED, CheckState.DOWN): ServerState.DISABLED,
}


def look(
    server: ServerPlan,
    admin: Admin,
    verdicts: Mapping[str, Verdict],
    weights: Mapping[str, int],
    present: Destination | None,
    hindrances: Mapping[str, str] = MappingProxyType({}),
) -> Seen:
    """Sum up the checks of a server: one that is down makes it down, one unknown makes it unknown.

    The reason is that of what is down, or what keeps an unknown one from being looked at.
    """
    found = [verdicts.get(check) for check in server.checks]
    failing = [one for one in found if one is not None and one.state is CheckState.DOWN]
    unknown = any(one is None or one.state is CheckState.UNKNOWN for one in found)
    health = CheckState.DOWN if failing else CheckState.UNKNOWN if unknown else CheckState.UP
    asked = [weights[check] for check in server.checks if check in weights]
    known = failing or [one for one in found if one is not None]
    unlooked = [hindrances.get(check, "") for check in server.checks] if health is CheckState.UNKNOWN else []
    reasons = [one.reason for one in failing] or unlooked
    return Seen(
        plan=server,
        health=health,
        admin=admin,
        reason="; ".join(dict.fromkeys(reason for reason in reasons if reason)),
        since_wall_ns=max((one.since_wall_ns for one in known), default=0),
        held_until_wall_ns=max((one.held_until_wall_ns for one in failing), default=0),
        weight=min(asked) if asked else server.destination.weight,
        present=present,
    )

"""The lease's durations, the rules that tie them together, and the named profiles.

Theory of operation: an acceptor keeps a promise for `lease_ns` on its own clock. The holder ends its ownership
earlier, by `holder_ns` on its own clock, enforced by the kernel. Clocks may run apart by `rho_ppm` each way; the
guard pays for late kernel timers. Everything here is integer arithmetic, rounded to the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass

from hawatch.model import NS_PER_MS, NS_PER_S

MILLION = 1_000_000
RENEWALS_LOST_MAX = 3
"""Renewals in a row that may be lost without losing the group; gives the 4 of rule 2."""
LEASE_NS_MIN = 200 * NS_PER_MS
"""Below this, timers of the kernel (4 ms at 250 Hz) and a slow scheduler are no longer small against the lease."""
LEASE_NS_MAX = 60 * NS_PER_S
"""Above this a takeover is slower than a person."""
HEARTBEAT_NS_MIN = 20 * NS_PER_MS
GUARD_NS_MIN = 10 * NS_PER_MS
GUARD_NS_MAX = 25 * NS_PER_MS
RHO_PPM_DEFAULT = 5_000
RHO_PPM_MAX = 100_000
ANNOUNCE_AFTER_NS = tuple(after * NS_PER_MS for after in (0, 50, 200, 500, 1000))
"""When an owner announces its addresses, counted from the moment at which they are up."""
ANNOUNCE_EVERY_NS = 30 * NS_PER_S
"""And every so often after that."""


def in_units(duration_ns: int) -> str:
    """Return a duration as people write it: 1.5 s, 120 ms."""
    assert duration_ns >= 0, duration_ns
    if duration_ns >= NS_PER_S:
        return f"{duration_ns / NS_PER_S:.3f}".rstrip("0").rstrip(".") + " s"
    return f"{duration_ns / NS_PER_MS:.1f}".rstrip("0").rstrip(".") + " ms"


@dataclass(frozen=True, slots=True)
class LeaseParameters:
    """The durations of one cluster; the same on every node. `problems` says whether they may be used."""

    lease_ns: int
    """T: how long an acceptor keeps its promise."""
    heartbeat_ns: int
    """R: period of heartbeats and renewals, and the time a round of requests may take."""
    rho_ppm: int = RHO_PPM_DEFAULT
    """Bound on how fast or slow a clock may run, in parts per million."""
    guard_ns: int = 0
    """G: paid for late kernel timers; 0 takes a sixtieth of the lease, within 10 to 25 ms."""
    lease_ns_max: int = 0
    """Longest lease that an acceptor grants, and so the length of its silence after a start; 0: the lease."""

    @property
    def guard(self) -> int:
        """The guard in force."""
        return self.guard_ns or min(GUARD_NS_MAX, max(GUARD_NS_MIN, self.lease_ns // 60))

    @property
    def longest_lease_ns(self) -> int:
        """The longest lease an acceptor accepts."""
        return self.lease_ns_max or self.lease_ns

    @property
    def holder_ns(self) -> int:
        """T_h, rule 1: T * (1 - rho) / (1 + rho) - G, rounded down."""
        return self.lease_ns * (MILLION - self.rho_ppm) // (MILLION + self.rho_ppm) - self.guard

    @property
    def silence_ns(self) -> int:
        """M, rule 3: T_max * (1 + rho) / (1 - rho), rounded up."""
        return self.silence_after_ns(0)

    def silence_after_ns(self, former_lease_ns: int) -> int:
        """M after a process that may have promised as much as `former_lease_ns`."""
        longest_ns = max(self.longest_lease_ns, former_lease_ns)
        return -(-longest_ns * (MILLION + self.rho_ppm) // (MILLION - self.rho_ppm))

    @property
    def round_ns(self) -> int:
        """Rule 4: a round of requests times out after R."""
        return self.heartbeat_ns

    @property
    def late_ns(self) -> int:
        """Silence after which a peer counts as late: two heartbeats and a half."""
        return self.heartbeat_ns * 5 // 2

    @property
    def hold_down_ns(self) -> int:
        """How long a better director must stay better before it is given a group."""
        return self.lease_ns

    @property
    def address_lifetime_ns(self) -> int:
        """Life of an address without a refresh: the lease in whole seconds, rounded up, and one more."""
        return (-(-self.lease_ns // NS_PER_S) + 1) * NS_PER_S


def problems(parameters: LeaseParameters) -> list[str]:
    """Return a sentence for every rule that the parameters break; an empty list means that they may be used."""
    found = bound_problems(parameters)
    if found:
        return found
    holder_ns = parameters.holder_ns
    assert holder_ns > 0, "the bounds leave a holder something"
    if parameters.heartbeat_ns * (RENEWALS_LOST_MAX + 1) > holder_ns:
        found.append(
            f"heartbeat {in_units(parameters.heartbeat_ns)} is more than a quarter of what the holder has of a lease"
            f" of {in_units(parameters.lease_ns)}: at most {in_units(holder_ns // (RENEWALS_LOST_MAX + 1))}"
        )
    return found


def bound_problems(parameters: LeaseParameters) -> list[str]:
    """Return a sentence for every value that is out of its own bounds."""
    found: list[str] = []
    for name, value, least, most in (
        ("lease", parameters.lease_ns, LEASE_NS_MIN, LEASE_NS_MAX),
        ("heartbeat", parameters.heartbeat_ns, HEARTBEAT_NS_MIN, LEASE_NS_MAX),
        ("guard", parameters.guard, GUARD_NS_MIN, GUARD_NS_MAX),
        ("longest lease", parameters.longest_lease_ns, min(parameters.lease_ns, LEASE_NS_MAX), LEASE_NS_MAX),
    ):
        if not least <= value <= most:
            found.append(
                f"{name} {in_units(max(0, value))} is not between {in_units(max(0, least))} and {in_units(most)}"
            )
    if not 0 < parameters.rho_ppm <= RHO_PPM_MAX:
        found.append(f"clock error {parameters.rho_ppm} ppm is not between 1 and {RHO_PPM_MAX} ppm")
    return found


PROFILES = {
    "fast": LeaseParameters(lease_ns=600 * NS_PER_MS, heartbeat_ns=120 * NS_PER_MS),
    "default": LeaseParameters(lease_ns=1500 * NS_PER_MS, heartbeat_ns=300 * NS_PER_MS),
    "vm": LeaseParameters(lease_ns=5000 * NS_PER_MS, heartbeat_ns=1000 * NS_PER_MS),
}
"""Named profiles: fast for quiet machines of one's own, vm for guests that a hypervisor may pause."""

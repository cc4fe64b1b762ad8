"""Latencies of the probes of each service: the histograms of its checks, added up so that they only ever grow.

A histogram for each check of a large site would be half of all its series, and nobody looks at one of two thousand. A
plain sum would fall when a check leaves the configuration, which Prometheus takes for a restart and counts everything
twice; so what a check counts is added as it comes, and stays when the check goes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from hawatch.agent.measures import LATENCY_BOUNDS_US, CheckCounts, HistogramNow
from hawatch.model import Plan

User = tuple[str, str]
"""A service, and the type of a probe of it."""
NOTHING = HistogramNow([0] * (len(LATENCY_BOUNDS_US) + 1), 0)


class Latencies:
    """Sums by service and type of probe, over what the probers have told so far."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._users: dict[str, tuple[User, ...]] = {}
        """Who has a check."""
        self._last: dict[str, HistogramNow] = {}
        """What was told of a check last."""
        self._sums: dict[User, HistogramNow] = {}

    def adopt(self, plan: Plan) -> None:
        """Go on with this plan; a service that is not in it any more is forgotten."""
        if plan is self._plan:
            return
        self._plan = plan
        users: dict[str, set[User]] = {}
        for service in plan.services:
            for server in (*service.servers, *((service.sorry,) if service.sorry else ())):
                for check in server.checks:
                    users.setdefault(check, set()).add((service.name, plan.checks[check].type))
        self._users = {check: tuple(sorted(found)) for check, found in users.items()}
        self._last = {check: now for check, now in self._last.items() if check in users}
        wanted = sorted(set().union(*users.values()))
        self._sums = {user: self._sums.get(user, NOTHING) for user in wanted}

    def take(self, row: CheckCounts) -> None:
        """Add what is new of a check; one that has counted less than before was begun anew."""
        users = self._users.get(row.check)
        last, now = self._last.get(row.check, NOTHING), row.latency
        if users is None or now == last:
            return
        self._last[row.check] = now
        if any(new < old for new, old in zip(now.counts, last.counts, strict=True)):
            last = NOTHING
        for user in users:
            known = self._sums[user]
            counts = [a + b - c for a, b, c in zip(known.counts, now.counts, last.counts, strict=True)]
            self._sums[user] = HistogramNow(counts, known.sum_us + now.sum_us - last.sum_us)

    def by_service(self) -> Iterator[tuple[User, HistogramNow]]:
        """Yield the sums."""
        yield from self._sums.items()

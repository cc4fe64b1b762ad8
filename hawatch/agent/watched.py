"""One check as a prober has it: its probe, its judge, and what is counted of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from hawatch.agent.measures import LATENCY_BOUNDS_US, CheckCounts, Histogram
from hawatch.faults import exception_reason
from hawatch.health.verdict import CheckJudge
from hawatch.model import Check, CheckState
from hawatch.plugin import Attempt, Echo, Probe, Result, Target, down
from hawatch.registry import probe_class

UP_NUMBERS = {CheckState.UP: 1, CheckState.DOWN: 0, CheckState.UNKNOWN: -1}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Watched:
    """One check with all that belongs to it here."""

    check: Check
    probe: Probe
    judge: CheckJudge
    family: str
    """What it has in common with the same probe of other addresses."""
    fast: bool
    """It is a conversation for the fast lane."""
    echo: Echo | None = None
    """It is an echo for the ping lane."""
    facts: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    failures: int = 0
    latency_us: int = -1
    last_reason: str = ""
    weight: int | None = None
    """Weight that the last good run asked for; -1: none; None: there was no good run."""
    doubted: int = 0
    """Failures in a row that were put down to this process."""
    inconclusive: int = 0
    """Runs in a row that this machine made fail, not the server."""
    all_runs: int = 0
    """With `all_failures` and `latencies`, never set back."""
    all_failures: int = 0
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_US))

    @property
    def whom(self) -> str:
        """Whom it asks, in words: the address, which may be the same for all servers but for the mark."""
        route = self.check.route
        return f"{self.check.address} (mark {route.mark})" if route and route.mark else self.check.address

    def counts(self) -> CheckCounts:
        """Return what was counted since it is watched."""
        up = UP_NUMBERS[self.judge.verdict.state]
        return CheckCounts(self.check.id, up, self.all_runs, self.all_failures, self.latencies.now())


def watch(check: Check, judge: CheckJudge) -> Watched:
    """Make a check's probe; one that cannot be made is a probe that always fails and says why."""
    target = Target(check.address, check.port, check.service, check.group, check.route)
    probe: Probe
    try:
        kind = probe_class(check.type)
        probe = kind(kind.options_type.model_validate(dict(check.options)), target)
        fast = probe.is_conversation() and probe.tls_mode() == "none"
        echo = probe.echo() if check.route is None else None  # those of the lane go the usual way
    except Exception as error:
        logger.exception("the probe %s of %s cannot be made", check.type, check.address)
        probe, fast, echo = _Unmade(exception_reason(error), target), False, None
    family = f"{check.type} {check.port} {check.service} {sorted(check.options.items(), key=str)}"
    return Watched(check, probe, judge, family, fast, echo)


class _Unmade(Probe):
    """Stands in for a probe that could not be made."""

    def __init__(self, reason: str, target: Target) -> None:
        super().__init__(self.options_type(), target)
        self._reason = reason

    async def run(self, attempt: Attempt) -> Result:
        """Say why there is no probe."""
        return down(self._reason)

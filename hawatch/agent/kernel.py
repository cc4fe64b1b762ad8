"""The kernel's IPVS table as the core sees it, and what must be there before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hawatch.actions.ipvs import Failure, Ipvs, Reading, check_capabilities
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.process import Capability, permitted_capabilities
from hawatch.errors import KernelError
from hawatch.health.table import Change
from hawatch.model import DestinationKey, IpvsTimeouts, Plan, ServiceKey, TableEntry

Table = dict[ServiceKey, TableEntry]


class Kernel(Protocol):
    """What the core asks of the kernel. Every call may raise KernelError."""

    def read_counted(self) -> Reading:
        """Return the whole table, with what the kernel counts."""

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        """Make the changes in their order; return those that the kernel refused."""

    def set_timeouts(self, timeouts: IpvsTimeouts) -> bool:
        """Set the connection timeouts that are not 0; tell whether they were others."""

    def read_counts(self, services: Iterable[ServiceKey]) -> Mapping[ServiceKey, Mapping[DestinationKey, Counts]]:
        """Return what the kernel counts of the destinations of some services."""

    def close(self) -> None:
        """Let go of it; the table stays."""


@dataclass(frozen=True, slots=True)
class KernelSource:
    """Where the core gets its kernel from."""

    open: Callable[[], Kernel]
    """Return a new connection; raise KernelError with one sentence when there is none to be had."""
    check: Callable[[Plan], None]
    """Raise KernelError with one sentence if a plan needs what is not there. Touches nothing."""


def check_kernel(plan: Plan) -> None:
    """Raise KernelError if the kernel, or our permission, lacks what a plan needs. Touches nothing."""
    problems: list[str] = []
    if plan.services:
        Ipvs.open().close()
        problems += check_capabilities(plan)
    pings = any(check.type == "ping" for check in plan.checks.values())
    if pings and Capability.NET_RAW not in permitted_capabilities():
        problems.append("ping probes need the capability CAP_NET_RAW: run as root, or as systemd's unit does")
    marks = any(check.route and check.route.mark for check in plan.checks.values())
    if marks and not permitted_capabilities() & {Capability.NET_RAW, Capability.NET_ADMIN}:
        from hawatch.net import NO_MARK  # with the event loop, for which a start does not wait

        problems.append(NO_MARK)
    if problems:
        raise KernelError("; ".join(problems))


LINUX = KernelSource(open=Ipvs.open, check=check_kernel)

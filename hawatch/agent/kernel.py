"""The kernel's IPVS table as the core sees it, and what must be there before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hawatch.health.table import Change
from hawatch.model import DestinationKey, IpvsTimeouts, Plan, ServiceKey, Table


class Kernel(Protocol):
    """What the core asks of the kernel. Every call may raise KernelError."""

    def read(self) -> Table:
        """Return the whole table."""

    def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """Make the changes in their order; return a sentence for each that the kernel refused."""

    def set_timeouts(self, timeouts: IpvsTimeouts) -> None:
        """Set the connection timeouts that are not 0."""

    def connections(self) -> Mapping[tuple[ServiceKey, DestinationKey], int]:
        """Return the connections of each destination, active and inactive together."""


def check_kernel(plan):
    pass


def open_kernel():
    raise NotImplementedError

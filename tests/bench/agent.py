"""The whole agent for the benchmark, as a process of its own: python -m tests.bench.agent CONFIG DIRECTORY.

On a kernel with IPVS it programs that. On one without, its table is a dictionary: as with the stubbed calls of the
program beside it, only the programming of IPVS is left out; schedule, checks, verdicts and decisions are its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hawatch.actions.ipvs import Failure, Reading
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.kernel import LINUX, KernelSource, Table
from hawatch.agent.main import keep
from hawatch.agent.places import Places
from hawatch.agent.settings import load_settings
from hawatch.health.table import Change, apply_to, service_of
from hawatch.model import DestinationKey, IpvsTimeouts, ServiceKey
from tests.bench.passes import watch_passes


class MemoryKernel:
    """A table in the core's memory."""

    def __init__(self) -> None:
        self.table: Table = {}

    def read_counted(self) -> Reading:
        counts = {key: {one: Counts(0, 0, 0) for one in entry.destinations} for key, entry in self.table.items()}
        return Reading(dict(self.table), dict.fromkeys(self.table, Counts(0, 0, 0)), counts)

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        concerned = {service_of(change) for change in changes}
        left = apply_to({key: self.table[key] for key in concerned if key in self.table}, changes)
        for key in concerned - left.keys():
            del self.table[key]
        self.table.update(left)
        return []

    def set_timeouts(self, timeouts: IpvsTimeouts) -> bool:
        return False

    def read_counts(self, services: Iterable[ServiceKey]) -> Mapping[ServiceKey, Mapping[DestinationKey, Counts]]:
        return {key: {one: Counts(0, 0, 0) for one in self.table[key].destinations} for key in services}

    def close(self) -> None:
        pass


def main() -> int:
    """Run it until SIGTERM."""
    config, directory = Path(sys.argv[1]), Path(sys.argv[2])
    watch_passes(directory)
    places = Places(config, directory / "run", directory / "state")
    memory = MemoryKernel()
    stubbed = KernelSource(open=lambda: memory, check=lambda _plan: None)
    return keep(load_settings(places, "bench"), LINUX if Path("/proc/net/ip_vs").exists() else stubbed)


if __name__ == "__main__":
    sys.exit(main())

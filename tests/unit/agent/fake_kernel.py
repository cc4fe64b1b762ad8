"""An IPVS table that lives in files, so that it outlives the processes that use it, as the kernel's does."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hawatch.actions.ipvs import Failure, Reading
from hawatch.actions.ipvs_codec import Counts
from hawatch.agent.kernel import KernelSource, Table
from hawatch.errors import KernelError
from hawatch.health.table import Change, apply_to
from hawatch.model import DestinationKey, IpvsTimeouts, ServiceKey


class FileKernel:
    """Keeps the table in one file, and a line for each change in another."""

    def __init__(self, directory: Path) -> None:
        self.table_file = directory / "ipvs.pickle"
        self.log_file = directory / "ipvs.log"
        self.connections_file = directory / "connections"
        """The number of connections that every destination has."""
        self.refuse_file = directory / "refuse"
        """While it is there every change is refused."""

        self.break_file = directory / "break"
        """While it is there a packet of changes is broken off after the first of them."""

    def read(self) -> Table:
        try:
            table: Table = pickle.loads(self.table_file.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise KernelError(str(error)) from error
        return table

    def read_counted(self) -> Reading:
        table = self.read()
        return Reading(table, dict.fromkeys(table, Counts(0, 0, 0)), dict(self.read_counts(table)))

    def write(self, table: Table) -> None:
        """Be changed by someone else."""
        scratch = self.table_file.with_suffix(f".{os.getpid()}")  # agent and test write at the same time
        scratch.write_bytes(pickle.dumps(dict(table)))
        scratch.replace(self.table_file)

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        if self.refuse_file.exists():
            return [Failure(change, 2, f"{type(change).__name__} refused") for change in changes]
        broken = self.break_file.exists()
        changes = changes[:1] if broken else changes
        self.write(apply_to(self.read(), changes))
        with self.log_file.open("a") as log:
            log.writelines(f"{change}\n" for change in changes)
        if broken:
            raise KernelError("the kernel does not answer")
        return []

    def changes(self) -> int:
        """Return how many changes were ever applied."""
        return len(self.log_file.read_text().splitlines()) if self.log_file.exists() else 0

    def set_timeouts(self, timeouts: IpvsTimeouts) -> bool:
        return False

    def read_counts(self, services: Iterable[ServiceKey]) -> Mapping[ServiceKey, dict[DestinationKey, Counts]]:
        active = int(self.connections_file.read_text()) if self.connections_file.exists() else 0
        table = self.read()
        return {
            key: {destination: Counts(active, 0, 0) for destination in table[key].destinations}
            for key in services
            if key in table
        }

    def close(self) -> None:
        pass


def file_kernel(directory: Path) -> KernelSource:
    """Return a source of connections to the table in a directory."""
    return KernelSource(open=lambda: FileKernel(directory), check=lambda _plan: None)

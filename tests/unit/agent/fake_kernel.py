"""An IPVS table that lives in files, so that it outlives the processes that use it, as the kernel's does."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

from hawatch.health.table import Change
from hawatch.model import DestinationKey, IpvsTimeouts, ServiceKey, Table, TableEntry


class FileKernel:
    """Keeps the table in one file, and a line for each change in another."""

    def __init__(self, directory: Path) -> None:
        self.table_file = directory / "ipvs.pickle"
        self.log_file = directory / "ipvs.log"
        self.connections_file = directory / "connections"

    def read(self) -> Table:
        try:
            table: dict[ServiceKey, TableEntry] = pickle.loads(self.table_file.read_bytes())
        except FileNotFoundError:
            return {}
        return table

    def write(self, table: Table) -> None:
        """Be changed by someone else."""
        scratch = self.table_file.with_suffix(".new")
        scratch.write_bytes(pickle.dumps(dict(table)))
        scratch.replace(self.table_file)

    def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        table = dict(self.read())
        with self.log_file.open("a") as log:
            for change in changes:
                if change.entry is None:
                    table.pop(change.service)
                else:
                    table[change.service] = change.entry
                log.write(f"{change}\n")
        self.write(table)
        return []

    def changes(self) -> int:
        """Return how many changes were ever applied."""
        return len(self.log_file.read_text().splitlines()) if self.log_file.exists() else 0

    def set_timeouts(self, timeouts: IpvsTimeouts) -> None:
        pass

    def connections(self) -> Mapping[tuple[ServiceKey, DestinationKey], int]:
        count = int(self.connections_file.read_text()) if self.connections_file.exists() else 0
        return {(key, dest): count for key, entry in self.read().items() for dest in entry.destinations}

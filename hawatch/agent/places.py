"""Where one agent finds and puts its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Where one agent finds and puts its files."""

    config_file: Path
    runtime_dir: Path
    state_dir: Path

    @property
    def pid_file(self) -> Path:
        """Locked by the keeper for as long as it lives."""
        return self.runtime_dir / "hawatch.pid"

    @property
    def ctl_socket(self) -> Path:
        """Where `hawatch ctl` connects."""
        return self.runtime_dir / "ctl.sock"

    @property
    def admin_file(self) -> Path:
        """What the administrator drained, disabled or gave away."""
        return self.state_dir / "admin.json"

    @property
    def boot_file(self) -> Path:
        """The number of the last start of a node that shares its groups."""
        return self.state_dir / "boot"

    @property
    def events_file(self) -> Path:
        """Events, one JSON object a line."""
        return self.state_dir / "events.jsonl"

    @property
    def head_start_file(self) -> Path:
        """What the next start may do before it has read the configuration."""
        return self.state_dir / "head-start"

    @property
    def console_socket(self) -> Path:
        """Where `hawatch ctl` asks the journal."""
        return self.runtime_dir / "console.sock"

    @property
    def journal_file(self) -> Path:
        """The journal, with what the alerts remember and what waits to be sent."""
        return self.state_dir / "console.db"

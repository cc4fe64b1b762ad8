"""What an agent runs with: the configuration, what it means to this node, and where things lie."""

from __future__ import annotations

import os
import pickle
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hawatch.config.files import check_files
from hawatch.config.load import parse, read_bytes, read_content, report
from hawatch.config.plan import find_node, make_plan
from hawatch.config.schema import Config
from hawatch.model import Plan

PICKLE_LIMIT = 256 << 20
"""Bytes of pickled settings that the keeper takes from the core."""


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
    def console_socket(self) -> Path:
        """Where `hawatch ctl` asks the journal."""
        return self.runtime_dir / "console.sock"

    @property
    def journal_file(self) -> Path:
        """The journal, with what the alerts remember and what waits to be sent."""
        return self.state_dir / "console.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """One accepted configuration and what it means to this node."""

    config: Config
    plan: Plan
    node: str
    node_wanted: str
    """What `--node` said; "" to go by the host name."""
    places: Places
    warnings: tuple[str, ...] = ()
    """What is worth a second look in the file."""


def load_settings(places: Places, node_wanted: str) -> Settings:
    """Read the configuration file and look at those that it names; raise ConfigError with every mistake in it."""
    name = str(places.config_file)
    data = read_content(places.config_file)
    loaded = read_bytes(data, name)
    config = loaded.config
    document = parse(data, name)
    problems = [document.problem(found.finding) for found in check_files(config)]
    if problems:
        raise report(name, problems)
    node = find_node(config, node_wanted, socket.gethostname())
    warnings = tuple(str(warning) for warning in loaded.warnings)
    return Settings(config, make_plan(config, node), node, node_wanted, places, warnings)


def keep_what_needs_restart(old: Settings, new: Settings) -> Settings:
    """Return the new settings with the old members of the cluster: those change with a restart only."""
    kept = {name: getattr(old.config, name) for name in ("cluster", "director", "witness")}
    return replace(new, config=new.config.model_copy(update=kept))


def settings_to_file(settings: Settings) -> int:
    """Return the descriptor of an anonymous file in memory that holds the settings."""
    descriptor = os.memfd_create("hawatch-settings", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        pickle.dump(settings, file, pickle.HIGHEST_PROTOCOL)
    return descriptor


def settings_from_file(descriptor: int) -> Settings:
    """Read what `settings_to_file` wrote, and close the descriptor.

    Only for what came over a leash: the other end is a process of the same agent.
    """
    with os.fdopen(descriptor, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        assert 0 < size <= PICKLE_LIMIT, size
        file.seek(0)
        settings = pickle.load(file)
    assert isinstance(settings, Settings), type(settings)
    return settings


def now_ns() -> int:
    """Return the time that decisions use: it runs on through a suspend and never jumps back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ns() -> int:
    """Return the time that people read."""
    return time.time_ns()

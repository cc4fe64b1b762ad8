"""What an agent runs with: the configuration, what it means to this node, and where things lie."""

from __future__ import annotations

import os
import pickle
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hawatch.agent.places import Places
from hawatch.model import Plan

if TYPE_CHECKING:  # a witness is to be small: it has what reads a configuration work apart
    from hawatch.config.schema import Config

PICKLE_LIMIT = 256 << 20
"""Bytes of pickled settings that the keeper takes from the core."""
KEY_FILE = ("cluster", "key_file")


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
    clock_warning: str = ""
    """What is worth knowing of this machine's clock."""


def load_settings(places: Places, node_wanted: str) -> Settings:
    """Read the configuration file and look at those that it names; raise ConfigError with every mistake in it.

    A witness looks at the key file only: it sends no alerts and shows no page.
    """
    from hawatch.config.load import read_content

    return make_settings(read_content(places.config_file), places, node_wanted)


def make_settings(data: bytes, places: Places, node_wanted: str, *, starting: bool = False) -> Settings:
    """Return the settings of a file's content, as `load_settings` does.

    An agent that is `starting` does without a password or a token that is not as it should be: what it is for does not
    work then, and a director that does not start is worse.
    """
    from hawatch.config.files import check_files
    from hawatch.config.load import read_bytes, report
    from hawatch.config.machine import clock_finding, clock_source
    from hawatch.config.plan import find_node, make_plan

    name = str(places.config_file)
    loaded = read_bytes(data, name)
    config = loaded.config
    node = find_node(config, node_wanted, socket.gethostname())
    votes_only = any(witness.name == node for witness in config.witness)
    findings = [found.finding for found in check_files(config)]
    problems = {found.path: loaded.document.problem(found) for found in findings}
    fatal = [problem for path, problem in problems.items() if path == KEY_FILE or not (votes_only or starting)]
    if fatal:
        raise report(name, fatal)
    borne = () if votes_only else tuple(problems.values())
    warnings = tuple(str(warning) for warning in (*loaded.warnings, *borne))
    clock = clock_finding(config, clock_source())
    return Settings(
        config, make_plan(config, node), node, node_wanted, places, warnings, clock.message if clock else ""
    )


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

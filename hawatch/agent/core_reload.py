"""The first half of a reload: everything that can be refused, and all that takes long. Nothing is changed by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hawatch.agent.head_start import remember
from hawatch.agent.kernel import Kernel, KernelSource
from hawatch.agent.moves import refuse_moves, remember_groups
from hawatch.agent.runtime import check_may_give
from hawatch.agent.settings import Settings, keep_what_needs_restart, make_settings, settings_to_file
from hawatch.config.diff import describe_changes, groups_of_addresses
from hawatch.config.load import read_content
from hawatch.errors import ConfigError, LocalError, RefusedError


def leave_to_next_start(settings: Settings, content: bytes) -> None:
    """Leave to the next start what it is to know of this configuration."""
    remember(settings, content)
    remember_groups(settings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a reload is carried out with."""

    settings: Settings
    changes: list[str]
    remember: Callable[[], None]
    """Leaves to the next start what it is to know."""
    kernels: list[Kernel]
    """Those that are not open yet."""
    descriptor: int
    """The file with the settings for the keeper; -1 where nothing has changed."""


def prepare_reload(now: Settings, source: KernelSource, has_kernel: bool) -> Prepared:  # noqa: FBT001 - for a thread
    """Read the file and open what it needs that is not open yet. Runs in a thread; changes nothing."""
    places = now.places
    content = read_content(places.config_file)
    new = make_settings(content, places, now.node_wanted)
    if new.node != now.node:
        raise ConfigError(f"this node is {now.node} and would be {new.node}: restart the agent")
    changes = [str(change) for change in describe_changes(now.config, new.config)]
    settings = keep_what_needs_restart(now, new)
    if settings.config.leased:
        advice = (
            "first remove it and reload every director, then add it and reload again; put the file right, for a"
            " start is refused, too"
        )
        refuse_moves(groups_of_addresses(now.config.group), settings.config.group, advice)
        from hawatch.agent.lease_site import read_keys

        read_keys(settings.config)  # a file without keys is refused with everything else
    try:
        check_may_give(settings.config.control.group)
    except LocalError as error:
        raise RefusedError(f"{error}; nothing was changed") from error
    kernels: list[Kernel] = []
    if settings.plan.services:
        source.check(settings.plan)
        if not has_kernel:
            kernels = [source.open(), source.open()]
    try:
        descriptor = settings_to_file(settings) if changes else -1  # takes long where there are many servers
    except OSError as error:
        for kernel in kernels:
            kernel.close()
        raise RefusedError(f"{error.strerror}; nothing was changed") from error
    return Prepared(settings, changes, partial(leave_to_next_start, new, content), kernels, descriptor)

"""The agent as a whole: everything that is opened and checked before the keeper forks."""

from __future__ import annotations

import os
import socket

from hawatch.agent.core import Legacy, run_core
from hawatch.agent.keeper import Keeper, Mains
from hawatch.agent.kernel import LINUX, KernelSource
from hawatch.agent.memento import make_memento
from hawatch.agent.prober import prober_main
from hawatch.agent.runtime import lock_runtime, make_directory, open_ctl_socket
from hawatch.agent.settings import Places, Settings, load_settings, wall_ns
from hawatch.errors import UsageError
from hawatch.registry import probe_class


def run_agent(places: Places, node_wanted: str) -> int:
    """Run the agent until it is told to stop, and return its exit status.

    Raises ConfigError for a configuration with mistakes, KernelError when the kernel lacks what it needs, LocalError
    for a directory, a lock or a socket that is not to be had. Nothing was touched then.
    """
    settings = load_settings(places, node_wanted)
    if settings.config.leased:
        raise UsageError(
            "this version runs a single director: it cannot share its groups with the other nodes of [[director]] and "
            "[[witness]] yet. Name this node only"
        )
    LINUX.check(settings.plan)
    return keep(settings, LINUX)


def keep(settings: Settings, kernels: KernelSource) -> int:
    """Keep core and probers running by these settings; the core gets its kernel from `kernels`."""
    places = settings.places
    lock = lock_runtime(places)
    try:
        make_directory(places.state_dir)
        for check in settings.plan.checks.values():
            probe_class(check.type)  # imported before the fork

        legacy = Legacy(make_memento(), wall_ns())

        def core(now: Settings, leash: socket.socket, listener: socket.socket) -> None:
            run_core(now, leash, listener, kernels, legacy)

        with open_ctl_socket(places, settings.config.control.group) as listener:
            status = Keeper(settings, Mains(core, prober_main), listener).run()
        places.ctl_socket.unlink(missing_ok=True)
        return status
    finally:
        os.close(lock)

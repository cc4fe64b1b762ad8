"""The agent as a whole: everything that is opened before the keeper forks."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterable

from hawatch.agent.core import Legacy, run_core
from hawatch.agent.core_reload import leave_to_next_start
from hawatch.agent.keeper import Keeper, Mains
from hawatch.agent.kernel import LINUX, KernelSource
from hawatch.agent.limits import raise_file_limit
from hawatch.agent.memento import make_memento
from hawatch.agent.output import never_wait_for_output
from hawatch.agent.ownership import Emit, Ownership, SingleOwnership, Vips, has_vips
from hawatch.agent.priority import fork_promptly
from hawatch.agent.prober import prober_main
from hawatch.agent.runtime import lock_runtime, lock_state, open_ctl_socket
from hawatch.agent.settings import Settings, wall_ns
from hawatch.registry import probe_class

LEASE_MODULES = ("hawatch.agent.lease", "hawatch.agent.lease_effects")
"""What a single director does without."""
SINGLE_MODULES = ("hawatch.agent.single_vips",)
"""What only a single director with addresses of its own needs."""


def run_agent(settings: Settings, content: bytes) -> int:
    """Run the agent by settings that can be run by here, until it is told to stop; return its exit status."""
    if settings.config.leased:
        import_all(LEASE_MODULES)
    elif has_vips(settings):
        import_all(SINGLE_MODULES)
    return keep(settings, LINUX, content)


def own(settings: Settings, paused: bool, remember: Callable[[bool], None]) -> Ownership:  # noqa: FBT001 - a callback
    """Return what decides on ownership: a lease, or nothing where there is one director."""
    if not settings.config.leased:
        return SingleOwnership(settings, make_single_vips)
    from hawatch.agent.lease import LeasedOwnership
    from hawatch.agent.lease_effects import KernelEffects

    return LeasedOwnership(settings, KernelEffects, paused=paused, remember=remember)


def make_single_vips(settings: Settings, emit: Emit) -> Vips:
    """Return what keeps the addresses of a single director up."""
    from hawatch.agent.single_vips import SingleVips

    return SingleVips(settings, emit)


def import_all(names: Iterable[str]) -> None:
    """Import modules before the fork: a core that is born anew has them, and is at work at once."""
    for name in names:
        importlib.import_module(name)


def keep(settings: Settings, kernels: KernelSource, content: bytes = b"") -> int:
    """Keep core and probers running by these settings; the core gets its kernel from `kernels`.

    `content` is that of the configuration file, for the next start's head start; without it there will be none.
    """
    places = settings.places
    never_wait_for_output()
    raise_file_limit(settings.plan)
    locks = [lock_runtime(places)]
    try:
        locks.append(lock_state(places))
        leave_to_next_start(settings, content)
        for check in settings.plan.checks.values():
            probe_class(check.type)  # imported before the fork

        legacy = Legacy(make_memento(), wall_ns(), own)

        def core(now: Settings, leash: socket.socket, listener: socket.socket) -> None:
            run_core(now, leash, listener, kernels, legacy)

        def prober(leash: socket.socket, name: str) -> None:
            prober_main(leash, name, settings.node)

        def console(now: Settings, leash: socket.socket) -> None:
            from hawatch.console.main import console_main  # what it imports, no other process needs

            console_main(now, leash)

        fork_promptly()
        with open_ctl_socket(places, settings.config.control.group) as listener:
            status = Keeper(settings, Mains(core, prober, console), listener).run()
        places.ctl_socket.unlink(missing_ok=True)
        return status
    finally:
        for lock in locks:
            os.close(lock)

"""The agent as a whole: everything that is opened and checked before the keeper forks."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable

from hawatch.agent.core import Legacy, run_core
from hawatch.agent.keeper import Keeper, Mains
from hawatch.agent.kernel import LINUX, KernelSource
from hawatch.agent.limits import raise_file_limit
from hawatch.agent.memento import make_memento
from hawatch.agent.output import never_wait_for_output, open_standard_descriptors
from hawatch.agent.ownership import Ownership, own_alone
from hawatch.agent.priority import fork_promptly
from hawatch.agent.prober import prober_main
from hawatch.agent.process import Capability, permitted_capabilities
from hawatch.agent.runtime import lock_runtime, lock_state, open_ctl_socket
from hawatch.agent.settings import Places, Settings, load_settings, wall_ns
from hawatch.errors import KernelError, UsageError
from hawatch.registry import probe_class

LEASE_MODULES = ("hawatch.agent.lease", "hawatch.agent.lease_effects")
"""What a single director does without."""


def run_agent(places: Places, node_wanted: str) -> int:
    """Run the agent until it is told to stop, and return its exit status.

    Raises ConfigError for a configuration with mistakes, KernelError when the kernel lacks what it needs, LocalError
    for a directory, a lock or a socket that is not to be had. Nothing was touched then.
    """
    open_standard_descriptors()
    settings = load_settings(places, node_wanted)
    if any(witness.name == settings.node for witness in settings.config.witness):
        raise UsageError(f"{settings.node} is a witness: run `hawatch witness`")
    if settings.config.leased:
        check_lease(settings)
    LINUX.check(settings.plan)
    return keep(settings, LINUX)


def own(settings: Settings, paused: bool, remember: Callable[[bool], None]) -> Ownership:  # noqa: FBT001 - a callback
    """Return what decides on ownership: a lease, or nothing where there is one director."""
    if not settings.config.leased:
        return own_alone(settings, paused, remember)
    from hawatch.agent.lease import LeasedOwnership
    from hawatch.agent.lease_effects import KernelEffects

    return LeasedOwnership(settings, KernelEffects, paused=paused, remember=remember)


def check_lease(settings: Settings) -> None:
    """Import what decides by a lease, and raise ConfigError or KernelError if it lacks keys or permissions.

    A single director does without, and is at work earlier. It is imported before the fork: a core that is born anew
    has it. Whether there is a lease changes with a restart only.
    """
    from hawatch.agent.lease_site import read_keys

    for name in LEASE_MODULES:
        importlib.import_module(name)
    read_keys(settings.config)
    check_permissions()


def check_permissions() -> None:
    """Raise KernelError if we lack what gate, addresses and announcements need."""
    missing = {Capability.NET_ADMIN, Capability.NET_RAW} - permitted_capabilities()
    if missing:
        names = ", ".join(sorted(f"CAP_{each.name}" for each in missing))
        raise KernelError(f"VIPs need {names}: run as root, or as systemd's unit does")


def keep(settings: Settings, kernels: KernelSource) -> int:
    """Keep core and probers running by these settings; the core gets its kernel from `kernels`."""
    places = settings.places
    never_wait_for_output()
    raise_file_limit(settings.plan)
    locks = [lock_runtime(places)]
    try:
        locks.append(lock_state(places))
        for check in settings.plan.checks.values():
            probe_class(check.type)  # imported before the fork

        legacy = Legacy(make_memento(), wall_ns(), own)

        def core(now: Settings, leash: socket.socket, listener: socket.socket) -> None:
            run_core(now, leash, listener, kernels, legacy)

        def console(now: Settings, leash: socket.socket) -> None:
            from hawatch.console.main import console_main  # what it imports, no other process needs

            console_main(now, leash)

        fork_promptly()
        with open_ctl_socket(places, settings.config.control.group) as listener:
            status = Keeper(settings, Mains(core, prober_main, console), listener).run()
        places.ctl_socket.unlink(missing_ok=True)
        return status
    finally:
        for lock in locks:
            os.close(lock)

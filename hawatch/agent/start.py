"""The start of an agent: what is read and checked before anything is touched, and the head start.

Nothing is imported here before its turn: the kernel's table is filled before the event loop and what runs on it are
loaded (see `head_start`).
"""

from __future__ import annotations

from hawatch.agent.head_start import get_ahead, take_head_start
from hawatch.agent.places import Places
from hawatch.agent.process import Capability, permitted_capabilities
from hawatch.agent.settings import Settings, make_settings
from hawatch.errors import KernelError, UsageError


def start_agent(places: Places, node_wanted: str) -> int:
    """Run the agent until it is told to stop, and return its exit status.

    Raises ConfigError for a configuration with mistakes, KernelError when the kernel lacks what it needs, LocalError
    for a directory, a lock or a socket that is not to be had. Nothing was touched then but, with a LocalError, servers
    that need no check: they may be in the kernel's table.
    """
    is_ahead = take_head_start(places, node_wanted) is not None
    from hawatch.config.load import read_content

    content = read_content(places.config_file)
    settings = make_settings(content, places, node_wanted, starting=True)
    check_settings(settings)
    if not is_ahead:
        get_ahead(settings, content)
    from hawatch.agent.main import run_agent

    return run_agent(settings, content)


def check_settings(settings: Settings) -> None:
    """Raise UsageError, ConfigError or KernelError where the agent cannot run by these settings here."""
    from hawatch.agent.kernel import LINUX

    if any(witness.name == settings.node for witness in settings.config.witness):
        raise UsageError(f"{settings.node} is a witness: run `hawatch witness`")
    if settings.config.leased:
        from hawatch.agent.lease_site import read_keys

        read_keys(settings.config)
        from hawatch.agent.moves import refuse_moves_since_last_start

        refuse_moves_since_last_start(settings)
    if settings.config.leased or settings.config.group:
        check_permissions()
    LINUX.check(settings.plan)


def check_permissions() -> None:
    """Raise KernelError if we lack what gate, addresses and announcements need."""
    missing = {Capability.NET_ADMIN, Capability.NET_RAW} - permitted_capabilities()
    if missing:
        names = ", ".join(sorted(f"CAP_{each.name}" for each in missing))
        raise KernelError(f"VIPs need {names}: run as root, or as systemd's unit does")

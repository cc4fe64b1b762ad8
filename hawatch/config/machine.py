"""What this machine means to a configuration: the clock that a lease is measured with. Has effects: it looks."""

from __future__ import annotations

from pathlib import Path as FilePath

from hawatch.cluster.parameters import in_units
from hawatch.config.problems import Finding
from hawatch.config.schema import Config

CLOCK_SOURCE = FilePath("/sys/devices/system/clocksource/clocksource0/current_clocksource")
STOPPED_WITH_GUEST = ("kvm-clock", "xen", "hyperv_clocksource_tsc_page", "hyperv_clocksource_msr")
"""Clocks that a hypervisor keeps for its guest: a guest that is paused finds that no time has passed."""
NAME_MAX = 64


def clock_source(path: FilePath = CLOCK_SOURCE) -> str:
    """Return the name of the kernel's clock, "" where it does not say."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(NAME_MAX).strip()
    except OSError:
        return ""


def clock_finding(config: Config, source: str) -> Finding | None:
    """Return what is worth knowing of a clock that may stand still while other machines' clocks go on."""
    if not config.leased or source not in STOPPED_WITH_GUEST:
        return None
    parameters = config.cluster.parameters
    message = (
        f"this machine's clock is {source}, which a hypervisor stops with the guest: a director that was paused may "
        "answer for its VIPs beside their new owner when it goes on, usually for "
        f"{in_units(parameters.heartbeat_ns)}, at most for {in_units(parameters.holder_ns)}; only fencing excludes that"
    )
    if config.cluster.lease is None and config.cluster.profile == "vm":
        message += '. profile "vm" rides out pauses of some seconds without a takeover; it does not make this shorter'
    return Finding(("cluster",), message, 'a clock source that goes on, such as "tsc", or fencing', source)

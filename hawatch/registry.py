"""Plug-ins by entry point: built-in probes and outsiders' are found the same way."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hawatch.errors import ConfigError
from hawatch.plugin import Probe

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PROBE_GROUP = "hawatch.probes"


@cache
def probe_entry_points() -> dict[str, EntryPoint]:
    """Return the installed probes by type. Where two packages claim a type, the built-in one wins."""
    from importlib.metadata import entry_points  # what has no probes starts sooner without it

    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=PROBE_GROUP):
        if entry_point.name not in found or is_built_in(entry_point):
            found[entry_point.name] = entry_point
    return found


def is_built_in(entry_point: EntryPoint) -> bool:
    """Tell whether the probe comes with hawatch itself."""
    return entry_point.dist is not None and entry_point.dist.name == "hawatch"


@cache
def probe_class(probe_type: str) -> type[Probe]:
    """Return the class of a probe type.

    Raises ConfigError for a type that no installed package provides, or whose class cannot be imported.
    """
    entry_point = probe_entry_points().get(probe_type)
    if entry_point is None:
        known = ", ".join(sorted(probe_entry_points()))
        raise ConfigError(f'no probe of type "{probe_type}" is installed; there are: {known}')
    try:
        loaded = entry_point.load()
    except Exception as error:
        raise ConfigError(f'the probe "{probe_type}" ({entry_point.value}) cannot be loaded: {error!r}') from error
    if not (isinstance(loaded, type) and issubclass(loaded, Probe)):
        raise ConfigError(f'the probe "{probe_type}" ({entry_point.value}) is no subclass of hawatch.plugin.Probe')
    try:
        loaded.options_type.model_rebuild()
    except Exception as error:
        reason = f'the options of the probe "{probe_type}" ({entry_point.value}) cannot be used: {error!r}'
        raise ConfigError(reason) from error
    return loaded

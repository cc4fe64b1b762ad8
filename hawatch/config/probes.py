"""Which probes there are, and their options checked: what the configuration needs to know of plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hawatch import registry
from hawatch.plugin import Options, Probe


class ProbeTypes(Protocol):
    """The probes that a configuration may name."""

    def names(self) -> tuple[str, ...]:
        """Return the known types."""
        ...

    def find(self, probe_type: str) -> type[Probe]:
        """Return the class of a type; raise ConfigError if there is none or it cannot be loaded."""
        ...

    def is_built_in(self, probe_type: str) -> bool:
        """Tell whether a type comes with hawatch itself."""
        ...


class InstalledProbes:
    """The probes that installed packages offer."""

    def names(self) -> tuple[str, ...]:
        """Return the installed types."""
        return tuple(sorted(registry.probe_entry_points()))

    def find(self, probe_type: str) -> type[Probe]:
        """Return the class of a type; raise ConfigError if there is none or it cannot be loaded."""
        return registry.probe_class(probe_type)

    def is_built_in(self, probe_type: str) -> bool:
        """Tell whether a type comes with hawatch itself."""
        entry_point = registry.probe_entry_points().get(probe_type)
        return entry_point is not None and registry.is_built_in(entry_point)


INSTALLED = InstalledProbes()


def complete_options(probe: type[Probe], options: Mapping[str, object]) -> Options:
    """Return a probe's options with their defaults; raise pydantic's ValidationError."""
    return probe.options_type.model_validate(dict(options))

"""What must hold between the keys of a configuration whose keys are right by themselves.

A rule is a function of the configuration that yields a `Finding` for each place where it is broken. Rules are
independent of each other: each tells its own mistakes, whatever the others find.
"""

from __future__ import annotations

from collections.abc import Iterator

from hawatch.config import rules_alert, rules_cluster, rules_console, rules_group, rules_probe, rules_service, warnings
from hawatch.config.probes import ProbeTypes
from hawatch.config.problems import Finding
from hawatch.config.schema import Config

ERRORS = (*rules_cluster.RULES, *rules_group.RULES, *rules_service.RULES, *rules_alert.RULES, *rules_console.RULES)


def find_errors(config: Config, probes: ProbeTypes) -> Iterator[Finding]:
    """Yield everything that makes a configuration unacceptable."""
    for rule in ERRORS:
        yield from rule(config)
    yield from rules_probe.find_errors(config, probes)


def find_warnings(config: Config) -> Iterator[Finding]:
    """Yield everything that an administrator should know of an acceptable configuration."""
    for rule in warnings.RULES:
        yield from rule(config)

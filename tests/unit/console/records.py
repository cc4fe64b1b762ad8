"""Events as the core tells them, for the console's tests."""

from __future__ import annotations

import itertools

from hawatch.agent.events import Record, iso_time
from hawatch.model import NS_PER_S

START_NS = 1_767_225_600 * NS_PER_S  # 2026-01-01T00:00:00Z, a Thursday
NUMBERS = itertools.count()
SEVERITIES = {"server_down": "warning", "service_down": "critical", "takeover": "warning", "worker_lost": "warning"}


def record(name, at_s=0.0, service="", server="", group="", reason="", severity=None, **numbers):
    at_ns = START_NS + round(at_s * NS_PER_S)
    return Record(
        time=iso_time(at_ns),
        name=name,
        severity=severity or SEVERITIES.get(name, "info"),
        node="lvs1",
        reason=reason or f"{name} for a reason",
        group=group,
        service=service,
        server=server,
        numbers=numbers,
        id=at_ns + next(NUMBERS),
    )

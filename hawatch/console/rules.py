"""What the policy goes by: the rules of a configuration, and what explains what."""

from __future__ import annotations

from dataclasses import dataclass

from hawatch.agent.events import Record
from hawatch.console.period import Period
from hawatch.console.subjects import PAIRS, Match, Phase
from hawatch.model import NS_PER_S, Severity

SEVERITIES = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert of the configuration: of what it tells, and how often."""

    name: str
    """Kind and name: "email/ops"."""
    least: Severity = Severity.WARNING
    events: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    after_ns: int = 0
    after_failures: int = 1
    """So many failures within `within_ns`, or one that lasts as long."""
    within_ns: int = 600 * NS_PER_S
    every_ns: int = 0
    at_most: int = 0
    tell_up: bool = True
    period: Period | None = None
    hold: bool = True
    """Outside the period: keep it for the period's beginning; else it is not told."""
    burst: int = 2
    digest_ns: int = 60 * NS_PER_S
    everywhere: bool = False
    """Every director tells; else of what all of them see only the owner of the group does."""

    def chooses(self, record: Record) -> bool:
        """Tell whether the rule is about an event, whatever its severity."""
        if record.name == "alert_failed" and record.numbers.get("alert") == self.name:
            return False  # its own failure cannot be told by it
        return (
            (not self.groups or record.group in self.groups)
            and (not self.services or record.service in self.services)
            and (not self.servers or any(Match(server=each)(record) for each in self.servers))
        )

    def wants(self, record: Record) -> bool:
        """Tell whether the rule tells of an event."""
        loud = SEVERITIES.index(Severity(record.severity)) >= SEVERITIES.index(self.least)
        named = record.name in self.events
        return self.chooses(record) and (named or (loud and not self.events))


@dataclass(frozen=True, slots=True)
class Dependency:
    """While a failure that `parent` matches lasts, it explains those that `child` matches."""

    child: Match
    parent: Match


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules of a configuration."""

    rules: tuple[Rule, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    settle_ns: int = 5 * NS_PER_S
    """What depends on something waits so long for the news of its failure; what all see, for who owns the group."""
    node: str = ""
    """This director, where it shares groups with others."""
    first_group: str = ""
    """Its owner tells of services that have no group."""
    directors: tuple[str, ...] = ()
    """In the configuration's order: where there is no group at all, the first of them that is alive tells."""


def tells_failure(rule: Rule, record: Record) -> bool:
    """Tell whether a rule names the event that this one ends: then it speaks of ends only after beginnings."""
    noun = PAIRS[record.name][0]
    return any(name in rule.events and phase is Phase.DOWN for name, (other, phase) in PAIRS.items() if other == noun)

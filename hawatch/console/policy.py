"""Who is told what, and when: a pure function of (policy, history, event, now).

Theory of operation
-------------------
An event that says that something fails begins a `Trouble` of its subject, and the event that says that it is well
again ends it. For each rule that the event concerns a `Told` remembers when the rule is due for this trouble and how
often it has told of it. When it is due, whatever forbids telling is looked at in this order: acknowledged, explained
by the failure of what it depends on, too few failures, told as often as allowed, outside the rule's period. What is
left is an item for the rule's `Flow`, which sends the first few at once and gathers what comes after them into a
digest, until a whole window has been calm.

Well again is told only of what was told as failing. Events that are neither are told once.

Nothing here changes the history: `decide` returns the entries that change, and `History.apply` takes them. Entries are
what the store keeps, so that event, history and messages become true in one transaction.

Times are nanoseconds of the wall clock: they outlive restarts. A clock that jumps makes an alert early or late, never
lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from hawatch.agent.events import Record
from hawatch.console.period import Period
from hawatch.console.subjects import PAIRS, Match, Phase, phase_of, subject_of
from hawatch.model import NS_PER_S, Severity

FAILURES_KEPT = 100
"""Failures of one subject that are remembered, for `after_failures`."""
HELD_MAX = 5000
"""Items that one digest gathers; those beyond are only counted."""
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
    """What depends on something waits so long for the news of its failure."""


class Trouble(msgspec.Struct, frozen=True):
    """A subject that fails, or has failed."""

    record: Record
    """The last event that said that it fails."""
    since_ns: int
    failures: tuple[int, ...]
    over_ns: int = 0
    acknowledged: str = ""
    """What the administrator said; "" when nobody has seen to it."""


class Told(msgspec.Struct, frozen=True):
    """What a rule has told of a trouble."""

    due_ns: int = 0
    """When to look again; 0: only when something happens."""
    count: int = 0
    explained: str = ""
    """Subject whose failure explains this one."""


class ItemKind(StrEnum):
    """What an item of a message says."""

    DOWN = "down"
    AGAIN = "again"
    UP = "up"
    NOTICE = "notice"


class Item(msgspec.Struct, frozen=True):
    """One thing to tell."""

    kind: ItemKind
    subject: str
    record: Record
    since_ns: int = 0
    count: int = 0
    """How often this failure has been told before."""


class Flow(msgspec.Struct, frozen=True):
    """What a rule sends: how much in this window, and what waits for its end."""

    began_ns: int = 0
    sent: int = 0
    storm: bool = False
    held: tuple[Item, ...] = ()
    more: int = 0


class Message(msgspec.Struct, frozen=True):
    """What is to be sent by one rule to each of its recipients."""

    rule: str
    key: str
    """The same for the same message, whenever it is decided."""
    items: tuple[Item, ...]
    more: int = 0
    """Items beyond those that are spelled out."""
    test: bool = False

    @property
    def digest(self) -> bool:
        """Whether it tells of several things."""
        return len(self.items) > 1 or self.more > 0


Entry = Trouble | Told | Flow
Key = tuple[str, ...]
"""("trouble", subject), ("told", rule, subject) or ("flow", rule)."""


@dataclass(slots=True)
class History:
    """Everything that decisions rest on besides the policy."""

    entries: dict[Key, Entry] = field(default_factory=dict)

    def apply(self, changes: Mapping[Key, Entry | None]) -> None:
        """Take in what was decided."""
        for key, entry in changes.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry


@dataclass(frozen=True, slots=True)
class Decision:
    """What changes in the history, and what is sent."""

    changes: Mapping[Key, Entry | None]
    messages: tuple[Message, ...]


def decide(policy: Policy, history: History, record: Record | None, now_ns: int) -> Decision:
    """Return what follows from an event, or from the passing of time when there is none."""
    draft = _Draft(policy, history, now_ns)
    if record is None:
        draft.pass_time()
    else:
        draft.take(record)
    return Decision(draft.changes, tuple(draft.messages))


def acknowledge(history: History, match: Match, text: str) -> tuple[dict[Key, Entry | None], list[Record]]:
    """Return what changes when an administrator sees to the failures that match, and the failures."""
    changes: dict[Key, Entry | None] = {}
    records: list[Record] = []
    for key, entry in history.entries.items():
        if isinstance(entry, Trouble) and not entry.over_ns and match(entry.record):
            changes[key] = msgspec.structs.replace(entry, acknowledged=text or "acknowledged")
            records.append(entry.record)
    return changes, records


def next_due_ns(policy: Policy, history: History) -> int | None:
    """Return when `decide` is to be asked without an event; None: not before one comes."""
    rules = {rule.name: rule for rule in policy.rules}
    dues = [entry.due_ns for entry in history.entries.values() if isinstance(entry, Told) and entry.due_ns]
    for key, entry in history.entries.items():
        if isinstance(entry, Flow) and entry.began_ns and key[1] in rules:
            dues.append(_flush_ns(rules[key[1]], entry))
    return min(dues, default=None)


def _flush_ns(rule: Rule, flow: Flow) -> int:
    """Return when a flow's window ends: not outside the rule's period, when something waits for it."""
    end_ns = flow.began_ns + rule.digest_ns
    return rule.period.next_ns(end_ns) if rule.period is not None and flow.held else end_ns


def _tells_failure(rule: Rule, record: Record) -> bool:
    """Tell whether a rule names the event that this one ends: then it speaks of ends only after beginnings."""
    noun = PAIRS[record.name][0]
    return any(name in rule.events and phase is Phase.DOWN for name, (other, phase) in PAIRS.items() if other == noun)


class _Draft:
    """The history with what is being decided laid over it."""

    def __init__(self, policy: Policy, history: History, now_ns: int) -> None:
        self.changes: dict[Key, Entry | None] = {}
        self.messages: list[Message] = []
        self._policy = policy
        self._entries = history.entries
        self._now_ns = now_ns

    def _get(self, key: Key) -> Entry | None:
        return self.changes[key] if key in self.changes else self._entries.get(key)

    def _trouble(self, subject: str) -> Trouble | None:
        entry = self._get(("trouble", subject))
        return entry if isinstance(entry, Trouble) else None

    def _told(self, rule: Rule, subject: str) -> Told | None:
        entry = self._get(("told", rule.name, subject))
        return entry if isinstance(entry, Told) else None

    # --- events ----------------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """Take in an event."""
        subject, phase = subject_of(record), phase_of(record)
        if phase is Phase.DOWN:
            self._fails(subject, record)
        elif phase is Phase.UP:
            self._is_well(subject, record)
        else:
            for rule in self._policy.rules:
                if rule.wants(record):
                    self._emit(rule, Item(ItemKind.NOTICE, subject, record, record.id))

    def _fails(self, subject: str, record: Record) -> None:
        before = self._trouble(subject)
        failures = (*(before.failures if before else ()), self._now_ns)[-FAILURES_KEPT:]
        if before is not None and not before.over_ns:
            trouble = msgspec.structs.replace(before, record=record, failures=failures)
        else:
            trouble = Trouble(record, self._now_ns, failures)
        self.changes["trouble", subject] = trouble
        for rule in self._policy.rules:
            told = self._told(rule, subject)
            if told is None and not rule.wants(record):
                continue
            if told is None or not told.count:
                due_ns = trouble.since_ns + max(rule.after_ns, self._settle_ns(record))
                self.changes["told", rule.name, subject] = Told(max(due_ns, self._now_ns))
                if due_ns <= self._now_ns:
                    self._look(rule, subject)

    def _is_well(self, subject: str, record: Record) -> None:
        trouble = self._trouble(subject)
        since_ns = 0
        if trouble is not None:
            since_ns = 0 if trouble.over_ns else trouble.since_ns
            self.changes["trouble", subject] = msgspec.structs.replace(trouble, over_ns=self._now_ns, acknowledged="")
        for rule in self._policy.rules:
            told = self._told(rule, subject)
            if told is not None:
                self.changes["told", rule.name, subject] = None
            if told is not None and told.count and rule.tell_up:
                self._emit(rule, Item(ItemKind.UP, subject, record, since_ns, told.count))
            elif record.name in rule.events and not _tells_failure(rule, record) and rule.wants(record):
                self._emit(rule, Item(ItemKind.NOTICE, subject, record, since_ns))
        self._no_longer_explains(subject)

    def _no_longer_explains(self, parent: str) -> None:
        """Look soon at what a subject that is well again explained: it may fail for itself."""
        if not self._policy.dependencies:
            return
        for key, told in [*self._entries.items(), *self.changes.items()]:
            if isinstance(told, Told) and told.explained == parent and self._get(key) is told:
                self.changes[key] = Told(self._now_ns + self._policy.settle_ns, told.count)

    def _settle_ns(self, record: Record) -> int:
        depends = any(each.child(record) for each in self._policy.dependencies)
        return self._policy.settle_ns if depends else 0

    # --- time ------------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """Do what is due by now."""
        rules = {rule.name: rule for rule in self._policy.rules}
        keep_ns = max((rule.within_ns for rule in self._policy.rules), default=0)
        for key, entry in self._entries.items():
            if isinstance(entry, Trouble):
                if entry.over_ns and entry.over_ns + keep_ns < self._now_ns:
                    self.changes[key] = None
            elif key[1] not in rules:
                self.changes[key] = None
            elif isinstance(entry, Told) and 0 < entry.due_ns <= self._now_ns:
                self._look(rules[key[1]], key[2])
        for rule in self._policy.rules:
            flow = self._flow(rule)
            if flow.began_ns and _flush_ns(rule, flow) <= self._now_ns:
                self._end_window(rule, flow)

    def _look(self, rule: Rule, subject: str) -> None:
        """Tell of a trouble that is due, unless something forbids it."""
        told, trouble = self._told(rule, subject), self._trouble(subject)
        assert told is not None, (rule.name, subject)
        key = ("told", rule.name, subject)
        if trouble is None or trouble.over_ns:
            self.changes[key] = None
            return
        again_ns = self._now_ns + rule.every_ns if rule.every_ns else 0
        lasts_ns = self._now_ns - trouble.since_ns
        recent = sum(trouble.failures[-1] - at_ns <= rule.within_ns for at_ns in trouble.failures)
        explained = self._explained_by(subject, trouble)
        if trouble.acknowledged or (rule.at_most and told.count >= rule.at_most):
            self.changes[key] = Told(0, told.count)
        elif explained:
            self.changes[key] = Told(0, told.count, explained)
        elif not told.count and recent < rule.after_failures and lasts_ns < rule.within_ns:
            self.changes[key] = Told(trouble.since_ns + rule.within_ns)
        elif rule.period is not None and not rule.period.holds(self._now_ns):
            due_ns = rule.period.next_ns(self._now_ns) if rule.hold else again_ns
            self.changes[key] = Told(due_ns, told.count)
        else:
            self.changes[key] = Told(again_ns, told.count + 1)
            kind = ItemKind.AGAIN if told.count else ItemKind.DOWN
            self._emit(rule, Item(kind, subject, trouble.record, trouble.since_ns, told.count))

    # --- dependencies ----------------------------------------------------------------------------------------

    def _explained_by(self, subject: str, trouble: Trouble) -> str:
        """Return the failing subject that explains a failure, or ""."""
        if not self._policy.dependencies:
            return ""
        above = self._above(subject, trouble)
        circle = {each for each, other in above.items() if subject in self._above(each, other)}
        if subject in circle and set(above) <= circle:
            # They explain each other: the first of them is told.
            first = min(circle, key=lambda each: (above[each].since_ns, each))
            return "" if first == subject else first
        return next((each for each in above if each not in circle), "")

    def _above(self, subject: str, trouble: Trouble) -> dict[str, Trouble]:
        """Return the failing subjects that a failure depends on, over however many steps."""
        found: dict[str, Trouble] = {}
        todo = [(subject, trouble)]
        failing = dict(self._failing_parents())
        while todo:
            _, one = todo.pop()
            for name, parent in failing.items():
                if name not in found and any(
                    each.child(one.record) and each.parent(parent.record) for each in self._policy.dependencies
                ):
                    found[name] = parent
                    todo.append((name, parent))
        return found

    def _failing_parents(self) -> Iterator[tuple[str, Trouble]]:
        for key, entry in {**self._entries, **self.changes}.items():
            if isinstance(entry, Trouble) and not entry.over_ns and self._explains(entry.record):
                yield key[1], entry

    def _explains(self, record: Record) -> bool:
        return any(each.parent(record) for each in self._policy.dependencies)

    # --- the flow --------------------------------------------------------------------------------------------

    def _flow(self, rule: Rule) -> Flow:
        entry = self._get(("flow", rule.name))
        return entry if isinstance(entry, Flow) else Flow()

    def _emit(self, rule: Rule, item: Item) -> None:
        """Send an item at once, or keep it for the end of the window."""
        flow = self._flow(rule)
        if flow.began_ns and _flush_ns(rule, flow) <= self._now_ns:
            self._end_window(rule, flow)
            flow = self._flow(rule)
        began_ns = flow.began_ns or self._now_ns
        open_now = rule.period is None or rule.period.holds(self._now_ns)
        if not open_now and not rule.hold:
            return
        if open_now and not flow.storm and flow.sent < rule.burst:
            self._send(rule, (item,), 0)
            flow = Flow(began_ns, flow.sent + 1)
        elif len(flow.held) < HELD_MAX:
            flow = Flow(began_ns, flow.sent, True, (*flow.held, item), flow.more)
        else:
            flow = Flow(began_ns, flow.sent, True, flow.held, flow.more + 1)
        self.changes["flow", rule.name] = flow

    def _end_window(self, rule: Rule, flow: Flow) -> None:
        """Send what was held; a window in which nothing was held ends the storm."""
        if flow.held:
            self._send(rule, flow.held, flow.more)
            self.changes["flow", rule.name] = Flow(self._now_ns, 0, True)
        else:
            self.changes["flow", rule.name] = None

    def _send(self, rule: Rule, items: tuple[Item, ...], more: int) -> None:
        last = items[-1]
        key = f"{rule.name}:{last.record.node}:{last.record.id}:{last.kind}:{last.count}:{len(items) + more}"
        self.messages.append(Message(rule.name, key, items, more))

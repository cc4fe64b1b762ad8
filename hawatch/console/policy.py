"""Who is told what, and when: a pure function of (policy, history, event, now).

Theory of operation
-------------------
An event that says that something fails begins a `Trouble` of its subject, and the event that says that it is well
again ends it. For each rule that the event concerns a `Told` remembers when the rule is due for this trouble and how
often it has told of it. When it is due, whatever forbids telling is looked at in this order: acknowledged, told as
often as allowed, explained by the failure of what it depends on, too few failures, outside the rule's period, left
to another director (see `sharing`). What remains is an item for the rule's `Flow`, which sends the first few at once
and gathers what comes after them into a digest, until a whole window has been calm.

Well again is told only of what was told as failing. Events that are neither are told once.

Nothing here changes the history: `decide` returns the entries that change, and `History.apply` takes them. Entries are
what the store keeps, so that event, history and messages become true in one transaction.

Times are nanoseconds of the wall clock: they outlive restarts. A clock that jumps makes an alert early or late, never
lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from hawatch.agent.events import Record
from hawatch.console.dependencies import explained_by
from hawatch.console.history import Entry, Flow, History, Item, ItemKind, Key, Message, Owner, Told, Trouble
from hawatch.console.rules import Policy, Rule, tells_failure
from hawatch.console.sharing import is_shared, left_to, look_again, owner_of
from hawatch.console.subjects import ENDS_HERE, Match, Phase, noun_of, phase_of, subject_of

FAILURES_KEPT = 100
"""Failures of one subject that are remembered, for `after_failures`."""
HELD_MAX = 5000
"""Items that one digest gathers; those beyond are only counted."""


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
            dues.append(flush_ns(rules[key[1]], entry))
    return min(dues, default=None)


def flush_ns(rule: Rule, flow: Flow) -> int:
    """Return when a flow's window ends: not outside the rule's period, when something waits for it."""
    end_ns = flow.began_ns + rule.digest_ns
    return rule.period.next_ns(end_ns) if rule.period is not None and flow.held else end_ns


def _held_key(rule: Rule, number: int) -> Key:
    return ("held", rule.name, f"{number:04d}")


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
        if noun_of(record) == "director" and not self._policy.first_group:
            # It may have been the one that told of what has no group.
            self.changes |= look_again(self._policy, {**self._entries, **self.changes}, "", self._now_ns)

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
            if told is None or not (told.count or told.left_ns):
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
            if record.name in ENDS_HERE:
                told = None
            if self._left_to(rule, record) and (told is None or not told.count):
                continue
            if told is not None and (told.count or told.left_ns) and rule.tell_up:
                self._emit(rule, Item(ItemKind.UP, subject, record, since_ns, told.count))
            elif record.name in rule.events and not tells_failure(rule, record) and rule.wants(record):
                self._emit(rule, Item(ItemKind.NOTICE, subject, record, since_ns))
        self._no_longer_explains(subject)

    def _no_longer_explains(self, parent: str) -> None:
        """Look soon at what a subject that is well again explained: it may fail for itself."""
        if not self._policy.dependencies:
            return
        for key, told in [*self._entries.items(), *self.changes.items()]:
            if isinstance(told, Told) and told.explained == parent and self._get(key) is told:
                soon_ns = self._now_ns + self._policy.settle_ns
                self.changes[key] = msgspec.structs.replace(told, due_ns=soon_ns, explained="")

    def _settle_ns(self, record: Record) -> int:
        depends = any(each.child(record) for each in self._policy.dependencies)
        nobodys = is_shared(self._policy, record) and not owner_of(self._policy, self._get, record)
        return self._policy.settle_ns if depends or nobodys else 0

    # --- other directors --------------------------------------------------------------------------------------

    def _left_to(self, rule: Rule, record: Record) -> str:
        return left_to(self._policy, rule, record, owner_of(self._policy, self._get, record))

    # --- time ------------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """Do what is due by now."""
        rules = {rule.name: rule for rule in self._policy.rules}
        keep_ns = max((rule.within_ns for rule in self._policy.rules), default=0)
        for key, entry in self._entries.items():
            if isinstance(entry, Owner):
                continue
            if isinstance(entry, Trouble):
                if entry.over_ns and entry.over_ns + keep_ns < self._now_ns:
                    self.changes[key] = None
            elif key[1] not in rules:
                self.changes[key] = None
            elif isinstance(entry, Told) and 0 < entry.due_ns <= self._now_ns:
                self._look(rules[key[1]], key[2])
        for rule in self._policy.rules:
            flow = self._flow(rule)
            if flow.began_ns and flush_ns(rule, flow) <= self._now_ns:
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
        dependencies = self._policy.dependencies
        explained = (
            explained_by(subject, trouble, {**self._entries, **self.changes}, dependencies) if dependencies else ""
        )
        if trouble.acknowledged or (rule.at_most and told.count >= rule.at_most):
            self.changes[key] = msgspec.structs.replace(told, due_ns=0, explained="")
        elif explained:
            self.changes[key] = msgspec.structs.replace(told, due_ns=0, explained=explained)
        elif not told.count and recent < rule.after_failures and lasts_ns < rule.within_ns:
            self.changes[key] = Told(trouble.since_ns + rule.within_ns, left_ns=told.left_ns)
        elif rule.period is not None and not rule.period.holds(self._now_ns):
            due_ns = rule.period.next_ns(self._now_ns) if rule.hold else again_ns
            self.changes[key] = Told(due_ns, told.count, left_ns=told.left_ns)
        elif self._left_to(rule, trouble.record):
            self.changes[key] = Told(again_ns, told.count, left_ns=0 if told.count else self._now_ns)
        else:
            self.changes[key] = Told(again_ns, told.count + 1)
            kind = ItemKind.AGAIN if told.count else ItemKind.DOWN
            self._emit(rule, Item(kind, subject, trouble.record, trouble.since_ns, told.count))

    # --- the flow --------------------------------------------------------------------------------------------

    def _flow(self, rule: Rule) -> Flow:
        entry = self._get(("flow", rule.name))
        return entry if isinstance(entry, Flow) else Flow()

    def _emit(self, rule: Rule, item: Item) -> None:
        """Send an item at once, or keep it for the end of the window."""
        flow = self._flow(rule)
        if flow.began_ns and flush_ns(rule, flow) <= self._now_ns:
            self._end_window(rule, flow)
            flow = self._flow(rule)
        began_ns = flow.began_ns or self._now_ns
        open_now = rule.period is None or rule.period.holds(self._now_ns)
        if not open_now and not rule.hold:
            return
        if open_now and not flow.storm and flow.sent < rule.burst:
            self._send(rule, (item,), 0)
            flow = Flow(began_ns, flow.sent + 1)
        elif flow.held < HELD_MAX:
            self.changes[_held_key(rule, flow.held)] = item
            flow = Flow(began_ns, flow.sent, True, flow.held + 1, flow.more)
        else:
            flow = Flow(began_ns, flow.sent, True, flow.held, flow.more + 1)
        self.changes["flow", rule.name] = flow

    def _end_window(self, rule: Rule, flow: Flow) -> None:
        """Send what was held; a window in which nothing was held ends the storm."""
        if flow.held:
            keys = [_held_key(rule, number) for number in range(flow.held)]
            self._send(rule, tuple(item for key in keys if isinstance(item := self._get(key), Item)), flow.more)
            self.changes.update(dict.fromkeys(keys))
            self.changes["flow", rule.name] = Flow(self._now_ns, 0, True)
        else:
            self.changes["flow", rule.name] = None

    def _send(self, rule: Rule, items: tuple[Item, ...], more: int) -> None:
        last = items[-1]
        key = f"{rule.name}:{last.record.node}:{last.record.id}:{last.kind}:{last.count}:{len(items) + more}"
        self.messages.append(Message(rule.name, key, items, more))

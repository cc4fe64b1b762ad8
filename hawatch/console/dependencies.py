"""What explains what: a dead switch or director explains the servers behind it, over however many steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hawatch.console.history import Entry, Key, Trouble
from hawatch.console.rules import Dependency


def explained_by(
    subject: str, trouble: Trouble, entries: Mapping[Key, Entry | None], dependencies: Sequence[Dependency]
) -> str:
    """Return the failing subject that explains a failure, or ""."""
    failing = dict(_failing_parents(entries, dependencies))
    above = _above(subject, trouble, failing, dependencies)
    circle = {each for each, other in above.items() if subject in _above(each, other, failing, dependencies)}
    if subject in circle and set(above) <= circle:
        # They explain each other: the first of them is told.
        first = min(circle, key=lambda each: (above[each].since_ns, each))
        return "" if first == subject else first
    return next((each for each in above if each not in circle), "")


def _above(
    subject: str, trouble: Trouble, failing: Mapping[str, Trouble], dependencies: Sequence[Dependency]
) -> dict[str, Trouble]:
    """Return the failing subjects that a failure depends on, over however many steps."""
    found: dict[str, Trouble] = {}
    todo = [(subject, trouble)]
    while todo:
        _, one = todo.pop()
        for name, parent in failing.items():
            if name not in found and any(
                each.child(one.record) and each.parent(parent.record) for each in dependencies
            ):
                found[name] = parent
                todo.append((name, parent))
    return found


def _failing_parents(
    entries: Mapping[Key, Entry | None], dependencies: Sequence[Dependency]
) -> Iterator[tuple[str, Trouble]]:
    for key, entry in entries.items():
        if isinstance(entry, Trouble) and not entry.over_ns and any(each.parent(entry.record) for each in dependencies):
            yield key[1], entry

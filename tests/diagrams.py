"""Draw the state machines from their tables: `python -m tests.diagrams` writes docs/reference/states.md.

A test compares the file with what the tables say now.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from hawatch.cluster import detector, states
from hawatch.health import verdict

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "states.md"
HEAD = """# States

What a group, another node and a check can be, and what leads from one to the next. The program looks these tables up; a
pair of state and trigger that is not in them does not happen. This page is written by `python -m tests.diagrams`.
"""
MACHINES: tuple[tuple[str, str, Mapping[Enum, Mapping[object, Enum]]], ...] = (
    (
        "A group on one director",
        "STANDBY waits, CANDIDATE asks the acceptors, OWNER holds and renews the lease, CLOSING waits for the kernel to"
        "\nconfirm the closed gate, RELEASED was given away by an administrator, CONFLICT found its own name used by another"
        "\nmachine. Every way out of OWNER leads through CLOSING.",
        states.TRANSITIONS,  # type: ignore[dict-item]
    ),
    (
        "Another node, as the failure detector sees it",
        "`heard`: a new beat came on some link; `quiet`: none for two heartbeats and a half; `silent`: none for a lease.",
        detector.TRANSITIONS,  # type: ignore[dict-item]
    ),
    (
        "A check",
        "`passed`: `rise` results in a row were good; `failed`: `fall` in a row were bad.",
        {
            state: {("passed" if good else "failed"): after for good, after in row.items()}
            for state, row in verdict.TRANSITIONS.items()
        },
    ),
)


def word(value: object) -> str:
    """Return a state's or a trigger's name."""
    return value if type(value) is str else value.name  # type: ignore[attr-defined, no-any-return]


def diagram(table: Mapping[Enum, Mapping[object, Enum]]) -> list[str]:
    """Return a table of transitions as Mermaid's stateDiagram-v2 and as a Markdown table."""
    rows = [(state, trigger, after) for state, row in table.items() for trigger, after in row.items()]
    trigger_word = {trigger: word(trigger).lower() for _, trigger, _ in rows}
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {word(next(iter(table)))}"]
    lines += [
        f"    {word(state)} --> {word(after)}: {trigger_word[trigger]}"
        for state, trigger, after in rows
        if state != after
    ]
    lines += ["```", "", "| state | trigger | then |", "|---|---|---|"]
    lines += [f"| {word(state)} | {trigger_word[trigger]} | {word(after)} |" for state, trigger, after in rows]
    return lines


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, text, table in MACHINES:
        parts += [f"\n## {title}\n\n{text}\n\n" + "\n".join(diagram(table)) + "\n"]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

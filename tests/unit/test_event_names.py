"""One catalogue of events: what the code tells, what the manual explains, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from hawatch.event_names import EVENT_NAMES

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "hawatch" / "event_names.py"
CODE = [path for folder in ("hawatch", "actions") for path in (ROOT / folder).rglob("*.py") if path != CATALOGUE]
TELLING = {"Event", "emit", "_emit"}


def told(tree: ast.AST) -> Iterator[str]:
    """Yield the names that calls of `Event` and `emit` give literally."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in TELLING:
                choices = (
                    [node.args[0].body, node.args[0].orelse] if isinstance(node.args[0], ast.IfExp) else node.args[:1]
                )
                yield from (
                    one.value for one in choices if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )


def words(tree: ast.AST) -> Iterator[str]:
    """Yield every string of a module that could be an event's name; "_dead" for the end of a name that is put together."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z_]+", node.value):
            yield node.value


def test_no_event_is_told_that_is_not_in_the_catalogue() -> None:
    found = {name: path.name for path in CODE for name in told(ast.parse(path.read_text()))}
    assert len(found) > 25
    assert {name: where for name, where in found.items() if name not in EVENT_NAMES} == {}


def test_every_event_of_the_catalogue_is_told_somewhere() -> None:
    found = {word for path in CODE for word in words(ast.parse(path.read_text()))}
    ends = {word for word in found if word.startswith("_")}
    never = {name for name in EVENT_NAMES if name not in found and not any(name.endswith(end) for end in ends)}
    assert never == set()


def test_the_manual_explains_every_event_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "reference" / "events.md").read_text(), re.MULTILINE)
    explained = re.findall(r"`([a-z_]+)`", " ".join(rows))
    assert sorted(explained) == sorted(EVENT_NAMES)
    assert list(EVENT_NAMES) == sorted(set(EVENT_NAMES))


def test_the_check_can_fail() -> None:
    tree = ast.parse('emit([Event("nonsense", reason)]); site.emit("other" if down else "third", 1)')
    assert set(told(tree)) == {"nonsense", "other", "third"}

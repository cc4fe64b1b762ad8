"""A mistake in the configuration, told with its place, what was found and what is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from functools import cached_property

from hawatch.config.positions import Path

FOUND_CHARACTERS_MAX = 60
SECRET_KEYS = frozenset({"password", "secret", "token", "headers", "environment"})
"""Keys whose values are never shown, nor what is below them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, or one thing to be warned of."""

    path: str
    """As an administrator reads it: service[2] "http".probe.timeout; elements are counted from 1."""
    line: int
    found: str
    """What stands in the file; "" where that says nothing."""
    accepted: str
    message: str
    column: int = 0
    """Of a syntax error, from 1."""

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.message}" if self.path else self.message]
        if self.found:
            parts.append(f"found {self.found}")
        if self.accepted:
            parts.append(f"accepted: {self.accepted}")
        return "; ".join(parts)

    def at(self, file: str) -> str:
        """Return the problem as one line that begins with file:line:."""
        column = f"{self.column}:" if self.column else ""
        return f"{file}:{self.line}:{column} {self}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem before its place in the file is known: what a rule returns.

    `depends` are paths ("*" for any index) that the rule read. If one of them could not be understood, the finding
    would rest on a guess, and is not told.
    """

    path: Path
    message: str
    accepted: str = ""
    found: str = ""
    """"" tells what stands at `path`."""
    depends: tuple[Path, ...] = ()


class Document:
    """A file's content with the means to name and find what is in it."""

    def __init__(self, data: Mapping[str, object], find_lines: Callable[[], Mapping[Path, int]]) -> None:
        """`find_lines` tells where everything stands; it is asked once, when a problem is to be told."""
        self.data = data
        self._find_lines = find_lines

    @cached_property
    def lines(self) -> Mapping[Path, int]:
        """The line of every key and array element."""
        return self._find_lines()

    def real_path(self, path: Sequence[str | int]) -> Path:
        """Return the path in the file: one table that stands for an array of one has no index there."""
        node: object = self.data
        real: list[str | int] = []
        for step in path:
            if isinstance(step, int) and not isinstance(node, list):
                continue
            real.append(step)
            node = child(node, step)
        return tuple(real)

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of a path, or of the nearest thing around it that stands in the file."""
        real = self.real_path(path)
        while real not in self.lines and real:
            real = real[:-1]
        return self.lines.get(real, 1)

    def value(self, path: Sequence[str | int]) -> object:
        """Return what stands at a path, or None."""
        node: object = self.data
        for step in self.real_path(path):
            node = child(node, step)
        return node

    def show_path(self, path: Sequence[str | int]) -> str:
        """Return the path as an administrator reads it."""
        node: object = self.data
        shown = ""
        for step in self.real_path(path):
            node = child(node, step)
            if isinstance(step, int):
                shown += f"[{step + 1}]{show_name(node)}"
            else:
                shown += ("." if shown else "") + show_key(step)
        return shown

    def problem(self, finding: Finding) -> Problem:
        """Return a finding with its place and what was found there."""
        secret = not SECRET_KEYS.isdisjoint(finding.path)
        value = self.value(finding.path)
        found = finding.found or ("" if value is None else show_value(value))
        return Problem(
            path=self.show_path(finding.path),
            line=self.line(finding.path),
            found="(not shown)" if secret and found else found,
            accepted=finding.accepted,
            message=finding.message,
        )


def child(node: object, step: str | int) -> object:
    """Return a member of a table or an array, or None."""
    if isinstance(node, dict):
        return node.get(step)
    if isinstance(node, list) and isinstance(step, int) and step < len(node):
        return node[step]
    return None


def show_key(key: str) -> str:
    """Return a key as TOML wants it written."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key, re.ASCII) else quote(key)


def show_name(node: object) -> str:
    """Return the name or the address of an array's element, to follow its number."""
    if not isinstance(node, dict):
        return ""
    name = node.get("name", node.get("address"))
    return f" {quote(name)}" if isinstance(name, str) else ""


def quote(text: str) -> str:
    """Return a string in quotes, fit for one line of a terminal."""
    cut = text if len(text) <= FOUND_CHARACTERS_MAX else text[: FOUND_CHARACTERS_MAX - 3] + "..."
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut)
    return f'"{printable}"'


def show_value(value: object) -> str:
    """Return a value as it would stand in the file, shortened."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value)
        case int() | float() | date() | time():
            return str(value)[:FOUND_CHARACTERS_MAX] if not isinstance(value, int) else show_integer(value)
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "a table"
        case _:
            return ""


def show_integer(value: int) -> str:
    """Return a whole number; one too long to print (a file may hold any) by its size."""
    return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"


def nearest_word(word: str, known: Sequence[str]) -> str:
    """Return the known word that a mistyped one is most like, or ""."""
    matches = get_close_matches(word[:FOUND_CHARACTERS_MAX], known, n=1, cutoff=0.6)
    return matches[0] if matches else ""


def nearest(word: str, known: Sequence[str]) -> str:
    """Return `; did you mean "..."?` for a mistyped word, or ""."""
    match = nearest_word(word, known)
    return f'; did you mean "{match}"?' if match else ""

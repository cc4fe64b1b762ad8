"""Where each key of a TOML document stands: path -> line number.

Theory of operation: tomli reads the document and checks it, but tells no positions. This scanner runs afterwards, over
a document that is known to be valid, and so needs only to tell keys, headers and the ends of values apart. A path is
a tuple of keys and of indexes into arrays, as one would use them on what tomli returns. A table that only its
members mention (`a.b.c = 1` mentions a and a.b) stands where it is first mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import tomli

Path = tuple[str | int, ...]

DEPTH_MAX: Final = 32
"""Parts of a path: the configuration needs seven."""

BLANK = re.compile(r"[ \t]*")
GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
BARE_VALUE = re.compile(r"[^,\]}#\n]*")
PLAIN_LINE = re.compile(r'([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"[^"\\\n]*"|[A-Za-z0-9_+.:-]+)[ \t]*(?:\r?\n|\Z)')
"""A bare key and a short value, and nothing else on the line: most lines of most files."""
BARE_KEYS = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?=[ \t]*[\]=])")
"""A key without quotes and blanks: most headers of most files."""
STRING = re.compile(
    r'"""(?:[^"\\]|\\(?s:.)|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)


class TooDeepError(Exception):
    """A path has more than `DEPTH_MAX` parts, on line `line`."""

    def __init__(self, line: int) -> None:
        super().__init__(f"more than {DEPTH_MAX} levels on line {line}")
        self.line = line


def find_positions(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every key and array element of a valid TOML document."""
    scanner = Scanner(text)
    scanner.document()
    return scanner.lines


class Scanner:
    """Walks over the text once; `at` only moves forward."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.counted = 0
        self.lines: dict[Path, int] = {(): 1}
        self.array_sizes: dict[Path, int] = {}

    def document(self) -> None:
        """Walk over all headers and key-value lines."""
        table: Path = ()
        self.skip(GAP)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self.header()
            elif plain := PLAIN_LINE.match(self.text, self.at):
                self.note((*table, plain[1]))
                self.at = plain.end()
            else:
                self.key_value(table)
            self.skip(GAP)

    def header(self) -> Path:
        """Walk over [table] or [[array of tables]]; return its path, with the indexes of arrays filled in."""
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        keys = self.key()
        self.at += 2 if is_array else 1
        table: Path = ()
        for number, key in enumerate(keys, start=1):
            table = (*table, key)
            is_last = number == len(keys)
            if is_last and is_array:
                index = self.array_sizes.get(table, 0)
                self.array_sizes[table] = index + 1
                self.note(table)
                table = (*table, index)
            elif not is_last and table in self.array_sizes:
                table = (*table, self.array_sizes[table] - 1)
            self.note(table)
        return table

    def key_value(self, table: Path) -> None:
        """Walk over `key = value`, where key may be dotted."""
        path = table
        for key in self.key():
            path = (*path, key)
            self.note(path)
        self.at += 1
        self.skip(BLANK)
        self.value(path)

    def key(self) -> list[str]:
        """Walk over a key up to what follows it; return its parts."""
        if bare := BARE_KEYS.match(self.text, self.at):
            self.at = bare.end()
            self.skip(BLANK)
            return bare.group().split(".")
        parts: list[str] = []
        while True:
            self.skip(BLANK)
            if self.text.startswith(('"', "'"), self.at):
                parts.append(str(tomli.loads(f"k = {self.take(STRING)}")["k"]))
            else:
                parts.append(self.take(BARE_KEY))
            self.skip(BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def value(self, path: Path) -> None:
        """Walk over a value of any kind."""
        first = self.text[self.at : self.at + 1]
        if first in {'"', "'"}:
            self.take(STRING)
        elif first == "[":
            self.members("]", lambda index: self.element((*path, index)))
        elif first == "{":
            self.members("}", lambda _: self.key_value(path))
        else:
            self.skip(BARE_VALUE)

    def element(self, path: Path) -> None:
        """Walk over one element of an array."""
        self.note(path)
        self.value(path)

    def members(self, closing: str, member: Callable[[int], None]) -> None:
        """Walk over an array or an inline table: members between commas, until `closing`."""
        self.at += 1
        index = 0
        self.skip(GAP)
        while self.at < len(self.text) and not self.text.startswith(closing, self.at):
            member(index)
            index += 1
            self.skip(GAP)
            if self.text.startswith(",", self.at):
                self.at += 1
                self.skip(GAP)
        self.at += 1

    def note(self, path: Path) -> None:
        """Remember where a path was first seen."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        if len(path) > DEPTH_MAX:
            raise TooDeepError(self.line)
        self.lines.setdefault(path, self.line)

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Walk over what `pattern` matches, if anything."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, pattern: re.Pattern[str]) -> str:
        """Walk over what `pattern` matches here and return it; a valid document has it here."""
        match = pattern.match(self.text, self.at)
        assert match is not None, (self.at, pattern.pattern)
        self.at = match.end()
        return match.group()

"""The rows of the graphs on disk, so that a new console goes on where the last one ended.

A file of its own, that nobody needs: what is wrong with it costs the graphs their past, and is put right by beginning
anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hawatch.console.page.graphs import SERIES_MAX, SPANS, History, Span

TABLES = """
CREATE TABLE IF NOT EXISTS series (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS slot (span TEXT, slot INTEGER, body BLOB NOT NULL, PRIMARY KEY (span, slot));
"""
BODY_MAX = 4 * SERIES_MAX


class GraphStore:
    """One file with both tables."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = False
        self._saved = 0
        """Series that the file knows."""

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(TABLES)
            yield database

    def load(self, history: History) -> None:
        """Fill a new history; nothing of it when the file is no good."""
        try:
            with self._open() as database:
                names = database.execute(
                    "SELECT number, name FROM series ORDER BY number LIMIT ?", (SERIES_MAX,)
                ).fetchall()
                if [number for number, _ in names] != list(range(len(names))):
                    raise sqlite3.DatabaseError("numbers of series are missing")
                rows = {span: database.execute(
                    "SELECT slot, body FROM slot WHERE span = ? ORDER BY slot DESC LIMIT ?", (span.name, span.slots)
                ).fetchall() for span in SPANS}  # fmt: skip
                unpacked = [(span, slot, unpack(body)) for span in SPANS for slot, body in reversed(rows[span])]
        except (sqlite3.Error, zlib.error, ValueError, TypeError) as error:
            self._begin_anew(error)
            return
        history.numbers.update({name: number for number, name in names})
        self._saved = len(names)
        for span, slot, row in unpacked:
            history.load(span, slot, row)

    def save(self, numbers: Mapping[str, int], rows: Iterable[tuple[Span, int, array[float]]]) -> None:
        """Write rows that are complete, and drop what is too old."""
        try:
            with self._open() as database:
                new = [(number, name) for name, number in numbers.items() if number >= self._saved]
                database.executemany("INSERT OR REPLACE INTO series VALUES (?, ?)", new)
                for span, slot, row in rows:
                    database.execute("INSERT OR REPLACE INTO slot VALUES (?, ?, ?)", (span.name, slot, pack(row)))
                    database.execute("DELETE FROM slot WHERE span = ? AND slot <= ?", (span.name, slot - span.slots))
            self._saved = len(numbers)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

    def _begin_anew(self, error: Exception) -> None:
        if not self._told:
            print(f"hawatch console: {self._path}: {error}; the graphs lose their past", file=sys.stderr, flush=True)
        self._told = True
        self._saved = 0
        if not isinstance(error, sqlite3.OperationalError):  # that is a full disk, or a lock
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def pack(row: array[float]) -> bytes:
    """Return a row as it is kept."""
    return zlib.compress(row.tobytes(), 1)


def unpack(body: bytes) -> array[float]:
    """Return a row; raise ValueError or zlib.error for what is none."""
    row = array("f")
    data = zlib.decompressobj().decompress(body, BODY_MAX)
    row.frombytes(data)
    return row

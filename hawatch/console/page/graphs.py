"""Small history graphs: numbers in two bounded round-robin tables, and the line that is drawn of them.

Theory of operation
-------------------
Time is cut into slots, short ones for the last hour and long ones for the last day. A slot is a row: one number a
series, the mean of what was measured in it. Rows are dropped when they are too old, series are numbered once and never
move, so a row is an array of floats and nothing else. NaN: not measured.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hawatch.model import NS_PER_S

SERIES_MAX = 12_000
"""Numbers with a history: 2,000 servers with four each, and their services."""
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Span:
    """One of the two tables."""

    name: str
    slot_s: int
    slots: int


HOUR = Span("hour", 30, 120)
DAY = Span("day", 600, 144)
SPANS = (HOUR, DAY)


@dataclass(slots=True)
class _Table:
    """The rows of a span, and the sums of the slot that goes on."""

    span: Span
    rows: deque[tuple[int, array[float]]]
    """Number of the slot (Unix time divided by its length), and its means."""
    slot: int = 0
    sums: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("H"))


class History:
    """The tables of all spans."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """The number of each series."""
        self.refused = 0
        """Series that found no room."""
        self._tables = {span: _Table(span, deque(maxlen=span.slots)) for span in SPANS}

    def number(self, name: str) -> int | None:
        """Return the number of a series, a new one if there is room."""
        found = self.numbers.get(name)
        if found is None and len(self.numbers) < SERIES_MAX:
            found = self.numbers[name] = len(self.numbers)
        return found

    def note(self, values: Mapping[str, float | None], wall_ns: int) -> list[tuple[Span, int, array[float]]]:
        """Take in what was measured now; return the rows that this completes."""
        done = []
        self.refused = 0
        numbered = []
        for name, value in values.items():
            number = self.number(name)
            if number is None:
                self.refused += 1
            elif value is not None:
                numbered.append((number, value))
        for table in self._tables.values():
            slot = wall_ns // NS_PER_S // table.span.slot_s
            if slot != table.slot:
                row = self._close(table)
                if row is not None:
                    done.append((table.span, table.slot, row))
                table.slot, table.sums, table.counts = slot, array("d"), array("H")
            _add(table, numbered, len(self.numbers))
        return done

    def _close(self, table: _Table) -> array[float] | None:
        if not table.counts:
            return None
        means = (total / count if count else NAN for total, count in zip(table.sums, table.counts, strict=True))
        row = array("f", means)
        table.rows.append((table.slot, row))
        return row

    def load(self, span: Span, slot: int, row: array[float]) -> None:
        """Take in a row of an earlier process, oldest first."""
        self._tables[span].rows.append((slot, row))

    def series(self, name: str, span: Span, wall_ns: int) -> list[float]:
        """Return the numbers of a series over a span, oldest first, NaN where there is none."""
        number = self.numbers.get(name)
        last = wall_ns // NS_PER_S // span.slot_s
        found = [NAN] * span.slots
        if number is None:
            return found
        table = self._tables[span]
        for slot, row in table.rows:
            place = span.slots - 1 - (last - slot)
            if 0 <= place < span.slots and number < len(row):
                found[place] = row[number]
        place = span.slots - 1 - (last - table.slot)  # of the slot that goes on
        if 0 <= place < span.slots and number < len(table.counts) and table.counts[number]:
            found[place] = table.sums[number] / table.counts[number]
        return found


def _add(table: _Table, numbered: Iterable[tuple[int, float]], size: int) -> None:
    lacking = size - len(table.sums)
    table.sums.extend([0.0] * lacking)
    table.counts.extend([0] * lacking)
    for number, value in numbered:
        table.sums[number] += value
        table.counts[number] = min(table.counts[number] + 1, 65535)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line ready to be drawn."""

    path: str
    """Of SVG; "" without two numbers."""
    most: float
    last: float | None


def curve(values: Sequence[float], width: int, height: int) -> Curve:
    """Return the line of some numbers in a box; gaps stay gaps."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Curve("", 0.0, None)
    most = max(known)
    scale = (height - 2) / most if most > 0 else 0.0
    step = width / max(1, len(values) - 1)
    words: list[str] = []
    pen_down = False
    for place, value in enumerate(values):
        if math.isnan(value):
            pen_down = False
            continue
        words.append(f"{'L' if pen_down else 'M'}{round(place * step)} {round(height - 1 - value * scale)}")
        if not pen_down:
            words.append("h1")  # a single number is a dot
        pen_down = True
    last = values[-1] if values else NAN
    return Curve("".join(words), most, None if math.isnan(last) else last)

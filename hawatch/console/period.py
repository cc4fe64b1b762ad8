"""Times of day and of the week at which an alert is sent: ``wd {Mon-Fri} hr {9am-4pm}``, the words that mon knows.

A period is a list of alternatives with commas between them; an alternative names scales, each with the values that it
accepts in braces, and holds when every scale does. Ranges include both ends, so that ``hr {9am-4pm}`` lasts until
16:59:59, and wrap around: ``hr {10pm-6am}``. The empty period always holds, ``none`` never.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

NS_PER_S = 1_000_000_000
LENGTH_MAX = 1000
"""Characters of a period at most."""
SEARCH_S = 8 * 86400
"""How far ahead the next beginning is looked for; a later one is looked for again then."""
DASH = re.compile(r"\s*-\s*")
ALTERNATIVE = re.compile(r"\s*([a-z]+)\s*\{([^{}]*)\}", re.IGNORECASE)
DAYS = ("su", "mo", "tu", "we", "th", "fr", "sa")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
HOUR = re.compile(r"([0-9]{1,2})(am|pm|noon)?")


@dataclass(frozen=True, slots=True)
class Scale:
    """One way of counting time."""

    least: int
    most: int
    read: Callable[[datetime], int]
    names: Mapping[str, int]
    prefix: int = 0
    """Letters of a name that count."""


def _week(at: datetime) -> int:
    """Return the week of the month: the second begins with the first Sunday after the 1st, so that there can be six."""
    first = (at.isoweekday() - (at.day - 1)) % 7
    return (first + at.day - 1) // 7 + 1


SCALES = {
    "mo": Scale(1, 12, lambda at: at.month, {name: number for number, name in enumerate(MONTHS, 1)}, 3),
    "wk": Scale(1, 6, _week, {}),
    "yd": Scale(1, 366, lambda at: at.timetuple().tm_yday, {}),
    "md": Scale(1, 31, lambda at: at.day, {}),
    "wd": Scale(1, 7, lambda at: at.isoweekday() % 7 + 1, {name: number for number, name in enumerate(DAYS, 1)}, 2),
    "hr": Scale(0, 23, lambda at: at.hour, {}),
    "min": Scale(0, 59, lambda at: at.minute, {}),
}
LONG_NAMES = {
    "month": "mo", "week": "wk", "yday": "yd", "mday": "md", "wday": "wd", "hour": "hr", "minute": "min",
}  # fmt: skip
ACCEPTED = 'a period like "wd {Mon-Fri} hr {9am-4pm}, wd {Sat}"; scales: mo wk yd md wd hr min'


Alternative = tuple[tuple[str, frozenset[int]], ...]
"""Scales with the values that each accepts."""


class PeriodError(ValueError):
    """The text is no period; the message says which part."""


@dataclass(frozen=True, slots=True)
class Period:
    """When an alert is sent. Times are those of `zone`, or of this machine's zone."""

    alternatives: tuple[Alternative, ...]
    zone: tzinfo | None = None

    def holds(self, now_ns: int) -> bool:
        """Tell whether an instant of the wall clock is in it."""
        at = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).astimezone(self.zone)
        return any(all(SCALES[scale].read(at) in values for scale, values in each) for each in self.alternatives)

    def next_ns(self, now_ns: int) -> int:
        """Return the first instant from `now_ns` on that is in it, or a later one at which to ask again."""
        if self.holds(now_ns):
            return now_ns
        minutes = any(scale == "min" for each in self.alternatives for scale, _ in each)
        hours = replace(self, alternatives=tuple(_without_minutes(each) for each in self.alternatives))
        second = now_ns // NS_PER_S // 60 * 60
        end = second + SEARCH_S
        while second < end:
            # Zones are whole quarters of an hour away from UTC, so that an hour begins on a step of 15 minutes.
            quarter = second // 900 * 900 + 900
            second = second + 60 if minutes and hours.holds(second * NS_PER_S) else quarter
            if self.holds(second * NS_PER_S):
                return second * NS_PER_S
        return end * NS_PER_S


def _without_minutes(alternative: Alternative) -> Alternative:
    return tuple((scale, values) for scale, values in alternative if scale != "min")


def parse_period(text: str, zone: tzinfo | None = None) -> Period | None:
    """Return the period of a text, None for one that always holds; raise PeriodError for anything else."""
    if len(text) > LENGTH_MAX:
        raise PeriodError(f"longer than {LENGTH_MAX} characters")
    stripped = text.strip()
    if stripped.lower() in ("", "always"):
        return None
    if stripped.lower() == "none":
        return Period((), zone)
    return Period(tuple(_alternative(part) for part in stripped.split(",")), zone)


def _alternative(text: str) -> tuple[tuple[str, frozenset[int]], ...]:
    found: dict[str, frozenset[int]] = {}
    place = 0
    while text[place:].strip():
        match = ALTERNATIVE.match(text, place)
        if match is None:
            raise PeriodError(f'"{text[place:].strip()}" is no scale with values in braces')
        word = match.group(1).lower()
        name = LONG_NAMES.get(word, word)
        if name not in SCALES:
            raise PeriodError(f'no scale "{match.group(1)}"')
        found[name] = found.get(name, frozenset()) | _values(name, match.group(2))
        place = match.end()
    if not found:
        raise PeriodError("nothing between two commas")
    return tuple(found.items())


def _values(name: str, text: str) -> frozenset[int]:
    scale = SCALES[name]
    values: set[int] = set()
    for word in DASH.sub("-", text).split():
        first, dash, last = word.partition("-")
        begin = _value(name, first)
        end = _value(name, last) if dash else begin
        span = scale.most - scale.least + 1
        values |= {scale.least + (begin - scale.least + step) % span for step in range((end - begin) % span + 1)}
    if not values:
        raise PeriodError(f"{name} {{}} has no value")
    return frozenset(values)


def _value(name: str, word: str) -> int:
    scale, lowered = SCALES[name], word.lower()
    if lowered[: scale.prefix] in scale.names and lowered.isalpha():
        return scale.names[lowered[: scale.prefix]]
    number = _hour(lowered) if name == "hr" else int(lowered) if re.fullmatch("[0-9]{1,3}", lowered) else -1
    if not scale.least <= number <= scale.most:
        raise PeriodError(f'"{word}" is no value of {name}')
    return number


def _hour(word: str) -> int:
    match = HOUR.fullmatch(word)
    if match is None:
        return -1
    number, half = int(match.group(1)), match.group(2)
    if half is None:
        return number
    if half == "noon":
        return 12 if number == 12 else -1
    return number % 12 + (12 if half == "pm" else 0) if 1 <= number <= 12 else -1

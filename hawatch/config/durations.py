"""Durations as people write them: "100ms", "2s", "1.5s", "5m"; integer nanoseconds inside."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

UNITS_NS = {
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
FORM = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))? ?(us|ms|s|m|h|d)", re.ASCII)
NUMBER_MAX = 10**9
"""What stands before the unit, and before the decimal point, has at most nine digits."""
FORM_JSON = "^[0-9]{1,9}(\\.[0-9]{1,9})? ?(us|ms|s|m|h|d)$"
ACCEPTED = 'a number with a unit (us, ms, s, m, h, d), like "100ms", "2s", "5m"'


def parse_duration(text: str) -> int:
    """Return nanoseconds; raise ValueError for anything but one number with a unit."""
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError(ACCEPTED)
    whole, fraction, unit = match.group(1), match.group(2) or "", match.group(3)
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * UNITS_NS[unit] // scale


def format_duration(duration_ns: int) -> str:
    """Return the shortest form that `parse_duration` reads back to the same number (whole microseconds)."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_ns and duration_ns % UNITS_NS[unit] == 0 and duration_ns // UNITS_NS[unit] < NUMBER_MAX:
            return f"{duration_ns // UNITS_NS[unit]}{unit}"
    if duration_ns == 0:
        return "0s"
    unit = next(unit for unit in ("s", "ms", "us") if duration_ns >= UNITS_NS[unit] or unit == "us")
    return f"{duration_ns / UNITS_NS[unit]:.6f}".rstrip("0").rstrip(".") + unit


@dataclass(frozen=True, slots=True)
class DurationBetween:
    """Makes an annotated int a duration of the configuration, from `least` to `most`, both as people write them."""

    least: str
    most: str

    def parse(self, value: object) -> int:
        """Return nanoseconds of what stands in the file."""
        accepted = f"{ACCEPTED}, from {self.least} to {self.most}"
        if not isinstance(value, str):
            raise PydanticCustomError("unaccepted", "no duration; {accepted}", {"accepted": accepted})
        try:
            duration_ns = parse_duration(value)
        except ValueError as error:
            raise PydanticCustomError("unaccepted", "no duration; {accepted}", {"accepted": accepted}) from error
        if not parse_duration(self.least) <= duration_ns <= parse_duration(self.most):
            raise PydanticCustomError("unaccepted", "out of bounds; {accepted}", {"accepted": accepted})
        return duration_ns

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic to use `parse`, and to write durations as people do."""
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(format_duration, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell editors what a duration looks like."""
        return {"type": "string", "pattern": FORM_JSON, "examples": [self.least, self.most]}

"""Durations are read exactly, and written so that they are read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.config.durations import format_duration, parse_duration

MS = 1_000_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("100ms", 100), ("2s", 2000), ("1.5s", 1500), ("0.25s", 250), ("5m", 300_000), ("1h", 3_600_000),
     ("2d", 172_800_000), ("2 s", 2000), ("1000us", 1), ("0s", 0)],
)  # fmt: skip
def test_reads(text, milliseconds):
    assert parse_duration(text) == milliseconds * MS


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1.s", ".5s", "1s ", " 1s", "1 m s", "1e3s", "1S", "١s", "1s\n"])
def test_refuses(text):
    with pytest.raises(ValueError, match="a number with a unit"):
        parse_duration(text)


@given(st.integers(0, 10**13))
def test_reads_back_what_it_writes(microseconds):
    assert parse_duration(format_duration(microseconds * 1000)) == microseconds * 1000


@pytest.mark.parametrize(
    ("duration_ns", "text"), [(2000 * MS, "2s"), (1500 * MS, "1500ms"), (300_000 * MS, "5m"), (0, "0s"), (1000, "1us")]
)
def test_writes_the_shortest_form(duration_ns, text):
    assert format_duration(duration_ns) == text

from __future__ import annotations

import math

from hawatch.console.page import graphs
from hawatch.console.page.graphs import DAY, HOUR, History, curve
from hawatch.model import NS_PER_S

BEGIN_S = 1_800_000_000
assert BEGIN_S % DAY.slot_s == 0


def at(seconds):
    return (BEGIN_S + seconds) * NS_PER_S


def known(values):
    return [value for value in values if not math.isnan(value)]


def test_means_of_slots_in_both_tables():
    history = History()
    for second in range(0, 1200, 15):
        history.note({"a": second // 30}, at(second))
    assert known(history.series("a", HOUR, at(1199))) == [float(slot) for slot in range(40)]
    assert known(history.series("a", DAY, at(1199))) == [9.5, 29.5]


def test_tables_are_bounded_and_gaps_stay_gaps():
    history = History()
    for second in range(0, 8000, 30):
        history.note({"a": 1.0}, at(second))
    assert len(known(history.series("a", HOUR, at(7990)))) == HOUR.slots
    assert len(known(history.series("a", HOUR, at(7990 + 1800)))) == HOUR.slots // 2
    assert known(history.series("a", HOUR, at(20_000))) == []
    assert known(history.series("b", HOUR, at(0))) == []


def test_new_series_and_too_many(monkeypatch):
    monkeypatch.setattr(graphs, "SERIES_MAX", 2)
    history = History()
    history.note({"a": 1.0}, at(0))
    history.note({"a": 3.0, "b": 5.0, "c": 7.0}, at(15))
    assert history.refused == 1
    done = history.note({}, at(30))
    assert [(span.name, list(row)) for span, _, row in done] == [("hour", [2.0, 5.0])]
    assert known(history.series("b", HOUR, at(30))) == [5.0]


def test_a_clock_that_jumps_back_harms_nothing():
    history = History()
    history.note({"a": 1.0}, at(600))
    history.note({"a": 2.0}, at(0))
    assert known(history.series("a", HOUR, at(0))) == [2.0]


def test_curves():
    nan = float("nan")
    assert curve([], 10, 10).path == ""
    assert curve([nan, nan], 10, 10) == curve([nan], 10, 10)
    flat = curve([0.0, 0.0], 10, 10)
    assert (flat.path, flat.most, flat.last) == ("M0 9h1L10 9", 0.0, 0.0)
    drawn = curve([1.0, nan, 2.0, 4.0, nan], 40, 10)
    assert (drawn.path, drawn.most, drawn.last) == ("M0 7h1M20 5h1L30 1", 4.0, None)

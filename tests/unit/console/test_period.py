"""Periods: mon's words, with exact instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.console.period import SEARCH_S, PeriodError, parse_period

NS = 10**9


def at(text, zone=UTC):
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * NS


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("wd {Mon-Fri} hr {9am-4pm}", "2026-01-01T16:59:59", "2026-01-01T17:00:00"),
        ("wd {Mon-Fri} hr {9am-4pm}", "2026-01-02T09:00:00", "2026-01-03T09:00:00"),
        ("hr {10pm-6am}", "2026-01-01T06:59:59", "2026-01-01T07:00:00"),
        ("hr {10pm-6am}", "2026-01-01T22:00:00", "2026-01-01T21:59:59"),
        ("wd {1}", "2026-01-04T12:00:00", "2026-01-05T12:00:00"),
        ("wd {sat-mon}", "2026-01-05T12:00:00", "2026-01-06T12:00:00"),
        ("wday {Sunday Tuesday}", "2026-01-06T12:00:00", "2026-01-05T12:00:00"),
        ("hr {12am}", "2026-01-01T00:30:00", "2026-01-01T12:30:00"),
        ("hr {12noon}", "2026-01-01T12:30:00", "2026-01-01T00:30:00"),
        ("mo {Nov-Jan} md {1}", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        ("wd {Sat}, hr {3-4}", "2026-01-03T12:00:00", "2026-01-02T12:00:00"),
        ("wk {1}", "2011-01-01T00:00:00", "2011-01-02T00:00:00"),
        ("wk {2}", "2026-02-08T00:00:00", "2026-02-07T23:59:59"),
        ("week {6}", "2026-08-30T00:00:00", "2026-08-29T23:59:59"),
        ("wk {5-1}", "2026-09-01T12:00:00", "2026-09-06T12:00:00"),
        ("yd {360-2}", "2026-12-26T00:00:00", "2026-12-25T00:00:00"),
        ("yday {360-2}", "2026-01-02T00:00:00", "2026-01-03T00:00:00"),
        ("md {31}", "2026-01-31T00:00:00", "2026-01-30T00:00:00"),
        ("mday {30-1}", "2026-02-01T00:00:00", "2026-02-02T00:00:00"),
        ("WD { Mon - Wed } Hour { 9AM -4pm }", "2026-01-07T16:00:00", "2026-01-08T16:00:00"),
        ("mo {1} mo {3}", "2026-03-01T00:00:00", "2026-02-01T00:00:00"),
        ("hr{3}min{30-44}", "2026-01-01T03:44:59", "2026-01-01T03:45:00"),
    ],
)
def test_instants(text, inside, outside):
    period = parse_period(text, UTC)
    assert period is not None
    assert period.holds(at(inside))
    assert not period.holds(at(outside))


@pytest.mark.parametrize(
    ("scale", "long", "least", "most"),
    [
        ("mo", "month", 1, 12),
        ("wk", "week", 1, 6),
        ("yd", "yday", 1, 366),
        ("md", "mday", 1, 31),
        ("wd", "wday", 1, 7),
        ("hr", "hour", 0, 23),
        ("min", "minute", 0, 59),
    ],
)
def test_the_values_of_each_scale(scale, long, least, most):
    assert parse_period(f"{scale} {{{least}-{most}}}").alternatives == (((scale, frozenset(range(least, most + 1))),),)
    around = frozenset(range(least, most + 1)) - {least + 1}
    assert parse_period(f"{long} {{{least + 2}-{least}}}").alternatives == (((scale, around),),)
    for outside in (least - 1, most + 1):
        with pytest.raises(PeriodError, match=f"is no value of {scale}"):
            parse_period(f"{scale} {{{outside}}}")


def test_every_name_of_a_month_and_of_a_day():
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    for scale, names, letters in (("mo", months, 3), ("wd", days, 2)):
        for number, name in enumerate(names, 1):
            for word in (name, name[:letters].upper()):
                assert parse_period(f"{scale} {{{word}}}").alternatives == (((scale, frozenset({number})),),)
        with pytest.raises(PeriodError):
            parse_period(f"{scale} {{{names[0][: letters - 1]}}}")


def test_every_hour_in_both_ways():
    twelve = ["12am", *(f"{hour}am" for hour in range(1, 12)), "12pm", *(f"{hour}pm" for hour in range(1, 12))]
    for number, word in enumerate(twelve):
        assert parse_period(f"hr {{{word}}}").alternatives == parse_period(f"hr {{{number}}}").alternatives
    for text in ("hr {1-3 2-4}", "hr {1-3} hr {2-4}"):
        assert parse_period(text).alternatives == ((("hr", frozenset({1, 2, 3, 4})),),)
    assert parse_period("hr {12noon}").alternatives == parse_period("hr {12}").alternatives


def test_always_and_never():
    assert parse_period("") is None
    assert parse_period(" Always ") is None
    assert parse_period(" " * 1000) is None
    assert parse_period("None") == parse_period("none")
    never = parse_period("none")
    assert not never.holds(at("2026-01-01T00:00:00"))
    assert never.next_ns(at("2026-01-01T00:00:00")) == at("2026-01-01T00:00:00") + SEARCH_S * NS


def test_hours_are_those_of_the_zone():
    period = parse_period("hr {9}", timezone(timedelta(hours=5, minutes=45)))
    assert period.next_ns(at("2026-01-01T00:00:00")) == at("2026-01-01T03:15:00")


def test_next_beginning():
    period = parse_period("wd {Mon-Fri} hr {8am-5pm}", UTC)
    assert period.next_ns(at("2026-01-02T18:10:00")) == at("2026-01-05T08:00:00")
    assert period.next_ns(at("2026-01-05T08:00:01")) == at("2026-01-05T08:00:01")
    assert parse_period("min {7}", UTC).next_ns(at("2026-01-05T08:08:01")) == at("2026-01-05T09:07:00")
    assert parse_period("min {7}", UTC).next_ns(at("2026-01-05T08:09:30")) == at("2026-01-05T09:07:00")
    assert parse_period("min {7}", UTC).next_ns(at("2026-01-05T09:06:59")) == at("2026-01-05T09:07:00")
    assert parse_period("md {13} min {7}", UTC).next_ns(at("2026-01-05T08:09:30")) == at("2026-01-13T00:07:00")
    later = parse_period("md {14}", UTC).next_ns(at("2026-01-05T08:09:30"))
    assert later == at("2026-01-13T08:09:00"), "asked again then"
    assert parse_period("md {14}", UTC).next_ns(later) == at("2026-01-14T00:00:00")


@pytest.mark.parametrize(
    "text",
    [
        "hr",
        "hr {25}",
        "hr {}",
        "wd {Foo}",
        "xx {1}",
        "hr {1} ,",
        "hr {1} hr {}",
        "hr {1",
        "{",
        "hr {13pm}",
        "hr {0am}",
        "hr {1noon}",
        "hr {-3}",
        "hr {3 -}",
        "hr {3--4}",
        "hr {12noo}",
        "wd {mo3}",
        "min {noon}",
        "min {5am}",
        "min {60}",
        "md {0}",
        "hr {٩}",
        "a" * 1001,
    ],
)
def test_what_is_none_is_refused(text):
    with pytest.raises(PeriodError):
        parse_period(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hr {9} in the morning ", '"in the morning" is no scale with values in braces'),
        ("hr {9} Year {2026}", 'no scale "Year"'),
        ("wd {Mon Foo}", '"Foo" is no value of wd'),
        ("wd {}", "wd {} has no value"),
        ("hr {9},,hr {10}", "nothing between two commas"),
        ("a" * 1001, "longer than 1000 characters"),
    ],
)
def test_what_is_wrong_is_told(text, words):
    with pytest.raises(PeriodError) as told:
        parse_period(text)
    assert str(told.value) == words


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text):
    try:
        period = parse_period(text, UTC)
    except PeriodError:
        return
    assert period is None or isinstance(period.holds(0), bool)


@given(st.integers(0, 10**5), st.sampled_from(["wd {Mon-Fri} hr {9am-4pm}", "hr {22-5}", "wd {Sun} min {5}"]))
def test_the_next_beginning_is_in_it_and_not_before(minutes, text):
    period, now_ns = parse_period(text, UTC), at("2026-01-01T00:00:00") + minutes * 60 * NS
    found = period.next_ns(now_ns)
    assert period.holds(found)
    assert found >= now_ns
    assert all(not period.holds(one) for one in range(now_ns, found, 600 * NS))

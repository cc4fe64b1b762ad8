from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.agent.measures import LAG_BOUNDS_US, LATENCY_BOUNDS_US, Histogram


def test_bounds_belong_to_the_bucket_below():
    histogram = Histogram((10, 20))
    for value in (0, 10, 11, 20, 21, 10**9):
        histogram.note(value)
    assert histogram.now().counts == [2, 2, 2]
    assert histogram.now().sum_us == 10**9 + 62


@given(st.lists(st.integers(0, 10**8)), st.sampled_from([LATENCY_BOUNDS_US, LAG_BOUNDS_US]))
def test_everything_is_counted_once(values, bounds):
    histogram = Histogram(bounds)
    for value in values:
        histogram.note(value)
    now = histogram.now()
    assert (len(now.counts), sum(now.counts), now.sum_us) == (len(bounds) + 1, len(values), sum(values))
    for place, bound in enumerate(bounds):
        assert sum(now.counts[: place + 1]) == sum(value <= bound for value in values)


def test_bounds_rise():
    with pytest.raises(AssertionError):
        Histogram((2, 1))

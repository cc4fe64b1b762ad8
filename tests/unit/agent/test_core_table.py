from __future__ import annotations

import pytest

from hawatch.agent.core_table import RECONCILE_INTERVAL_MAX_S, RECONCILE_INTERVAL_S, reconcile_interval_s


@pytest.mark.parametrize(
    ("took_s", "interval_s"),
    [(0.0, RECONCILE_INTERVAL_S), (0.01, RECONCILE_INTERVAL_S), (0.1, 5.0), (10.0, RECONCILE_INTERVAL_MAX_S)],
)
def test_a_big_table_is_read_less_often(took_s: float, interval_s: float) -> None:
    assert reconcile_interval_s(took_s) == interval_s

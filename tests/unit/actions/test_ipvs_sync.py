"""Connection synchronisation in the real kernel."""

from __future__ import annotations

import pytest

from hawatch.actions.ipvs_sync import BACKUP, MASTER, read_sync, start_sync

pytestmark = pytest.mark.kernel


def test_both_threads_run_and_starting_them_again_is_nothing() -> None:
    assert start_sync("lo", 7) == []
    assert read_sync() == {MASTER: ("lo", 7), BACKUP: ("lo", 7)}
    assert start_sync("lo", 7) == []


def test_an_interface_that_is_not_there_is_told() -> None:
    problems = start_sync("none9", 8)
    if read_sync():  # they run already: one pair is all that the kernel has
        assert len(problems) <= 2
    else:
        assert any("on none9" in problem for problem in problems)

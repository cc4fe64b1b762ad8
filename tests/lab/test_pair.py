"""Each row of the failure table with real agents, gates and packets: no two owners ever, and the outage in bounds.

One pair serves all rows of a kind, one after the other. A shared machine may stop everything for longer than the lease
of profile fast, which moves the group as it should; so a row may be tried again for its owner and its outage. Two owners
are never forgiven. `make lab RUNS=20` prints figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.rows import GUEST, NAMESPACES, Row, row_for, rows
from tests.lab.pair.run import SLACK_MS, problems, run_row
from tests.lab.pair.scene import Scene, scene
from tests.lab.pair.shell import LabError

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]
TRIES = 3
FREEZE_S, CORE_KILLS = 2.5, 10
ROWS = rows(freeze_s=FREEZE_S, core_kills=CORE_KILLS)
GUEST_SLACK_MS = 60.0
"""In the guest a question goes out every 10 ms, and its one processor is late by some more."""
DEFAULT_TOO = ("agent restarted", "agent killed", "switchover")
"""Rows that are run with profile default, too: the first one's promise is about leases that are not short."""


class Scenes:
    """One scene for each agent, kept from one row to the next as long as nothing broke; an idle one costs nothing."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[Scene, ExitStack]] = {}

    def get(self, profile: str, quorum: str) -> Scene:
        key = profile, quorum
        if key not in self.kept:
            stack = ExitStack()
            self.kept[key] = stack.enter_context(scene(Hawatch(profile, quorum))), stack
        return self.kept[key][0]

    def close(self) -> None:
        while self.kept:
            self.kept.popitem()[1][1].close()


@pytest.fixture(scope="module")
def scenes() -> Iterator[Scenes]:
    found = Scenes()
    yield found
    found.close()


def check(scenes: Scenes, row: Row, profile: str, *, slack_ms: float = SLACK_MS) -> None:
    broken: list[object] = []
    for _ in range(TRIES):
        try:
            adapter = scenes.get(profile, row.quorum).adapter
            promised = row_for(row, adapter)
            outcome = run_row(scenes.get(profile, row.quorum), promised)
        except LabError as error:
            scenes.close()
            broken.append(str(error))
            continue
        assert (outcome.two_owners, outcome.overlap_ms) == (0, 0.0), outcome
        found = problems(promised, outcome, adapter.takeover_ms, slack_ms=slack_ms)
        if not found:
            return
        broken.append((found, outcome))
    pytest.fail(f"{row.name}: {broken}")


@pytest.mark.parametrize("row", [row for row in ROWS if row.place == NAMESPACES], ids=lambda row: row.name)
def test_a_row_of_the_failure_table(scenes: Scenes, row: Row) -> None:
    check(scenes, row, "fast")


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in DEFAULT_TOO], ids=lambda row: row.name)
def test_a_row_with_the_default_lease(scenes: Scenes, row: Row) -> None:
    check(scenes, row, "default")


@pytest.mark.kernel
@pytest.mark.guest
@pytest.mark.timeout(700)
@pytest.mark.parametrize("row", [row for row in ROWS if row.place == GUEST], ids=lambda row: row.name)
def test_a_row_that_needs_a_kernel_of_its_own(scenes: Scenes, row: Row) -> None:
    check(scenes, row, "default", slack_ms=GUEST_SLACK_MS)

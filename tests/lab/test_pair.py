"""Each row of the failure table with real agents, gates and packets: no two owners ever, and the outage in bounds.

`make lab RUNS=20` prints the same for more runs and other profiles.
"""

from __future__ import annotations

import pytest

from hawatch.cluster.parameters import PROFILES
from hawatch.model import NS_PER_MS
from tests.lab.pair.events import ALL_EVENTS, BOUNDS_MS, run_once
from tests.lab.pair.hawatch import Hawatch

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]
LEASE_MS = PROFILES["fast"].lease_ns / NS_PER_MS
NOISE_MS = 250
"""What a busy machine adds to a client's request now and then; figures without it come from the benchmark."""


@pytest.mark.parametrize("event", list(ALL_EVENTS))
def test_a_row_of_the_failure_table(event: str) -> None:
    outcome = run_once(Hawatch("fast"), ALL_EVENTS[event], observe_s=4.0)
    bound = BOUNDS_MS[event]
    assert outcome.two_owners == 0, outcome
    assert outcome.owner in bound.owner.split(" or "), outcome
    assert outcome.outage_ms <= bound.leases * LEASE_MS + bound.extra_ms + NOISE_MS, outcome

"""Whole sites under seeded faults: never two owners, and the right one in time. `make sim` goes on for hours."""

from __future__ import annotations

import pytest

from hawatch.cluster.parameters import PROFILES
from tests.sim.episode import live


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_never_two_owners_and_the_preferred_one_within_three_leases(profile: str) -> None:
    acquisitions = 0
    for seed in range(1, 16):
        outcome = live(seed, profile)
        again = f"python -m tests.sim --profile {profile} --seed {seed} --trace"
        assert not outcome.failed(), (again, outcome.overlaps, outcome.stuck, outcome.crashes)
        acquisitions += outcome.acquisitions
    assert acquisitions > 100


def test_a_seed_is_lived_through_twice_in_the_same_way() -> None:
    one, two = (live(3, "fast", trace=True) for _ in range(2))
    assert one.notes == two.notes
    assert len(one.notes) > 100

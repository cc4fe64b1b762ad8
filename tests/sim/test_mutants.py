"""Each rule of the lease is needed: without it two directors own a group, and the simulator sees it.

The order of releases is the exception: late and doubled datagrams are refused before an acceptor sees them, so that it
takes an acceptor by itself to show what that rule is for (see the acceptor's own tests).
"""

from __future__ import annotations

import pytest

from tests.sim.episode import live
from tests.sim.mutants import APART_PPM, MUTANTS

SEEDS_MAX = 120
BY_ITSELF = "release without its order"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MUTANTS if name != BY_ITSELF])
def test_a_missing_rule_makes_two_owners(name: str) -> None:
    mutant = MUTANTS[name]
    with mutant.without():  # type: ignore[attr-defined]
        for seed in range(SEEDS_MAX):
            outcome = live(seed, "fast", mutant.rules, rate_ppm=mutant.rate_ppm, until_overlap=True)
            if outcome.overlaps:
                return
    pytest.fail(f"no two owners in {SEEDS_MAX} seeds without this rule: {name}")


@pytest.mark.slow
def test_clocks_five_percent_apart_are_borne_when_the_site_knows() -> None:
    for seed in range(10):
        assert not live(seed, "default", rate_ppm=APART_PPM, until_overlap=True).overlaps

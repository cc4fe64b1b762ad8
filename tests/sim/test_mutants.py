"""Each rule of the lease is needed: without it two gates are open at once, and the simulator sees it."""

from __future__ import annotations

import pytest

from tests.sim.episode import live
from tests.sim.mutants import APART_PPM, FRESHNESS_OFF, MUTANTS, replaced

SEEDS_MAX = 120
"""Each is found within 50 seeds, most of them in the first ten."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_rule_makes_two_owners(name: str) -> None:
    mutant = MUTANTS[name]
    if not any(mutant.caught(mutant.life(seed)) for seed in range(SEEDS_MAX)):
        pytest.fail(f"no two owners in {SEEDS_MAX} seeds without this rule: {name}")


@pytest.mark.slow
@pytest.mark.parametrize("scene", sorted({mutant.scene for mutant in MUTANTS.values() if mutant.scene}))
def test_the_scenes_that_show_it_are_borne_with_the_rule(scene: str) -> None:
    for seed in range(10):
        outcome = live(seed, "fast", only=scene)
        assert not outcome.failed(), (seed, outcome.overlaps, outcome.stuck, outcome.crashes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_order_of_requests_and_releases_bears_copies_by_itself() -> None:
    """With freshness not looked at, as in the mutant of releases, the acceptor's own rule is enough."""
    with replaced(FRESHNESS_OFF):
        for seed in range(8):
            assert not live(seed, "fast", until_overlap=True).overlaps, seed


@pytest.mark.slow
def test_clocks_five_percent_apart_are_borne_when_the_site_knows() -> None:
    for seed in range(10):
        assert not live(seed, "default", rate_ppm=APART_PPM, until_overlap=True).overlaps

"""A flood on the heartbeat port changes nothing and costs little; `python -m tests.bench.flood` prints figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.flood_trial import Trial

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]
RATE, SECONDS, REST_S = 50_000, 1.5, 1.5
FLOODS = [("random", "owner"), ("mutated", "owner"), ("random", "rs1"), ("replayed", "owner"), ("forged", "owner")]
CPU_SHARE_MAX = 0.15
"""Of one processor; without filter and budget it is more than half."""
HARMLESS = {"heartbeat_noise", "link_down", "link_up", "lease_late"}
"""A jammed link is told; nothing else happens."""
GROWN_KB_MAX = 4096


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with Trial("default").run() as running:
        yield running


def test_floods_change_nothing(trial: Trial) -> None:
    """One after the other on one site: what the first ones leave behind must not harm later."""
    for kind, target in FLOODS:
        result = trial.flood(kind, target, RATE, SECONDS, rest_s=REST_S)
        assert result.per_s > RATE / 10, f"no flood: {result}"
        assert result.same_owner, result
        assert result.cpu_share < CPU_SHARE_MAX, result
        assert result.grown_kb <= GROWN_KB_MAX, result
        assert set(result.new_events) <= HARMLESS, result
        assert result.new_events.count("heartbeat_noise") <= 3, result
        assert len(result.new_events) < 20, result
    assert "heartbeat_noise" in trial.events()

"""The lease's durations keep the rules, and what breaks one is told with both numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.cluster.parameters import (
    HEARTBEAT_NS_MIN,
    LEASE_NS_MAX,
    LEASE_NS_MIN,
    MILLION,
    PROFILES,
    RHO_PPM_MAX,
    LeaseParameters,
    in_units,
    problems,
)
from hawatch.model import NS_PER_MS, NS_PER_S

ANY = st.builds(
    LeaseParameters,
    lease_ns=st.integers(LEASE_NS_MIN, LEASE_NS_MAX),
    heartbeat_ns=st.integers(HEARTBEAT_NS_MIN, LEASE_NS_MAX),
    rho_ppm=st.integers(1, RHO_PPM_MAX),
)


@pytest.mark.parametrize(
    ("profile", "holder_ns", "silence_ns", "guard_ms"),
    [("fast", 584_029_850, 606_030_151, 10), ("default", 1_460_074_626, 1_515_075_377, 25), ("vm", 4_925_248_756, 5_050_251_257, 25)],
)  # fmt: skip
def test_profiles_may_be_used_and_have_these_durations(profile, holder_ns, silence_ns, guard_ms):
    parameters = PROFILES[profile]
    assert problems(parameters) == []
    assert (parameters.holder_ns, parameters.silence_ns) == (holder_ns, silence_ns)
    assert parameters.guard == guard_ms * NS_PER_MS
    assert parameters.round_ns == parameters.heartbeat_ns
    assert parameters.late_ns == 2.5 * parameters.heartbeat_ns
    assert parameters.hold_down_ns == parameters.lease_ns
    assert parameters.address_lifetime_ns % NS_PER_S == 0
    assert NS_PER_S <= parameters.address_lifetime_ns - parameters.lease_ns < 2 * NS_PER_S


@given(ANY)
def test_the_slowest_holder_ends_before_the_fastest_acceptor_forgets(parameters):
    if problems(parameters):
        return
    # In true time: holder_ns / (1 - rho) + guard <= lease_ns / (1 + rho), without fractions.
    slow, fast = MILLION - parameters.rho_ppm, MILLION + parameters.rho_ppm
    assert parameters.holder_ns * fast <= (parameters.lease_ns - parameters.guard) * slow + parameters.guard * fast
    assert parameters.holder_ns * fast <= parameters.lease_ns * slow
    assert parameters.silence_ns * slow >= parameters.longest_lease_ns * fast
    assert 4 * parameters.heartbeat_ns <= parameters.holder_ns


@given(ANY, st.integers(0, LEASE_NS_MAX))
def test_silence_covers_the_longest_lease(parameters, more_ns):
    longer = LeaseParameters(parameters.lease_ns, parameters.heartbeat_ns, lease_ns_max=parameters.lease_ns + more_ns)
    assert longer.silence_ns > longer.longest_lease_ns == parameters.lease_ns + more_ns


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (LeaseParameters(600 * NS_PER_MS, 147 * NS_PER_MS), ["147 ms", "600 ms", "at most 146 ms"]),
        (LeaseParameters(199 * NS_PER_MS, 20 * NS_PER_MS), ["lease 199 ms", "200 ms", "60 s"]),
        (LeaseParameters(61 * NS_PER_S, 1 * NS_PER_S), ["lease 61 s", "60 s"]),
        (LeaseParameters(1 * NS_PER_S, 19 * NS_PER_MS), ["heartbeat 19 ms", "20 ms"]),
        (LeaseParameters(1 * NS_PER_S, 20 * NS_PER_MS, guard_ns=9 * NS_PER_MS), ["guard 9 ms", "10 ms", "25 ms"]),
        (LeaseParameters(1 * NS_PER_S, 20 * NS_PER_MS, rho_ppm=100_001), ["100001 ppm", "100000 ppm"]),
        (LeaseParameters(1 * NS_PER_S, 20 * NS_PER_MS, rho_ppm=0), ["0 ppm", "1 and"]),
        (LeaseParameters(2 * NS_PER_S, 20 * NS_PER_MS, lease_ns_max=1 * NS_PER_S), ["longest lease 1 s", "2 s"]),
        (LeaseParameters(-5, 20 * NS_PER_MS), ["lease 0 ms", "200 ms"]),
    ],
)
def test_what_breaks_a_rule_is_told_with_both_numbers(parameters, words):
    found = " / ".join(problems(parameters))
    assert found
    for word in words:
        assert word in found


def test_heartbeat_may_be_exactly_a_quarter():
    holder_ns = LeaseParameters(NS_PER_S, 1).holder_ns
    assert problems(LeaseParameters(NS_PER_S, holder_ns // 4)) == []
    assert problems(LeaseParameters(NS_PER_S, holder_ns // 4 + 1)) != []


@pytest.mark.parametrize(
    ("duration_ns", "text"), [(0, "0 ms"), (1_500_000_000, "1.5 s"), (120_000_000, "120 ms"), (60_000_000_000, "60 s")]
)
def test_durations_as_people_write_them(duration_ns, text):
    assert in_units(duration_ns) == text
